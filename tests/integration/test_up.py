"""`stocktide up` as a process: it restarts parts that die, leaves nothing when it stops, and resumes on its data."""

from __future__ import annotations

import json
import signal

import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.streams.kafka.admin import ensure_topics
from tests.harness.eventually import eventually
from tests.harness.process import alive, fetch
from tests.harness.system import RunningSystem, SystemFactory

GONE_SECONDS_MAX = 30.0


async def test_the_ready_file_has_all_addresses(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    ready = running.ready
    # From some number of cores on, publishing is a process of its own.
    assert set(ready) - {"publisher"} == {"api", "worker", "kafka", "redis", "app_id", "topics", "pids"}
    assert set(ready["pids"]) - {"publisher"} == {"api", "worker", "kafka", "redis"}
    assert ready["topics"]["orders"] == "stocktide-orders"
    for part in ("api", "worker"):
        assert (await fetch(f"{ready[part]}/readyz"))[0] == 200


async def test_each_part_that_is_killed_comes_back_at_its_address(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    before = running.ready
    for name in ("worker", "api", "kafka"):
        await running.restart_part(name)
    after = running.ready
    assert {key: after[key] for key in after if key != "pids"} == {key: before[key] for key in before if key != "pids"}
    assert (await fetch(f"{after['api']}/healthz"))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_and_leaves_no_process(system: SystemFactory, number: signal.Signals) -> None:
    running = await system()
    parts = running.parts()
    assert await running.stop(number) == 0
    await eventually(lambda: not alive(parts), GONE_SECONDS_MAX)
    assert not running.ready_file.exists()


async def test_a_signal_during_the_start_stops_what_was_started(system: SystemFactory) -> None:
    running = await system(own_servers=True, wait=False)
    await eventually(lambda: bool(running.children()))
    children = running.children()
    assert await running.stop() == 0
    await eventually(lambda: not alive(children))


async def test_after_a_kill_nothing_is_left_and_the_same_data_serve_again(system: SystemFactory) -> None:
    first = await system(own_servers=True)
    parts = first.parts()
    addresses = {key: first.ready[key] for key in ("kafka", "redis")}
    await first.stop(signal.SIGKILL)
    await eventually(lambda: not alive(parts), GONE_SECONDS_MAX)
    again = await system(own_servers=True)
    assert {key: again.ready[key] for key in ("kafka", "redis")} == addresses


async def test_a_second_start_on_the_same_data_is_refused(system: SystemFactory) -> None:
    first = await system()
    second: RunningSystem = await system(data=first.data, wait=False)
    # Both have the same ready file, which the second must not change.
    assert await second.wait(GONE_SECONDS_MAX) == 1
    assert f"another `stocktide up` (process {first.pid}) runs on {first.data}" in second.output
    assert json.loads(first.ready_file.read_text())["pids"]["api"] == first.part_pid("api")


async def test_topics_with_other_partitions_are_reported(
    system: SystemFactory, kafka: EmbeddedKafka, app_id: str
) -> None:
    await ensure_topics(kafka.address, app_id, partitions=2)
    running = await system(wait=False)
    assert await running.wait(GONE_SECONDS_MAX) == 1
    assert f"topic {app_id}-orders has 2 partitions and the settings say 4" in running.output
    assert "Traceback" not in running.output
    assert not running.ready_file.exists()
