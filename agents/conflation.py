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
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import orjson
from msgspec import Struct

from streams.topics import joined_key

# Outlets whose last update is kept in memory, in front of the table: some 100 MB.
OUTLETS_MAX = 200_000


class Face(Struct, frozen=True, array_like=True):
    """What a channel sees of a SKU."""

    mode: str
    quantity: int
    preorder_remaining: int


class _RowOffer(Struct, frozen=True):
    mode: str
    quantity: int
    preorder_remaining: int


class StockRow(Struct, frozen=True):
    """What is needed of a row of `stock`."""

    sku: str
    version: int
    as_of: str
    channels: dict[str, _RowOffer] = {}
    publish_interval_ms: dict[str, int] = {}


class _Published(Struct, frozen=True):
    """What is needed of a channel update in the table."""

    mode: str
    quantity: int
    preorder_remaining: int
    version: int


decode_stock_row = msgspec.json.Decoder(StockRow).decode
_decode_published = msgspec.json.Decoder(_Published).decode


class Ticket:
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
    face: Face
    version: int
    as_of: str
    ticket: Ticket | None
    due: float


@dataclass(slots=True)
class _Outlet:
    """A channel and a SKU. `version` is the newest one seen, published or not."""

    channel: str
    sku: str
    face: Face | None
    version: int
    published_at: float
    pending: _Pending | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """A row of `channel-stock` to be published."""

    key: bytes
    value: bytes
    ticket: Ticket | None


class Conflation:
    """One partition's outlets. `read` gives what was published under a key; `clock` monotonic seconds."""

    def __init__(self, read: Callable[[bytes], bytes | None], interval_ms: int, clock: Callable[[], float]) -> None:
        self._read = read
        self._interval_ms = interval_ms
        self._clock = clock
        self._outlets: OrderedDict[bytes, _Outlet] = OrderedDict()
        self._due: list[tuple[float, bytes]] = []

    def fold(self, row: StockRow, ticket: Ticket | None = None) -> None:
        """Take in a row; one that is not newer than what was seen changes nothing."""
        for channel, offer in row.channels.items():
            key = joined_key(channel, row.sku).encode()
            outlet = self._outlet(key, channel, row.sku)
            if row.version > outlet.version:
                outlet.version = row.version
                face = Face(offer.mode, offer.quantity, offer.preorder_remaining)
                self._change(key, outlet, face, row, ticket)
        self._forget_oldest()

    def next_due(self) -> float | None:
        """When something is due next, by the clock; None where nothing waits."""
        return self._due[0][0] if self._due else None

    def take_due(self, count_max: int) -> list[Update]:
        """The updates that are due now; they count as published from here on."""
        now = self._clock()
        updates: list[Update] = []
        while self._due and self._due[0][0] <= now and len(updates) < count_max:
            due, key = heapq.heappop(self._due)
            outlet = self._outlets.get(key)
            if outlet is None or outlet.pending is None or outlet.pending.due != due:
                continue  # it was replaced, or published earlier
            pending, outlet.pending = outlet.pending, None
            outlet.face, outlet.published_at = pending.face, now
            updates.append(Update(key, _encoded(outlet, pending), pending.ticket))
        return updates

    def _change(self, key: bytes, outlet: _Outlet, face: Face, row: StockRow, ticket: Ticket | None) -> None:
        replaced, outlet.pending = outlet.pending, None
        if face != outlet.face:
            due = self._due_at(outlet, face, row)
            outlet.pending = _Pending(face, row.version, row.as_of, ticket, due)
            if replaced is None or replaced.due != due:
                heapq.heappush(self._due, (due, key))
            if ticket is not None:
                ticket.claim()
        if replaced is not None and replaced.ticket is not None:
            replaced.ticket.release()

    def _due_at(self, outlet: _Outlet, face: Face, row: StockRow) -> float:
        now = self._clock()
        if outlet.face is None or face.mode != outlet.face.mode:
            return now
        interval_ms = row.publish_interval_ms.get(outlet.channel, self._interval_ms)
        return max(now, outlet.published_at + interval_ms / 1000)

    def _outlet(self, key: bytes, channel: str, sku: str) -> _Outlet:
        outlet = self._outlets.get(key)
        if outlet is None:
            stored = self._read(key)
            if stored is None:
                outlet = _Outlet(channel, sku, None, 0, float("-inf"))
            else:
                told = _decode_published(stored)
                face = Face(told.mode, told.quantity, told.preorder_remaining)
                outlet = _Outlet(channel, sku, face, told.version, float("-inf"))
            self._outlets[key] = outlet
        else:
            self._outlets.move_to_end(key)
        return outlet

    def _forget_oldest(self) -> None:
        if len(self._outlets) > OUTLETS_MAX:
            for key in list(_oldest(self._outlets, len(self._outlets) - OUTLETS_MAX)):
                del self._outlets[key]


def _oldest(outlets: OrderedDict[bytes, _Outlet], count: int) -> Iterator[bytes]:
    """Up to `count` keys that nothing waits for, among the oldest."""
    for (key, outlet), _ in zip(outlets.items(), range(count), strict=False):
        if outlet.pending is None:
            yield key


def _encoded(outlet: _Outlet, pending: _Pending) -> bytes:
    return orjson.dumps(
        {
            "channel": outlet.channel,
            "sku": outlet.sku,
            "quantity": pending.face.quantity,
            "mode": pending.face.mode,
            "preorder_remaining": pending.face.preorder_remaining,
            "version": pending.version,
            "as_of": pending.as_of,
        }
    )
