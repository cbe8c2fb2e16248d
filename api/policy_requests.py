"""Requests for other policies, which a second person decides: kept in a topic of their own.

In: events of requests. Out: each request with its state. The log decides: of two decisions the first one counts, and
an approval stands before the ledger has made the change, so that any process can make it after a crash.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.policy_body import own_view
from stocktide.api.handlers.policy_changes import POLICY_CHANGED
from stocktide.streams.contract.documents import PolicyApproval, PublishedAlert
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.tables.ledger.outcomes import REFUSALS

# Of the ids; an order may have such an id too.
ID_PREFIX = "policy-"


class Asked(Struct, frozen=True, kw_only=True, tag="asked"):
    """A request; `digest` is that of the policy that it would replace. Times in ms."""

    id: str
    channel: str
    sku: str | None
    by: str
    reason: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    digest: str
    at: int
    ends_at: int


class Decided(Struct, frozen=True, kw_only=True, tag="decided"):
    """A decision; the first one before the end of the request counts."""

    id: str
    approved: bool
    by: str
    at: int
    comment: str | None = None


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """What became of an approved change."""

    id: str
    outcome: str


RequestEvent = Asked | Decided | Done


class PolicyRequest(Struct, frozen=True):
    """A request as its events make it."""

    asked: Asked
    decided: Decided | None = None
    done: Done | None = None

    def state(self, now: int) -> str:
        """The state at a time, as an approval shows it."""
        if self.decided is None:
            return "waiting" if now < self.asked.ends_at else "expired"
        if not self.decided.approved:
            return "rejected"
        return "approved" if self.done is None or self.done.outcome not in _REFUSED else "refused"

    @property
    def is_due(self) -> bool:
        """Whether the ledger has still to make an approved change."""
        return self.decided is not None and self.decided.approved and self.done is None

    def view(self, replayed: bool = False) -> PolicyApproval:
        """The document of an approval."""
        asked, decided, state = self.asked, self.decided, self.state(now_ms())
        by = None if decided is None else decided.by
        return PolicyApproval(
            id=asked.id,
            channel=asked.channel,
            sku=asked.sku,
            state=state,
            requested_by=asked.by,
            reason=asked.reason,
            before=own_view(asked.before),
            after=own_view(asked.after),
            requested_at=rfc3339(asked.at),
            expires_at=rfc3339(asked.ends_at),
            approved_by=by if state in ("approved", "refused") else None,
            rejected_by=by if state == "rejected" else None,
            decided_at=None if decided is None else rfc3339(decided.at),
            comment=None if decided is None else decided.comment,
            outcome=None if self.done is None else self.done.outcome,
            replayed=replayed,
        )


_REFUSED = {*REFUSALS, POLICY_CHANGED}
_EVENT = msgspec.json.Decoder(RequestEvent)
_encode = msgspec.json.Encoder().encode


def fold(rows: Iterable[bytes]) -> dict[str, PolicyRequest]:
    """The requests by id, from their events in the order of the log."""
    requests: dict[str, PolicyRequest] = {}
    for row in rows:
        try:
            event = _EVENT.decode(row)
        except msgspec.MsgspecError:
            continue  # of a newer version: the other requests go on
        found = requests.get(event.id)
        if isinstance(event, Asked):
            requests.setdefault(event.id, PolicyRequest(event))
        elif found is None:
            continue  # its request is older than the topic
        elif isinstance(event, Decided):
            if found.decided is None and event.at < found.asked.ends_at:
                requests[event.id] = PolicyRequest(found.asked, event)
        elif found.is_due:
            requests[event.id] = PolicyRequest(found.asked, found.decided, event)
    return requests


class PolicyRequests:
    """The requests of the topic, which `view` follows; topics are full names. A process may stop after each write."""

    def __init__(
        self, view: CompactedView, producer: InputEventProducer, topic: str, alerts: str, seconds_max: float
    ) -> None:
        self._view = view
        self._producer = producer
        self._topic = topic
        self._alerts = alerts
        self._seconds_max = seconds_max

    def known(self) -> dict[str, PolicyRequest]:
        """The requests that were read so far, by id."""
        return fold(self._view.rows(self._topic).values())

    async def all(self) -> dict[str, PolicyRequest]:
        """All requests by id. Raises TimeoutError and ConnectionError."""
        try:
            await self._view.catch_up(self._seconds_max)
        except KafkaError as error:
            raise ConnectionError("the requests cannot be read") from error
        return self.known()

    async def ask(self, asked: Asked) -> PolicyRequest:
        """Write a request, and the alert that it waits. Raises as `write`."""
        found = await self.write(asked)
        await self._produce(self._alerts, asked.sku or "", _alert(asked))
        return found

    async def write(self, event: RequestEvent) -> PolicyRequest:
        """Write an event; the request as the log then has it. Raises as `all`, and ProduceFailed."""
        # Each event has a key of its own: the view keeps all of them, in the order of the log.
        await self._produce(self._topic, f"{event.id}/{secrets.token_hex(8)}", event)
        return (await self.all())[event.id]

    async def _produce(self, topic: str, key: str, row: Struct) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds_max
        await self._producer.write(topic, [(key.encode(), _encode(row))], deadline)


def _alert(asked: Asked) -> PublishedAlert:
    return PublishedAlert(
        id=f"{asked.id}-waiting",
        type="approval_waiting",
        sku=asked.sku or "",
        channel=asked.channel,
        event_id=asked.id,
        at=rfc3339(asked.at),
        batch=0,
        detail=f"requested by {asked.by}: {asked.reason}",
    )


def new_id() -> str:
    """The id of a new request."""
    return ID_PREFIX + secrets.token_hex(16)
