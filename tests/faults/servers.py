"""The servers under test: Kafka of one broker or of three, and Redis, each killed, stopped and restarted at will.

In: a folder. Out: servers on fixed ports. A Redis can lose the writes of the last seconds, like in a power failure.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
import uuid
from collections import deque
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis.asyncio
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from stocktide.embedded import EmbeddedValkey
from stocktide.embedded.kafka import PORTS_FILE, storage_identity
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.server import EmbeddedServer
from stocktide.streams.kafka.admin import admin_client
from tests.harness.servers import ConfiguredKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
# `everysec` loses about this much, and no more.
TAIL_SECONDS_MAX = 2.0
SAMPLE_SECONDS = 0.05
COMMAND_SECONDS_MAX = 5.0


class CrashableServer(EmbeddedServer):
    """An embedded server that gets signals. `start` restarts it with its data."""

    async def crash(self) -> None:
        """Kill it, and wait until it has ended."""
        self.kill()
        await self.wait()

    async def stop(self) -> None:
        self.send(signal.SIGCONT)
        await super().stop()


class Broker(CrashableServer, ConfiguredKafka):
    """One broker. `identity` is that of the cluster."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], identity: str) -> None:
        super().__init__(folder / name, folder / f"{name}.log", settings)
        self._identity = identity

    def _storage_options(self) -> tuple[str, ...]:
        return ("-t", self._identity)

    async def stop(self) -> None:
        """Kill it: its data are discarded."""
        self.kill()


class Brokers(list[Broker]):
    """All brokers of the cluster."""

    @property
    def address(self) -> str:
        """Bootstrap servers, HOST:PORT[,HOST:PORT]."""
        return ",".join(broker.address for broker in self)

    async def start(self) -> None:
        await asyncio.gather(*(broker.start() for broker in self))

    async def stop(self) -> None:
        await asyncio.gather(*(broker.stop() for broker in self))

    async def leader_of(self, topic: str) -> int:
        """The index of the broker that leads the first partition of `topic`."""
        if len(self) == 1:
            return 0
        async with admin_client(self.address) as admin:
            described = await admin.describe_topics([topic])
        return int(described[0]["partitions"][0]["leader"]) - 1

    async def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic. Settings that are not named return to the broker's defaults."""
        async with admin_client(self.address) as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


def make_brokers(folder: Path, count: int) -> Brokers:
    """`count` brokers, 1 or 3."""
    identity = storage_identity(uuid.uuid4().bytes)
    if count == 1:
        return Brokers([Broker("kafka", folder, {}, identity)])
    ports: list[int] = []
    for _ in range(2 * count):
        ports.append(pick_free_port(avoid=ports))
    # Each broker has to know the others' ports before they start.
    voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in enumerate(ports[1::2], start=1))
    brokers = Brokers()
    for number in range(1, count + 1):
        settings = {**_OF_THREE, "node.id": str(number), "controller.quorum.voters": voters}
        broker = Broker(f"kafka-{number}", folder, settings, identity)
        broker.folder.mkdir(parents=True)
        own = {"broker": ports[2 * number - 2], "controller": ports[2 * number - 1]}
        (broker.folder / PORTS_FILE).write_text(json.dumps(own))
        brokers.append(broker)
    return brokers


class CrashableRedis(CrashableServer, EmbeddedValkey):
    """A Valkey server. While it runs, the size of its append-only file is sampled, to convert seconds into bytes."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(folder / name, folder / f"{name}.log")
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS_MAX / SAMPLE_SECONDS))
        self._sampling: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """Its port, which survives a restart."""
        return self._known_port

    async def role(self) -> str:
        """`master` or `slave`; empty if it does not answer."""
        reply = await self.command("ROLE")
        return reply[0].decode() if reply else ""

    async def start(self) -> None:
        """Start it with its data, and wait until it answers."""
        await super().start()
        if self._sampling is None:
            self._sampling = asyncio.create_task(self._sample_sizes())

    async def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            self._sampling = None
        await super().stop()

    async def lose_tail(self, seconds: float, rng: random.Random) -> int:
        """Kill it, and truncate its file at a random byte of the last `seconds`. Returns the number of bytes lost;
        `start` restarts it."""
        await self.crash()
        newest = self._newest_file()
        size = newest.stat().st_size
        since = time.monotonic() - min(seconds, TAIL_SECONDS_MAX)
        older = [at_size for at, file, at_size in self._sizes if file == newest and at <= since]
        size_min = older[-1] if older else next((at_size for _, file, at_size in self._sizes if file == newest), size)
        cut = rng.randint(min(size_min, size), size)
        os.truncate(newest, cut)
        self._sizes.clear()
        return size - cut

    @asynccontextmanager
    async def client(self) -> AsyncIterator[redis.asyncio.Redis]:
        client = redis.asyncio.Redis.from_url(
            self.url,
            socket_timeout=COMMAND_SECONDS_MAX,
            socket_connect_timeout=COMMAND_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
        )
        async with client:
            yield client

    async def command(self, *arguments: Any) -> Any:
        """The reply to a command; None if it does not answer."""
        async with self.client() as client:
            with suppress(RedisError, OSError):
                return await client.execute_command(*arguments)
        return None

    async def replication(self) -> dict[str, Any]:
        """`INFO replication`. Raises RedisError or OSError."""
        async with self.client() as client:
            return dict(await client.info("replication"))

    async def replication_offset(self) -> int:
        about = await self.replication()
        return int(about.get("slave_repl_offset", about["master_repl_offset"]))

    def _newest_file(self) -> Path:
        """The file being appended to: `appendonly.aof.<n>.incr.aof` with the highest number."""
        files = (self.folder / "appendonlydir").glob("*.incr.aof")
        return max(files, key=lambda file: int(file.name.split(".")[-3]))

    async def _sample_sizes(self) -> None:
        while True:
            with suppress(OSError, ValueError):
                newest = self._newest_file()
                self._sizes.append((time.monotonic(), newest, newest.stat().st_size))
            await asyncio.sleep(SAMPLE_SECONDS)
