"""What is known of every movement and of what it did to on_hand, folded from what was asked and from `adjustments`.

In: the stream of a history. Out: every movement, and per SKU and warehouse the facts that lowered or raised units.
A movement is applied once and never changes after; its key is its warehouse and id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from stocktide.loadtest.client.contract import MovedLineView, MovementView
from stocktide.loadtest.oracle.dispatcher import PendingRequest, SentLine, time_ms
from stocktide.loadtest.oracle.history import HistoryRecord, MovementPublished, ReadMovement, Response

COUNTED, TRANSFERRED, ADJUSTED = "stock.counted", "stock.transferred", "stock.adjusted"
# A count's line that set on_hand; others (`count_superseded`) changed nothing.
_APPLIED = "counted"
_PACK = msgspec.msgpack.Encoder(order="deterministic")


class AppliedCount(NamedTuple):
    """A count that set on_hand of a SKU at a warehouse: when it was true (ms), and the batch that applied it."""

    occurred_ms: int
    batch: int


class KnownMovement:
    """What is known of one movement. `bodies`: those it was sent with; `to`: where its transfers went.

    `asked`: the lines that were sent, for as long as nothing told what it did. `content`: what it did, packed.
    """

    __slots__ = (
        "asked",
        "batch",
        "bodies",
        "content",
        "id",
        "kind",
        "lines",
        "occurred_ms",
        "outcome",
        "to",
        "warehouse",
    )

    def __init__(self, warehouse: str, id_: str) -> None:
        self.warehouse = warehouse
        self.id = id_
        self.kind = ""
        self.bodies: tuple[int, ...] = ()
        self.to: tuple[str, ...] = ()
        self.asked: tuple[SentLine, ...] = ()
        self.content: bytes | None = None
        self.outcome = ""
        self.batch = 0
        self.occurred_ms: int | None = None
        self.lines: tuple[MovedLineView, ...] = ()


class MovementObservation(NamedTuple):
    """A movement's effect was told. `fresh`: for the first time; `dated`: with its batch for the first time;
    `differs`: not as it was told before."""

    known: KnownMovement
    movement: MovementView
    record: HistoryRecord
    fresh: bool
    dated: bool
    differs: bool


class MovementTracker:
    """All movements. Listeners hear of each time an effect is told."""

    def __init__(self) -> None:
        self.movements: dict[tuple[str, str], KnownMovement] = {}
        self.counts: dict[tuple[str, str], list[AppliedCount]] = {}
        self._listeners: list[Callable[[MovementObservation], None]] = []

    def listen(self, listener: Callable[[MovementObservation], None]) -> None:
        """Tell `listener` of every sight."""
        self._listeners.append(listener)

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Rows and reads."""
        return {MovementPublished: lambda row: self._see(row.movement, row), ReadMovement: self._read}

    def __iter__(self) -> Iterator[KnownMovement]:
        return iter(self.movements.values())

    def asked(self, ask: PendingRequest) -> None:
        """Note what may come."""
        event = ask.event
        if event is None or not ask.kind.startswith("stock.") or event.id is None:
            return
        known = self._movement(event.warehouse, event.id)
        if ask.body in known.bodies:
            return
        ask.new = True
        known.bodies = (*known.bodies, ask.body)
        if event.to_warehouse is not None and event.to_warehouse not in known.to:
            known.to = (*known.to, event.to_warehouse)
        if known.content is None:
            known.kind, known.asked = ask.kind, (*known.asked, *event.lines)

    def told(self, ask: PendingRequest, told: Response) -> None:
        """What was refused as no event does nothing."""
        if ask.event is None or ask.event.id is None or told.status < 400 or not ask.kind.startswith("stock."):
            return
        known = self._movement(ask.event.warehouse, ask.event.id)
        known.bodies = tuple(body for body in known.bodies if body != ask.body)
        if not known.bodies:
            known.asked = ()

    def _movement(self, warehouse: str, id_: str) -> KnownMovement:
        key = (warehouse, id_)
        known = self.movements.get(key)
        if known is None:
            known = self.movements[key] = KnownMovement(warehouse, id_)
        return known

    def _read(self, read: ReadMovement) -> None:
        if read.movement is not None:
            self._see(read.movement, read)

    def _see(self, movement: MovementView, record: HistoryRecord) -> None:
        known = self._movement(movement.warehouse, movement.id)
        told = (movement.type, movement.outcome, movement.detail, movement.occurred_at, movement.applied_at)
        content = _PACK.encode((told, movement.lines))
        fresh = known.content is None
        dated = bool(movement.batch and not known.batch)
        sight = MovementObservation(known, movement, record, fresh, dated, not fresh and known.content != content)
        if fresh:
            known.content, known.kind = content, movement.type
            known.outcome, known.lines, known.asked = movement.outcome, movement.lines, ()
            known.occurred_ms = time_ms(movement.occurred_at)
        if dated:
            known.batch = movement.batch
            self._note_counts(known)
        for listener in self._listeners:
            listener(sight)

    def _note_counts(self, known: KnownMovement) -> None:
        if known.kind != COUNTED or known.occurred_ms is None:
            return
        for line in known.lines:
            if line.outcome == _APPLIED:
                key = (line.sku, known.warehouse)
                self.counts.setdefault(key, []).append(AppliedCount(known.occurred_ms, known.batch))
