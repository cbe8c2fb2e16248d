"""Fixtures of the protocol's tests: the run's Valkey, or one of the test's own where it has to be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stocktide.embedded import EmbeddedValkey
from tests.harness.servers import RedisServer
from tests.protocol.rig import ProtocolRig


@pytest.fixture
async def stage(valkey: RedisServer, app_id: str) -> AsyncIterator[ProtocolRig]:
    """A stage with nothing on it: an empty Redis and an empty journal."""
    stage = ProtocolRig(valkey.url, app_id)
    yield stage
    await stage.close()


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey that the test may kill and start again."""
    server = EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module", autouse=True)
def leaves_no_keys(emptied_afterwards: None) -> None:
    """See `emptied_afterwards`."""
