"""Servers for tests: fixtures of one Kafka, one Valkey and one Redis per session, started on demand.

`kafka.address` is HOST:PORT, `valkey.url` a URL. Each test uses its own `app_id`.
"""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.valkey import server_command
from tests.harness.eventually import eventually
from tests.harness.process import started

# A quiet machine needs well under a second for each.
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0
# Logged by Redis and Valkey when the data are loaded.
ACCEPTING = "Ready to accept connections"
# The variable with the address of a broker that several processes of pytest share.
SHARED_KAFKA = "TESTS_KAFKA"


class RedisProcess:
    """A Redis or Valkey server with the options of `server_command`, then `options`: the last value counts."""

    def __init__(self, program: str | Path, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = pick_free_port()
        self.options = options
        self._program = Path(program)
        self._child = ChildProcess("Redis", folder / "redis.log")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._child.spawn([*server_command(self._program, self.port, self.folder), *self.options])
        await eventually(
            lambda: ACCEPTING in self._child.log.read_text(), START_SECONDS_MAX, self._child.last_log_lines
        )

    async def stop(self) -> None:
        await self._child.stop(STOP_SECONDS_MAX)


class ConfiguredKafka(EmbeddedKafka):
    """An embedded Kafka with `settings` instead of, or beside, its own."""

    def __init__(self, folder: Path, log: Path, settings: Mapping[str, str]) -> None:
        super().__init__(folder, log)
        self.settings = dict(settings)

    def _settings(self, ports: dict[str, int], logs: Path) -> str:
        lines = super()._settings(ports, logs).splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in self.settings]
        values = {name: value.format(**ports) for name, value in self.settings.items()}
        return "".join(f"{line}\n" for line in (*kept, *map("=".join, values.items())))


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that the ledger runs on."""

    url: str


@dataclass(frozen=True, slots=True)
class KafkaServer:
    """A running broker, HOST:PORT."""

    address: str


@pytest.fixture(scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KafkaServer]:
    """The broker of `make check`, which its processes share, else one of the session's own."""
    if shared := os.environ.get(SHARED_KAFKA):
        yield KafkaServer(shared)
        return
    folder = tmp_path_factory.mktemp("kafka")
    async with started(EmbeddedKafka(folder, folder / "kafka.log")) as server:
        yield KafkaServer(server.address)


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """A running Valkey, the one of the extra `embedded`."""
    folder = tmp_path_factory.mktemp("valkey")
    async with started(EmbeddedValkey(folder, folder / "valkey.log")) as server:
        yield RedisServer(server.url)


@pytest.fixture(scope="session")
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """The machine's own `redis-server`; the test is skipped with a warning where it is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        warnings.warn("redis-server is not installed: the ledger was tested on Valkey alone", stacklevel=1)
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    async with started(RedisProcess(program, tmp_path_factory.mktemp("redis"))) as server:
        yield RedisServer(server.url)


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey of the test's own, which it may empty, kill and start again."""
    async with started(EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")) as server:
        yield server


@pytest.fixture
def app_id() -> str:
    """A unique prefix for the test's topics, keys and consumer group."""
    return new_app_id()


def new_app_id() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session", params=["valkey", "redis_server"])
def ledger_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each server that the ledger has to run on."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RedisServer)
    return server


@pytest.fixture(scope="module")
async def emptied_afterwards(valkey: RedisServer) -> AsyncIterator[None]:
    """Empty the Valkey after a module that leaves thousands of keys: other tests scan all keys."""
    yield
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.flushall()


@pytest.fixture(name="redis")
async def redis_client(valkey: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the Valkey, which is emptied for this test. Answers are bytes."""
    async with redis.asyncio.Redis.from_url(valkey.url, decode_responses=False) as client:
        await client.flushall()
        yield client
