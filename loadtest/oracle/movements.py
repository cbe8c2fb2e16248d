"""The state of every movement and its effect on on_hand, folded from requests and rows of `adjustments`.

In: the records of a history. Out: every movement, and the counts of each SKU and warehouse. A movement is applied once
and never changes afterwards; its key is its warehouse and id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from stocktide.loadtest.client.contract import MovedLineView, MovementView
from stocktide.loadtest.oracle.dispatcher import Handlers, Listener, PendingRequest, SentLine, time_ms
from stocktide.loadtest.oracle.history import HistoryRecord, MovementPublished, ReadMovement, Response

COUNTED, TRANSFERRED, ADJUSTED = "stock.counted", "stock.transferred", "stock.adjusted"
VOIDED = "stock.voided"
# An announcement moves nothing, and changes with each amendment and receipt.
EXPECTED = "stock.expected"
# The outcome of a count's line that set on_hand; other outcomes (`count_superseded`) change nothing.
_APPLIED = "counted"
# The outcome of a movement whose last lines are not applied yet: no effect of it is final.
_APPLYING = "applying"
_PACK = msgspec.msgpack.Encoder(order="deterministic")


class AppliedCount(NamedTuple):
    """A count that set on_hand of a SKU at a warehouse: its time (ms), and the batch that applied it."""

    occurred_ms: int
    batch: int


@dataclass(slots=True, eq=False)
class KnownMovement:
    """One movement. `bodies` are the hashes of the bodies that were sent, `destinations` those of its transfers.

    `sent_lines` are the lines that were sent, until the effect is known. `content` is the effect, packed. `voids`: the
    movement that it reverses.
    """

    warehouse: str
    id: str
    kind: str = ""
    bodies: tuple[int, ...] = ()
    destinations: tuple[str, ...] = ()
    sent_lines: tuple[SentLine, ...] = ()
    content: bytes | None = None
    outcome: str = ""
    batch: int = 0
    occurred_ms: int | None = None
    lines: tuple[MovedLineView, ...] = ()
    voids: str | None = None


class MovementObservation(NamedTuple):
    """An effect of a movement. `is_new`: the first observation; `has_new_batch`: the first one with its batch;
    `differs`: it contradicts an earlier one."""

    known: KnownMovement
    movement: MovementView
    record: HistoryRecord
    is_new: bool
    has_new_batch: bool
    differs: bool


class MovementTracker(Listener):
    """Tracks all movements. `listeners` are called for every observation."""

    def __init__(self) -> None:
        self.movements: dict[tuple[str, str], KnownMovement] = {}
        self.counts: dict[tuple[str, str], list[AppliedCount]] = {}
        self.listeners: list[Callable[[MovementObservation], None]] = []

    def handlers(self) -> Handlers:
        return {MovementPublished: lambda row: self._observe(row.movement, row), ReadMovement: self._on_read}

    def __iter__(self) -> Iterator[KnownMovement]:
        return iter(self.movements.values())

    def on_request(self, request: PendingRequest) -> None:
        event = request.event
        if not request.kind.startswith("stock.") or event.id is None:
            return
        known = self._movement(event.warehouse, event.id)
        if request.body in known.bodies:
            return
        request.is_new = True
        known.bodies = (*known.bodies, request.body)
        if event.to_warehouse is not None and event.to_warehouse not in known.destinations:
            known.destinations = (*known.destinations, event.to_warehouse)
        if known.content is None:
            known.kind, known.sent_lines = request.kind, (*known.sent_lines, *event.lines)
            known.voids = event.movement_id

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """A rejected body has no effect."""
        if request.event.id is None or response.status < 400 or not request.kind.startswith("stock."):
            return
        known = self._movement(request.event.warehouse, request.event.id)
        known.bodies = tuple(body for body in known.bodies if body != request.body)
        if not known.bodies:
            known.sent_lines = ()

    def voided_by(self, void: KnownMovement) -> KnownMovement | None:
        """The movement that a void reverses; None if it is not known."""
        return self.movements.get((void.warehouse, void.voids or ""))

    def _movement(self, warehouse: str, id_: str) -> KnownMovement:
        key = (warehouse, id_)
        known = self.movements.get(key)
        if known is None:
            known = self.movements[key] = KnownMovement(warehouse, id_)
        return known

    def _on_read(self, read: ReadMovement) -> None:
        if read.movement is not None:
            self._observe(read.movement, read)

    def _observe(self, movement: MovementView, record: HistoryRecord) -> None:
        if movement.outcome == _APPLYING:
            return
        known = self._movement(movement.warehouse, movement.id)
        head = (movement.type, movement.outcome, movement.detail, movement.occurred_at, movement.applied_at)
        content = _PACK.encode((head, movement.lines))
        is_new = known.content is None
        has_new_batch = bool(movement.batch and not known.batch)
        differs = not is_new and known.content != content and movement.type != EXPECTED
        observation = MovementObservation(known, movement, record, is_new, has_new_batch, differs)
        if is_new:
            known.content, known.kind = content, movement.type
            known.outcome, known.sent_lines = movement.outcome, ()
            known.lines = () if movement.type == EXPECTED else movement.lines
            known.voids = movement.movement_id
            known.occurred_ms = time_ms(movement.occurred_at)
        if has_new_batch:
            known.batch = movement.batch
            self._add_counts(known)
        for listener in self.listeners:
            listener(observation)

    def _add_counts(self, known: KnownMovement) -> None:
        if known.kind != COUNTED or known.occurred_ms is None:
            return
        for line in known.lines:
            if line.outcome == _APPLIED:
                key = (line.sku, known.warehouse)
                self.counts.setdefault(key, []).append(AppliedCount(known.occurred_ms, known.batch))
