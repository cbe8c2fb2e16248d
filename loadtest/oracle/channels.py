"""Promise 5, channels converge: `version_went_back` and `channel_not_converged`.

In: what subscribers saw, rows of `channel-stock`, GET of each channel's stock at rest.
A subscriber keeps what it saw over its reconnections: that is what the promise is about. Rows of the topics may come
again, and for a while an older one may stand behind a newer one; at rest the newest must be the last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    ReadChannel,
    ReadStock,
    RunQuiesced,
    Subscribed,
    Synced,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.orders import OrderTracker
from stocktide.loadtest.oracle.stocks import StockTracker
from stocktide.loadtest.oracle.verdict import Checker

# A subscriber that is told to have everything has, at the least, what was published so long before it connected: an
# API may be behind the topic by as much as it was stopped, or Kafka away.
FEED_LAG_MS_MAX = 30_000

Key = tuple[str, str]


class SubscriberState:
    """One subscriber of a channel: what it holds by now, since when it is connected, and whether it was told it has
    all."""

    __slots__ = ("asked_at", "at", "channel", "connected", "sees", "synced")

    def __init__(self) -> None:
        self.channel = ""
        self.at = 0
        self.asked_at = 0
        self.connected = False
        self.synced = False
        self.sees: dict[str, tuple[ChannelUpdateView, int]] = {}


class ChannelTracker:
    """All subscribers, and each channel and SKU as the topic has it: the newest update, and the last.

    `behind_ms`: how far an API may be behind the topic, at the most, for whoever connects.
    Who was connected when the run came to rest counts as connected: that it leaves afterwards is no fault.
    """

    def __init__(self, behind_ms: int = FEED_LAG_MS_MAX) -> None:
        self._rests = False
        self.behind_ms = behind_ms
        self.subscribers: dict[str, SubscriberState] = {}
        self.newest: dict[Key, ChannelUpdateView] = {}
        self.last: dict[Key, ChannelUpdateView] = {}
        # When the topic first told of a SKU, for whichever channel: it is known from then on.
        self.known: dict[str, int] = {}
        # By channel and SKU: (version, when) of rows, the first of them as new as anybody must have by now.
        self._told: dict[str, dict[str, deque[tuple[int, int]]]] = {}

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Subscriptions, updates, rows."""
        return {
            Subscribed: self._subscribed,
            Unsubscribed: self._unsubscribed,
            Synced: self._synced,
            UpdateReceived: self._saw,
            ChannelUpdatePublished: self._row,
            RunQuiesced: lambda _: setattr(self, "_rests", True),
        }

    def subscriber(self, name: str) -> SubscriberState:
        """A subscriber by its name."""
        found = self.subscribers.get(name)
        if found is None:
            found = self.subscribers[name] = SubscriberState()
        return found

    def due(self, channel: str, by: int) -> Mapping[str, int]:
        """The version of each SKU that a subscriber of a channel must have who connects at `by`."""
        due: dict[str, int] = {}
        for sku, told in self._told.get(channel, {}).items():
            _forget_before(told, by - self.behind_ms)
            if told[0][1] <= by - self.behind_ms:
                due[sku] = told[0][0]
        return due

    def _subscribed(self, record: Subscribed) -> None:
        subscriber = self.subscriber(record.subscriber)
        subscriber.channel, subscriber.connected, subscriber.at = record.channel, True, record.at
        subscriber.asked_at = record.asked_at
        subscriber.synced = subscriber.synced and self._rests

    def _unsubscribed(self, record: Unsubscribed) -> None:
        if not self._rests:
            self.subscriber(record.subscriber).connected = False

    def _synced(self, record: Synced) -> None:
        self.subscriber(record.subscriber).synced = True

    def _saw(self, record: UpdateReceived) -> None:
        self.subscriber(record.subscriber).sees[record.update.sku] = (record.update, record.at)

    def _row(self, row: ChannelUpdatePublished) -> None:
        key = (row.update.channel, row.update.sku)
        self.known.setdefault(row.update.sku, row.at)
        newest = self.newest.get(key)
        if newest is None or row.update.version > newest.version:
            self.newest[key] = row.update
            told = self._told.setdefault(row.update.channel, {}).setdefault(row.update.sku, deque())
            told.append((row.update.version, row.at))
            _forget_before(told, row.at - self.behind_ms)
        self.last[key] = row.update


def _forget_before(told: deque[tuple[int, int]], by: int) -> None:
    """Of rows that are old by then the newest is enough."""
    while len(told) > 1 and told[1][1] <= by:
        told.popleft()


