"""Senders of alerts on a real Kafka: one of a group sends, another goes on where it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.notify import delivery as delivery_module
from stocktide.agents.notify.config import AlertsConfig, read_alerts_file
from stocktide.agents.notify.delivery import GIVE_UP_SECONDS, Delivery
from stocktide.agents.notify.groups import Groups, Place
from stocktide.agents.notify.routing import Alert
from stocktide.agents.notify.sender import FETCH_BYTES_MAX, ReceiverSender, SenderParts
from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.shutdown import end
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import make_session
from tests.harness.api_client import unique_name
from tests.harness.eventually import eventually
from tests.harness.robots import Robots, receivers_of, running_robots
from tests.harness.servers import KafkaServer

LOOPBACK = parse_networks("127.0.0.0/8")
# It is always quiet, and what is critical passes.
QUIET = {"name": "quiet", "from": "00:00", "to": "24:00"}
ROUTES: list[dict[str, Any]] = [
    {"receiver": "slack", "group_wait": "0s", "group_interval": "0s", "group_by": [], "quiet": ["quiet"]}
]


@dataclass
class Rig:
    """A topic of alerts, the robots, and what senders need."""

    kafka: str
    topic: str
    robots: Robots
    config: AlertsConfig
    session: aiohttp.ClientSession
    since_ms: int

    def start(self) -> asyncio.Task[None]:
        parts = SenderParts(
            self.kafka, {}, self.topic, self.config.routes, self.session, WorkerMetrics(), self.since_ms, 1
        )
        receiver = self.config.receiver("slack")
        assert receiver is not None
        return asyncio.create_task(ReceiverSender(receiver, f"{self.topic}:slack", parts).run())

    async def write(self, *skus: str, type_: str = "shortfall", **fields: Any) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.kafka) as producer:
            for sku in skus:
                row = PublishedAlert(id=sku, type=type_, sku=sku, at=rfc3339(now_ms()), batch=1, **fields)
                await producer.send_and_wait(self.topic, encode(row), sku.encode())

    async def sent(self, *skus: str) -> None:
        """Wait until the robot has them, each once."""
        for sku in skus:
            await self.robots.until("slack", f"SKU {sku} ")
        assert [self.robots.text("slack").count(f"SKU {sku} ") for sku in skus] == [1] * len(skus)


@pytest.fixture
async def rig(kafka: KafkaServer, tmp_path: Path) -> AsyncIterator[Rig]:
    topic = unique_name("alerts")
    async with admin_client(kafka.address) as admin:
        await admin.create_topics([NewTopic(topic, 3, 1)])
    async with running_robots() as robots, make_session(LOOPBACK) as session:
        file = tmp_path / "alerts.yaml"
        content = {"receivers": receivers_of(robots, tmp_path), "routes": ROUTES, "quiet_times": [QUIET]}
        file.write_bytes(msgspec.yaml.encode(content))
        yield Rig(kafka.address, topic, robots, read_alerts_file(file, {}, LOOPBACK), session, now_ms())


@asynccontextmanager
async def senders(*tasks: asyncio.Task[None]) -> AsyncIterator[None]:
    """Ends them."""
    try:
        yield
    finally:
        await end(*tasks)


async def test_one_of_two_senders_sends_and_the_other_goes_on_with_what_was_held_back(rig: Rig) -> None:
    await rig.write("before")  # since the worker has started, and before its group was joined
    first, second = rig.start(), rig.start()
    async with senders(first, second):
        await rig.sent("before")
        await rig.write("held-1", "held-2", type_="low_stock")
        urgent = [f"urgent-{number}" for number in range(9)]
        await rig.write(*urgent)
        await rig.sent(*urgent)
        for task in (first, second):  # whoever sends, the last sender is a successor
            await end(task)
            third = rig.start()
            async with senders(third):
                await rig.write(name := unique_name("after"))
                await rig.sent("before", *urgent, name)
    assert "held" not in rig.robots.text("slack"), "it is still quiet"
    lines = rig.robots.text("slack").count("SKU ")
    assert lines == 1 + 9 + 2, "nothing was sent twice"


async def test_a_row_that_is_larger_than_a_fetch_is_sent_like_the_others(rig: Rig) -> None:
    await rig.write("before")
    await rig.write("large", detail="x" * 3 * FETCH_BYTES_MAX)
    await rig.write("after")
    async with senders(rig.start()):
        await rig.sent("before", "large", "after")


async def test_a_commit_of_a_topic_that_was_made_anew_does_not_count(rig: Rig) -> None:
    group = f"{rig.topic}:slack"
    await rig.write("old")
    rig.since_ms = now_ms() + 1
    await asyncio.sleep(0.01)
    parts = [TopicPartition(rig.topic, number) for number in range(3)]
    async with AIOKafkaConsumer(bootstrap_servers=rig.kafka, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign(parts)
        await consumer.commit(dict.fromkeys(parts, 1_000))
    async with senders(rig.start()):
        await rig.write("new")
        await rig.sent("new")
    assert "old" not in rig.robots.text("slack")


async def test_a_message_that_nobody_takes_for_a_day_is_given_up_and_counted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "PAUSE_SECONDS_MIN", 0.001)
    monkeypatch.setitem(delivery_module.GAP_SECONDS, "slack", 0.001)
    receiver = rig.config.receiver("slack")
    assert receiver is not None
    now, done, metrics, groups = [0], list[Place](), WorkerMetrics(), Groups(rig.config.routes)
    sender = Delivery(receiver, groups, rig.session, done.extend, metrics, lambda: now[0])
    rig.robots.down.add("slack")
    groups.add(0, Alert(id="1", type="shortfall", at="", sku="lost"), (0, 7), now[0])
    async with senders(asyncio.create_task(sender.run())):
        await eventually(lambda: len(rig.robots.calls) == 1)
        assert not done
        now[0] += GIVE_UP_SECONDS * 1000
        sender.wake()
        await eventually(lambda: done == [(0, 7)])
        outcome = metrics.alert_messages.labels("slack", "given_up")
        assert outcome._value.get() == 1 and len(groups) == 0
        rig.robots.down.clear()
        groups.add(0, Alert(id="2", type="shortfall", at="", sku="next"), (0, 8), now[0])
        sender.wake()
        await rig.sent("next")
    assert done == [(0, 7), (0, 8)]
