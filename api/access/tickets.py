"""One-use tickets for feeds: a browser cannot send a header with EventSource and WebSocket.

In: a caller. Out: a ticket, signed with the secret in the file of keys, so that every API process accepts it; a used
one is remembered in Redis until it would have expired.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

from aiohttp import web
from msgspec import Struct
from redis.asyncio import Redis

from stocktide.api import problems
from stocktide.api.access.caller import OPEN, Caller, caller_of
from stocktide.api.access.key_ring import KeyRing
from stocktide.streams.contract.documents import Ticket

TICKET_SECONDS = 30
# Of one key and process within `TICKET_SECONDS`: a page needs one for each of its feeds.
TICKETS_PER_KEY_MAX = 5_000
_NONCE_BYTES = 16


class _Claims(Struct, frozen=True):
    key_id: str
    expires_ms: int
    nonce: str


class Tickets:
    """Issues and accepts tickets. `app_id` begins the keys of used tickets in Redis."""

    def __init__(self, ring: KeyRing, redis: Redis, app_id: str, clock: Callable[[], float] = time.time) -> None:
        self._ring = ring
        self._redis = redis
        self._prefix = f"{app_id}:ticket:"
        self._clock = clock
        self._issued: dict[str, deque[float]] = {}

    async def post(self, request: web.Request) -> web.Response:
        """`POST /v1/feeds/tickets`."""
        caller = caller_of(request)
        text = self.issue(caller)
        if text is None:
            detail = f"A key gets at most {TICKETS_PER_KEY_MAX} tickets in {TICKET_SECONDS} s."
            return problems.problem_response(429, "too_many_requests", detail, {"Retry-After": str(TICKET_SECONDS)})
        return problems.json_response(Ticket(text, TICKET_SECONDS), 201, {"Cache-Control": "no-store"})

    def issue(self, caller: Caller) -> str | None:
        """A new ticket; None where the key has too many. Without keys it says nothing, and is not looked at."""
        now = self._clock()
        issued = self._issued.setdefault(caller.key_id, deque())
        while issued and issued[0] <= now - TICKET_SECONDS:
            issued.popleft()
        if len(issued) >= TICKETS_PER_KEY_MAX:
            return None
        issued.append(now)
        self._issued = {key_id: times for key_id, times in self._issued.items() if times}
        claims = f"{caller.key_id}.{int((now + TICKET_SECONDS) * 1000)}.{secrets.token_hex(_NONCE_BYTES)}"
        return f"{claims}.{self._sign(claims)}"

    async def accept(self, text: str) -> Caller | None:
        """The caller of a ticket, once; None where it is unknown, used, expired, or its key has ended."""
        claims_text, _, signature = text.rpartition(".")
        expected = self._sign(claims_text)
        if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
            return None
        claims = _parse(claims_text)
        now_ms = self._clock() * 1000
        if claims is None or not now_ms < claims.expires_ms <= now_ms + TICKET_SECONDS * 1000 + 1:
            return None
        caller = self._ring.holder_of(claims.key_id)
        if caller is None:
            return None
        is_first = await self._redis.set(self._prefix + claims.nonce, b"1", ex=TICKET_SECONDS + 1, nx=True)
        return caller if is_first else None

    def _sign(self, claims: str) -> str:
        secret = self._ring.ticket_secret or secrets.token_bytes(32)  # before the first key nothing is accepted
        digest = hmac.new(secret, claims.encode(errors="replace"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _parse(claims: str) -> _Claims | None:
    parts = claims.split(".")
    if len(parts) != 3 or not parts[1].isdecimal() or parts[0] == OPEN.key_id:
        return None
    return _Claims(parts[0], int(parts[1]), parts[2])
