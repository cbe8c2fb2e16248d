"""Compares what the oracle expects with what `GET /v1/stock/{sku}` says.

In: an API address and an `Oracle`. Out: the differences, after a bounded time for what is still on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp
import msgspec

from loadtest.oracle import Difference, Oracle, Stock

# Reads under way at once: as many as one API process answers without a queue.
READS_MAX = 32
READ_SECONDS_MAX = 15.0
# A restart of the API takes seconds; after this long it is an outage.
OUTAGE_SECONDS_MAX = 120.0
RETRY_SECONDS = 0.25
# The feeds are milliseconds behind the ledger; where others still buy, a moment without a change must be met.
SETTLE_SECONDS_MAX = 20.0


class CheckError(Exception):
    """The stock cannot be read; the message says where and why."""


class StockReader:
    """Reads stock from the API, many SKUs at once; waits out a restart."""

    def __init__(self, api: str) -> None:
        self._api = api.rstrip("/")
        self._decoder = msgspec.json.Decoder(Stock)
        self._slots = asyncio.Semaphore(READS_MAX)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READ_SECONDS_MAX))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def reach(self) -> None:
        """Raise CheckError unless the API answers now."""
        assert self._session is not None
        try:
            async with self._session.get(f"{self._api}/healthz"):
                pass
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CheckError(f"no API answers at {self._api}") from error

    async def stock(self, sku: str) -> Stock | None:
        """The stock of a SKU; None where it is unknown. Raises CheckError."""
        assert self._session is not None
        said = ""
        deadline = asyncio.get_running_loop().time() + OUTAGE_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with (
                    self._slots,
                    self._session.get(f"{self._api}/v1/stock/{quote(sku, safe='')}") as answer,
                ):
                    body = await answer.read()
                if answer.status == 200:
                    return self._decoder.decode(body)
                if answer.status == 404:
                    return None
                said = f"{answer.status} {body[:200].decode(errors='replace')}"
                if answer.status < 500:
                    break
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error) or type(error).__name__
            except msgspec.DecodeError as error:
                raise CheckError(f"GET /v1/stock/{sku} is not what the contract says: {error}") from error
            await asyncio.sleep(RETRY_SECONDS)
        raise CheckError(f"GET {self._api}/v1/stock/{sku} was answered: {said}")


async def differences(
    oracle: Oracle, reader: StockReader, skus: Iterable[str], catch_up: Callable[[], Awaitable[None]]
) -> list[Difference]:
    """Every number that is not as expected. What differs is read again, rows first, until it rests."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS_MAX
    differing = list(skus)
    while True:
        stocks = await asyncio.gather(*(reader.stock(sku) for sku in differing))
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
