"""Orders while servers fail, and a kill of Redis under them that loses its newest writes.

In: a rate; a shop. Out: the response to each order by HTTP, and the ids of the orders that Kafka has acknowledged; of a
kill, seconds from the first response of Redis to blessed, and the batches that were redone. An order without a response
is sent again, as the contract requires.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.load import pace, silence
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers
from bench.size.seeding import APP_ID, PREFIX, encode_held_order
from stocktide.client import ApiError, Order
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.kafka import EventProducer
from stocktide.tables.ledger.connection import connect

# Concurrent orders by HTTP; more would only queue.
REQUESTS_MAX = 200
# Orders arrive before the kill, so that the tail holds batches, and afterwards.
BEFORE_SECONDS, AFTER_SECONDS = 8.0, 4.0
POLL_SECONDS = 0.005
# A slower recovery is a failure, not a measurement.
BLESSED_SECONDS_MAX = 1_800.0
REDO_SECONDS_MAX = 10.0

_REDO = re.compile(r"Redis came back with batch (\d+), the journal holds (\d+): redo")
_BLESSED = re.compile(r"blessed: term \d+")


class OrderTraffic:
    """Orders at `rate` a second, half by HTTP and half by Kafka; `api` None: all by Kafka."""

    def __init__(self, kafka: str, api: str | None, rate: float, skus: int, prefix: str) -> None:
        self._kafka = kafka
        self._api = api
        self._rate = rate
        self._skus = skus
        self._prefix = prefix
        self._running = True
        self._requests: set[asyncio.Task[None]] = set()
        # The order of each response, and the ids that Kafka has taken.
        self.responses: dict[str, Order] = {}
        self.acknowledged_ids: list[str] = []
        self.unexpected: list[str] = []
        self.longest_seconds = 0.0
        # The time of each response (s, monotonic clock).
        self.responded_at: list[float] = []

    @asynccontextmanager
    async def run(self) -> AsyncIterator[OrderTraffic]:
        """Send orders for the duration; at the end, wait for the pending ones."""
        async with (
            EventProducer(self._kafka, APP_ID) as producer,
            StocktideClient(self._api or "http://127.0.0.1", REQUESTS_MAX) as client,
        ):
            sending = asyncio.create_task(self._send_all(producer, client))
            try:
                yield self
            finally:
                self._running = False
                await sending
                await asyncio.gather(*self._requests)

    async def lost(self, read: Callable[[str], Awaitable[Order | None]]) -> list[str]:
        """The ids of orders that do not exist or differ from their response. `read` gets one by its id."""
        ids = [*self.responses, *self.acknowledged_ids]
        orders = await asyncio.gather(*map(read, ids))
        return [
            order_id
            for order_id, order in zip(ids, orders, strict=True)
            if order is None or order.state != "reserved" or self.responses.get(order_id, order) != order
        ]

    async def _send_all(self, producer: EventProducer, client: StocktideClient) -> None:
        numbers = itertools.count()
        async for _ in pace(self._rate, lambda _: self._running):
            number = next(numbers)
            if self._api is None or number % 2:
                order_id = f"{self._prefix}-k{number}"
                await producer.enqueue(orjson.loads(encode_held_order(order_id, number, self._skus)))
                self.acknowledged_ids.append(order_id)
            elif len(self._requests) < REQUESTS_MAX:
                task = asyncio.create_task(self._post(client, number))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)

    async def _post(self, client: StocktideClient, number: int) -> None:
        order_id = f"{self._prefix}-h{number}"
        order = orjson.loads(encode_held_order(order_id, number, self._skus))
        del order["type"]
        began = time.monotonic()
        try:
            outcome = await client.place_order(order)
        except ApiError as error:
            self.unexpected.append(f"{order_id}: {error}")
            return
        if outcome.order is None:
            self.unexpected.append(f"{order_id}: {outcome.status} {outcome.code}")
            return
        # A retried one says that it is a repeat, and a read does not.
        self.responses[order_id] = msgspec.structs.replace(outcome.order, replayed=False)
        self.responded_at.append(time.monotonic())
        self.longest_seconds = max(self.longest_seconds, self.responded_at[-1] - began)


async def restart_redis(servers: BenchServers) -> tuple[float, float, float]:
    """Start a killed Valkey, and wait until it is blessed: the times (monotonic clock) of the start, of the first
    response and of the blessing."""
    began = time.monotonic()
    starting = asyncio.create_task(servers.valkey.start())
    async with connect(servers.valkey.url) as redis:
        while not await _answers(redis):
            if starting.done():
                await starting  # raises if it did not start
            await asyncio.sleep(POLL_SECONDS)
        answered = time.monotonic()
        await wait_until_blessed(redis)
        done = time.monotonic()
        await starting
        return began, answered, done


async def wait_until_blessed(redis: Redis) -> None:
    """Wait until this run of the server is blessed. Raises TimeoutError."""
    run_id = str((await redis.info("server"))["run_id"]).encode()
    deadline = time.monotonic() + BLESSED_SECONDS_MAX
    while time.monotonic() < deadline:
        if await redis.hget(PREFIX + "blessed", "run_id") == run_id:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError(f"Redis was not blessed within {BLESSED_SECONDS_MAX:.0f} s: see the worker's log")


async def _answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False


def parse_recovery_log(text: str) -> dict[str, Any]:
    """The recoveries in a worker's log."""
    redone = [int(there) - int(here) for here, there in _REDO.findall(text)]
    return {"batches_redone": sum(redone), "redos": len(redone), "takeovers": len(_BLESSED.findall(text))}


