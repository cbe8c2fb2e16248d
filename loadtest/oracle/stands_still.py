"""The promise of rule 48 from outside: where work waits, something moves.

In: the stream of a history that was written while the run went on. Out: each time at which accepted work was followed
by nothing for STALL_MS, with no fault under way or just over. A way is a pair of what must be followed by something,
and what counts as that; any move of a way ends its wait, because a way that moves at all is not standing still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from stocktide.loadtest.oracle.dispatcher import PendingRequest, parse_event
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    DeadLetterPublished,
    FaultRecord,
    MovementPublished,
    OrderPublished,
    Response,
    RunQuiesced,
    StockPublished,
    Subscribed,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.inputs import parse_raw_event
from stocktide.loadtest.oracle.verdict import Checker

STALL_MS = 10_000
# After a fault a group shares its partitions anew once a session of 10 s is over, tables are read back, and what has
# gathered is worked off.
GRACE_MS = 20_000
# Between two records nobody looked for longer: a tester that starves sees late what came in time.
RECORD_GAP_MS_MAX = 2_000
# The ways are looked at so often: there is one for each subscriber and partition, and a record may come each ms.
CHECK_INTERVAL_MS = 100
# Changes of what a partition's SKUs have available that may leave every channel as it was.
UNPUBLISHED_CHANGES_MAX = 20


class _Way:
    """One way through the system: `pending` is what waits, `since` its clock."""

    def __init__(self, what: str, enough: int = 1) -> None:
        self.what = what
        self._enough = enough
        self._pending = 0
        self._since = 0
        self._told = False

    def waits(self, clock: int, for_more: int = 1) -> None:
        """Something must follow."""
        if not self._pending:
            self._since = clock
        self._pending += for_more

    def moves(self) -> None:
        """Something followed."""
        self._pending, self._told = 0, False

    def done(self, clock: int) -> None:
        """One of those that wait ended, and it was the system that ended it, or nobody waits for it any more."""
        self._pending = max(0, self._pending - 1)

    def moved_one(self, clock: int) -> None:
        """One of those that wait was answered: for the others the wait begins anew."""
        self._pending, self._since, self._told = max(0, self._pending - 1), clock, False

    def stands_still(self, clock: int) -> int | None:
        """How many wait since STALL_MS; None where nothing does, or it was told."""
        if self._told or self._pending < self._enough or clock - self._since < STALL_MS:
            return None
        self._told = True
        return self._pending


class StandsStill(Checker):
    """Sees accepted work after which nothing comes."""

    name: ClassVar[str] = "stands_still"
    promise: ClassVar[str] = "where work waits, something moves within 10 s, unless a fault is under way"

    def __init__(self) -> None:
        super().__init__()
        self._answers = _Way("requests are open, and none is answered")
        self._orders = _Way("new orders were accepted, and no row of reservations or dead-letters came")
        self._movements = _Way("new movements were accepted, and no row of adjustments or dead-letters came")
        self._shown: dict[int, _Way] = {}
        self._available: dict[str, int] = {}
        # By channel and subscriber: its way, and the newest version that it has of each SKU.
        self._subscribers: dict[str, dict[str, tuple[_Way, dict[str, int]]]] = {}
        self._channels: dict[str, str] = {}
        self._versions: dict[str, dict[str, int]] = {}
        # Rows may be noted before the answer that accepts what they tell of.
        self._told_of: set[tuple[str, str]] = set()
        # By way, what was accepted since its last row: ("", order) or (warehouse, movement).
        self._waiting: dict[_Way, set[tuple[str, str]]] = {self._orders: set(), self._movements: set()}
        self._faults = 0
        # ms of the run in which somebody looked, no fault was under way, and none was just over.
        self._clock = 0
        self._looked_at = 0
        self._at = 0
        self._grace_until = 0

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Rows, feeds, faults."""
        return {
            OrderPublished: self._on_order,
            MovementPublished: self._on_movement,
            DeadLetterPublished: self._on_letter,
            StockPublished: self._on_stock,
            ChannelUpdatePublished: self._on_channel,
            Subscribed: self._on_subscribed,
            Unsubscribed: self._on_unsubscribed,
            UpdateReceived: self._on_saw,
            FaultRecord: self._on_fault,
            RunQuiesced: self._on_rested,
        }

    def asked(self, ask: PendingRequest) -> None:
        """A request waits for its answer."""
        self._tick(ask.at)
        if ask.door == "http":
            self._answers.waits(self._clock)

    def told(self, ask: PendingRequest, told: Response) -> None:
        """An answer; what it accepts must show in a row."""
        self._tick(told.at)
        if ask.door == "http":
            self._answers.moved_one(self._clock)
        if told.status < 300 and not told.replayed and ask.new:
            self.looked["accepted"] += 1
            event = ask.event
            if event is None:
                return
            key, way = ("", event.order_id), self._orders
            if ask.kind.startswith("stock."):
                key, way = (event.warehouse, event.id or ""), self._movements
            elif ask.kind != "order.placed":
                return
            if key not in self._told_of:
                self._waiting[way].add(key)
                way.waits(self._clock)

    def silent(self, ask: PendingRequest) -> None:
        """No answer, or one that promises nothing: nobody waits any more, and nothing moved."""
        self._tick(self._at)
        if ask.door == "http":
            self._answers.done(self._clock)

    def _on_order(self, row: OrderPublished) -> None:
        self._tick(row.at)
        self._follows(("", row.order.order_id), self._orders)

    def _on_movement(self, row: MovementPublished) -> None:
        self._tick(row.at)
        self._follows((row.movement.warehouse, row.movement.id), self._movements)

    def _on_letter(self, row: DeadLetterPublished) -> None:
        """A refusal comes the way of the rows; bytes that are no event come another, and say nothing of it."""
        self._tick(row.at)
        sent = parse_raw_event(row.letter.raw)
        event = parse_event(sent) if sent else None
        for key in () if event is None else (("", event.order_id), (event.warehouse, event.id or "")):
            for way, waiting in self._waiting.items():
                if key in waiting:
                    self._follows(key, way)

    def _follows(self, key: tuple[str, str], way: _Way) -> None:
        """A row came: its way moves."""
        self._told_of.add(key)
        self._waiting[way].clear()
        way.moves()

    def _on_stock(self, row: StockPublished) -> None:
        self._tick(row.at)
        before = self._available.get(row.stock.sku, 0)
        now = self._available[row.stock.sku] = row.stock.available
        if before != now and min(before, now) > 0:
            way = self._shown.get(row.partition)
            if way is None:
                what = f"stock changed in partition {row.partition}, and no row of channel-stock came there"
                way = self._shown[row.partition] = _Way(what, UNPUBLISHED_CHANGES_MAX)
            way.waits(self._clock)

    def _on_channel(self, row: ChannelUpdatePublished) -> None:
        self._tick(row.at)
        if (shown := self._shown.get(row.partition)) is not None:
            shown.moves()
        update = row.update
        for way, versions in self._subscribers.get(update.channel, {}).values():
            if versions.get(update.sku, -1) < update.version:
                way.waits(self._clock)

    def _on_subscribed(self, row: Subscribed) -> None:
        self._tick(row.at)
        what = f"rows of channel-stock came for {row.channel}, and subscriber {row.subscriber} got nothing"
        # A feed that is resumed does not repeat what was seen.
        versions = self._versions.setdefault(row.subscriber, {})
        self._forget(row.subscriber)
        self._channels[row.subscriber] = row.channel
        self._subscribers.setdefault(row.channel, {})[row.subscriber] = (_Way(what), versions)

    def _on_unsubscribed(self, row: Unsubscribed) -> None:
        self._tick(row.at)
        self._forget(row.subscriber)

    def _forget(self, subscriber: str) -> None:
        if (channel := self._channels.pop(subscriber, None)) is not None:
            del self._subscribers[channel][subscriber]

    def _on_saw(self, row: UpdateReceived) -> None:
        self._tick(row.at)
        if (channel := self._channels.get(row.subscriber)) is not None:
            way, versions = self._subscribers[channel][row.subscriber]
            way.moves()
            versions[row.update.sku] = max(row.update.version, versions.get(row.update.sku, -1))

    def _on_fault(self, fault: FaultRecord) -> None:
        self._tick(fault.at)
        self._faults += 1 if fault.stage == "begun" else -1
        self._grace_until = fault.at + GRACE_MS

    def _on_rested(self, rested: RunQuiesced) -> None:
        self._tick(rested.at)

    def _ways(self) -> list[_Way]:
        feeds = (way for subscribers in self._subscribers.values() for way, _ in subscribers.values())
        return [self._answers, self._orders, self._movements, *self._shown.values(), *feeds]

    def _tick(self, at: int) -> None:
        """Move the clock to a record, and say what has stood still until then."""
        before, self._at = self._at, at
        if not before or at <= before or self._faults > 0 or at < self._grace_until:
            return
        # What waits since a fault waits from the end of its grace on.
        seen = min(at - before, RECORD_GAP_MS_MAX, at - max(before, self._grace_until))
        self._clock += seen
        if self._clock - self._looked_at < CHECK_INTERVAL_MS:
            return
        self._looked_at = self._clock
        self.looked["seconds"] = self._clock // 1000
        for way in self._ways():
            if (waiting := way.stands_still(self._clock)) is not None:
                self.found(f"for {STALL_MS // 1000} s {way.what}: {waiting:,} wait", at)
