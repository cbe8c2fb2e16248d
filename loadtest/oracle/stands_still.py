"""Rule 48 from outside: while work is pending, there is progress.

In: the records of a history that was written live. Out: a violation each time that accepted work has no result for
STALL_MS, outside of faults and their grace. Time counts from one read of the topics to the next. A path is a pair of
pending work and its results; any result on a path ends its wait.
"""

from __future__ import annotations

from collections import defaultdict

from stocktide.loadtest.oracle.dispatcher import Handlers, PendingRequest, parse_event
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    DeadLetterPublished,
    FaultRecord,
    MovementPublished,
    OrderPublished,
    Response,
    StockPublished,
    Subscribed,
    TopicsRead,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.verdict import Checker

STALL_MS = 10_000
# After a fault: the session of 10 s expires, the group rebalances, tables are restored, and the backlog is processed.
GRACE_MS = 20_000
# A longer gap between two reads of the topics does not count: a recorder without CPU records late what came in time.
READ_GAP_MS_MAX = 2_000
# Changes of availability in a partition that may leave every channel unchanged.
UNPUBLISHED_CHANGES_MAX = 20


class _Path:
    """One path through the system: its pending work, and since when it waits."""

    def __init__(self, what: str, enough: int = 1) -> None:
        self.what = what
        self._pending_min = enough
        self._pending = 0
        self._since = 0
        self._reported = False

    def add_pending(self, clock: int) -> None:
        """Add work that must have a result."""
        if not self._pending:
            self._since = clock
        self._pending += 1

    def reset(self) -> None:
        """A result arrived."""
        self._pending, self._reported = 0, False

    def remove_one(self) -> None:
        """One wait ended without progress."""
        self._pending = max(0, self._pending - 1)

    def restart_without_one(self, clock: int) -> None:
        """One wait ended with a result: the wait of the others restarts."""
        self._pending, self._since, self._reported = max(0, self._pending - 1), clock, False

    def stalled_count(self, clock: int) -> int | None:
        """The pending work if it has waited for STALL_MS; None if it has not, or was reported."""
        if self._reported or self._pending < self._pending_min or clock - self._since < STALL_MS:
            return None
        self._reported = True
        return self._pending