async def lose_tail(
    servers: BenchServers, worker: BenchedProcess, traffic: OrderTraffic, report: Report
) -> dict[str, Any]:
    """Kill Redis, cut its file, restart it and wait, under load. Figures."""
    servers.valkey.watch()
    await asyncio.sleep(BEFORE_SECONDS)
    offset = worker.log.stat().st_size
    lost, seconds = await servers.valkey.end_by_kill()
    report.log(f"redo: Valkey killed, {lost:,} bytes of its file cut off, {seconds:.2f} s of writes; starting it")
    began, answered, blessed = await restart_redis(servers)
    report.log(f"redo: it loaded for {answered - began:.1f} s and was blessed {blessed - answered:.2f} s later")
    await asyncio.sleep(AFTER_SECONDS)
    first_told, longest_pause = silence(traffic.responded_at, answered)
    return {
        "cut_bytes": lost,
        "cut_seconds": seconds,
        "load_seconds": answered - began,
        "blessed_seconds": blessed - answered,
        **parse_recovery_log(worker.log_since(offset)),
        "first_told_seconds": first_told,
        "longest_pause_seconds": longest_pause,
    }


def report_redos(report: Report, found: list[dict[str, Any]]) -> None:
    """Rows of several outages; the worst of them counts."""

    def each(name: str, form: str = ".2f") -> str:
        return ", ".join(format(one[name], form) for one in found)

    worst = max(one["blessed_seconds"] for one in found)
    report.add(
        "redo, from Redis's first answer to blessed",
        f"{each('blessed_seconds')} s; {each('batches_redone', ',')} batches of the last "
        f"{each('cut_seconds', '.1f')} s, after {each('load_seconds', '.1f')} s of loading",
        goal="<= 10 s",
        met=worst <= REDO_SECONDS_MAX and all(one["redos"] for one in found),
        figures={"runs": found},
    )
    report.add(
        "redo, from Redis's first answer to the first response",
        f"{each('first_told_seconds')} s; longest pause after that {each('longest_pause_seconds')} s; "
        f"takeovers {each('takeovers', 'd')}; longest latency {each('longest_answer_seconds', '.1f')} s",
    )
    report.add(
        "redo, orders lost",
        f"{sum(one['lost'] for one in found)} of {sum(one['told'] for one in found):,} answered by HTTP "
        f"and {sum(one['by_kafka'] for one in found):,} sent by Kafka",
    )
