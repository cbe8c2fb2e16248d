"""The sender of webhooks in a worker: owns partitions, and runs a session over them in each epoch.

In: a consumer group over `channel-stock`, whose consumer only holds the membership: its partitions are paused. Out: a
session for the partitions that were assigned. `reservations` and `webhook-acks` have the same partitions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.agents.webhooks.session import Session
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.kafka.membership import Membership, watch_heartbeats
from stocktide.streams.shutdown import end, run_to_end

logger = logging.getLogger(__name__)

# As the other groups of the workers: a killed worker's partitions move after this.
SESSION_MS, HEARTBEAT_MS = 10_000, 1_000
POLL_MS = 1_000
RETRY_SECONDS = 1.0
# For the definitions, before a session begins.
DEFINED_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0

MakeSession = Callable[[list[int], int], Session]


class WebhookSender(ConsumerRebalanceListener):
    """All webhooks of one worker. `make_session(partitions, epoch)`; `consumer` is not started."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: str,
        membership: Membership,
        view: CompactedView,
        make_session: MakeSession,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._membership = membership
        self._view = view
        self._make_session = make_session
        self._session: Session | None = None
        self._working: asyncio.Task[None] | None = None

    def definitions_changed(self) -> None:
        """Definitions or health have changed."""
        if self._session is not None:
            self._session.changed.set()

    async def run(self) -> None:
        """Join the group and send, until cancelled; errors of Kafka are retried."""
        following = asyncio.create_task(self._view.run(), name="webhook definitions")
        try:
            await self._start()
            while True:
                for task in (following, self._working):
                    if task is not None and task.done():
                        task.result()  # raises what has ended it; a session ends by itself with its epoch
                try:
                    await self._consumer.getmany(timeout_ms=POLL_MS)
                except KafkaError as error:
                    logger.warning("the group of the webhooks: %r; trying again", error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await run_to_end(self._leave(following))

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """End the epoch: the calls in flight are given up, and their batches are in Kafka."""
        self._membership.end()
        await self._end_session()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Begin an epoch."""
        partitions = sorted(part.partition for part in assigned)
        self._membership.begin()
        if partitions:
            self._consumer.pause(*assigned)
            epoch = self._membership.epoch
            self._working = asyncio.create_task(self._work(partitions, epoch), name="webhooks")

    async def _start(self) -> None:
        while True:
            try:
                await self._consumer.start()
            except (KafkaError, OSError) as error:
                logger.warning("the group of the webhooks cannot be joined: %r; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._consumer.subscribe([self._topic], listener=self)
        watch_heartbeats(self._consumer._coordinator, self._membership)

    async def _work(self, partitions: list[int], epoch: int) -> None:
        while True:
            try:
                await self._view.catch_up(DEFINED_SECONDS_MAX)
            except (KafkaError, TimeoutError) as error:
                logger.warning("the definitions of webhooks cannot be read: %r; trying again", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._session = self._make_session(partitions, epoch)
        await self._session.run()

    async def _leave(self, following: asyncio.Task[None]) -> None:
        """End the session and leave the group: a successor does not wait for the end of the group's session."""
        await self._end_session()
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self._consumer.stop(), STOP_SECONDS_MAX)
        await end(following)

    async def _end_session(self) -> None:
        self._session = None
        if self._working is not None:
            await end(self._working)
            self._working = None
