"""One running system for all tests of the folder: they use names of their own, and may kill its worker, lose its Redis
and start workers beside it. `make check` gives the folder to one process.

A proxy is named in the environment of all of its parts: that it gets no call is a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.receiver import ALLOW_LOOPBACK, Receiver, running_receiver
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system


@pytest.fixture(scope="package")
async def proxy() -> AsyncIterator[Receiver]:
    """What the environment names as a proxy."""
    async with running_receiver() as found:
        yield found


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, proxy: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` on the session's servers, which may call loopback."""
    data = tmp_path_factory.mktemp("webhooks") / "data"
    named = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), proxy.url)
    environ = {**ALLOW_LOOPBACK, **named, "NO_PROXY": "", "no_proxy": ""}
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as found:
        yield found
