"""Conflation of channel updates: a change of mode is due at once, quantities at most once per interval.

In: rows of one partition of `stock`, in order. Out: the channel updates that are due. Pure: the clock and the table of
published rows are parameters.

The first change after a quiet interval is due at once; later ones are due at the end of the interval, conflated to the
newest. A change without effect on the visible offer is dropped. A chunk of rows is complete when each of its updates is
published or replaced by an update of a later chunk, whose ack then covers it.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict, defaultdict
from collections.abc import Callable

import msgspec
from msgspec import UNSET, Struct

from stocktide.streams.contract.documents import ChannelStock, ChannelUpdate, PublishedAlert, encode
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.topics import join_key

# Offers (of a SKU to a channel) cached in memory, in front of the table: some 100 MB.
OFFERS_CACHED_MAX = 200_000
# The time of updates that do not wait.
_AT_ONCE = float("-inf")


class StockOffers(Struct, frozen=True, gc=False):
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


class _OfferState(Struct, gc=False):
    """The offer of a SKU to a channel: as published, and pending (None: nothing is). `version` and `as_of` are those of
    the newest row folded; the pending offer is that row's."""

    key: bytes
    channel: str
    sku: str
    published: ChannelStock | None = None
    published_at: float = _AT_ONCE
    version: int = 0
    as_of: str = ""
    pending: ChannelStock | None = None
    due_at: float = _AT_ONCE
    pending_ack: PendingAck | None = None


class DueUpdate(Struct, frozen=True, gc=False):
    """A row of `channel-stock` to be published; `alert` is the row of `alerts` of a change of mode."""

    key: bytes
    value: bytes
    pending_ack: PendingAck | None
    alert: OutputRow | None = None


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
        # By time: the offers that are due then. Offers that were published together are due together, so the times are
        # few; they are also in a heap. An offer whose update was replaced or dropped stays, and is skipped.
        self._due: defaultdict[float, list[_OfferState]] = defaultdict(list)
        self._times: list[float] = []

    def fold(self, row: StockOffers, pending_ack: PendingAck | None = None) -> None:
        """Fold a row; ignored unless newer than the rows before."""
        states = self._skus.get(row.sku)
        if states is None:
            states = self._skus[row.sku] = {}
            self._shrink_cache()
        else:
            self._skus.move_to_end(row.sku)
        version = row.version
        for channel, offer in row.channels.items():
            state = states.get(channel)
            if state is None:
                state = states[channel] = self._load(channel, row.sku)
                self._count += 1
            if version > state.version:
                state.version = version
                if state.pending is not None or offer != state.published:
                    self._change(state, offer, row, pending_ack)

    def next_due(self) -> float | None:
        """When the next update is due, by the clock; None if none is pending."""
        return self._times[0] if self._times else None

    def take_due(self, count_max: int) -> list[DueUpdate]:
        """Remove and return the updates that are due; from now on they count as published."""
        now = self._clock()
        updates: list[DueUpdate] = []
        while self._times and self._times[0] <= now and len(updates) < count_max:
            states = self._due[self._times[0]]
            while states and len(updates) < count_max:
                state = states.pop()
                if state.pending is not None and state.due_at == self._times[0]:
                    before, state.published, state.published_at = state.published, state.pending, now
                    has_switched = before is not None and before.mode != state.published.mode
                    alert = _encode_switch(state, before.mode, state.published) if before and has_switched else None
                    row = _encode_row(state, state.published)
                    updates.append(DueUpdate(state.key, row, state.pending_ack, alert))
                    state.pending = state.pending_ack = None
            if not states:
                del self._due[heapq.heappop(self._times)]
        return updates

    def _change(
        self, state: _OfferState, offer: ChannelStock, row: StockOffers, pending_ack: PendingAck | None
    ) -> None:
        """Replace the pending update of an offer, and the ack that waits for it."""
        replaced, replaced_ack = state.pending, state.pending_ack
        if offer == state.published:
            state.pending = state.pending_ack = None
        else:
            state.pending, state.pending_ack, state.as_of = offer, pending_ack, row.as_of
            if pending_ack is not None:
                pending_ack.retain()
            due_at = self._due_at(state, offer, row)
            if replaced is None or due_at != state.due_at:
                self._schedule(state, due_at)
        if replaced_ack is not None:
            replaced_ack.release()

    def _schedule(self, state: _OfferState, due_at: float) -> None:
        state.due_at = due_at
        if due_at not in self._due:
            heapq.heappush(self._times, due_at)
        self._due[due_at].append(state)

    def _due_at(self, state: _OfferState, offer: ChannelStock, row: StockOffers) -> float:
        """Where it is past, all that is due at once shares one time."""
        if state.published is None or offer.mode != state.published.mode:
            return _AT_ONCE
        interval_ms = row.publish_interval_ms.get(state.channel, self._interval_ms)
        due_at = state.published_at + self._stretch() * interval_ms / 1000
        return due_at if due_at > self._clock() else _AT_ONCE

    def _load(self, channel: str, sku: str) -> _OfferState:
        state = _OfferState(join_key(channel, sku).encode(), channel, sku)
        stored = self._read(state.key)
        if stored is not None:
            row = _decode_row(stored)
            state.published = ChannelStock(row.mode, row.quantity, row.preorder_remaining, row.available_from)
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


def _encode_row(state: _OfferState, offer: ChannelStock) -> bytes:
    return encode(
        ChannelUpdate(
            channel=state.channel,
            sku=state.sku,
            quantity=offer.quantity,
            mode=offer.mode,
            preorder_remaining=offer.preorder_remaining,
            version=state.version,
            as_of=state.as_of,
            available_from=offer.available_from,
        )
    )


def _encode_switch(state: _OfferState, mode_before: str, offer: ChannelStock) -> OutputRow:
    """The alert of a change of mode; a repeat gives the same row. A first offer is none."""
    place = f"{state.channel}\n{state.sku}\n{state.version}".encode()
    alert = PublishedAlert(
        id=f"mode-{hashlib.blake2b(place, digest_size=12).hexdigest()}",
        type="mode_switched",
        sku=state.sku,
        channel=state.channel,
        quantity=offer.preorder_remaining if offer.mode == "preorder" else offer.quantity,
        event_id=UNSET,
        event_type=UNSET,
        at=state.as_of,
        batch=0,
        mode_before=mode_before,
        mode=offer.mode,
    )
    return state.sku.encode(), encode(alert)
