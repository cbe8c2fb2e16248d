"""Reads topics up to the end offsets known at the call.

In: a consumer without a group. Out: batches of records, in the order of each partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

if TYPE_CHECKING:  # the transport imports Faust, which the API and the commands do without
    from stocktide.streams.kafka.transport import Record

# Records per poll; bounds the memory of a batch (a row is a kilobyte or two).
RECORDS_MAX = 2_000
POLL_MS = 1_000
# So many empty polls in a row before the end are an outage.
EMPTY_POLLS_MAX = 20
_FETCH_BYTES_MAX = 4 * 1024 * 1024


async def open_consumer(kafka: str, *topics: str, partitions: Sequence[int] = (), **client: Any) -> AIOKafkaConsumer:
    """A started consumer of `topics`, at the beginning of every partition, or of `partitions` only. `client` are more
    settings of the consumer. Raises KafkaError if a topic is missing."""
    consumer = AIOKafkaConsumer(
        *(() if partitions else topics),
        **{"bootstrap_servers": kafka, **client},
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES_MAX,
    )
    try:
        try:
            await consumer.start()
        except UnknownTopicOrPartitionError as error:
            raise KafkaError(f"Kafka has no topic {' or '.join(topics)}") from error
        if partitions:
            consumer.assign([TopicPartition(topic, number) for topic in topics for number in partitions])
        # Without a group, a consumer is assigned every partition of its topics.
        if missing := set(topics) - {partition.topic for partition in consumer.assignment()}:
            raise KafkaError(f"Kafka has no topic {', '.join(sorted(missing))}")
        await consumer.seek_to_beginning(*consumer.assignment())
    except BaseException:
        await consumer.stop()
        raise
    return consumer


@asynccontextmanager
async def topic_consumer(
    kafka: str, *topics: str, partitions: Sequence[int] = (), **client: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """`open_consumer`, stopped at the end."""
    consumer = await open_consumer(kafka, *topics, partitions=partitions, **client)
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_topic(
    consumer: AIOKafkaConsumer,
    ends: Mapping[TopicPartition, int] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    empty_polls_max: int = EMPTY_POLLS_MAX,
    records_max: int = RECORDS_MAX,
) -> AsyncIterator[tuple[TopicPartition, Sequence[Record]]]:
    """Read from the consumer's position up to the end offset of each partition in `ends`; gives (partition, records),
    never empty. The consumer's position is then the end offset, so that a later call continues there.

    `ends` None: all assigned partitions, up to their current ends. `report(done, total)` gets the progress in records;
    `records_max` bounds a poll. Raises KafkaError, also after `empty_polls_max` empty polls in a row.
    """
    if ends is None:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
    position = first = {partition: await consumer.position(partition) for partition in ends}
    left = {partition for partition in ends if first[partition] < ends[partition]}
    total = sum(ends[partition] - first[partition] for partition in left)
    empty_polls = 0
    while left:
        fetched = await consumer.getmany(*left, timeout_ms=POLL_MS, max_records=records_max)
        empty_polls = 0 if fetched else empty_polls + 1
        if empty_polls > empty_polls_max:
            places = ", ".join(sorted(f"{each.topic}-{each.partition}" for each in left))
            raise KafkaError(f"{places}: no records arrive before the end offset")
        for partition, records in fetched.items():
            kept = [record for record in records if record.offset < ends[partition]]
            if len(kept) < len(records):
                consumer.seek(partition, ends[partition])
            if kept:
                yield partition, kept
        # The last records of a compacted partition may be gone: the consumer's position passes them.
        position = {**position, **{each: await consumer.position(each) for each in left}}
        left = {each for each in left if position[each] < ends[each]}
        report(sum(max(0, min(position[each], ends[each]) - first[each]) for each in ends), total)
        await asyncio.sleep(0)
