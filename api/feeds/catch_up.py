"""Delays the start of a feed until this process has caught up with the client.

In: the offset vector of the client's last frame. Out: the vector from which the feed continues, when everything below
it was read here. A process that has just started, or that has lost Kafka, may know less than its clients; a snapshot
and `synced` from it would set them back. Such clients wait on an open stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiokafka.errors import KafkaError

from stocktide.api.feeds.hub import TopicHub
from stocktide.api.feeds.offset_vector import OffsetVector, dominates

# A client may come from an API process that is ahead by a fetch or two. After this Kafka is asked whether the client's
# position exists, and the client gets a heartbeat.
POLL_SECONDS = 2.0
# Kafka returns the end of a topic within milliseconds, or does not answer.
KAFKA_SECONDS_MAX = 5.0


class TopicProgress(Protocol):
    """The part of `api.feeds.consumer.TopicConsumer` that CatchUp needs."""

    complete: asyncio.Event

    async def ends(self) -> OffsetVector:
        """The present end of the topic. Raises KafkaError."""
        ...


class CatchUp:
    """Waits until this process has read everything that a client has seen."""

    def __init__(self, hub: TopicHub, source: TopicProgress, poll_seconds: float = POLL_SECONDS) -> None:
        self._hub = hub
        self._source = source
        self._poll_seconds = poll_seconds

    async def begin(
        self, seen: OffsetVector | None, send_heartbeat: Callable[[], Awaitable[None]]
    ) -> OffsetVector | None:
        """Wait, with heartbeats, until the feed may start; the vector to continue from, or None for a snapshot.

        A snapshot is sent if `seen` is None or beyond the end of the topic, because this log cannot have produced it.
        Returns immediately when the hub closes.
        """
        while not self._source.complete.is_set() and not self._hub.closed:
            await self._wait(self._source.complete.wait(), send_heartbeat)
        while seen is not None and not self._hub.closed:
            if await self._hub.reached(seen, self._poll_seconds):
                return seen
            if not await self._may_exist(seen):
                return None
            await send_heartbeat()
        return None

    async def _may_exist(self, seen: OffsetVector) -> bool:
        """Whether the topic has this position; assumed while Kafka does not answer."""
        try:
            async with asyncio.timeout(KAFKA_SECONDS_MAX):
                return dominates(await self._source.ends(), seen)
        except (KafkaError, TimeoutError):
            return True

    async def _wait(self, wait: Awaitable[object], send_heartbeat: Callable[[], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(wait, self._poll_seconds)
        except TimeoutError:
            await send_heartbeat()
