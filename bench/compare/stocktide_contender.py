"""Stocktide as a contender: its worker and its API with default settings, on the embedded servers.

Stock is received, and orders are placed and read, through the public API only.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from bench.compare.clients import http_clients
from bench.compare.load import ReserveClient
from bench.compare.stores import ValkeyStore
from bench.orders import LINES_PER_EVENT
from bench.servers import BenchServers, StocktideProcess, run_servers
from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until

APP_ID = "compare"
WAREHOUSE = "SH1"
REQUESTS_MAX = 64
# A movement that is not applied within this after a recovery is a failure of the run.
APPLIED_SECONDS_MAX = 120.0


class StocktideContender:
    """A worker and an API."""

    def __init__(
        self, servers: BenchServers, processes: Sequence[StocktideProcess], port: int, client: StocktideClient
    ) -> None:
        self._processes = processes
        self._port = port
        self._client = client
        store = ValkeyStore(servers.valkey)
        self.watch_store, self.lose_store = store.watch, store.lose
        self._movements = itertools.count()

    async def start(self) -> None:
        """Start both processes, and wait until they are ready."""
        await asyncio.gather(*(process.start() for process in self._processes))

    async def stop(self) -> None:
        """End both."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    def clients(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """`count` clients with a connection each."""
        return http_clients(self._port, count)

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receive the stock; returns when every receipt is applied."""
        lines = [{"sku": sku, "quantity": units} for sku, units in stock.items()]
        for start in range(0, len(lines), LINES_PER_EVENT):
            movement_id = f"open-{next(self._movements)}"
            movement = {
                "type": "stock.received",
                "id": movement_id,
                "occurred_at": datetime.now(UTC).isoformat(),
                "warehouse": WAREHOUSE,
                "lines": lines[start : start + LINES_PER_EVENT],
            }
            await receive(self._client, orjson.dumps(movement))
            await wait_until_applied(self._client, WAREHOUSE, movement_id, APPLIED_SECONDS_MAX)

    async def kill(self) -> str:
        """SIGKILL both at the same time and restart them."""
        await asyncio.gather(*(process.kill() for process in self._processes))
        await self.start()
        return "kill -9 of its worker and its API"

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """By `GET /v1/orders/{order_id}`."""
        found = await self._get_all([f"/v1/orders/{order_id}" for order_id in order_ids])
        return {order["order_id"] for order in found if order is not None and order["state"] == "reserved"}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """By `GET /v1/stock/{sku}`."""
        found = await self._get_all([f"/v1/stock/{sku}" for sku in skus])
        return {sku: stock["available"] if stock else 0 for sku, stock in zip(skus, found, strict=True)}

    async def _get_all(self, paths: Sequence[str]) -> list[dict[str, Any] | None]:
        return await asyncio.gather(*(get_json(self._client, path) for path in paths))


async def get_json(client: StocktideClient, path: str) -> dict[str, Any] | None:
    """The document at a path; None for 404. Raises RuntimeError for any other status."""
    response = await client.call("GET", path)
    if response.status not in (200, 404):
        raise RuntimeError(f"{path}: status {response.status}")
    found: dict[str, Any] = orjson.loads(response.body)
    return found if response.status == 200 else None


async def receive(client: StocktideClient, movement: bytes) -> None:
    """Post one movement. Raises RuntimeError if it is not accepted."""
    response = await client.call("POST", "/v1/movements", movement)
    if response.status != 202:
        raise RuntimeError(f"a movement was answered with status {response.status}: {response.body[:200]!r}")


async def wait_until_applied(client: StocktideClient, warehouse: str, movement_id: str, seconds_max: float) -> None:
    """Wait for the effect of a movement. Raises TimeoutError."""

    async def is_applied() -> bool:
        return await get_json(client, f"/v1/warehouses/{warehouse}/movements/{movement_id}") is not None

    if not await poll_until(is_applied, seconds_max):
        raise TimeoutError(f"{movement_id} was not applied within {seconds_max:.0f} s")


@asynccontextmanager
async def run_stocktide_contender(folder: Path) -> AsyncIterator[StocktideContender]:
    """The contender and its servers, for the duration."""
    async with run_servers(folder) as servers:
        await servers.create_topics(APP_ID)
        api = StocktideProcess(servers, APP_ID, "api")
        async with StocktideClient(api.url, REQUESTS_MAX) as client:
            worker = StocktideProcess(servers, APP_ID, "worker")
            contender = StocktideContender(servers, (worker, api), api.port, client)
            try:
                await contender.start()
                yield contender
            finally:
                await contender.stop()
