"""Rows of `stock` to `channel-stock`: written first, then stored in the table, then acknowledged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest

from stocktide.agents.channel_stock.agent import StockAgent
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_tick import PublicationTick
from stocktide.streams.kafka.transport import Chunk
from tests.harness.eventually import eventually
from tests.unit.fakes import FakeEvent, FakeRecord, FakeTable, RecordingPublisher

TOPIC, ALERTS = "t-channel-stock", "t-alerts"


def row(sku: str, version: int, quantity: int) -> bytes:
    offer = {"mode": "in_stock" if quantity else "sold_out", "quantity": quantity, "preorder_remaining": 0}
    return json.dumps({"sku": sku, "version": version, "as_of": "x", "channels": {"jd": offer}}).encode()


def event_of(*rows: bytes, partition: int = 2, start: int = 0) -> FakeEvent:
    records = tuple(FakeRecord(start + index, value) for index, value in enumerate(rows))
    return FakeEvent(Chunk("t-stock", partition, records))


class StockHarness:
    """An agent with what it writes."""

    def __init__(self) -> None:
        self.publisher, self.table = RecordingPublisher(), FakeTable()
        self.agent = self.next_agent()

    def next_agent(self, partitions: Iterable[int] = range(4)) -> StockAgent:
        tick = PublicationTick(time.monotonic)
        agent = StockAgent(self.table, self.publisher, TOPIC, ALERTS, 10, WorkerMetrics(), tick)  # type: ignore[arg-type]
        agent.on_restored(partitions, self.compare)
        return agent

    async def compare(self, channel_publishers: Mapping[int, object]) -> None:
        assert channel_publishers

    async def process(self, *rows: bytes) -> FakeEvent:
        event = event_of(*rows)
        await self.agent.process_chunk(event.value, event)
        return event

    async def process_all(self, *rows: bytes) -> None:
        """Process the rows until they are acknowledged."""
        event = await self.process(*rows)
        await eventually(lambda: event.acked)


@pytest.fixture
async def stock() -> AsyncIterator[StockHarness]:
    harness = StockHarness()
    yield harness
    await harness.agent.stop()


async def test_an_update_lies_in_its_skus_partition_and_in_the_table_before_the_chunk_is_acked(
    stock: StockHarness,
) -> None:
    stock.publisher.gate.clear()
    event = await stock.process(row("A", 1, 5))
    await asyncio.sleep(0.02)
    assert not event.acked and not stock.table.rows
    stock.publisher.gate.set()
    await eventually(lambda: event.acked)
    assert stock.publisher.writes == [(TOPIC, 2)]
    assert stock.table.rows[2, b"jd/A"] == stock.publisher.topics[TOPIC][0][1]


async def test_a_write_that_fails_is_done_again_before_anything_is_acked(stock: StockHarness, monkeypatch: Any) -> None:
    monkeypatch.setattr("stocktide.agents.channel_stock.agent.RETRY_SECONDS", 0.01)
    stock.publisher.failures.append(OSError("gone"))
    await stock.process_all(row("A", 1, 5))
    assert len(stock.publisher.topics[TOPIC]) == 1


async def test_nothing_is_written_or_acked_for_partitions_that_were_lost(stock: StockHarness) -> None:
    stock.publisher.gate.clear()
    event = await stock.process(row("A", 1, 5))
    stock.publisher.membership.end()
    stock.publisher.gate.set()
    await asyncio.sleep(0.05)
    assert not event.acked and not stock.publisher.topics and not stock.table.rows


async def test_a_chunk_from_before_a_rebalance_is_dropped_until_the_table_is_restored(stock: StockHarness) -> None:
    await stock.process_all(row("A", 3, 5))
    stock.publisher.membership.end()
    stock.publisher.membership.begin()
    event = await stock.process(row("A", 2, 6))
    await asyncio.sleep(0.03)
    assert not event.acked and len(stock.publisher.topics[TOPIC]) == 1
    stock.agent.on_restored([2], stock.compare)
    await stock.process_all(row("A", 2, 6), row("A", 4, 4))
    assert [update["version"] for update in stock.publisher.values(TOPIC)] == [3, 4]


async def test_after_a_crash_the_rows_since_the_commit_are_folded_again_to_the_same_table(stock: StockHarness) -> None:
    rows = [row("A", version, 50 - version) for version in range(1, 20)]
    await stock.process_all(*rows[:10])
    await stock.agent.stop()
    stock.agent = stock.next_agent()
    await stock.process_all(*rows)
    updates = stock.publisher.values(TOPIC)
    versions = [update["version"] for update in updates]
    assert versions == sorted(set(versions)) and versions[-1] == 19 and updates[-1]["quantity"] == 31


async def test_bytes_that_are_no_row_stop_nothing(stock: StockHarness) -> None:
    await stock.process_all(b"{bad", row("A", 1, 5))
    assert len(stock.publisher.topics[TOPIC]) == 1


async def test_what_is_due_in_several_partitions_is_written_at_one_tick(stock: StockHarness) -> None:
    events = [event_of(row(f"S{partition}", 1, 5), partition=partition) for partition in range(4)]
    stock.publisher.gate.clear()
    for event in events:
        await stock.agent.process_chunk(event.value, event)
    await eventually(lambda: stock.publisher.waiting == 4)
    stock.publisher.gate.set()
    await eventually(lambda: all(event.acked for event in events))


async def test_a_partition_that_takes_no_rows_does_not_hold_up_the_others(stock: StockHarness) -> None:
    stock.publisher.gate.clear()
    blocked = await stock.process(row("A", 1, 5))
    await eventually(lambda: stock.publisher.waiting == 1)
    other = event_of(row("B", 1, 5), partition=1)
    await stock.agent.process_chunk(other.value, other)
    await eventually(lambda: stock.publisher.waiting == 2)
    assert not blocked.acked
    stock.publisher.gate.set()
    await eventually(lambda: blocked.acked and other.acked)


async def test_a_change_of_mode_is_an_alert_before_it_is_an_update_and_a_repeat_is_the_same_row(
    stock: StockHarness,
) -> None:
    await stock.process_all(row("A", 1, 5))
    assert not stock.publisher.topics[ALERTS], "a first offer switches nothing"
    stock.publisher.writes.clear()
    stock.table.rows.clear()  # what was written is lost with the worker
    before = stock.publisher.topics[TOPIC][0]
    for _ in range(2):
        stock.table.rows[2, before[0]] = before[1]
        stock.agent = stock.next_agent()
        await stock.process_all(row("A", 2, 4), row("A", 3, 0))
    assert [topic for topic, _ in stock.publisher.writes] == [ALERTS, TOPIC, ALERTS, TOPIC]
    first, repeat = stock.publisher.topics[ALERTS]
    assert first == repeat
    (alert, _) = stock.publisher.values(ALERTS)
    expected = {"type": "mode_switched", "sku": "A", "channel": "jd", "mode_before": "in_stock", "mode": "sold_out"}
    assert expected.items() <= alert.items() and alert["at"] == "x"


async def test_updates_do_not_depend_on_the_topic_of_alerts_which_come_later_in_order(
    stock: StockHarness, monkeypatch: Any
) -> None:
    monkeypatch.setattr("stocktide.agents.channel_stock.alerts.ALERTS_FIRST_SECONDS", 0.01)
    await stock.process_all(row("A", 1, 5))
    held = stock.publisher.held[ALERTS] = asyncio.Event()
    for version, quantity in ((2, 0), (3, 7), (4, 6), (5, 0)):
        await stock.process_all(row("A", version, quantity))
    assert [update["version"] for update in stock.publisher.values(TOPIC)] == [1, 2, 3, 4, 5]
    assert not stock.publisher.topics[ALERTS]
    held.set()
    await eventually(lambda: len(stock.publisher.topics[ALERTS]) == 3)
    assert [alert["mode"] for alert in stock.publisher.values(ALERTS)] == ["sold_out", "in_stock", "sold_out"]


async def test_alerts_that_wait_have_a_limit_and_are_not_waited_for_after_the_epoch(
    stock: StockHarness, monkeypatch: Any
) -> None:
    monkeypatch.setattr("stocktide.agents.channel_stock.alerts.ALERTS_FIRST_SECONDS", 0.01)
    monkeypatch.setattr("stocktide.agents.channel_stock.alerts.ALERTS_WAITING_BYTES_MAX", 600)
    await stock.process_all(row("A", 1, 5))
    held = stock.publisher.held[ALERTS] = asyncio.Event()
    for version in range(2, 12):
        await stock.process_all(row("A", version, version % 2))
    assert len(stock.publisher.topics[TOPIC]) == 11
    held.set()
    await eventually(lambda: len(stock.publisher.topics[ALERTS]) == 2)
    await stock.process_all(row("A", 12, 0))
    assert len(stock.publisher.topics[ALERTS]) == 3, "alerts are written again once the topic takes them"
    held.clear()
    await stock.process(row("A", 13, 1))
    await asyncio.sleep(0.03)
    await asyncio.wait_for(stock.agent.stop(), 10)


async def test_an_alert_whose_write_fails_is_written_again(stock: StockHarness, monkeypatch: Any) -> None:
    monkeypatch.setattr("stocktide.agents.channel_stock.alerts.RETRY_SECONDS", 0.01)
    await stock.process_all(row("A", 1, 5))
    stock.publisher.failures.append(OSError("gone"))
    await stock.process_all(row("A", 2, 0))
    assert len(stock.publisher.topics[ALERTS]) == 1 and len(stock.publisher.topics[TOPIC]) == 2
