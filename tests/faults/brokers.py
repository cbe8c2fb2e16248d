"""The Kafka under test: one broker, or three of which one may be lost.

In: a folder. Out: brokers that can be killed, stopped and restarted one by one.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stocktide.embedded import EmbeddedKafka
from stocktide.embedded import kafka as embedded
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REQUEST_MS_MAX = 10_000
# Kafka's internal topics are replicated like the others.
_OF_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # A dead replica leaves the in-sync set soon; three JVMs on two cores need some tolerance.
    "replica.lag.time.max.ms": "10000",
}


class Brokers:
    """`count` brokers, 1 or 3, identified by their index."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        self._brokers: list[EmbeddedKafka]
        if count == 1:
            self._brokers = [EmbeddedKafka(folder / "kafka", folder / "kafka.log")]
        else:
            self._brokers = _make_quorum(folder, count)

    @property
    def address(self) -> str:
        """Bootstrap servers, HOST:PORT[,HOST:PORT]."""
        return ",".join(broker.address for broker in self._brokers)

    def __len__(self) -> int:
        return len(self._brokers)

    async def start(self) -> None:
        await asyncio.gather(*(broker.start() for broker in self._brokers))

    async def stop(self) -> None:
        """End all brokers; their data are discarded."""
        for index in range(len(self)):
            self.send(index, signal.SIGCONT)
        for broker in self._brokers:
            broker.kill()

    async def start_one(self, index: int) -> None:
        """Restart a killed broker with its data, and wait until it answers."""
        await self._brokers[index].start()

    async def kill(self, index: int) -> None:
        self._brokers[index].kill()
        await self._brokers[index].wait()

    def send(self, index: int, number: signal.Signals) -> None:
        self._brokers[index].send(number)

    def running(self, index: int) -> bool:
        return self._brokers[index].running

    def folder(self, index: int) -> Path:
        return self._brokers[index].folder

    async def leader_of(self, topic: str) -> int:
        """The index of the broker that leads the first partition of `topic`."""
        if len(self) == 1:
            return 0
        async with self.admin() as admin:
            described = await admin.describe_topics([topic])
        return int(described[0]["partitions"][0]["leader"]) - 1

    async def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic. Settings that are not named return to the broker's defaults."""
        async with self.admin() as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=REQUEST_MS_MAX)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def consumer(self, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer without an assignment."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


class _QuorumBroker(EmbeddedKafka):
    """One broker of several: an embedded one with settings for the quorum."""

    def __init__(self, folder: Path, log: Path, number: int, voters: str, identity: str) -> None:
        super().__init__(folder, log)
        self._settings = {**_OF_THREE, "node.id": str(number), "controller.quorum.voters": voters}
        self._identity = identity

    async def _format(self, java: Path, classes: str, ports: dict[str, int]) -> None:
        logs = self.folder.resolve() / "logs"
        size = embedded.JOURNAL_RECORD_BYTES_MAX + embedded.RECORD_OVERHEAD_BYTES
        text = embedded._PROPERTIES.format(**ports, log_dirs=logs, record_bytes_max=size)
        for name, value in self._settings.items():
            text = re.sub(rf"^{re.escape(name)}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
        self._properties.write_text(text)
        if (logs / "meta.properties").exists():
            return
        child = ChildProcess("Kafka's storage tool", self.log)
        tool = ("kafka.tools.StorageTool", "format", "-t", self._identity, "-c", str(self._properties))
        await child.spawn([str(java), *embedded._LOGGING, "-cp", classes, *tool])
        assert await child.wait() == 0, child.last_log_lines()


def _make_quorum(folder: Path, count: int) -> list[EmbeddedKafka]:
    ports: list[int] = []
    for _ in range(2 * count):
        ports.append(pick_free_port(avoid=ports))
    voters = ",".join(f"{number + 1}@127.0.0.1:{ports[2 * number + 1]}" for number in range(count))
    identity = embedded._storage_identity(uuid.uuid4().bytes)
    brokers: list[EmbeddedKafka] = []
    for number in range(count):
        own = folder / f"kafka-{number + 1}"
        own.mkdir(parents=True)
        (own / "ports.json").write_text(json.dumps({"broker": ports[2 * number], "controller": ports[2 * number + 1]}))
        brokers.append(_QuorumBroker(own, folder / f"kafka-{number + 1}.log", number + 1, voters, identity))
    return brokers
