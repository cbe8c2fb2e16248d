"""Deciding and publishing in processes of their own, and the offsets of a version that had one group."""

from __future__ import annotations

import signal

from aiokafka import AIOKafkaConsumer, TopicPartition

from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.kafka.groups import adopt_offsets, committed_offsets, deciding_group, publishing_group
from stocktide.streams.topics import CHANNEL_STOCK, JOURNAL, ORDERS, RESERVATIONS, STOCK
from tests.harness.eventually import eventually
from tests.harness.workers import WAIT_SECONDS_MAX, WorkerGroup


async def test_deciding_goes_on_without_a_publisher_which_then_catches_up(group: WorkerGroup) -> None:
    await group.start("d1", STOCKTIDE_WORKER_ROLE="decide")
    await group.receive(["A"], 100)
    await group.place_orders(range(5), per_second=100)
    await group.sku_when("A", lambda sku: sku.counters.get("committed@SH1") == 5)
    assert not await group.rows(STOCK)
    publisher = await group.start("p1", STOCKTIDE_WORKER_ROLE="publish")
    await group.rows_when(RESERVATIONS, lambda rows: len(rows) == 5)
    await group.rows_when(CHANNEL_STOCK, lambda rows: "jd/A" in rows)

    async def is_all_committed() -> bool:
        return await group.uncommitted() == 0

    await eventually(is_all_committed, WAIT_SECONDS_MAX)
    assert await publisher.stop(signal.SIGTERM) == 0
    await group.place_orders(range(5, 10), per_second=100)
    await group.sku_when("A", lambda sku: sku.counters.get("committed@SH1") == 10)


async def test_the_publishing_group_begins_where_the_one_group_of_an_older_version_was(group: WorkerGroup) -> None:
    journal = TopicPartition(group.topic(JOURNAL), 0)
    stock = [TopicPartition(group.topic(STOCK), partition) for partition in range(2)]
    orders = TopicPartition(group.topic(ORDERS), 0)
    client = {"bootstrap_servers": group.kafka}
    await _commit(group, deciding_group(group.app_id), {journal: 7, stock[0]: 5, stock[1]: 4, orders: 3})
    await _commit(group, publishing_group(group.app_id), {stock[1]: 9})
    await adopt_offsets(client, group.app_id)
    async with admin_client(group.kafka) as admin:
        own = await admin.list_consumer_group_offsets(publishing_group(group.app_id))
        assert {part: at.offset for part, at in own.items()} == {journal: 7, stock[0]: 5, stock[1]: 9}
        both = await committed_offsets(admin, group.app_id)
    assert both == {journal: 7, stock[0]: 5, stock[1]: 9, orders: 3}


async def _commit(group: WorkerGroup, name: str, offsets: dict[TopicPartition, int]) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=group.kafka, group_id=name, enable_auto_commit=False) as consumer:
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
