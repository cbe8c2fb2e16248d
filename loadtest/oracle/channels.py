"""Promise 5, channels converge: `version_went_back` and `channel_not_converged`.

In: updates of subscribers, rows of `channel-stock`, GET of each channel's stock at rest. A subscriber keeps its updates
across reconnections. Rows may be repeated, and an older one may temporarily follow a newer one; at rest the last row
must be the newest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.oracle.dispatcher import Handlers, Listener
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    ReadChannel,
    ReadStock,
    Subscribed,
    Synced,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# A synced subscriber has at least the rows published so long before it connected: an API lags behind the topic while it
# is stopped or Kafka is unavailable.
FEED_LAG_MS_MAX = 30_000

Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class SubscriberState:
    """One subscriber of a channel: its connection and the newest update of each SKU."""

    channel: str = ""
    at: int = 0
    asked_at: int = 0
    connected: bool = False
    synced: bool = False
    updates: dict[str, tuple[ChannelUpdateView, int]] = field(default_factory=dict)


class ChannelTracker(Listener):
    """All subscribers, and for each channel and SKU the newest and the last row of the topic.

    `behind_ms`: the maximum lag of an API behind the topic. A subscriber that is connected when the run quiesces counts
    as connected, even if it disconnects afterwards.
    """

    def __init__(self, behind_ms: int = FEED_LAG_MS_MAX) -> None:
        self.behind_ms = behind_ms
        self.subscribers: dict[str, SubscriberState] = defaultdict(SubscriberState)
        self.newest: dict[Key, ChannelUpdateView] = {}
        self.last: dict[Key, ChannelUpdateView] = {}
        # The time of the first row of a SKU, for any channel.
        self.known_since: dict[str, int] = {}
        # By channel and SKU: (version, time) of rows; the first one is the minimum of each subscriber.
        self._due_rows: dict[str, dict[str, deque[tuple[int, int]]]] = {}

    def handlers(self) -> Handlers:
        return {
            Subscribed: self._on_subscribed,
            Unsubscribed: self._on_unsubscribed,
            Synced: self._on_synced,
            UpdateReceived: self._on_update,
            ChannelUpdatePublished: self._on_row,
        }

    def due_versions(self, channel: str, by: int) -> Mapping[str, int]:
        """The minimum version of each SKU for a subscriber of a channel that connects at `by`."""
        due_versions: dict[str, int] = {}
        for sku, rows in self._due_rows.get(channel, {}).items():
            _drop_outdated(rows, by - self.behind_ms)
            if rows[0][1] <= by - self.behind_ms:
                due_versions[sku] = rows[0][0]
        return due_versions

    def _on_subscribed(self, record: Subscribed) -> None:
        subscriber = self.subscribers[record.subscriber]
        subscriber.channel, subscriber.connected, subscriber.at = record.channel, True, record.at
        subscriber.asked_at = record.asked_at
        subscriber.synced = subscriber.synced and self.quiesced_at is not None

    def _on_unsubscribed(self, record: Unsubscribed) -> None:
        if self.quiesced_at is None:
            self.subscribers[record.subscriber].connected = False

    def _on_synced(self, record: Synced) -> None:
        self.subscribers[record.subscriber].synced = True

    def _on_update(self, record: UpdateReceived) -> None:
        self.subscribers[record.subscriber].updates[record.update.sku] = (record.update, record.at)

    def _on_row(self, row: ChannelUpdatePublished) -> None:
        key = (row.update.channel, row.update.sku)
        self.known_since.setdefault(row.update.sku, row.at)
        newest = self.newest.get(key)
        if newest is None or row.update.version > newest.version:
            self.newest[key] = row.update
            rows = self._due_rows.setdefault(row.update.channel, {}).setdefault(row.update.sku, deque())
            rows.append((row.update.version, row.at))
            _drop_outdated(rows, row.at - self.behind_ms)
        self.last[key] = row.update


def _drop_outdated(rows: deque[tuple[int, int]], by: int) -> None:
    """Keep only the newest of the rows up to that time."""
    while len(rows) > 1 and rows[1][1] <= by:
        rows.popleft()


class VersionWentBack(Checker):
    """Promise 5: for each channel and SKU the version only grows, and a version is one update.

    Checked for each subscriber across its connections, and on `channel-stock` for rows with the same version. At rest
    the last row of each key of `channel-stock`, `stock` and `reservations` is its newest, and GET of a SKU is not
    older.
    """

    name = "version_went_back"
    promise = 5

    def __init__(self, tracker: ChannelTracker, stocks: StockTracker, orders: OrderTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._stocks = stocks
        self._orders = orders

    def handlers(self) -> Handlers:
        """This checker handles a record before the tracker does."""
        return {
            UpdateReceived: self._on_update,
            ChannelUpdatePublished: self._on_row,
            ReadStock: self._on_read,
        }

    def _on_update(self, record: UpdateReceived) -> None:
        update, name = record.update, record.subscriber
        self.looked["updates seen"] += 1
        before = self._tracker.subscribers[name].updates.get(update.sku)
        if before is None or update.version > before[0].version:
            return
        if update == before[0]:
            self.remarks["updates seen again"] += 1
            return
        what = f"subscriber {name} saw {_describe(before[0])}, and then {_describe(update)}"
        self.found(what, record.at, subscriber=name, channel=update.channel, sku=update.sku)

    def _on_row(self, row: ChannelUpdatePublished) -> None:
        update = row.update
        self.looked["rows of channel-stock"] += 1
        newest = self._tracker.newest.get((update.channel, update.sku))
        if newest is None or update.version > newest.version:
            return
        if update.version < newest.version:
            self.remarks["rows of channel-stock that went back"] += 1
        elif update != newest:
            what = f"channel-stock told {_describe(newest)}, and then {_describe(update)}"
            self.found(what, row.at, channel=update.channel, sku=update.sku)

    def _on_read(self, read: ReadStock) -> None:
        known = self._stocks.skus.get(read.sku)
        if (
            self.quiesced_at is not None
            and read.stock is not None
            and known
            and read.stock.version < known.newest.version
        ):
            what = f"{read.sku} rests at version {read.stock.version}, and {known.newest.version} was published"
            self.found(what, read.at, sku=read.sku)

    def end(self) -> None:
        """The last row of each key must be its newest."""
        if self.quiesced_at is None:
            return
        for (channel, sku), newest in self._tracker.newest.items():
            if (last := self._tracker.last[channel, sku]).version < newest.version:
                what = f"channel-stock ends with {_describe(last)}, after {_describe(newest)}"
                self.found(what, channel=channel, sku=sku)
        for sku, known in self._stocks.skus.items():
            if known.last < known.newest.version:
                what = f"the topic stock ends at version {known.last} of {sku}, after {known.newest.version}"
                self.found(what, sku=sku)
        for order in self._orders:
            if order.row_last < order.row_newest:
                what = (
                    f"the topic reservations ends at sequence {order.row_last} of order {order.order_id}, after"
                    f" {order.row_newest}"
                )
                self.found(what, order_id=order.order_id)


class ChannelNotConverged(Checker):
    """Promise 5: when the input rests, the last update equals the ledger.

    For each connected subscriber, and for the topic: every SKU in GET of its channel is there with the same mode,
    quantity and remaining preorders (the update's version may be older: a change that a channel does not show publishes
    nothing, rule 10), and no other SKU. A subscriber that is synced has what was published some time before, and
    something of every SKU that was known by then (rule 46).
    """

    name = "channel_not_converged"
    promise = 5

    def __init__(self, tracker: ChannelTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._complete: set[str] = set()
        self._final_offers: dict[str, dict[str, ChannelUpdateView]] = {}
        self._read_at: dict[str, int] = {}

    def handlers(self) -> Handlers:
        return {ReadChannel: self._on_read, Synced: self._on_synced}

    def _on_synced(self, record: Synced) -> None:
        name, subscriber = record.subscriber, self._tracker.subscribers[record.subscriber]
        self.looked["connections"] += 1
        for sku, version in self._tracker.due_versions(subscriber.channel, subscriber.at).items():
            seen = subscriber.updates.get(sku)
            if seen is None or seen[0].version < version:
                has = "nothing of it" if seen is None else f"version {seen[0].version}"
                what = (
                    f"subscriber {name} was told that it has everything, and has {has} where version {version} of {sku}"
                    f" for {subscriber.channel} was published {self._tracker.behind_ms // 1000} s before it connected"
                )
                self.found(what, record.at, subscriber=name, channel=subscriber.channel, sku=sku)
        for sku, known_at in self._tracker.known_since.items():
            if known_at < subscriber.asked_at and sku not in subscriber.updates:
                what = (
                    f"subscriber {name} was told that it has everything, and has nothing of {sku}, which was known"
                    f" {subscriber.asked_at - known_at} ms before it asked for {subscriber.channel}"
                )
                self.found(what, record.at, subscriber=name, channel=subscriber.channel, sku=sku)

    def _on_read(self, read: ReadChannel) -> None:
        if self.quiesced_at is not None:
            self._final_offers.setdefault(read.channel, {}).update({item.sku: item for item in read.items})
            self._read_at[read.channel] = read.at
            if read.next is None:
                self._complete.add(read.channel)

    def end(self) -> None:
        """Compare each subscriber, and the topic, with GET."""
        for name, subscriber in self._tracker.subscribers.items():
            if subscriber.channel not in self._complete:
                continue
            if not subscriber.connected:
                self.remarks["subscribers that had left"] += 1
                continue
            self.looked["subscribers at rest"] += 1
            if subscriber.synced:
                updates = {sku: update for sku, (update, _) in subscriber.updates.items()}
                self._compare(f"subscriber {name}", subscriber.channel, updates, name)
            else:
                what = f"subscriber {name} of {subscriber.channel} was never told that it has everything"
                self.found(what, self._read_at[subscriber.channel], subscriber=name, channel=subscriber.channel)
        by_channel: dict[str, dict[str, ChannelUpdateView]] = {channel: {} for channel in self._complete}
        for (channel, sku), update in self._tracker.last.items():
            if channel in by_channel:
                by_channel[channel][sku] = update
        for channel, rows in by_channel.items():
            self.looked["channels at rest"] += 1
            self._compare("channel-stock", channel, rows, None)

    def _compare(
        self, observer: str, channel: str, updates: Mapping[str, ChannelUpdateView], subscriber: str | None
    ) -> None:
        final = self._final_offers[channel]
        for sku in sorted({*final, *updates}):
            item, update = final.get(sku), updates.get(sku)
            self.looked["last updates"] += 1
            if item is not None and update is not None:
                if _visible_part(item) == _visible_part(update) and update.version <= item.version:
                    continue
                what = f"{observer} ends with {_describe(update)}, and GET says {_describe(item)}"
            elif item is not None:
                what = f"{observer} never had {sku} for {channel}, and GET says {_describe(item)}"
            else:
                what = f"{observer} has {sku} for {channel}, which GET does not know"
            self.found(what, self._read_at[channel], subscriber=subscriber, channel=channel, sku=sku)


def _visible_part(update: ChannelUpdateView) -> tuple[str, int, int, str | None]:
    return update.mode, update.quantity, update.preorder_remaining, update.available_from


def _describe(update: ChannelUpdateView) -> str:
    return (
        f"{update.sku} for {update.channel} at version {update.version}: {update.mode}, {update.quantity}, preorders"
        f" {update.preorder_remaining} from {update.available_from}"
    )
