"""The derived topics read back: what a rebuild starts from and an audit compares.

In: the rows of `stock`, `reservations`, `adjustments` and `policies`, from the first to what was the last when reading
began. Out: chunks of `StoredRow`, in the order of each partition; of a key, the last one is its newest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.streams.topics import ADJUSTMENTS, POLICIES, RESERVATIONS, STOCK, Topic, split_key
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, SkuRecord
from stocktide.tables.recovery.checkpoints import Checkpoints, read_checkpoints

RowKind = Literal["sku", "order", "movement", "policy"]
ROW_KINDS: dict[Topic, RowKind] = {STOCK: "sku", RESERVATIONS: "order", ADJUSTMENTS: "movement", POLICIES: "policy"}

# A poll's rows; bounds the memory of a chunk (a row is a kilobyte or two).
_ROWS_MAX = 2_000
_POLL_MS = 1_000
# A broker that gives nothing for so many polls in a row, before the end is reached, is an outage.
_SILENT_POLLS_MAX = 20
_FETCH_BYTES_MAX = 4 * 1024 * 1024


class PolicyLevel(Struct, frozen=True):
    """A row of `policies`."""

    channel: str
    sku: str | None
    policy: dict[str, Any] | None


class StoredRow(Struct, frozen=True):
    """A row with what it keeps. `key` as in Redis: the sku, the order_id, `warehouse\\nid`, or for a policy the topic's
    own key. `record` None: the row was removed (then `batch` is 0)."""

    kind: RowKind
    key: str
    batch: int
    record: SkuRecord | OrderRecord | MovementRecord | PolicyLevel | None


class _SkuRow(Struct):
    batch: int
    record: SkuRecord


class _OrderRow(Struct):
    batch: int
    record: OrderRecord


class _MovementRow(Struct):
    batch: int
    record: MovementRecord


class _PolicyRow(Struct):
    batch: int
    channel: str
    sku: str | None = None
    policy: dict[str, Any] | None = None


_DECODERS: dict[RowKind, msgspec.json.Decoder[Any]] = {
    "sku": msgspec.json.Decoder(_SkuRow),
    "order": msgspec.json.Decoder(_OrderRow),
    "movement": msgspec.json.Decoder(_MovementRow),
    "policy": msgspec.json.Decoder(_PolicyRow),
}


class RebuildSource(Protocol):
    """What a rebuild needs beside the journal."""

    async def checkpoints(self) -> Checkpoints:
        """Where the journal may be read from."""
        ...

    def rows(
        self, kinds: Sequence[RowKind] = ..., report: Callable[[int, int], None] = ...
    ) -> AsyncIterator[list[StoredRow]]:
        """Every row of those kinds, in chunks. `report(done, total)` is told how far it is, in records."""
        ...


def _silent(done: int, total: int) -> None:
    pass


class DerivedTopics:
    """The derived topics on Kafka. Every call connects anew; both raise KafkaError."""

    def __init__(self, kafka: str, app_id: str, shard: int = 0, **security: Any) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._shard = shard
        self._security = security

    async def checkpoints(self) -> Checkpoints:
        """See Source."""
        return await read_checkpoints(self._kafka, self._app_id, self._shard, **self._security)

    async def rows(
        self, kinds: Sequence[RowKind] = ("sku", "order", "movement"), report: Callable[[int, int], None] = _silent
    ) -> AsyncIterator[list[StoredRow]]:
        """See Source."""
        topics = {topic.full_name(self._app_id): kind for topic, kind in ROW_KINDS.items() if kind in kinds}
        consumer = AIOKafkaConsumer(
            *topics,
            **{"bootstrap_servers": self._kafka, **self._security},
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=_FETCH_BYTES_MAX,
        )
        await consumer.start()
        try:
            async for chunk in _read_all(consumer, topics, report):
                yield chunk
        finally:
            await consumer.stop()


async def _read_all(
    consumer: AIOKafkaConsumer, topics: dict[str, RowKind], report: Callable[[int, int], None]
) -> AsyncIterator[list[StoredRow]]:
    # A consumer without a group is assigned every partition of its topics.
    partitions = sorted(consumer.assignment())
    if missing := topics.keys() - {partition.topic for partition in partitions}:
        raise KafkaError(f"Kafka has no topic {', '.join(sorted(missing))}")
    first, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    await consumer.seek_to_beginning(*partitions)
    left = {partition for partition in partitions if ends[partition] > first[partition]}
    total = sum(ends[partition] - first[partition] for partition in partitions)
    done = dict(first)
    silent = 0
    while left:
        fetched = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=_ROWS_MAX)
        silent = 0 if fetched else silent + 1
        if silent > _SILENT_POLLS_MAX:
            raise KafkaError(f"{', '.join(sorted(str(each) for each in left))}: nothing comes before the end")
        for partition, records in fetched.items():
            kind = topics[partition.topic]
            yield [
                row
                for record in records
                if record.offset < ends[partition]
                and (row := decode_derived_row(kind, record.key, record.value)) is not None
            ]
        for partition in list(left):
            # The last records of a compacted partition may be gone: the consumer's own position passes them.
            done[partition] = await consumer.position(partition)
            if done[partition] >= ends[partition]:
                left.discard(partition)
        report(sum(min(done[each], ends[each]) - first[each] for each in partitions), total)
        await asyncio.sleep(0)


def decode_derived_row(kind: RowKind, key: bytes | None, value: bytes | None) -> StoredRow | None:
    """A record of a derived topic as a row; None where it is none of ours."""
    if key is None:
        return None
    name = key.decode()
    if kind == "movement":
        name = "\n".join(split_key(name))
    if value is None:
        return StoredRow(kind, name, 0, None)
    try:
        row = _DECODERS[kind].decode(value)
    except msgspec.MsgspecError:
        return None
    if kind == "policy":
        return StoredRow(kind, name, row.batch, PolicyLevel(row.channel, row.sku, row.policy))
    return StoredRow(kind, name, row.batch, row.record)
