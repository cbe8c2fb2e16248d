"""One running system for all tests of the API: starting it is what takes long."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest

from stocktide.embedded import EmbeddedKafka
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient
from tests.harness.servers import RedisServer
from tests.harness.system import RunningSystem, start_system


@pytest.fixture(scope="module")
async def running(
    kafka: EmbeddedKafka, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` on the session's servers, under a name of its own."""
    app_id = f"t{uuid.uuid4().hex[:10]}"
    given = ["--kafka", kafka.address, "--redis", valkey.url]
    system = await start_system(tmp_path_factory.mktemp("api") / "data", given, {"STOCKTIDE_APP_ID": app_id})
    try:
        await system.wait_ready()
        yield system
    finally:
        await system.stop()


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client of that system."""
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield ApiTestClient(session, running.api)
