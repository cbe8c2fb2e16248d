"""One running system for all tests of the folder, and one with keys for those of access and attacks: they use names of
their own. `make check` gives the folder to one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import resolver
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system
from tests.intake_payloads import SECRET


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` on the session's servers."""
    data = tmp_path_factory.mktemp("api") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id()) as system:
        yield system


# Beyond what one process of tests may open beside its own files, so that the oldest are closed; above any other test.
CONNECTIONS_MAX = 9_000
# Webhooks may call this private address, and no other.
ALLOWED_ADDRESS = "127.0.0.2"
SHOP_ORIGIN = "https://shop.test"


@pytest.fixture(scope="package")
async def keyed(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` with its first keys, the intake of three platforms, and names that a test can move (`names`)."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "names").touch()
    environ = {
        "STOCKTIDE_OPEN": "0",
        "STOCKTIDE_ORIGINS": SHOP_ORIGIN,
        "STOCKTIDE_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
        "STOCKTIDE_WEBHOOK_ALLOW": f"{ALLOWED_ADDRESS}/32",
        **{f"STOCKTIDE_INTAKE_{name}_SECRET": SECRET for name in ("SHOPIFY", "YOUZAN", "QIMEN")},
        "PYTHONPATH": str(Path(resolver.__file__).parent),
        "TEST_NAMES": str(folder / "names"),
    }
    async with running_system(folder / "data", kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system
