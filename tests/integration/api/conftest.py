"""One running system for all tests of the folder: they use names of their own. `make check` gives the folder to one
process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` on the session's servers."""
    data = tmp_path_factory.mktemp("api") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id()) as system:
        yield system
