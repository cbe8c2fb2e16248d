"""Stocktide as a contender: its worker and its API with the settings that a user gets, on the embedded servers.

Everything goes through its public API: stock is received, orders placed and looked up as any caller would.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from bench.compare.clients import http_clients
from bench.compare.load import ReserveClient
from bench.compare.stores import ValkeyStore
from bench.size.stage import SizeServers, StocktideProcess, servers
from stocktide.retry import poll_until

WAREHOUSE = "SH1"
LINES_EACH = 500
# Looked up at once, when the callers are done.
LOOKS_MAX = 64
# A look that is not answered within this after a recovery is a failure of the run.
LOOK_SECONDS_MAX = 120.0
AGAIN_SECONDS = 0.2


class StocktideContender:
    """A worker and an API."""

    def __init__(self, stage: SizeServers, session: aiohttp.ClientSession) -> None:
        self._members = (StocktideProcess(stage, "worker"), StocktideProcess(stage, "api"))
        self._api = self._members[1].url
        self._store = ValkeyStore(stage.valkey)
        self._session = session
        self._movements = itertools.count()

    async def start(self) -> None:
        """Start both, and wait until they are ready."""
        await asyncio.gather(*(member.start() for member in self._members))

    async def stop(self) -> None:
        """End both."""
        await asyncio.gather(*(member.stop() for member in self._members))

    def callers(self, count: int) -> AbstractAsyncContextManager[list[ReserveClient]]:
        """A connection each."""
        return http_clients(int(self._api.rpartition(":")[2]), count)

    async def open(self, stock: Mapping[str, int]) -> None:
        """Receipts, each waited for."""
        lines = [{"sku": sku, "quantity": units} for sku, units in stock.items()]
        for start in range(0, len(lines), LINES_EACH):
            movement: dict[str, Any] = {
                "type": "stock.received",
                "id": f"open-{next(self._movements)}",
                "occurred_at": datetime.now(UTC).isoformat(),
                "warehouse": WAREHOUSE,
                "lines": lines[start : start + LINES_EACH],
            }
            async with self._session.post(f"{self._api}/v1/movements", json=movement) as answer:
                answer.raise_for_status()
            path = f"/v1/warehouses/{WAREHOUSE}/movements/{movement['id']}"
            if not await poll_until(partial(self._is_there, path), LOOK_SECONDS_MAX):
                raise TimeoutError(f"{movement['id']} was not applied within {LOOK_SECONDS_MAX:.0f} s")

    async def kill(self) -> str:
        """Of both at once."""
        await asyncio.gather(*(member.kill() for member in self._members))
        await self.start()
        return "kill -9 of its worker and its API"

    def watch_store(self) -> None:
        """Its Redis's file."""
        self._store.watch()

    async def lose_store(self) -> str:
        """Its Redis loses its tail."""
        return await self._store.lose()

    async def held(self, order_ids: Sequence[str]) -> set[str]:
        """By `GET /v1/orders/{order_id}`."""
        found = await self._look_all([f"/v1/orders/{order_id}" for order_id in order_ids])
        return {order["order_id"] for order in found if order is not None and order["state"] == "reserved"}

    async def left(self, skus: Sequence[str]) -> dict[str, int]:
        """By `GET /v1/stock/{sku}`."""
        found = await self._look_all([f"/v1/stock/{sku}" for sku in skus])
        return {sku: stock["available"] if stock else 0 for sku, stock in zip(skus, found, strict=True)}

    async def _is_there(self, path: str) -> bool:
        return await self._look(path) is not None

    async def _look_all(self, paths: Sequence[str]) -> list[dict[str, Any] | None]:
        places = asyncio.Semaphore(LOOKS_MAX)

        async def look(path: str) -> dict[str, Any] | None:
            async with places:
                return await self._look(path)

        return await asyncio.gather(*map(look, paths))

    async def _look(self, path: str) -> dict[str, Any] | None:
        """What is at a path; None for 404. It is asked again while the answer is 503."""
        async with asyncio.timeout(LOOK_SECONDS_MAX):
            while True:
                async with self._session.get(self._api + path) as answer:
                    if answer.status != 503:
                        if answer.status == 404:
                            return None
                        answer.raise_for_status()
                        found: dict[str, Any] = await answer.json()
                        return found
                await asyncio.sleep(AGAIN_SECONDS)


@asynccontextmanager
async def stocktide(folder: Path) -> AsyncIterator[StocktideContender]:
    """Started, for the duration."""
    async with servers(folder) as stage, aiohttp.ClientSession() as session:
        contender = StocktideContender(stage, session)
        try:
            await contender.start()
            yield contender
        finally:
            await contender.stop()
