"""Fills the shop through its topics: receipts from three warehouses, and orders of five channels with long holds.

In: events. Out: an idle shop in which all of them are decided, settled, derived and published.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

from redis.asyncio import Redis

from bench import orders
from bench.orders import CHANNELS, KeyValue, encode_order, send_all, sku_name
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, sum_metric
from stocktide.tables.ledger.scripts import key_prefix

APP_ID = "size"
PREFIX = key_prefix(APP_ID)
UNITS_EACH = 1_000
# The longest hold, so that none expires during the run.
HOLD_SECONDS = 604_800
# A shop without progress for this long is broken.
STALL_SECONDS_MAX = 120.0
POLL_SECONDS = 0.25
REDIS_BYTES_A_SKU_MAX = 1024


def receipts(first: int, last: int) -> Iterator[KeyValue]:
    """Receipts of the SKUs from `first` up to `last` in every warehouse."""
    return orders.receipts([sku_name(number) for number in range(first, last)], UNITS_EACH)


def held_orders(first: int, last: int, skus: int, prefix: str = "o") -> Iterator[KeyValue]:
    """Orders of one unit, in turn over the channels and spread over the SKUs."""
    for number in range(first, last):
        order_id = f"{prefix}-{number}"
        yield order_id.encode(), encode_held_order(order_id, number, skus)


def encode_held_order(order_id: str, number: int, skus: int) -> bytes:
    """One `order.placed` with the longest hold."""
    # A prime step: all SKUs are ordered, and consecutive orders are far apart.
    sku = sku_name(number * 7_919 % skus)
    return encode_order(order_id, CHANNELS[number % len(CHANNELS)], sku, HOLD_SECONDS)


# Seconds until all was decided; from then until it was derived and published.
SeedDurations = tuple[float, float]


class Seeder:
    """Sends events and waits until the shop is idle again."""

    def __init__(self, servers: BenchServers, worker: BenchedProcess, redis: Redis, report: Report) -> None:
        self._servers = servers
        self._worker = worker
        self._redis = redis
        self._report = report

    async def register_channels(self) -> None:
        """Make all channels known before there is stock, so that each SKU is offered to each from its first receipt.
        The orders are refused, because their SKU is unknown."""
        await self.send("orders", held_orders(0, len(CHANNELS), 1, "known"), "channels")

    async def send(self, topic: str, events: Iterator[KeyValue], what: str) -> SeedDurations:
        """Send, and wait until all is decided and the shop is idle."""
        began, before = time.monotonic(), await self._worker.count_settled_events()
        partitions = self._servers.settings(APP_ID).partitions
        sending = asyncio.create_task(send_all(self._servers.kafka.address, f"{APP_ID}-{topic}", partitions, events))

        async def is_decided() -> tuple[bool, str]:
            done = await self._worker.count_settled_events() - before
            return sending.done() and done >= sending.result(), f"{done:,} events decided"

        await self._wait(what, is_decided)
        decided = time.monotonic()
        await self.wait_until_idle(what)
        return decided - began, time.monotonic() - decided

    async def wait_until_idle(self, what: str) -> None:
        """Wait until all decisions are settled, derived and published."""
        idle_polls = 0

        async def is_idle() -> tuple[bool, str]:
            nonlocal idle_polls
            batches, records = await self._backlog()
            idle_polls = 0 if batches or records else idle_polls + 1
            # A lag is known only after the next fetch.
            return idle_polls >= 3, f"{batches:,.0f} batches to derive, {records:,.0f} records to go"

        await self._wait(what, is_idle)

    async def _wait(self, what: str, is_done: Callable[[], Awaitable[tuple[bool, str]]]) -> None:
        """Poll `is_done`, which also describes the progress. Raises TimeoutError if that does not change."""
        stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, ""
        while True:
            done, progress = await is_done()
            if done:
                return
            if progress != newest:
                stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, progress
            if time.monotonic() > stalled_at:
                raise TimeoutError(f"{what}: nothing moves for {STALL_SECONDS_MAX:.0f} s: {progress}")
            self._report.log_progress(f"{what}: {progress}")
            await asyncio.sleep(POLL_SECONDS)

    async def _backlog(self) -> tuple[float, float]:
        """Batches that are not derived, and records of all topics that are not committed."""
        lines = (await self._worker.metrics()).splitlines()
        head = int(await self._redis.hget(PREFIX + "head", "batch") or 0)
        # 0 after a restart, until the first derivation.
        derived = sum_metric("stocktide_derived_batch", lines) or head
        return max(0.0, head - derived), sum_metric("stocktide_lag_records", lines)


def report_filling(
    report: Report, counts: dict[str, int], took: dict[str, SeedDurations], grown: dict[str, int]
) -> None:
    """Rows of the filling, and of the memory of Redis; by `skus` and `orders`."""
    for what, count in counts.items():
        decided, rest = took[what]
        report.add(
            f"filling, {what}",
            f"{count:,} in {decided:.0f} s ({count / decided:,.0f}/s), derived and published {rest:.0f} s later",
            figures={"decided_seconds": decided, "rest_seconds": rest},
        )
    sku, order = (grown[what] / counts[what] for what in ("skus", "orders"))
    report.add(
        "Redis, memory per SKU",
        f"{sku:,.0f} bytes (and {order:,.0f} an open order)",
        goal="<= 1 KB",
        met=sku <= REDIS_BYTES_A_SKU_MAX,
        figures={"sku_bytes": sku, "order_bytes": order},
    )
