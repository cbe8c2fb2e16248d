"""Fixtures of the real servers: one Kafka, one Valkey, one Redis for the whole run, started when asked for.

`kafka.address` is HOST:PORT, `valkey.url` a URL. A test keeps apart from its neighbours by its own `app_id`.
"""

from __future__ import annotations

import shutil
import uuid
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import RedisError

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.valkey import server_command
from stocktide.retry import poll_until

# A server of this size starts in moments; on a busy machine in seconds.
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that the ledger runs on: `name` is `valkey` or `redis`."""

    name: str
    url: str
    pid: int


@pytest.fixture(scope="session")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedKafka]:
    """A running Kafka. `.address` is HOST:PORT."""
    folder = tmp_path_factory.mktemp("kafka")
    server = EmbeddedKafka(folder, folder / "kafka.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """A running Valkey, the one of the extra `embedded`."""
    folder = tmp_path_factory.mktemp("valkey")
    server = EmbeddedValkey(folder, folder / "valkey.log")
    await server.start()
    assert server.pid is not None
    yield RedisServer("valkey", server.url, server.pid)
    await server.stop()


@pytest.fixture(scope="session")
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """The machine's own `redis-server`. Without one the test is skipped, and the run says so."""
    program = shutil.which("redis-server")
    if program is None:
        warnings.warn("redis-server is not installed: the ledger was tested on Valkey alone", stacklevel=1)
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    folder = tmp_path_factory.mktemp("redis")
    child = ChildProcess("redis-server", folder / "redis.log")
    port = pick_free_port()
    await child.spawn(server_command(Path(program), port, folder))
    url = f"redis://127.0.0.1:{port}/0"
    assert await poll_until(lambda: _answers(url), START_SECONDS_MAX), child.last_log_lines()
    assert child.pid is not None
    yield RedisServer("redis", url, child.pid)
    await child.stop(STOP_SECONDS_MAX)


@pytest.fixture
def app_id() -> str:
    """A name of its own for the test's topics, keys and groups."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session", params=["valkey", "redis_server"])
def ledger_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each server that the ledger has to run on, one after the other."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RedisServer)
    return server


@pytest.fixture(scope="module")
async def emptied_afterwards(valkey: RedisServer) -> AsyncIterator[None]:
    """The Valkey is empty again after a module that leaves thousands of keys: other tests walk all that there are."""
    yield
    client = redis.asyncio.Redis.from_url(valkey.url)
    await client.flushall()
    await client.aclose()


@pytest.fixture(name="redis")
async def redis_client(valkey: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of the Valkey, which was emptied for this test. Answers are bytes."""
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=False)
    await client.flushall()
    yield client
    await client.aclose()


async def _answers(url: str) -> bool:
    client = redis.asyncio.Redis.from_url(url)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()
