"""One running system for all tests of the board, with a small shop: two channels, a few SKUs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.process import WITH_KEYS
from tests.harness.servers import KafkaServer, RedisServer
from tests.harness.system import RunningSystem, running_system

POLICY = {"safety_threshold": 5, "resume_threshold": 8, "below_threshold": "preorder", "preorder_cap": 20}


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    data = tmp_path_factory.mktemp("board") / "data"
    async with running_system(data, kafka.address, valkey.url, "board", WITH_KEYS) as system:
        async with system.client() as shop:
            assert (await shop.put("/v1/policies/tmall", POLICY)).status == 200
            assert (await shop.put("/v1/policies/jd", {"below_threshold": "suspend"})).status == 200
            await shop.receive("mug-teal", 10)
            await shop.receive("<b>odd</b>", 3)
        yield system
