"""The comparison of the replay's expectations with `GET /v1/stock/{sku}`.

In: a client of the API and a `StockModel`. Out: the differences that remain after a bounded time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.replay.stock_model import StockDifference, StockModel

# Rows are milliseconds behind the ledger; other buyers' orders may differ until the stock is read between two of them.
SETTLE_SECONDS_MAX = 20.0
RETRY_SECONDS = 0.25


async def find_differences(
    model: StockModel, client: StocktideClient, skus: Iterable[str], catch_up: Callable[[], Awaitable[None]]
) -> list[StockDifference]:
    """Every number that is not as expected. SKUs that differ are read again, after their rows. Raises ApiError."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS_MAX
    differing = list(skus)
    while True:
        stocks = await asyncio.gather(*(client.stock(sku) for sku in differing))
        found = [
            difference
            for sku, stock in zip(differing, stocks, strict=True)
            for difference in model.differences(sku, stock)
        ]
        if not found or loop.time() > deadline:
            return found
        differing = list(dict.fromkeys(difference.sku for difference in found))
        await asyncio.sleep(RETRY_SECONDS)
        await catch_up()
