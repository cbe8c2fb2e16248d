"""Records as aiokafka's parser makes them."""

from __future__ import annotations

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stocktide.streams.kafka.raw_records import deliver_raw_records


def test_a_consumer_makes_no_object_of_its_own_for_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)  # restored after the test
    deliver_raw_records()
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1_000)
    for offset in range(3):
        batch.append(offset, 1_000, b"key", b"%d" % offset, [])
    fetched = fetcher.PartitionRecords(
        TopicPartition("t", 0), MemoryRecords(bytes(batch.build())), [], 1, None, None, True, fetcher.READ_UNCOMMITTED
    )
    records = list(fetched)
    assert [(record.offset, record.key, record.value, record.timestamp) for record in records] == [
        (1, b"key", b"1", 1_000),
        (2, b"key", b"2", 1_000),
    ]
    assert fetched.next_fetch_offset == 3
    assert not any(isinstance(record, ConsumerRecord) for record in records)
