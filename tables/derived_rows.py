"""Reads the derived topics, from which a rebuild starts and which an audit compares.

In: the rows of `stock`, `reservations`, `adjustments` and `policies`, up to their ends at the call. Out: batches of
`StoredRow`, in the order of each partition; the last row of a key is its newest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import Struct

from stocktide.streams.contract.documents import PublishedPolicy
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.topics import ADJUSTMENTS, POLICIES, RESERVATIONS, STOCK, Topic, split_key
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, SkuRecord
from stocktide.tables.recovery.checkpoints import Checkpoints, read_checkpoints

_Record = TypeVar("_Record")
RowKind = Literal["sku", "order", "movement", "policy"]
ROW_KINDS: dict[Topic, RowKind] = {STOCK: "sku", RESERVATIONS: "order", ADJUSTMENTS: "movement", POLICIES: "policy"}


class PolicyLevel(Struct, frozen=True):
    """A row of `policies`."""

    channel: str
    sku: str | None
    policy: dict[str, Any] | None


class StoredRow(Struct, frozen=True):
    """A decoded row. `key` as in Redis: the sku, the order_id, `warehouse\\nid`, or for a policy the topic's own key.
    `record` None: the row was removed (then `batch` is 0)."""

    kind: RowKind
    key: str
    batch: int
    record: SkuRecord | OrderRecord | MovementRecord | PolicyLevel | None


class _RecordRow(Struct, Generic[_Record]):
    batch: int
    record: _Record


_DECODERS: dict[RowKind, msgspec.json.Decoder[Any]] = {
    "sku": msgspec.json.Decoder(_RecordRow[SkuRecord]),
    "order": msgspec.json.Decoder(_RecordRow[OrderRecord]),
    "movement": msgspec.json.Decoder(_RecordRow[MovementRecord]),
    "policy": msgspec.json.Decoder(PublishedPolicy),
}


class RebuildSource(Protocol):
    """The input of a rebuild beside the journal."""

    async def checkpoints(self) -> Checkpoints:
        """The positions at which a reader of the journal may start."""
        ...

    def rows(
        self, kinds: Sequence[RowKind] = ..., report: Callable[[int, int], None] = ...
    ) -> AsyncIterator[list[StoredRow]]:
        """Every row of those kinds, in batches. `report(done, total)` gets the progress in records."""
        ...


def _no_report(done: int, total: int) -> None:
    pass


class DerivedTopics:
    """The derived topics on Kafka. Every call opens its own connection and may raise KafkaError."""

    def __init__(self, kafka: str, app_id: str, shard: int = 0, **security: Any) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._shard = shard
        self._security = security

    async def checkpoints(self) -> Checkpoints:
        """See `RebuildSource`."""
        return await read_checkpoints(self._kafka, self._app_id, self._shard, **self._security)

    async def rows(
        self, kinds: Sequence[RowKind] = ("sku", "order", "movement"), report: Callable[[int, int], None] = _no_report
    ) -> AsyncIterator[list[StoredRow]]:
        """See `RebuildSource`."""
        topics = {topic.full_name(self._app_id): kind for topic, kind in ROW_KINDS.items() if kind in kinds}
        async with topic_consumer(self._kafka, *topics, **self._security) as consumer:
            async for partition, records in read_topic(consumer, report=report):
                rows = (decode_derived_row(topics[partition.topic], each.key, each.value) for each in records)
                yield [row for row in rows if row is not None]


def decode_derived_row(kind: RowKind, key: bytes | None, value: bytes | None) -> StoredRow | None:
    """A record of a derived topic as a row; None if it cannot be decoded."""
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
