"""What the system says once it rests: every order, SKU, channel and movement, by GET.

In: the doors, and how many orders there may be. Out: records of every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec

from stocktide.loadtest.client.contract import ChannelUpdateView, MovementView, OrderView, StockView
from stocktide.loadtest.oracle.history import ReadChannel, ReadMovement, ReadOrder, ReadStock
from tests.faults.recording_clients import RecordingClients, RunRecorder
from tests.faults.scenarios import CHANNELS, SKUS

# Reads under way at once.
READS_MAX = 48
# The system rests: a read that is not answered is asked again for so long.
TRIES_MAX = 40
RETRY_SECONDS = 0.25
PAGE_MAX = 500


class ReadUnanswered(Exception):
    """A system at rest does not answer a read."""


class _Page(msgspec.Struct, frozen=True):
    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


async def read_everything(
    doors: RecordingClients,
    recorder: RunRecorder,
    orders: int,
    movements: Iterable[tuple[str, str]] = (),
    others: Iterable[str] = (),
    skus: Iterable[str] = (),
) -> None:
    """Read all: orders `o1` to `o<orders>` and `others`, the usual SKUs and `skus`. Raises ReadUnanswered."""
    reader = _Reader(doors, recorder)
    await asyncio.gather(*(reader.channel(channel) for channel in CHANNELS))
    await _some_at_a_time(reader.stock(sku) for sku in (*SKUS, *skus))
    await _some_at_a_time(reader.order(f"o{number}") for number in range(1, orders + 1))
    await _some_at_a_time(reader.order(order_id) for order_id in others)
    await _some_at_a_time(reader.movement(warehouse, id_) for warehouse, id_ in movements)


class _Reader:
    def __init__(self, doors: RecordingClients, recorder: RunRecorder) -> None:
        self._doors = doors
        self._recorder = recorder

    async def order(self, order_id: str) -> None:
        asked_at, order = await self._get(f"/v1/orders/{quote(order_id)}", OrderView)
        self._recorder.add(ReadOrder(self._recorder.now, asked_at, order_id, order))

    async def stock(self, sku: str) -> None:
        asked_at, stock = await self._get(f"/v1/stock/{quote(sku)}", StockView)
        self._recorder.add(ReadStock(self._recorder.now, asked_at, sku, stock))

    async def movement(self, warehouse: str, id_: str) -> None:
        asked_at, movement = await self._get(f"/v1/warehouses/{warehouse}/movements/{quote(id_)}", MovementView)
        self._recorder.add(ReadMovement(self._recorder.now, asked_at, warehouse, id_, movement))

    async def channel(self, channel: str) -> None:
        cursor = ""
        while True:
            path = f"/v1/channels/{channel}/stock?limit={PAGE_MAX}" + (f"&cursor={quote(cursor)}" if cursor else "")
            asked_at, page = await self._get(path, _Page)
            page = page or _Page(())
            self._recorder.add(ReadChannel(self._recorder.now, asked_at, channel, page.items, page.next))
            if page.next is None:
                return
            cursor = page.next

    async def _get(self, path: str, kind: Any) -> tuple[int, Any]:
        """When it was asked, and the answer; None for 404."""
        said = None
        for _ in range(TRIES_MAX):
            asked_at = self._recorder.now
            said = await self._doors.get(path)
            if said is not None and said[0] in (200, 404):
                return asked_at, msgspec.json.decode(said[1], type=kind) if said[0] == 200 else None
            await asyncio.sleep(RETRY_SECONDS)
        raise ReadUnanswered(f"GET {path} at rest: {said}")


async def _some_at_a_time(reads: Iterator[Awaitable[None]]) -> None:
    async def work() -> None:
        for read in reads:
            await read

    await asyncio.gather(*(work() for _ in range(READS_MAX)))
