"""`stocktide up` as a process: it restarts parts that die, leaves nothing when it stops, and resumes on its data."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from stocktide.streams.kafka.admin import ensure_topics
from tests.harness.eventually import eventually
from tests.harness.process import WITH_KEYS, alive, fetch
from tests.harness.servers import KafkaServer
from tests.harness.system import RunningSystem, SystemFactory, running_system

GONE_SECONDS_MAX = 30.0


@pytest.fixture(scope="module")
async def embedded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningSystem]:
    """A system with servers of its own; the last test that uses it kills it."""
    async with running_system(tmp_path_factory.mktemp("embedded") / "data", environ=WITH_KEYS) as running:
        yield running


async def test_the_ready_file_has_all_addresses(embedded: RunningSystem) -> None:
    ready = embedded.ready
    # From some number of cores on, publishing is a process of its own.
    assert set(ready) - {"publisher"} == {"api", "worker", "kafka", "redis", "app_id", "topics", "pids", "keys"}
    assert set(ready["pids"]) - {"publisher"} == {"api", "worker", "kafka", "redis"}
    assert ready["topics"]["orders"] == "stocktide-orders"
    greeting = await embedded.wait_for_output("keys first viewer")
    assert not any(key in greeting for key in ready["keys"].values())
    for part in ("api", "worker"):
        assert (await fetch(f"{ready[part]}/readyz"))[0] == 200


async def test_the_embedded_servers_get_no_setting_of_ours(embedded: RunningSystem) -> None:
    pids = embedded.ready["pids"]
    given = {name: {each.partition("_")[0] for each in psutil.Process(pids[name]).environ()} for name in pids}
    assert [name for name in pids if "STOCKTIDE" not in given[name]] == ["kafka", "redis"]
    assert (embedded.data / "logs").stat().st_mode & 0o077 == 0


async def test_each_part_that_is_killed_comes_back_at_its_address(embedded: RunningSystem) -> None:
    before = embedded.ready
    for name in ("worker", "api", "kafka"):
        await embedded.restart_part(name)
    after = embedded.ready
    assert {key: after[key] for key in after if key != "pids"} == {key: before[key] for key in before if key != "pids"}
    assert (await fetch(f"{after['api']}/healthz"))[0] == 200


async def test_a_second_start_on_the_same_data_is_refused(embedded: RunningSystem) -> None:
    # Both have the same ready file, which the second must not change.
    async with running_system(embedded.data, wait=False) as second:
        assert await second.wait(GONE_SECONDS_MAX) == 1
    assert f"another `stocktide up` (process {embedded.pid}) runs on {embedded.data}" in second.output
    assert json.loads(embedded.ready_file.read_text())["pids"]["api"] == embedded.part_pid("api")


async def test_after_a_kill_nothing_is_left_and_the_same_data_serve_again(embedded: RunningSystem) -> None:
    parts = embedded.parts()
    addresses = {key: embedded.ready[key] for key in ("kafka", "redis", "keys")}
    alerts = embedded.ready["topics"]["alerts"]
    async with AIOKafkaProducer(bootstrap_servers=addresses["kafka"], acks="all") as producer:
        await producer.send_and_wait(alerts, b"before the kill")
    await embedded.stop(signal.SIGKILL)
    await eventually(lambda: not alive(parts), GONE_SECONDS_MAX)
    embedded.ready_file.unlink()  # which a killed process leaves
    async with running_system(embedded.data, environ=WITH_KEYS) as again:
        assert {key: again.ready[key] for key in ("kafka", "redis", "keys")} == addresses
        kept = {"bootstrap_servers": addresses["kafka"], "auto_offset_reset": "earliest"}
        async with AIOKafkaConsumer(alerts, **kept) as consumer, asyncio.timeout(GONE_SECONDS_MAX):
            while (await consumer.getone()).value != b"before the kill":
                pass


async def test_ctrl_c_stops_everything_and_leaves_no_process(system: SystemFactory) -> None:
    # tests/integration/test_start.py has the same with SIGTERM.
    running = await system()
    parts = running.parts()
    await running.wait_for_output("WITHOUT KEYS (--open)")
    assert await running.stop(signal.SIGINT) == 0
    await eventually(lambda: not alive(parts), GONE_SECONDS_MAX)
    assert not running.ready_file.exists()


async def test_a_signal_during_the_start_stops_what_was_started(system: SystemFactory) -> None:
    running = await system(own_servers=True, wait=False)
    await eventually(lambda: bool(running.children()))
    children = running.children()
    assert await running.stop() == 0
    await eventually(lambda: not alive(children))


async def test_topics_with_other_partitions_are_reported(
    system: SystemFactory, kafka: KafkaServer, app_id: str
) -> None:
    await ensure_topics(kafka.address, app_id, partitions=2)
    running = await system(wait=False)
    assert await running.wait(GONE_SECONDS_MAX) == 1
    assert f"topic {app_id}-orders has 2 partitions and the settings say 4" in running.output
    assert "Traceback" not in running.output
    assert not running.ready_file.exists()
