"""Conflation of channel updates: a change of mode is due at once, quantities at most once per interval.

In: rows of one partition of `stock`, in order. Out: the channel updates that are due. Pure: the clock and the table of
published rows are parameters.

The first change after a quiet interval is due at once; later ones are due at the end of the interval, conflated to the
newest. A change without effect on the visible offer is dropped. A chunk of rows is complete when each of its updates is
published or replaced by an update of a later chunk, whose ack then covers it.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from stocktide.streams.contract.documents import ChannelStock, ChannelUpdate, encode
from stocktide.streams.topics import join_key

# Offers (of a SKU to a channel) cached in memory, in front of the table: some 100 MB.
OFFERS_CACHED_MAX = 200_000


class StockOffers(Struct, frozen=True):
    """The fields of a row of `stock` that are used here."""

    sku: str
    version: int
    as_of: str
    channels: dict[str, ChannelStock] = {}
    publish_interval_ms: dict[str, int] = {}


decode_stock_row = msgspec.json.Decoder(StockOffers).decode
_decode_row = msgspec.json.Decoder(ChannelUpdate).decode


class PendingAck:
    """Counts the updates of a chunk that are not published; at 0 it calls `acknowledge`."""

    def __init__(self, acknowledge: Callable[[], object]) -> None:
        self._acknowledge = acknowledge
        self._count = 1  # the folding of the chunk itself

    def retain(self) -> None:
        """Count one more update."""
        self._count += 1

    def release(self) -> None:
        """Count one update less."""
        self._count -= 1
        if self._count == 0:
            self._acknowledge()


@dataclass(slots=True)
class _PendingUpdate:
    offer: ChannelStock
    version: int
    as_of: str
    pending_ack: PendingAck | None
    due_at: float


@dataclass(slots=True)
class _OfferState:
    """The offer of a SKU to a channel: as published, and pending. `version` is the newest one folded."""

    key: bytes
    channel: str
    sku: str
    published: ChannelStock | None = None
    version: int = 0
    published_at: float = float("-inf")
    pending: _PendingUpdate | None = None


@dataclass(frozen=True, slots=True)
class DueUpdate:
    """A row of `channel-stock` to be published."""

    key: bytes
    value: bytes
    pending_ack: PendingAck | None


class Conflation:
    """The offers of one partition. `read` returns a key's published row; `clock` is in monotonic seconds; `stretch`
    is a factor of the intervals."""

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
        # By SKU, least recently used first: its offers by channel.
        self._skus: OrderedDict[str, dict[str, _OfferState]] = OrderedDict()
        self._count = 0
        self._due: list[tuple[float, int, _OfferState]] = []
        self._sequence = 0

    def fold(self, row: StockOffers, pending_ack: PendingAck | None = None) -> None:
        """Fold a row; ignored unless newer than the rows before."""
        states = self._skus.get(row.sku)
        if states is None:
            states = self._skus[row.sku] = {}
            self._shrink_cache()
        else:
            self._skus.move_to_end(row.sku)
        for channel, offer in row.channels.items():
            state = states.get(channel)
            if state is None:
                state = states[channel] = self._load(channel, row.sku)
                self._count += 1
            if row.version > state.version:
                state.version = row.version
                if offer != state.published or state.pending is not None:
                    self._change(state, offer, row, pending_ack)

    def next_due(self) -> float | None:
        """When the next update is due, by the clock; None if none is pending."""
        return self._due[0][0] if self._due else None

    def take_due(self, count_max: int) -> list[DueUpdate]:
        """Remove and return the updates that are due; from now on they count as published."""
        now = self._clock()
        updates: list[DueUpdate] = []
        while self._due and self._due[0][0] <= now and len(updates) < count_max:
            due_at, _, state = heapq.heappop(self._due)
            pending = state.pending
            if pending is None or pending.due_at != due_at:
                continue  # replaced, or published earlier
            state.pending = None
            state.published, state.published_at = pending.offer, now
            updates.append(DueUpdate(state.key, encode(_row_of(state, pending)), pending.pending_ack))
        return updates

    def _change(
        self, state: _OfferState, offer: ChannelStock, row: StockOffers, pending_ack: PendingAck | None
    ) -> None:
        replaced, state.pending = state.pending, None
        if offer != state.published:
            due_at = self._due_at(state, offer, row)
            state.pending = _PendingUpdate(offer, row.version, row.as_of, pending_ack, due_at)
            if replaced is None or replaced.due_at != due_at:
                self._sequence += 1
                heapq.heappush(self._due, (due_at, self._sequence, state))
            if pending_ack is not None:
                pending_ack.retain()
        if replaced is not None and replaced.pending_ack is not None:
            replaced.pending_ack.release()

    def _due_at(self, state: _OfferState, offer: ChannelStock, row: StockOffers) -> float:
        now = self._clock()
        if state.published is None or offer.mode != state.published.mode:
            return now
        interval_ms = row.publish_interval_ms.get(state.channel, self._interval_ms)
        return max(now, state.published_at + self._stretch() * interval_ms / 1000)

    def _load(self, channel: str, sku: str) -> _OfferState:
        state = _OfferState(join_key(channel, sku).encode(), channel, sku)
        stored = self._read(state.key)
        if stored is not None:
            row = _decode_row(stored)
            state.published = ChannelStock(row.mode, row.quantity, row.preorder_remaining)
            state.version = row.version
        return state

    def _shrink_cache(self) -> None:
        """Drop SKUs without pending updates from the cache, least recently used first; the table keeps their rows."""
        while self._count > OFFERS_CACHED_MAX:
            sku, states = next(iter(self._skus.items()))
            if any(state.pending is not None for state in states.values()):
                self._skus.move_to_end(sku)
                return  # its updates are due soon; the next row tries again
            del self._skus[sku]
            self._count -= len(states)


def _row_of(state: _OfferState, pending: _PendingUpdate) -> ChannelUpdate:
    offer = pending.offer
    return ChannelUpdate(
        channel=state.channel,
        sku=state.sku,
        quantity=offer.quantity,
        mode=offer.mode,
        preorder_remaining=offer.preorder_remaining,
        version=pending.version,
        as_of=pending.as_of,
    )
