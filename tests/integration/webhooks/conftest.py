"""One running system for all tests of the folder: they use names of their own, and may kill its worker, lose its Redis
and start workers beside it. `make check` gives the folder to one process.

A proxy is named in the environment of all of its parts: that it gets no call is a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from tests.harness.receiver import ALLOW_LOOPBACK, Receiver, running_receiver
from tests.harness.robots import Robots, receivers_of, running_robots
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system


@pytest.fixture(scope="package")
async def proxy() -> AsyncIterator[Receiver]:
    """What the environment names as a proxy."""
    async with running_receiver() as found:
        yield found


@pytest.fixture(scope="package")
async def robots() -> AsyncIterator[Robots]:
    """Where the alerts of the system go."""
    async with running_robots() as found:
        yield found


# Beginnings of the SKUs whose alerts are sent: at once to every robot; after some seconds to the webhook.
TO_ALL, LATER = "all-", "later-"


@pytest.fixture(scope="package")
async def running(
    kafka: KafkaServer,
    valkey: RedisServer,
    proxy: Receiver,
    robots: Robots,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` on the session's servers, which may call loopback."""
    data = tmp_path_factory.mktemp("webhooks") / "data"
    receivers = receivers_of(robots, data.parent)
    at_once = {"group_wait": "50ms", "group_interval": "200ms", "group_by": ["type"], "continue": True}
    routes = [{"receiver": each["name"], "match": {"sku_prefixes": [TO_ALL]}, **at_once} for each in receivers]
    routes.append({**at_once, "receiver": "webhook", "match": {"sku_prefixes": [LATER]}, "group_wait": "4s"})
    alerts = data.parent / "alerts.yaml"
    alerts.write_bytes(msgspec.yaml.encode({"receivers": receivers, "routes": routes}))
    named = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), proxy.url)
    environ = {**ALLOW_LOOPBACK, **named, "NO_PROXY": "", "no_proxy": "", "STOCKTIDE_ALERTS_FILE": str(alerts)}
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as found:
        yield found