class StandsStill(Checker):
    """Finds accepted work without a result: where work waits, something moves, unless a fault is under way."""

    name = "stands_still"

    def __init__(self) -> None:
        super().__init__()
        self._answers = _Path("requests are open, and none is answered")
        self._orders = _Path("new orders were accepted, and no row of reservations or dead-letters came")
        self._movements = _Path("new movements were accepted, and no row of adjustments or dead-letters came")
        self._channel_paths: dict[int, _Path] = {}
        self._available: dict[str, int] = {}
        # The newest version of each SKU on channel-stock, which may be read before its row of stock.
        self._published: dict[str, int] = {}
        # By channel, the path of each connected subscriber; and the newest version of each SKU that a subscriber has.
        self._feeds: dict[str, dict[str, _Path]] = defaultdict(dict)
        self._versions: dict[str, dict[str, int]] = defaultdict(dict)
        # A row may be recorded before the response that accepts its event.
        self._rows_seen: set[tuple[str, str]] = set()
        # By path, what was accepted since its last row: ("", order) or (warehouse, movement).
        self._waiting: dict[_Path, set[tuple[str, str]]] = {self._orders: set(), self._movements: set()}
        self._faults = 0
        # ms of the run without gaps, faults and their grace, as of the last read of the topics.
        self._clock = 0
        self._read_at = 0
        self._grace_until = 0

    def handlers(self) -> Handlers:
        return {
            OrderPublished: lambda row: self._on_result(("", row.order.order_id), self._orders),
            MovementPublished: lambda row: self._on_result((row.movement.warehouse, row.movement.id), self._movements),
            DeadLetterPublished: self._on_dead_letter,
            StockPublished: self._on_stock,
            ChannelUpdatePublished: self._on_channel,
            Subscribed: self._on_subscribed,
            Unsubscribed: self._remove_feed,
            UpdateReceived: self._on_saw,
            FaultRecord: self._on_fault,
            TopicsRead: self._on_topics_read,
        }

    def on_request(self, request: PendingRequest) -> None:
        if request.door == "http":
            self._answers.add_pending(self._clock)

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """What the response accepts must have a row."""
        if request.door == "http":
            self._answers.restart_without_one(self._clock)
        if response.status < 300 and not response.replayed and request.is_new:
            self.looked["accepted"] += 1
            event = request.event
            key, path = ("", event.order_id), self._orders
            if request.kind.startswith("stock."):
                key, path = (event.warehouse, event.id or ""), self._movements
            elif request.kind != "order.placed":
                return
            if key not in self._rows_seen:
                self._waiting[path].add(key)
                path.add_pending(self._clock)

    def on_no_response(self, request: PendingRequest) -> None:
        if request.door == "http":
            self._answers.remove_one()

    def _on_dead_letter(self, row: DeadLetterPublished) -> None:
        """A rejection takes the path of the rows; bytes that are no event take another."""
        event = parse_event(row.letter.event())
        for key in () if event is None else (("", event.order_id), (event.warehouse, event.id or "")):
            for path, waiting in self._waiting.items():
                if key in waiting:
                    self._on_result(key, path)

    def _on_result(self, key: tuple[str, str], path: _Path) -> None:
        self._rows_seen.add(key)
        self._waiting[path].clear()
        path.reset()

    def _on_stock(self, row: StockPublished) -> None:
        before = self._available.get(row.stock.sku, 0)
        now = self._available[row.stock.sku] = row.stock.available
        is_published = self._published.get(row.stock.sku, -1) >= row.stock.version
        if before != now and min(before, now) > 0 and not is_published:
            path = self._channel_paths.get(row.partition)
            if path is None:
                what = f"stock changed in partition {row.partition}, and no row of channel-stock came there"
                path = self._channel_paths[row.partition] = _Path(what, UNPUBLISHED_CHANGES_MAX)
            path.add_pending(self._clock)

    def _on_channel(self, row: ChannelUpdatePublished) -> None:
        if (path := self._channel_paths.get(row.partition)) is not None:
            path.reset()
        update = row.update
        self._published[update.sku] = max(update.version, self._published.get(update.sku, -1))
        for subscriber, feed in self._feeds[update.channel].items():
            if self._versions[subscriber].get(update.sku, -1) < update.version:
                feed.add_pending(self._clock)

    def _on_subscribed(self, row: Subscribed) -> None:
        what = f"rows of channel-stock came for {row.channel}, and subscriber {row.subscriber} got nothing"
        self._remove_feed(row)
        # Its versions stay: a resumed feed does not repeat updates.
        self._feeds[row.channel][row.subscriber] = _Path(what)

    def _remove_feed(self, row: Subscribed | Unsubscribed) -> None:
        for feeds in self._feeds.values():
            feeds.pop(row.subscriber, None)

    def _on_saw(self, row: UpdateReceived) -> None:
        if (feed := self._feeds[row.update.channel].get(row.subscriber)) is not None:
            feed.reset()
            versions = self._versions[row.subscriber]
            versions[row.update.sku] = max(row.update.version, versions.get(row.update.sku, -1))

    def _on_fault(self, fault: FaultRecord) -> None:
        self._faults += 1 if fault.stage == "begun" else -1
        self._grace_until = fault.at + GRACE_MS

    def _paths(self) -> list[_Path]:
        feeds = (feed for feeds in self._feeds.values() for feed in feeds.values())
        return [self._answers, self._orders, self._movements, *self._channel_paths.values(), *feeds]

    def _on_topics_read(self, read: TopicsRead) -> None:
        """Advance the clock, and report what has stalled by now."""
        before, at, self._read_at = self._read_at, read.at, read.at
        if not before or at <= before or self._faults > 0 or at < self._grace_until:
            return
        # The wait of work that is pending since a fault begins at the end of its grace.
        self._clock += min(at - before, READ_GAP_MS_MAX, at - max(before, self._grace_until))
        self.looked["seconds"] = self._clock // 1000
        for path in self._paths():
            if (waiting := path.stalled_count(self._clock)) is not None:
                self.found(f"for {STALL_MS // 1000} s {path.what}: {waiting:,} wait", at)
