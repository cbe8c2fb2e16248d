"""One running system for all tests of a module, since its start takes most of the time; one group of workers a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness.process import WITH_KEYS
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system
from tests.harness.workers import WorkerGroup, worker_group


@pytest.fixture(scope="module")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` with keys on the session's servers."""
    data = tmp_path_factory.mktemp("system") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id(), WITH_KEYS) as system:
        yield system


@pytest.fixture
async def group(kafka: KafkaServer, valkey: RedisServer, app_id: str, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    """A group without workers on the session's servers."""
    async with worker_group(kafka.address, valkey.url, app_id, tmp_path) as made:
        yield made
