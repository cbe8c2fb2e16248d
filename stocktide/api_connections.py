"""Connections at the start, each tried for a bounded time.

In: where Kafka and Redis are said to be. Out: clients that were reached, or a StartError that says what is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.errors import StartError
from stocktide.progress import WaitReporter
from stocktide.tables.ledger.connection import connect

log = logging.getLogger(__name__)

# Servers that start beside us are there within this; what is not there then is not there.
START_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.5


class _Starts(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


_Client = TypeVar("_Client", bound=_Starts)


async def connect_kafka(kafka: str, make: Callable[[], _Client], seconds_max: float = START_SECONDS_MAX) -> _Client:
    """A started client of `make`'s making; each attempt makes a new one. Raises StartError."""
    client: list[_Client] = []

    async def attempt() -> None:
        try:
            made = make()
        except ValueError as error:
            raise StartError(f"STOCKTIDE_KAFKA is {kafka!r}: not HOST:PORT[,HOST:PORT]") from error
        try:
            await made.start()
        except BaseException:
            await made.stop()
            raise
        client.append(made)

    await _retried(f"Kafka at {kafka}", "STOCKTIDE_KAFKA", attempt, seconds_max)
    return client[0]


async def connect_redis(url: str, seconds_max: float = START_SECONDS_MAX, **access: Any) -> Redis:
    """A client that was answered. Raises StartError, whose message leaves out what of the URL is secret."""
    try:
        parts = urlsplit(url)
        place = f"Redis at {parts.hostname}:{parts.port or 6379}"  # the URL itself may hold a password
        redis = connect(url, **access)
    except ValueError as error:
        raise StartError(f"STOCKTIDE_REDIS is no URL of a Redis: {error}") from error

    async def attempt() -> None:
        await redis.ping()

    await _retried(place, "STOCKTIDE_REDIS", attempt, seconds_max)
    return redis


async def _retried(what: str, setting: str, attempt: Callable[[], Awaitable[None]], seconds_max: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    waited = False
    waiting = WaitReporter(log.warning, what)
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                return await attempt()
        except (KafkaError, RedisError, OSError, TimeoutError) as error:
            if loop.time() + RETRY_SECONDS > deadline:
                raise StartError(f"{what} does not answer ({error}); {setting} says where it is") from error
            reason = str(error)
        if not waited:
            log.info("waiting for %s", what)
            waited = True
        waiting(reason)
        await asyncio.sleep(RETRY_SECONDS)


async def count_partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """How many partitions a topic has. Raises StartError where it is not there."""
    waiting = WaitReporter(log.warning, f"the topic {topic}")
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            while True:
                with contextlib.suppress(KafkaError):
                    return len(await producer.partitions_for(topic))
                waiting("it is not there yet: a worker makes it")
                await asyncio.sleep(RETRY_SECONDS)
    except TimeoutError as error:
        raise StartError(f"the topic {topic} is not there: run `stocktide topics` or a worker first") from error


def make_consumer(kafka: str, **security: Any) -> AIOKafkaConsumer:
    """A consumer without a group, not started."""
    return AIOKafkaConsumer(
        **{"bootstrap_servers": kafka, **security},
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
