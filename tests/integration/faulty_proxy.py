"""An API that lies: it stands between a load test and the system, passes everything on, and lies in one way.

In: the system's address and which lie. Out: an address to be used instead. `told` says how often it lied.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import orjson
from aiohttp import web

Lie = Literal["none", "oversell", "lost-answer", "lost-update"]

# Only what a shopper sends matters to the system: hop-by-hop headers are ours.
_HEADERS = ("Content-Type", "Last-Event-ID")
LINE_BYTES_MAX = 1024 * 1024


class FaultyProxy:
    """Says that refused orders are held, each time; forgets one answer, or withholds one update, for good."""

    def __init__(self, api: str, lie: Lie, session: aiohttp.ClientSession) -> None:
        self.told = 0
        self._api = api
        self._lie = lie
        self._session = session
        self._feeds = 0
        self._orders = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass on one request, or lie."""
        if request.path.endswith("/feed"):
            return await self._feed(request)
        body = await request.read()
        placing = request.method == "POST" and request.path == "/v1/orders"
        if placing:
            self._orders += 1
            # Not the first: the shop should be busy.
            if self._lie == "lost-answer" and not self.told and self._orders > 5:
                self.told += 1
                return web.json_response(_as_if_held(orjson.loads(body)), status=201)
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        url = self._api + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as response:
            said = await response.read()
            if placing and self._lie == "oversell" and response.status == 409:
                self.told += 1
                refused = orjson.loads(said)["order"]
                return web.json_response(_as_if_held(orjson.loads(body), refused), status=201)
            content = response.headers.get("Content-Type", "application/json")
            return web.Response(status=response.status, body=said, headers={"Content-Type": content})

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        self._feeds += 1
        # One subscriber's: of those that do not write down every update.
        lies = self._lie == "lost-update" and self._feeds == 8
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        async with self._session.get(self._api + request.path_qs, headers=headers) as response:
            out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await out.prepare(request)
            withheld = Withheld() if lies else None
            rest = b""
            async for chunk in response.content.iter_any():
                frames = (rest + chunk).split(b"\n\n")
                rest = frames.pop()
                kept = [frame for each in frames for frame in (withheld.take(each) if withheld else [each])]
                if kept:
                    await out.write(b"\n\n".join(kept) + b"\n\n")
                self.told += bool(withheld and withheld.frame)
            return out


class Withheld:
    """Keeps the newest update of a hot SKU back until a newer one comes: so the last one is lost for good."""

    def __init__(self) -> None:
        self.frame: bytes | None = None

    def take(self, frame: bytes) -> list[bytes]:
        """What to send instead of this frame."""
        if b"-HOT-0000" not in frame:
            return [frame]
        before, self.frame = self.frame, frame
        return [before] if before else []


def _as_if_held(placed: dict[str, Any], refused: dict[str, Any] | None = None) -> dict[str, Any]:
    """The order as if it had been accepted."""
    lines = [
        {
            **line,
            "state": "reserved",
            "reserved": line["quantity"],
            "preordered": 0,
            "warehouses": {"SH1": line["quantity"]},
        }
        for line in placed["lines"]
    ]
    order = {"placed_at": "2026-11-11T00:00:00Z", "sequence": 1, **(refused or {})}
    told = {"order_id": placed["order_id"], "channel": placed["channel"], "expires_at": None, "replayed": False}
    return {**order, **told, "state": "reserved", "lines": lines}


@asynccontextmanager
async def lying_api(api: str, lie: Lie) -> AsyncIterator[tuple[str, FaultyProxy]]:
    """Serve it; its address, and it."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        liar = FaultyProxy(api, lie, session)
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = liar.answer
        # A client that is gone is no error of ours.
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}", liar
        finally:
            await asyncio.wait_for(runner.cleanup(), 30)