class VersionWentBack(Checker):
    """Promise 5: for each channel and SKU the version only grows, and a version is one update.

    Judged as it comes for each subscriber, whatever connection it has; on `channel-stock` that a version is told with
    one content. At rest the last row of each key of `channel-stock`, `stock` and `reservations` is its newest, and GET
    of a SKU is not behind it.
    """

    name = "version_went_back"
    promise = "For each channel and SKU the version only grows."

    def __init__(self, book: ChannelTracker, stocks: StockTracker, orders: OrderTracker) -> None:
        super().__init__()
        self._book = book
        self._stocks = stocks
        self._orders = orders
        self._rests = False

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Updates and rows, before the book has them."""
        return {
            UpdateReceived: self._saw,
            ChannelUpdatePublished: self._row,
            ReadStock: self._read,
            RunQuiesced: lambda _: setattr(self, "_rests", True),
        }

    def _saw(self, record: UpdateReceived) -> None:
        update, name = record.update, record.subscriber
        self.looked["updates seen"] += 1
        before = self._book.subscriber(name).sees.get(update.sku)
        if before is None or update.version > before[0].version:
            return
        if update == before[0]:
            self.remarks["updates seen again"] += 1
            return
        what = f"subscriber {name} saw {_told(before[0])}, and then {_told(update)}"
        self.found(what, record.at, subscriber=name, channel=update.channel, sku=update.sku)

    def _row(self, row: ChannelUpdatePublished) -> None:
        update = row.update
        self.looked["rows of channel-stock"] += 1
        newest = self._book.newest.get((update.channel, update.sku))
        if newest is None or update.version > newest.version:
            return
        if update.version < newest.version:
            self.remarks["rows of channel-stock that went back"] += 1
        elif update != newest:
            what = f"channel-stock told {_told(newest)}, and then {_told(update)}"
            self.found(what, row.at, channel=update.channel, sku=update.sku)

    def _read(self, read: ReadStock) -> None:
        known = self._stocks.skus.get(read.sku)
        if self._rests and read.stock is not None and known and read.stock.version < known.newest.version:
            what = f"{read.sku} rests at version {read.stock.version}, and {known.newest.version} was published"
            self.found(what, read.at, sku=read.sku)

    def end(self) -> None:
        """No topic may end behind what it told before."""
        if not self._rests:
            return
        for (channel, sku), newest in self._book.newest.items():
            if (last := self._book.last[channel, sku]).version < newest.version:
                what = f"channel-stock ends with {_told(last)}, after {_told(newest)}"
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

    For each subscriber that is connected, and for the topic: every SKU that GET of its channel shows is there, with
    that mode, quantity and rest of preorders (the update's version may be older: a change that a channel cannot see
    publishes nothing, rule 10), and no other. Whoever connects (again) and is told that it has everything has what was
    published some time before, and something of every SKU that was known by then (rule 46).
    """

    name = "channel_not_converged"
    promise = "When the input rests, the last update equals the ledger."

    def __init__(self, book: ChannelTracker) -> None:
        super().__init__()
        self._book = book
        self._rests = False
        self._whole: set[str] = set()
        self._final: dict[str, dict[str, ChannelUpdateView]] = {}
        self._read_at: dict[str, int] = {}

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """What is final, and who is told to have everything."""
        return {RunQuiesced: lambda _: setattr(self, "_rests", True), ReadChannel: self._read, Synced: self._synced}

    def _synced(self, record: Synced) -> None:
        name, subscriber = record.subscriber, self._book.subscriber(record.subscriber)
        self.looked["connections"] += 1
        for sku, version in self._book.due(subscriber.channel, subscriber.at).items():
            seen = subscriber.sees.get(sku)
            if seen is None or seen[0].version < version:
                has = "nothing of it" if seen is None else f"version {seen[0].version}"
                what = (
                    f"subscriber {name} was told that it has everything, and has {has} where version {version} of {sku}"
                    f" for {subscriber.channel} was published {self._book.behind_ms // 1000} s before it connected"
                )
                self.found(what, record.at, subscriber=name, channel=subscriber.channel, sku=sku)
        for sku, known_at in self._book.known.items():
            if known_at < subscriber.asked_at and sku not in subscriber.sees:
                what = (
                    f"subscriber {name} was told that it has everything, and has nothing of {sku}, which was known"
                    f" {subscriber.asked_at - known_at} ms before it asked for {subscriber.channel}"
                )
                self.found(what, record.at, subscriber=name, channel=subscriber.channel, sku=sku)

    def _read(self, read: ReadChannel) -> None:
        if self._rests:
            self._final.setdefault(read.channel, {}).update({item.sku: item for item in read.items})
            self._read_at[read.channel] = read.at
            if read.next is None:
                self._whole.add(read.channel)

    def end(self) -> None:
        """Compare each subscriber, and the topic, with GET."""
        for name, subscriber in self._book.subscribers.items():
            if subscriber.channel not in self._whole:
                continue
            if not subscriber.connected:
                self.remarks["subscribers that had left"] += 1
                continue
            self.looked["subscribers at rest"] += 1
            if subscriber.synced:
                sees = {sku: update for sku, (update, _) in subscriber.sees.items()}
                self._compare(f"subscriber {name}", subscriber.channel, sees, name)
            else:
                what = f"subscriber {name} of {subscriber.channel} was never told that it has everything"
                self.found(what, self._read_at[subscriber.channel], subscriber=name, channel=subscriber.channel)
        by_channel: dict[str, dict[str, ChannelUpdateView]] = {channel: {} for channel in self._whole}
        for (channel, sku), update in self._book.last.items():
            if channel in by_channel:
                by_channel[channel][sku] = update
        for channel, rows in by_channel.items():
            self.looked["channels at rest"] += 1
            self._compare("channel-stock", channel, rows, None)

    def _compare(self, who: str, channel: str, sees: Mapping[str, ChannelUpdateView], subscriber: str | None) -> None:
        final = self._final[channel]
        for sku in sorted({*final, *sees}):
            item, update = final.get(sku), sees.get(sku)
            self.looked["last updates"] += 1
            if item is not None and update is not None:
                if _face(item) == _face(update) and update.version <= item.version:
                    continue
                what = f"{who} ends with {_told(update)}, and GET says {_told(item)}"
            elif item is not None:
                what = f"{who} never had {sku} for {channel}, and GET says {_told(item)}"
            else:
                what = f"{who} has {sku} for {channel}, which GET does not know"
            self.found(what, self._read_at[channel], subscriber=subscriber, channel=channel, sku=sku)


def _face(update: ChannelUpdateView) -> tuple[str, int, int]:
    return update.mode, update.quantity, update.preorder_remaining


def _told(update: ChannelUpdateView) -> str:
    return (
        f"{update.sku} for {update.channel} at version {update.version}: {update.mode}, {update.quantity}, preorders"
        f" {update.preorder_remaining}"
    )
