"""Compares what the oracle expects with what `GET /v1/stock/{sku}` says.

In: a client of the API and an `StockModel`. Out: the differences, after a bounded time for what is still on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import quote

import msgspec

from stocktide.loadtest.client.http import ApiError, StocktideClient
from stocktide.loadtest.replay.stock_model import ActualStock, StockDifference, StockModel

# Rows are milliseconds behind the ledger; where others still buy, a moment without a change must be met.
SETTLE_SECONDS_MAX = 20.0
RETRY_SECONDS = 0.25
_STOCK = msgspec.json.Decoder(ActualStock)


async def stock_of(client: StocktideClient, sku: str) -> ActualStock | None:
    """The stock of a SKU; None where it is unknown. Raises ApiError."""
    path = f"/v1/stock/{quote(sku, safe='')}"
    answer = await client.call("GET", path)
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise ApiError(f"GET {path} was answered {answer.said()}")
    try:
        return _STOCK.decode(answer.body)
    except msgspec.DecodeError as error:
        raise ApiError(f"GET {path} is not what the contract says: {error}") from error


async def differences(
    oracle: StockModel, client: StocktideClient, skus: Iterable[str], catch_up: Callable[[], Awaitable[None]]
) -> list[StockDifference]:
    """Every number that is not as expected. What differs is read again, rows first, until it rests."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS_MAX
    differing = list(skus)
    while True:
        stocks = await asyncio.gather(*(stock_of(client, sku) for sku in differing))
        found = [
            difference
            for sku, stock in zip(differing, stocks, strict=True)
            for difference in oracle.differences(sku, stock)
        ]
        if not found or loop.time() > deadline:
            return found
        differing = list(dict.fromkeys(difference.sku for difference in found))
        await asyncio.sleep(RETRY_SECONDS)
        await catch_up()
