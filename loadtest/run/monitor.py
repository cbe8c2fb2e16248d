"""The monitor of a running load test: what the public topics show of this run, and whether a promise is broken.

In: rows of the topics, and records of all processes in their order. Out: records of the rows, the publication history
of hot SKUs, the ids of all orders, how many of them were filled later, the first violations at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from stocktide.loadtest.client.contract import OrderView, StockView
from stocktide.loadtest.client.topics import RowHandler, TopicRecord
from stocktide.loadtest.measure.results import HotSku, StockPoint
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    HistoryClock,
    HistoryRecord,
    OrderPublished,
    Request,
    StockPublished,
)
from stocktide.loadtest.oracle.judge import LiveJudge
from stocktide.loadtest.oracle.verdict import Violation
from stocktide.loadtest.run.recording import recorders

# Points of one channel and SKU: ten a second for ten minutes.
POINTS_MAX = 6_000
# Violations kept during the run; the judge at the end finds all.
VIOLATIONS_MAX = 50


class RunMonitor:
    """Follows one run, whose names begin with `mark`. `write` gets a record of every row, `on_stock` the stock rows."""

    def __init__(
        self,
        mark: str,
        hot: tuple[str, ...],
        on_stock: Callable[[StockView], None],
        clock: HistoryClock,
        write: Callable[[HistoryRecord], None],
    ) -> None:
        self.rows = 0
        # By channel and SKU, the newest published version.
        self.versions: dict[str, dict[str, int]] = defaultdict(dict)
        # Orders whose newest row is `reserved`.
        self.held: set[str] = set()
        # Orders whose newest row has units that wait for stock.
        self._waiting: set[str] = set()
        self.totals: Counter[str] = Counter()
        self.orders: dict[str, None] = {}
        self.violations: list[Violation] = []
        self._mark = f'"{mark}-'.encode()
        self._escaped_mark = f'\\"{mark}-'.encode()
        self._hot = frozenset(hot)
        self._on_stock = on_stock
        self._clock = clock
        self._write = write
        self._judge = LiveJudge()
        self._points: dict[str, dict[str, list[tuple[int, StockPoint]]]] = defaultdict(dict)

    def handlers(self) -> Mapping[str, RowHandler]:
        """A handler for each public topic, which skips rows of other runs."""
        return {topic: self._of_run(handler) for topic, handler in recorders(self._clock, self._on_row).items()}

    def on_record(self, record: HistoryRecord) -> None:
        """Handle a record of any process, in the order of time."""
        if isinstance(record, Request) and record.kind == "order.placed":
            self.orders[record.event["order_id"]] = None
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.extend(self._judge.feed(record))

    def mode(self, sku: str) -> str:
        """The newest published mode of a hot SKU, in its first channel."""
        for points in self._points[sku].values():
            return points[-1][1].mode
        return ""

    def hot(self, units: int, zero_ms: int) -> tuple[HotSku, ...]:
        """The published updates of each hot SKU, by channel, with times relative to `zero_ms`."""
        return tuple(
            HotSku(
                sku,
                units,
                {
                    channel: tuple(
                        StockPoint(max(0.0, (at - zero_ms) / 1000), point.quantity, point.mode, point.version)
                        for at, point in points
                    )
                    for channel, points in sorted(self._points[sku].items())
                },
            )
            for sku in sorted(self._hot)
        )

    def _of_run(self, handler: RowHandler) -> RowHandler:
        def handle(row: TopicRecord) -> None:
            # A dead letter holds the event as text, its quotes escaped.
            if self._mark in row.value or self._escaped_mark in row.value:
                handler(row)

        return handle

    def _on_row(self, record: HistoryRecord) -> None:
        self.rows += 1
        self._write(record)
        if isinstance(record, OrderPublished):
            (self.held.add if record.order.state == "reserved" else self.held.discard)(record.order.order_id)
            self._count_filled(record.order)
        elif isinstance(record, StockPublished):
            self._on_stock(record.stock)
        elif isinstance(record, ChannelUpdatePublished):
            self._on_update(record)

    def _count_filled(self, order: OrderView) -> None:
        """Count an order that waited and has got all of its units."""
        if any(line.short or line.preordered for line in order.lines):
            self._waiting.add(order.order_id)
        elif order.order_id in self._waiting:
            self._waiting.discard(order.order_id)
            if order.state in ("reserved", "paid", "shipped"):
                self.totals["changes.orders_filled_later"] += 1

    def _on_update(self, record: ChannelUpdatePublished) -> None:
        update = record.update
        versions = self.versions[update.channel]
        versions[update.sku] = max(update.version, versions.get(update.sku, 0))
        if update.sku in self._hot:
            points = self._points[update.sku].setdefault(update.channel, [])
            if len(points) < POINTS_MAX:
                points.append((record.at, StockPoint(0.0, update.quantity, update.mode, update.version)))
