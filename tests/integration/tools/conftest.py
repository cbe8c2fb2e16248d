"""One running system with keys for all tests of commands: they use names of their own. `make check` gives the folder to
one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.process import WITH_KEYS
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` with keys on the session's servers."""
    data = tmp_path_factory.mktemp("tools") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id(), WITH_KEYS) as system:
        yield system
