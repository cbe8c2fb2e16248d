"""Publishes batches of rows to a topic: 2 µs a row, where Faust's `topic.send` takes 60.

In: (key, value) rows of one topic. Out: the last offset per partition, once every in-sync replica has every row.
A key's partition is crc32 of the key, so that readers can compute it. The publisher retries while the epoch of the work
holds, and writes only while the membership is fresh. A row that Kafka rejects permanently goes to `refused`.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.protocol.produce import ProduceRequest

from stocktide.streams.backoff import doubling_pauses
from stocktide.streams.kafka.admin import RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES
from stocktide.streams.kafka.membership import Membership, MembershipLost

logger = logging.getLogger(__name__)

OutputRow = tuple[bytes, bytes | None]
# Gives the headers of the records that are written now.
MakeHeaders = Callable[[], list[tuple[str, bytes]]]
# Errors that a retry cannot cure.
PERMANENT_ERRORS = (MessageSizeTooLargeError, RecordListTooLargeError)
# Called with topic, partition, row, error and epoch of a row that Kafka rejects permanently.
OnRefused = Callable[[str, int, OutputRow, KafkaError, int], Awaitable[None]]

# The offset of a row that was not written.
OFFSET_NOT_WRITTEN = -1
# A produce request's batch: large enough to amortise the round trip. A larger single row is sent by itself.
BATCH_BYTES_MAX = 256 * 1024
# Pauses between attempts.
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.1, 2.0
_REQUEST_TIMEOUT_MS = 10_000
# Limit of a stop with rows in flight.
_STOP_SECONDS = 3.0


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` in a topic of so many partitions."""
    return zlib.crc32(key) % partitions


def make_producer(kafka: str, **security: Any) -> AIOKafkaProducer:
    """The producer of a Publisher, not started. `security` goes to aiokafka unchanged."""
    return AIOKafkaProducer(
        **{"bootstrap_servers": kafka, **security},
        acks="all",
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=BATCH_BYTES_MAX + RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
    )


