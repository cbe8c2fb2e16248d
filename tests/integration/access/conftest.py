"""One running system with keys for all tests of the folder but those of TLS: they use names of their own. `make check`
gives the folder to one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
import pytest

from stocktide.streams.contract.documents import DeadLetter
from stocktide.streams.topics import DEAD_LETTERS
from tests.harness import resolver
from tests.harness.api_client import WAIT_SECONDS_MAX
from tests.harness.eventually import eventually
from tests.harness.otlp import Collector, running_collector
from tests.harness.process import WITH_KEYS
from tests.harness.receiver import running_receiver
from tests.harness.robots import WEBHOOK_SECRET
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system
from tests.harness.workers import WorkerGroup
from tests.intake_payloads import SECRET
from tests.packages import PROMETHEUS

# Beyond what one process of tests may open beside its own files, so that the oldest are closed; above any other test.
CONNECTIONS_MAX = 9_000
# Webhooks may call this private address, and no other.
ALLOWED_ADDRESS = "127.0.0.2"
SHOP_ORIGIN = "https://shop.test"


@pytest.fixture(scope="package")
async def collector() -> AsyncIterator[Collector]:
    """Where worker and API send the spans of traces that a test begins."""
    async with running_collector() as found:
        yield found


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer, valkey: RedisServer, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` with its first keys, the intake of four platforms, names that a test can move (`names`), a
    receiver of alerts, and a Prometheus where one is installed."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "names").touch()
    alerts = folder / "alerts.yaml"
    environ = {
        **WITH_KEYS,
        "STOCKTIDE_ORIGINS": SHOP_ORIGIN,
        "STOCKTIDE_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
        "STOCKTIDE_WEBHOOK_ALLOW": f"{ALLOWED_ADDRESS}/32",
        **{f"STOCKTIDE_INTAKE_{name}_SECRET": SECRET for name in ("SHOPIFY", "WOOCOMMERCE", "YOUZAN", "QIMEN")},
        "PYTHONPATH": str(Path(resolver.__file__).parent),
        "TEST_NAMES": str(folder / "names"),
        "STOCKTIDE_ALERTS_FILE": str(alerts),
        "TEST_SECRET": WEBHOOK_SECRET,
        **collector.environ,
    }
    options = ["--with-prometheus"] * PROMETHEUS.is_installed()
    at = folder / "data"
    async with running_receiver(host=ALLOWED_ADDRESS) as duty:
        routes = [{"receiver": "duty", "group_wait": "0s"}]
        receivers = [{"name": "duty", "kind": "webhook", "url": duty.url, "secret_variable": "TEST_SECRET"}]
        alerts.write_bytes(msgspec.yaml.encode({"receivers": receivers, "routes": routes}))
        async with running_system(at, kafka.address, valkey.url, new_app_id(), environ, options=options) as system:
            yield system


async def dead_letters(running: RunningSystem) -> list[DeadLetter]:
    """All of them, oldest first by partition."""
    group = WorkerGroup(running.ready["kafka"], running.ready["redis"], running.app_id, running.data)
    records = await group.records(DEAD_LETTERS)
    return [msgspec.json.decode(record.value or b"", type=DeadLetter) for record in records]


async def until_rejected(running: RunningSystem, marks: Mapping[str, str]) -> None:
    """Wait until what contains each mark is a dead letter for its reason."""
    found: list[DeadLetter] = []

    async def are_rejected() -> bool:
        found[:] = await dead_letters(running)
        return all(
            any(mark.encode() in letter.event and letter.reason == reason for letter in found)
            for mark, reason in marks.items()
        )

    await eventually(are_rejected, WAIT_SECONDS_MAX, lambda: str([(each.reason, each.detail) for each in found]))
