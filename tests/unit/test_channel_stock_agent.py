"""Rows of `stock` to `channel-stock`: written first, then stored in the table, then acknowledged."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.metrics import WorkerMetrics
from stocktide.streams.kafka.transport import Chunk
from tests.harness.eventually import eventually
from tests.unit.fakes import FakeEvent, FakeRecord, FakeTable, RecordingPublisher

TOPIC = "t-channel-stock"


def row(sku: str, version: int, quantity: int) -> bytes:
    offer = {"mode": "in_stock" if quantity else "sold_out", "quantity": quantity, "preorder_remaining": 0}
    return json.dumps({"sku": sku, "version": version, "as_of": "x", "channels": {"jd": offer}}).encode()


def event_of(*rows: bytes, partition: int = 2, start: int = 0) -> FakeEvent:
    records = tuple(FakeRecord(start + index, value) for index, value in enumerate(rows))
    return FakeEvent(Chunk("t-stock", partition, records))


def agent_of(publisher: RecordingPublisher, table: FakeTable) -> StockAgent:
    return StockAgent(table, publisher, TOPIC, 10, WorkerMetrics())  # type: ignore[arg-type]


async def test_an_update_lies_in_its_skus_partition_and_in_the_table_before_the_chunk_is_acked() -> None:
    publisher, table = RecordingPublisher(), FakeTable()
    agent = agent_of(publisher, table)
    publisher.gate.clear()
    event = event_of(row("A", 1, 5))
    await agent.process_chunk(event.value, event)
    await asyncio.sleep(0.02)
    assert not event.acked and not table.rows
    publisher.gate.set()
    await eventually(lambda: event.acked)
    assert publisher.writes == [(TOPIC, 2)]
    assert table.rows[2, b"jd/A"] == publisher.topics[TOPIC][0][1]
    await agent.stop()


async def test_a_write_that_fails_is_done_again_before_anything_is_acked(monkeypatch: Any) -> None:
    monkeypatch.setattr("stocktide.agents.channel_stock.agent.RETRY_SECONDS", 0.01)
    publisher, table = RecordingPublisher(), FakeTable()
    publisher.failures.append(OSError("gone"))
    agent = agent_of(publisher, table)
    event = event_of(row("A", 1, 5))
    await agent.process_chunk(event.value, event)
    await eventually(lambda: event.acked)
    assert len(publisher.topics[TOPIC]) == 1
    await agent.stop()


async def test_nothing_is_written_or_acked_for_partitions_that_were_lost() -> None:
    publisher, table = RecordingPublisher(), FakeTable()
    agent = agent_of(publisher, table)
    publisher.gate.clear()
    event = event_of(row("A", 1, 5))
    await agent.process_chunk(event.value, event)
    publisher.membership.end()
    publisher.gate.set()
    await asyncio.sleep(0.05)
    assert not event.acked and not publisher.topics and not table.rows
    await agent.stop()


async def test_after_a_crash_the_rows_since_the_commit_are_folded_again_to_the_same_table() -> None:
    publisher, table = RecordingPublisher(), FakeTable()
    rows = [row("A", version, 50 - version) for version in range(1, 20)]
    before = agent_of(publisher, table)
    first = event_of(*rows[:10])
    await before.process_chunk(first.value, first)
    await eventually(lambda: first.acked)
    await before.stop()
    after = agent_of(publisher, table)
    again = event_of(*rows, start=0)
    await after.process_chunk(again.value, again)
    await eventually(lambda: again.acked)
    updates = publisher.values(TOPIC)
    versions = [update["version"] for update in updates]
    assert versions == sorted(set(versions)) and versions[-1] == 19 and updates[-1]["quantity"] == 31
    await after.stop()


async def test_bytes_that_are_no_row_stop_nothing() -> None:
    publisher, table = RecordingPublisher(), FakeTable()
    agent = agent_of(publisher, table)
    event = event_of(b"{bad", row("A", 1, 5))
    await agent.process_chunk(event.value, event)
    await eventually(lambda: event.acked)
    assert len(publisher.topics[TOPIC]) == 1
    await agent.stop()
