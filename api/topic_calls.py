"""Calls that read a topic: few at a time, each for a bounded time, and one for all who ask the same.

In: what reads a consumer. Out: what it read; or why it could not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from aiohttp import web
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.api import problems
from stocktide.tables.settlement.stalls import describe_error

# Each has a connection of its own.
READERS_MAX = 4
SECONDS_MAX = 4.0
POLL_RECORDS = 500
# How old an answer may be that others have asked for: a board asks every few seconds.
SHARED_SECONDS = 1.0
# Different questions whose answers are kept, each a page at most.
SHARED_MAX = 64

_Answer = TypeVar("_Answer")


class Unread(Struct, frozen=True):
    """Why a topic was not read. It is shared by those who asked the same; a response is sent once."""

    code: str
    detail: str

    def problem(self) -> web.Response:
        """The problem document."""
        return problems.service_unavailable(self.code, self.detail)


class TopicCalls:
    """Calls that read one topic. `open_consumer` opens a reader at its beginning."""

    def __init__(self, subject: str, open_consumer: Callable[[], Awaitable[AIOKafkaConsumer]]) -> None:
        self._subject = subject
        self._open_consumer = open_consumer
        self._readers = 0

    async def read(self, read: Callable[[AIOKafkaConsumer], Awaitable[_Answer]]) -> _Answer | Unread:
        """What `read` returns; why not, where too many read or Kafka does not answer."""
        if self._readers >= READERS_MAX:
            return Unread("busy", f"Other calls read the {self._subject}; the same call may be sent again.")
        self._readers += 1
        try:
            async with asyncio.timeout(SECONDS_MAX):
                consumer = await self._open_consumer()
                try:
                    return await read(consumer)
                finally:
                    await consumer.stop()
        except (KafkaError, TimeoutError) as error:
            return Unread("unavailable", f"The topic cannot be read now: {describe_error(error)}.")
        finally:
            self._readers -= 1


class SharedCalls(Generic[_Answer]):
    """Answers, by question, that all have who ask within `seconds`. What fails is asked anew."""

    def __init__(self, seconds: float = SHARED_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        # By question, oldest first: when it was asked, and its answer.
        self._asked: dict[Hashable, tuple[float, asyncio.Task[_Answer]]] = {}

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """The answer. Raises what `ask` raises; it goes on where a caller gives up waiting."""
        at, task = self._asked.get(question, (0.0, None))
        if task is None or (task.done() and (_failed(task) or self._clock() - at >= self._seconds)):
            self._asked.pop(question, None)
            task = asyncio.ensure_future(_run(ask))
            task.add_done_callback(_failed)  # looked at, where nobody waits any more
            self._asked[question] = (self._clock(), task)
            for oldest in list(self._asked)[:-SHARED_MAX]:
                del self._asked[oldest]
        return await asyncio.shield(task)


async def _run(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    return await ask()


def _failed(task: asyncio.Task[_Answer]) -> bool:
    return task.cancelled() or task.exception() is not None