def send_only_while_fresh(producer: AIOKafkaProducer, membership: Membership) -> None:
    """Let a started producer send only while `membership` is fresh: a process that was stopped after the check, with
    rows in the producer's buffers, would send them when it wakes up, after the rows of its successor."""
    client = producer.client
    send = client.send

    async def send_fresh(node_id: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            await client.ready(node_id)  # may wait; the original then writes without a wait
            if not membership.is_fresh():
                raise KafkaError("no answered heartbeat allows this request any more")
        return await send(node_id, request, **options)

    client.send = send_fresh


class Publisher:
    """Publishes rows while `membership` allows it. `topic` names are full; `headers` are asked for once per write."""

    def __init__(
        self,
        producer: AIOKafkaProducer,
        membership: Membership,
        refused: OnRefused | None = None,
        headers: MakeHeaders | None = None,
    ) -> None:
        self._producer = producer
        self._membership = membership
        self._refused = refused
        self._headers = headers
        self._in_flight: set[asyncio.Task[int]] = set()
        # (topic, partition) → epoch and error of the newest failed attempt, until one succeeds.
        self._failing: dict[tuple[str, int], tuple[int, str]] = {}

    async def start(self) -> None:
        """Connect. Raises KafkaError."""
        await self._producer.start()
        send_only_while_fresh(self._producer, self._membership)

    async def stop(self) -> None:
        """Disconnect; rows in flight get a few seconds."""
        try:
            await asyncio.wait_for(self._producer.stop(), _STOP_SECONDS)
        except (KafkaError, TimeoutError) as error:
            logger.warning("the producer did not stop in order: %r", error)

    @property
    def epoch(self) -> int:
        """The current epoch of the membership."""
        return self._membership.epoch

    def holds(self, epoch: int) -> bool:
        """See Membership."""
        return self._membership.holds(epoch)

    @property
    def failing(self) -> dict[tuple[str, int], str]:
        """(topic, partition) → the error that keeps rows of the current epoch from being written."""
        holds = self._membership.holds
        return {place: error for place, (epoch, error) in self._failing.items() if holds(epoch)}

    async def publish(
        self,
        topic: str,
        rows: Iterable[OutputRow],
        epoch: int,
        to_partition: Callable[[bytes], int] | None = None,
    ) -> dict[int, int]:
        """Write `rows`, in order per key; gives the last offset of each partition written to.

        `to_partition` replaces crc32 of the key as the partitioner. Raises MembershipLost.
        """
        if to_partition is None:
            partitions = await self._count_partitions(topic, epoch)
            by_partition = _grouped(rows, lambda key: partition_of(key, partitions))
        else:
            by_partition = _grouped(rows, to_partition)
        writes = [self._write(topic, partition, group, epoch) for partition, group in by_partition.items()]
        offsets = await asyncio.gather(*writes)
        if not self._membership.holds(epoch):
            raise MembershipLost
        return dict(zip(by_partition, offsets, strict=True))

    async def flush(self, seconds_max: float) -> None:
        """Wait for the rows in flight, so that a successor's rows come after them."""
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds_max)

    async def _count_partitions(self, topic: str, epoch: int) -> int:
        pauses, is_unknown = doubling_pauses(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX), False
        while True:
            try:
                count = len(await self._producer.partitions_for(topic))
                if is_unknown:
                    self._failing.pop((topic, 0), None)
                return count
            except KafkaError as error:
                is_unknown = True
                self._failing[topic, 0] = (epoch, f"its partitions are not known: {error!r}")
                logger.warning("the partitions of %s are not known: %r", topic, error)
            await self._membership.wait_until_may_produce(epoch)
            await asyncio.sleep(next(pauses))

    async def _write(self, topic: str, partition: int, rows: Sequence[OutputRow], epoch: int) -> int:
        """Write the rows of one partition. A retry begins with the first row, so that a key's newest row stays last."""
        pauses = doubling_pauses(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        while True:
            await self._membership.wait_until_may_produce(epoch)
            attempt = asyncio.create_task(self._attempt(topic, partition, rows))
            self._in_flight.add(attempt)
            try:
                offset = await attempt
                self._failing.pop((topic, partition), None)
                return offset
            except PERMANENT_ERRORS as error:
                self._failing.pop((topic, partition), None)
                return await self._divide(topic, partition, rows, epoch, error)
            except (KafkaError, OSError) as error:
                self._failing[topic, partition] = (epoch, repr(error))
                logger.warning("%s-%d did not take %d rows, trying again: %r", topic, partition, len(rows), error)
            finally:
                self._in_flight.discard(attempt)
            await asyncio.sleep(next(pauses))

    async def _divide(
        self, topic: str, partition: int, rows: Sequence[OutputRow], epoch: int, error: KafkaError
    ) -> int:
        """Write both halves of a rejected request, in order; pass a row that is rejected alone to `refused`."""
        if len(rows) > 1:
            middle = len(rows) // 2
            first = await self._write(topic, partition, rows[:middle], epoch)
            return max(first, await self._write(topic, partition, rows[middle:], epoch))
        logger.error("%s-%d will never take the row of %r: %r", topic, partition, rows[0][0], error)
        if self._refused is not None:
            await self._refused(topic, partition, rows[0], error, epoch)
        return OFFSET_NOT_WRITTEN

    async def _attempt(self, topic: str, partition: int, rows: Sequence[OutputRow]) -> int:
        sent: list[Any] = []
        headers = [] if self._headers is None else self._headers()
        batch, count = self._producer.create_batch(), 0
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                sent.append(await self._send(batch, topic, partition))
                batch, count = self._producer.create_batch(), 0
                batch.append(key=key, value=value, timestamp=None, headers=headers)
            count += 1
        sent.append(await self._send(batch, topic, partition))
        metadata = await asyncio.gather(*sent)
        return int(metadata[-1].offset) + count - 1

    async def _send(self, batch: Any, topic: str, partition: int) -> Any:
        batch.close()
        return await self._producer.send_batch(batch, topic, partition=partition)


def _grouped(rows: Iterable[OutputRow], to_partition: Callable[[bytes], int]) -> dict[int, list[OutputRow]]:
    by_partition: dict[int, list[OutputRow]] = defaultdict(list)
    for row in rows:
        by_partition[to_partition(row[0])].append(row)
    return by_partition
