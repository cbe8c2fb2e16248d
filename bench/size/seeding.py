"""Fills the shop through its own doors: receipts from three warehouses, and orders of five channels with long holds.

In: events. Out: a shop at rest that holds what they brought: decided, settled, derived, published.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from msgspec import Struct
from redis.asyncio import Redis

from bench.orders import CHANNELS, WAREHOUSES, KeyValue, send_all
from bench.size.report import SizeReport
from bench.size.stage import APP_ID, PREFIX, SizeServers, StocktideProcess

# As many lines as a warehouse's full count brings at once; a piece of the intake holds two such.
LINES_EACH = 500
UNITS_EACH = 1_000
# The longest hold there is: none ends while we measure.
HOLD_SECONDS = 604_800
# A shop that does not get on for so long is broken.
STALL_SECONDS_MAX = 120.0
POLL_SECONDS = 0.25
_OCCURRED_AT = "2026-11-11T00:00:00Z"


def sku_name(number: int) -> str:
    """The name of a SKU."""
    return f"S{number}"


def receipts(first: int, last: int) -> Iterator[KeyValue]:
    """(key, value): every warehouse receives each SKU from `first` up to `last`. Block by block, so that a SKU's
    receipts come together, as they do where a shop is opened from a file of its stock."""
    for start in range(first, last, LINES_EACH):
        skus = map(sku_name, range(start, min(start + LINES_EACH, last)))
        lines = ",".join(f'{{"sku":"{sku}","quantity":{UNITS_EACH}}}' for sku in skus)
        for warehouse in WAREHOUSES:
            value = (
                f'{{"type":"stock.received","id":"open-{start}","occurred_at":"{_OCCURRED_AT}",'
                f'"warehouse":"{warehouse}","lines":[{lines}]}}'
            )
            yield warehouse.encode(), value.encode()


def held_orders(first: int, last: int, skus: int, prefix: str = "o") -> Iterator[KeyValue]:
    """(key, value): orders of one unit, in turn over the channels and spread over the SKUs."""
    for number in range(first, last):
        order_id = f"{prefix}-{number}"
        yield order_id.encode(), encode_held_order(order_id, number, skus)


def encode_held_order(order_id: str, number: int, skus: int) -> bytes:
    """One `order.placed` with the longest hold."""
    # A prime step: orders go over all SKUs, none of them next to the one before.
    sku = sku_name(number * 7_919 % skus)
    return (
        f'{{"type":"order.placed","id":"{order_id}-placed","occurred_at":"{_OCCURRED_AT}","order_id":"{order_id}",'
        f'"channel":"{CHANNELS[number % len(CHANNELS)]}","hold_seconds":{HOLD_SECONDS},'
        f'"lines":[{{"sku":"{sku}","quantity":1}}]}}'
    ).encode()


class SeedDurations(Struct, frozen=True):
    """Seconds: until all was decided; from then until it was derived and published too."""

    decided: float = 0.0
    rest: float = 0.0

    def __add__(self, other: SeedDurations) -> SeedDurations:
        return SeedDurations(self.decided + other.decided, self.rest + other.rest)


class Seeder:
    """Sends events and waits until the shop rests again."""

    def __init__(self, stage: SizeServers, worker: StocktideProcess, redis: Redis, notes: SizeReport) -> None:
        self._stage = stage
        self._worker = worker
        self._redis = redis
        self._notes = notes

    async def know_channels(self) -> None:
        """Have all channels known before there is stock, so that each SKU is offered to each from its first receipt on.
        The orders are refused: their SKU is not known."""
        events = [(key, value) for key, value in held_orders(0, len(CHANNELS), 1, "known")]
        await self.send("orders", iter(events), "channels")

    async def send(self, topic: str, events: Iterator[KeyValue], what: str) -> SeedDurations:
        """Send, and wait until all is decided and the shop rests."""
        began, before = time.monotonic(), await self._done()
        sending = asyncio.create_task(
            send_all(self._stage.kafka.address, f"{APP_ID}-{topic}", self._stage.settings().partitions, events)
        )
        stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, -1.0
        while True:
            done = await self._done() - before
            if done != newest:
                stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, done
            if sending.done() and done >= sending.result():
                break
            if time.monotonic() > stalled_at:
                raise TimeoutError(
                    f"{what}: nothing was decided for {STALL_SECONDS_MAX:.0f} s, after {done:.0f} events"
                )
            self._notes.say_sometimes(f"{what}: {done:,.0f} events decided")
            await asyncio.sleep(POLL_SECONDS)
        decided = time.monotonic()
        await self.rest(what)
        return SeedDurations(decided - began, time.monotonic() - decided)

    async def rest(self, what: str) -> None:
        """Wait until all that was decided is settled, derived and published."""
        stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, (-1.0, -1.0)
        calm = 0
        while calm < 3:  # a lag is known only after the next fetch
            left = await self._left()
            calm = calm + 1 if left == (0.0, 0.0) else 0
            if left != newest:
                stalled_at, newest = time.monotonic() + STALL_SECONDS_MAX, left
            if time.monotonic() > stalled_at:
                raise TimeoutError(
                    f"{what}: {left[0]:.0f} batches and {left[1]:.0f} records are left, and nothing moves"
                )
            self._notes.say_sometimes(f"{what}: {left[0]:,.0f} batches to derive, {left[1]:,.0f} records to go")
            await asyncio.sleep(POLL_SECONDS)

    async def decided(self) -> int:
        """How many events this worker has had settled since it started."""
        return int(await self._done())

    async def _done(self) -> float:
        return (await self._worker.metrics()).get("stocktide_outcomes_total", 0.0)

    async def _left(self) -> tuple[float, float]:
        """Batches that are not derived, and records of all topics that are not committed."""
        found = await self._worker.metrics()
        head = int(await self._redis.hget(PREFIX + "head", "batch") or 0)
        lag = sum(value for name, value in found.items() if name.startswith("stocktide_lag_records"))
        # 0 after a restart, until there is something to derive.
        derived = found.get("stocktide_derived_batch", 0.0) or head
        return max(0.0, head - derived), lag
