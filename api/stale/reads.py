"""Reads that are answered from the published tables while the ledger cannot be read.

In: a read of the ledger, and the same read of the tables. Out: the value, and whether it is stale: of the tables, which
have every settled batch up to some moment, but maybe not the newest. What the tables do not have is never answered as
unknown: the ledger may have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import KafkaError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.topic_copy import CopyTooLarge, TopicCopy
from stocktide.streams.contract.documents import StockAnswer
from stocktide.tables.derived_rows import decode_derived_row
from stocktide.tables.ledger.client import LedgerError, LedgerRead, Unblessed
from stocktide.tables.ledger.records import OrderRecord
from stocktide.tables.stock_rows import decode_stock_row

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# Of the time of a request: a read of a ledger that answers takes some ms; a hung server must leave time for the tables.
LEDGER_SHARE = 0.6
# After a failure the ledger is asked as briefly as this, for some seconds.
SUSPECT_SECONDS_MAX = 0.3
SUSPECT_FOR_SECONDS = 10.0
# The copies are dropped this long after the last call that needed them.
KEPT_SECONDS = 120.0
# The ledger is away, hangs, or was not blessed. A builtin TimeoutError: what it has is not settled in time.
OUTAGES = (Unblessed, RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)


class NotInTables(LookupError):
    """The tables do not have it."""


class PublishedTables:
    """The rows of `stock` and `reservations` as they are published."""

    def __init__(self, stock: TopicCopy, orders: TopicCopy) -> None:
        self.stock = stock
        self.orders = orders

    async def sku(self, sku: str) -> StockAnswer:
        """A SKU. Raises NotInTables, and the errors of TopicCopy."""
        await self.stock.refresh()
        found = self.stock_row(sku)
        if found is None:
            raise NotInTables(sku)
        return found

    async def order(self, order_id: str) -> OrderRecord:
        """An order. Raises NotInTables, and the errors of TopicCopy."""
        await self.orders.refresh()
        found = self.order_row(order_id)
        if found is None:
            raise NotInTables(order_id)
        return found

    def stock_row(self, sku: str) -> StockAnswer | None:
        """A SKU as of the newest refresh; None also for a row that cannot be read."""
        row = self.stock.get(sku)
        return None if row is None else decode_stock_row(row)

    def order_row(self, order_id: str) -> OrderRecord | None:
        """An order as of the newest refresh; None also for a row that cannot be read."""
        value = self.orders.get(order_id)
        row = None if value is None else decode_derived_row("order", order_id.encode(), value)
        return row.record if row is not None and isinstance(row.record, OrderRecord) else None

    async def close(self) -> None:
        """Forget the copies."""
        await self.stock.close()
        await self.orders.close()


class StaleReads:
    """Settled reads of the ledger, or else of the tables."""

    def __init__(self, reads: SettledReads, tables: PublishedTables) -> None:
        self._reads = reads
        self.tables = tables
        self._failed_at = float("-inf")
        self._dropping: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def read(
        self, of_ledger: Callable[[], Awaitable[LedgerRead[Value]]], of_tables: Callable[[], Awaitable[Value]]
    ) -> tuple[Value, bool]:
        """The value, and whether it is stale; see `either`."""
        return await self.either(lambda deadline: self._reads.settled(of_ledger, deadline), of_tables)

    async def either(
        self, of_ledger: Callable[[float], Awaitable[Value]], of_tables: Callable[[], Awaitable[Value]]
    ) -> tuple[Value, bool]:
        """The value of `of_ledger(deadline)`, or else of `of_tables`, and whether it is stale. Raises the errors of the
        former if the tables cannot answer either in the time of a request."""
        now, deadline = asyncio.get_running_loop().time(), self._reads.deadline()
        is_suspect = now < self._failed_at + SUSPECT_FOR_SECONDS
        seconds = SUSPECT_SECONDS_MAX if is_suspect else LEDGER_SHARE * self._reads.request_seconds
        try:
            value = await of_ledger(min(deadline, now + seconds))
        except OUTAGES as error:
            outage: Exception = error
            if not is_suspect:  # else reads that take longer than this would be stale for ever
                self._failed_at = asyncio.get_running_loop().time()
            elif isinstance(outage, TimeoutError):
                outage = LedgerError("it did not answer in time, as a moment ago")
            return await self._from_tables(of_tables, deadline, outage), True
        self._failed_at = float("-inf")
        return value, False

    async def _from_tables(
        self, of_tables: Callable[[], Awaitable[Value]], deadline: float, outage: BaseException
    ) -> Value:
        self._drop_later()
        try:
            async with asyncio.timeout_at(deadline):
                return await of_tables()
        except NotInTables:
            raise outage from None
        except (TimeoutError, KafkaError, CopyTooLarge, OSError) as error:
            log.warning("the tables cannot be read instead of the ledger: %s", error or type(error).__name__)
            raise outage from error

    def _drop_later(self) -> None:
        if self._dropping is not None:
            self._dropping.cancel()
        self._dropping = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._drop)

    def _drop(self) -> None:
        self._closing = asyncio.create_task(self.tables.close())

    async def close(self) -> None:
        """Stop reading."""
        if self._dropping is not None:
            self._dropping.cancel()
        if self._closing is not None:
            await self._closing
        await self.tables.close()
