"""The state of the system at rest: every order, SKU, channel and movement, by GET.

In: the clients, and the number of orders. Out: a record of every answer.
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
# The number of attempts for a read that is not answered.
TRIES_MAX = 40
RETRY_SECONDS = 0.25
PAGE_MAX = 500


class ReadUnanswered(Exception):
    """A quiescent system does not answer a read."""


class _Page(msgspec.Struct, frozen=True):
    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


async def read_everything(
    clients: RecordingClients,
    recorder: RunRecorder,
    orders: int,
    movements: Iterable[tuple[str, str]] = (),
    others: Iterable[str] = (),
    skus: Iterable[str] = (),
) -> None:
    """Read orders `o1` to `o<orders>` and `others`, the usual SKUs and `skus`, and the movements. Raises
    ReadUnanswered."""
    reader = _Reader(clients, recorder)
    await asyncio.gather(*(reader.channel(channel) for channel in CHANNELS))
    await _read_concurrently(reader.stock(sku) for sku in (*SKUS, *skus))
    await _read_concurrently(reader.order(f"o{number}") for number in range(1, orders + 1))
    await _read_concurrently(reader.order(order_id) for order_id in others)
    await _read_concurrently(reader.movement(warehouse, id_) for warehouse, id_ in movements)


class _Reader:
    def __init__(self, clients: RecordingClients, recorder: RunRecorder) -> None:
        self._clients = clients
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
        """The time of the request, and the answer; None for 404."""
        answer = None
        for _ in range(TRIES_MAX):
            asked_at = self._recorder.now
            answer = await self._clients.get(path)
            if answer is not None and answer[0] in (200, 404):
                return asked_at, msgspec.json.decode(answer[1], type=kind) if answer[0] == 200 else None
            await asyncio.sleep(RETRY_SECONDS)
        raise ReadUnanswered(f"GET {path} at rest: {answer}")


async def _read_concurrently(reads: Iterator[Awaitable[None]]) -> None:
    async def work() -> None:
        for read in reads:
            await read

    await asyncio.gather(*(work() for _ in range(READS_MAX)))
