"""Who looks on while a load runs: everything that the public topics tell of this run, and whether a promise breaks.

In: rows of the topics, and records of all processes in their order. Out: the history, what was published of hot SKUs,
which orders were asked for, and the first violations at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

from stocktide.loadtest.client.contract import StockView
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
from stocktide.loadtest.run.topic_records import recorders

# Points of one channel and SKU: ten a second for ten minutes.
POINTS_MAX = 6_000
# Violations that are kept while the run goes on; the judge at the end has them all.
SEEN_MAX = 50


class StockListener(Protocol):
    """Who wants to know of rows of `stock`."""

    def saw(self, stock: StockView) -> None:
        """A row."""
        ...


class RunMonitor:
    """Looks on for one run, whose names begin with `mark`; `write` keeps the history. `rows` counts the run's rows."""

    def __init__(
        self,
        mark: str,
        hot: tuple[str, ...],
        floor: StockListener,
        clock: HistoryClock,
        write: Callable[[HistoryRecord], None],
    ) -> None:
        self.rows = 0
        # By channel and SKU, the newest version that was published.
        self.versions: dict[str, dict[str, int]] = defaultdict(dict)
        # Orders that the newest row shows as held and not paid.
        self.held: set[str] = set()
        self.orders: dict[str, None] = {}
        self.violations: list[Violation] = []
        self._mark = f'"{mark}-'.encode()
        self._escaped_mark = f'\\"{mark}-'.encode()
        self._hot = frozenset(hot)
        self._floor = floor
        self._clock = clock
        self._write = write
        self._watch = LiveJudge()
        self._points: dict[str, dict[str, list[tuple[int, StockPoint]]]] = defaultdict(dict)

    def takers(self) -> Mapping[str, RowHandler]:
        """A taker of each public topic; rows of others are passed over."""
        return {topic: self._ours(take) for topic, take in recorders(self._clock, self._see).items()}

    def hear(self, record: HistoryRecord) -> None:
        """A record of any process, in the order of time."""
        if isinstance(record, Request) and record.kind == "order.placed":
            self.orders[record.event["order_id"]] = None
        if len(self.violations) < SEEN_MAX:
            self.violations.extend(self._watch.feed(record))

    def mode(self, sku: str) -> str:
        """The newest published mode of a hot SKU, in its first channel."""
        for points in self._points[sku].values():
            return points[-1][1].mode
        return ""

    def hot(self, units: int, zero_ms: int) -> tuple[HotSku, ...]:
        """What was published of each hot SKU, by channel, with times since the load began at `zero_ms`."""
        told = []
        for sku in sorted(self._hot):
            channels = {
                channel: tuple(
                    StockPoint(max(0.0, (at - zero_ms) / 1000), point.quantity, point.mode, point.version)
                    for at, point in points
                )
                for channel, points in sorted(self._points[sku].items())
            }
            told.append(HotSku(sku, units, channels))
        return tuple(told)

    def _ours(self, take: RowHandler) -> RowHandler:
        def ours(row: TopicRecord) -> None:
            # A dead letter holds the event as text, its quotes escaped.
            if self._mark in row.value or self._escaped_mark in row.value:
                take(row)

        return ours

    def _see(self, record: HistoryRecord) -> None:
        self.rows += 1
        self._write(record)
        if isinstance(record, OrderPublished):
            (self.held.add if record.order.state == "reserved" else self.held.discard)(record.order.order_id)
        elif isinstance(record, StockPublished):
            self._floor.saw(record.stock)
        elif isinstance(record, ChannelUpdatePublished):
            self._see_update(record)

    def _see_update(self, record: ChannelUpdatePublished) -> None:
        update = record.update
        versions = self.versions[update.channel]
        versions[update.sku] = max(update.version, versions.get(update.sku, 0))
        if update.sku in self._hot:
            points = self._points[update.sku].setdefault(update.channel, [])
            if len(points) < POINTS_MAX:
                points.append((record.at, StockPoint(0.0, update.quantity, update.mode, update.version)))
