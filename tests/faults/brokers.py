"""The Kafka under test: one broker, or three of which one may be lost.

In: a folder. Out: brokers that can be killed, stopped and started again one by one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
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
# What Kafka keeps for itself lies on as many brokers as the topics do.
_OF_THREE = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # A replica that is gone leaves the in-sync ones soon: three JVMs share two cores here, so not too soon.
    "replica.lag.time.max.ms": "10000",
}


class Brokers:
    """`count` brokers, 1 or 3. Indexes name them."""

    def __init__(self, folder: Path, count: int = 1) -> None:
        self._brokers: list[EmbeddedKafka]
        if count == 1:
            self._brokers = [EmbeddedKafka(folder / "kafka", folder / "kafka.log")]
        else:
            self._brokers = _quorum(folder, count)

    @property
    def address(self) -> str:
        """Bootstrap servers, HOST:PORT[,HOST:PORT]."""
        return ",".join(broker.address for broker in self._brokers)

    def __len__(self) -> int:
        return len(self._brokers)

    async def start(self) -> None:
        """Start all, and wait until all answer."""
        await asyncio.gather(*(broker.start() for broker in self._brokers))

    async def stop(self) -> None:
        """End all; their data are of no more use."""
        for index in range(len(self)):
            self.send(index, signal.SIGCONT)
        for broker in self._brokers:
            broker.kill()

    async def start_one(self, index: int) -> None:
        """Start one that was killed, with its data, and wait until it answers."""
        await self._brokers[index].start()

    async def kill(self, index: int) -> None:
        """End one at once, and wait until it is gone."""
        self._brokers[index].kill()
        await self._brokers[index].wait()

    def send(self, index: int, number: signal.Signals) -> None:
        """Send one a signal."""
        pid = self._brokers[index].pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def running(self, index: int) -> bool:
        """Whether there is a process."""
        return self._brokers[index]._child.running

    def folder(self, index: int) -> Path:
        """Where one keeps its data."""
        return self._brokers[index].folder

    async def wait(self, index: int) -> int:
        """Wait for the end of one."""
        return await self._brokers[index].wait()

    async def leader(self, topic: str) -> int:
        """Which of them leads the first partition of `topic`; 0 where there is one alone."""
        if len(self) == 1:
            return 0
        async with self.admin() as admin:
            described = await admin.describe_topics([topic])
        return int(described[0]["partitions"][0]["leader"]) - 1

    async def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic. All others go back to what the broker has as a default: name them all."""
        async with self.admin() as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """A client for an operator's commands."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=REQUEST_MS_MAX)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def consumer(self, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer that is assigned nothing yet."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.address, group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


class _Voter(EmbeddedKafka):
    """One broker of several: the embedded one, told of the others."""

    def __init__(self, folder: Path, log: Path, number: int, voters: str, identity: str) -> None:
        super().__init__(folder, log)
        self._more = {**_OF_THREE, "node.id": str(number), "controller.quorum.voters": voters}
        self._identity = identity

    async def _format(self, java: Path, classes: str, ports: dict[str, int]) -> None:
        logs = self.folder.resolve() / "logs"
        size = embedded.JOURNAL_RECORD_BYTES_MAX + embedded.RECORD_OVERHEAD_BYTES
        text = embedded._PROPERTIES.format(**ports, log_dirs=logs, record_bytes_max=size)
        for name, value in self._more.items():
            text = re.sub(rf"^{re.escape(name)}=.*\n", "", text, flags=re.MULTILINE) + f"{name}={value}\n"
        self._properties.write_text(text)
        if (logs / "meta.properties").exists():
            return
        child = ChildProcess("Kafka's storage tool", self._child.log)
        tool = ("kafka.tools.StorageTool", "format", "-t", self._identity, "-c", str(self._properties))
        await child.spawn([str(java), *embedded._LOGGING, "-cp", classes, *tool])
        assert await child.wait() == 0, child.last_log_lines()


def _quorum(folder: Path, count: int) -> list[EmbeddedKafka]:
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
        brokers.append(_Voter(own, folder / f"kafka-{number + 1}.log", number + 1, voters, identity))
    return brokers
