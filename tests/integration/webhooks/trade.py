"""Load for the tests of webhooks: orders of single units, some dozens a second, until it is stopped."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import stock_received
from tests.harness.receiver import CHANNEL

UNITS = 100_000
# Orders of one step, which are placed side by side.
STEP = 5


class Trade:
    """Places orders over `skus`, which a test may change meanwhile. `placed`: those that were answered with 201."""

    def __init__(self, shop: ApiTestClient, skus: Sequence[str], per_second: int, channel: str) -> None:
        self.skus = skus
        self.placed: list[str] = []
        self._shop = shop
        self._per_second = per_second
        self._channel = channel
        self._began = time.monotonic()

    async def run(self) -> None:
        """Place orders at a steady rate, until cancelled; a system that is recovering refuses some."""
        for number in itertools.count():
            await asyncio.gather(*(self._place(number * STEP + each) for each in range(STEP)))
            await asyncio.sleep(self._began + (number + 1) * STEP / self._per_second - time.monotonic())

    async def _place(self, number: int) -> None:
        answer = await self._shop.place(self.skus[number % len(self.skus)], channel=self._channel)
        if answer.status == 201:
            self.placed.append(answer.body["order_id"])

    @property
    def rate(self) -> float:
        """The orders per second so far."""
        return len(self.placed) / (time.monotonic() - self._began)


@asynccontextmanager
async def trading(
    shop: ApiTestClient, skus: Sequence[str], per_second: int, channel: str = CHANNEL
) -> AsyncIterator[Trade]:
    """Trade while the block runs."""
    trade = Trade(shop, skus, per_second, channel)
    running = asyncio.create_task(trade.run())
    try:
        yield trade
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def stocked(shop: ApiTestClient, prefix: str, count: int) -> list[str]:
    """New SKUs with plenty of units."""
    skus = [f"{prefix}{number:03}" for number in range(count)]
    await shop.move(stock_received(unique_name("wms"), *((sku, UNITS) for sku in skus)))
    return skus


async def newest_versions(shop: ApiTestClient, skus: Sequence[str], channel: str = CHANNEL) -> dict[str, int]:
    """The present version of each SKU in a channel."""
    query = "&".join(f"sku={sku}" for sku in skus)
    answer = await shop.get(f"/v1/channels/{channel}/stock?{query}&limit=1000")
    return {item["sku"]: item["version"] for item in answer.body["items"]}
