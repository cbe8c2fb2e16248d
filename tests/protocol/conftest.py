"""Fixtures of the protocol tests: a rig on the session's Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.servers import RedisServer
from tests.protocol.audits import OPENING
from tests.protocol.rig import ProtocolRig, open_rig


@pytest.fixture
async def rig(valkey: RedisServer, app_id: str) -> AsyncIterator[ProtocolRig]:
    """A rig with an empty Redis and an empty journal."""
    async with open_rig(valkey.url, app_id) as rig:
        yield rig


@pytest.fixture
async def shop(rig: ProtocolRig) -> ProtocolRig:
    """A rig whose shop has an order in every state."""
    await rig.blessed_relay()
    for command in OPENING:
        await rig.submit(command)
    return rig


@pytest.fixture(scope="module", autouse=True)
def leaves_no_keys(emptied_afterwards: None) -> None:
    """See `emptied_afterwards`."""
