"""When a channel hears of a change: a switch of mode at once, quantities at most once per interval.

In: rows of the topic `stock`, of one partition, in order. Out: the channel updates that are due. Pure: time and the
table of what was published come from outside.

The first change after a quiet interval goes out at once, those that follow wait for the interval's end and conflate
to the newest. A change that a channel cannot see goes out never. A chunk of rows is done when each update that it
caused is published, or was replaced by one of a later chunk, which then bounds the commit in its stead.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from stocktide.streams.topics import join_key

# Outlets whose last update is kept in memory, in front of the table: some 100 MB.
OFFERS_CACHED_MAX = 200_000


class VisibleOffer(Struct, frozen=True):
    """What a channel sees of a SKU."""

    mode: str
    quantity: int
    preorder_remaining: int


class StockOffers(Struct, frozen=True):
    """What is needed of a row of `stock`."""

    sku: str
    version: int
    as_of: str
    channels: dict[str, VisibleOffer] = {}
    publish_interval_ms: dict[str, int] = {}


class ChannelStockRow(Struct, frozen=True):
    """A row of `channel-stock`, in the contract's order of fields."""

    channel: str
    sku: str
    quantity: int
    mode: str
    preorder_remaining: int
    version: int
    as_of: str


decode_stock_row = msgspec.json.Decoder(StockOffers).decode
_decode_update = msgspec.json.Decoder(ChannelStockRow).decode
_encode = msgspec.json.Encoder().encode


class PendingAck:
    """A chunk's claim on its commit: `done` is called once nothing that the chunk caused waits any more."""

    def __init__(self, done: Callable[[], object]) -> None:
        self._done = done
        self._claims = 1  # that of the chunk's own folding

    def claim(self) -> None:
        """One update more waits."""
        self._claims += 1

    def release(self) -> None:
        """One less."""
        self._claims -= 1
        if self._claims == 0:
            self._done()


@dataclass(slots=True)
class _Pending:
    face: VisibleOffer
    version: int
    as_of: str
    ticket: PendingAck | None
    due: float


@dataclass(slots=True)
class _Outlet:
    """A channel and a SKU. `version` is the newest one seen, published or not."""

    key: bytes
    channel: str
    sku: str
    face: VisibleOffer | None = None
    version: int = 0
    published_at: float = float("-inf")
    pending: _Pending | None = None


@dataclass(frozen=True, slots=True)
class DueUpdate:
    """A row of `channel-stock` to be published."""

    key: bytes
    value: bytes
    ticket: PendingAck | None


class Conflation:
    """One partition's outlets. `read` gives what was published under a key; `clock` monotonic seconds."""

    def __init__(
        self,
        read: Callable[[bytes], bytes | None],
        interval_ms: int,
        clock: Callable[[], float],
        stretch: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._read = read
        self._stretch = stretch
        self._interval_ms = interval_ms
        self._clock = clock
        # By SKU, the one used last at the end: its outlets by channel.
        self._skus: OrderedDict[str, dict[str, _Outlet]] = OrderedDict()
        self._count = 0
        self._due: list[tuple[float, int, _Outlet]] = []
        self._pushed = 0

    def fold(self, row: StockOffers, ticket: PendingAck | None = None) -> None:
        """Take in a row; one that is not newer than what was seen changes nothing."""
        outlets = self._skus.get(row.sku)
        if outlets is None:
            outlets = self._skus[row.sku] = {}
            self._forget_oldest()
        else:
            self._skus.move_to_end(row.sku)
        for channel, face in row.channels.items():
            outlet = outlets.get(channel)
            if outlet is None:
                outlet = outlets[channel] = self._load(channel, row.sku)
                self._count += 1
            if row.version > outlet.version:
                outlet.version = row.version
                if face != outlet.face or outlet.pending is not None:
                    self._change(outlet, face, row, ticket)

    def next_due(self) -> float | None:
        """When something is due next, by the clock; None where nothing waits."""
        return self._due[0][0] if self._due else None

    def take_due(self, count_max: int) -> list[DueUpdate]:
        """The updates that are due now; they count as published from here on."""
        now = self._clock()
        updates: list[DueUpdate] = []
        while self._due and self._due[0][0] <= now and len(updates) < count_max:
            due, _, outlet = heapq.heappop(self._due)
            pending = outlet.pending
            if pending is None or pending.due != due:
                continue  # it was replaced, or published earlier
            outlet.pending = None
            outlet.face, outlet.published_at = pending.face, now
            updates.append(DueUpdate(outlet.key, _encode(_update_of(outlet, pending)), pending.ticket))
        return updates

    def _change(self, outlet: _Outlet, face: VisibleOffer, row: StockOffers, ticket: PendingAck | None) -> None:
        replaced, outlet.pending = outlet.pending, None
        if face != outlet.face:
            due = self._due_at(outlet, face, row)
            outlet.pending = _Pending(face, row.version, row.as_of, ticket, due)
            if replaced is None or replaced.due != due:
                self._pushed += 1
                heapq.heappush(self._due, (due, self._pushed, outlet))
            if ticket is not None:
                ticket.claim()
        if replaced is not None and replaced.ticket is not None:
            replaced.ticket.release()

    def _due_at(self, outlet: _Outlet, face: VisibleOffer, row: StockOffers) -> float:
        now = self._clock()
        if outlet.face is None or face.mode != outlet.face.mode:
            return now
        interval_ms = row.publish_interval_ms.get(outlet.channel, self._interval_ms)
        return max(now, outlet.published_at + self._stretch() * interval_ms / 1000)

    def _load(self, channel: str, sku: str) -> _Outlet:
        outlet = _Outlet(join_key(channel, sku).encode(), channel, sku)
        stored = self._read(outlet.key)
        if stored is not None:
            told = _decode_update(stored)
            outlet.face = VisibleOffer(told.mode, told.quantity, told.preorder_remaining)
            outlet.version = told.version
        return outlet

    def _forget_oldest(self) -> None:
        """Make room: SKUs for which nothing waits, from the oldest on; the table has what they were told."""
        while self._count > OFFERS_CACHED_MAX:
            sku, outlets = next(iter(self._skus.items()))
            if any(outlet.pending is not None for outlet in outlets.values()):
                self._skus.move_to_end(sku)
                return  # what waits is due soon, and the next row looks again
            del self._skus[sku]
            self._count -= len(outlets)


def _update_of(outlet: _Outlet, pending: _Pending) -> ChannelStockRow:
    face = pending.face
    return ChannelStockRow(
        outlet.channel,
        outlet.sku,
        face.quantity,
        face.mode,
        face.preorder_remaining,
        pending.version,
        pending.as_of,
    )
