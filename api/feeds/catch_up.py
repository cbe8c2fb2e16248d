"""Where a client's feed begins, and when: not before this process has read what the client is to be told.

In: what the client has seen. Out: from where it is sent on, once everything up to there was read here. A process that
has just started, or whose Kafka is away, knows less than its clients: a snapshot of that, followed by `synced`, would
take them back and call it news. They wait, on a stream that is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiokafka.errors import KafkaError

from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import OffsetVector, dominates

# A client may come from an API process that is ahead of this one by a fetch or two; only then is Kafka asked whether
# there is such a place at all. Between two looks the client gets a sign of life.
LOOK_SECONDS = 2.0
# Kafka tells where a topic ends within milliseconds, or is away.
ENDS_SECONDS_MAX = 5.0


class TopicProgress(Protocol):
    """What is needed of `api.feeds.consumer.Source`."""

    complete: asyncio.Event

    async def ends(self) -> OffsetVector:
        """Where the topic ends now. Raises KafkaError."""
        ...


class CatchUp:
    """Lets clients in."""

    def __init__(self, hub: Hub, source: TopicProgress, look_seconds: float = LOOK_SECONDS) -> None:
        self._hub = hub
        self._source = source
        self._look_seconds = look_seconds

    async def begin(self, seen: OffsetVector | None, beat: Callable[[], Awaitable[None]]) -> OffsetVector | None:
        """Wait until the feed may begin, calling `beat` now and then; from where, or None for a snapshot.

        It is a snapshot where `seen` is None or lies beyond the topic's end: this log cannot have given it. Returns at
        once where the hub closes.
        """
        while not self._source.complete.is_set() and not self._hub.closed:
            await self._look(self._source.complete.wait(), beat)
        while seen is not None and not self._hub.closed:
            if await self._hub.reached(seen, self._look_seconds):
                return seen
            if not await self._may_come(seen):
                return None
            await beat()
        return None

    async def _may_come(self, seen: OffsetVector) -> bool:
        """Whether the topic has such a place; as long as Kafka does not say, it may."""
        try:
            async with asyncio.timeout(ENDS_SECONDS_MAX):
                return dominates(await self._source.ends(), seen)
        except (KafkaError, TimeoutError):
            return True

    async def _look(self, wait: Awaitable[object], beat: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(wait, self._look_seconds)
        except TimeoutError:
            await beat()
