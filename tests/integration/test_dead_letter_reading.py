"""Reading the dead letters of a real Kafka does not hold up what else the process does."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from stocktide.streams.contract.documents import DeadLetter, encode
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.shutdown import end
from stocktide.tables.dead_letters.reader import ROW_BYTES, TURN_BYTES, DeadLetterTopic
from tests.harness.api_client import unique_name
from tests.harness.servers import KafkaServer

# Three turns and more, in one fetch.
LETTERS = 4 * TURN_BYTES // ROW_BYTES


async def test_other_tasks_run_while_many_dead_letters_are_read(kafka: KafkaServer) -> None:
    topic, turns = unique_name("dead-letters"), 0
    async with admin_client(kafka.address) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    async with AIOKafkaProducer(bootstrap_servers=kafka.address) as producer:
        row = encode(DeadLetter("conflict", "", None, "t-orders", 0, 1, "2030-01-01T00:00:00Z", raw="{}"))
        await asyncio.gather(*[await producer.send(topic, row) for _ in range(LETTERS)])

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    together: dict[int, int] = {}
    try:
        async for _ in DeadLetterTopic(topic, {"bootstrap_servers": kafka.address}).rows():
            together[turns] = together.get(turns, 0) + 1
    finally:
        await end(counting)
    assert sum(together.values()) == LETTERS
    assert max(together.values()) <= TURN_BYTES // ROW_BYTES
