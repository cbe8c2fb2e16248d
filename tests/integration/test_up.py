"""`stocktide up`, the real thing: what dies comes back, what is stopped leaves nothing, what stays continues."""

from __future__ import annotations

import asyncio
import json
import signal

import aiohttp
import psutil
import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import ensure_topics
from tests.harness.system import RunningSystem, SystemFactory

pytestmark = pytest.mark.integration

GONE_SECONDS_MAX = 30.0


async def gone(pids: list[int]) -> bool:
    """Whether all of these processes end soon."""

    async def none_left() -> bool:
        return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)

    return await poll_until(none_left, GONE_SECONDS_MAX)


async def status_of(url: str) -> int:
    """The status of a GET."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


async def test_the_ready_file_tells_where_everything_is(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    ready = running.ready
    assert set(ready) == {"api", "worker", "kafka", "redis", "app_id", "topics", "pids"}
    assert set(ready["pids"]) == {"api", "worker", "kafka", "redis"}
    assert ready["topics"]["orders"] == "stocktide-orders"
    assert await status_of(f"{ready['api']}/readyz") == 200
    assert await status_of(f"{ready['worker']}/readyz") == 200


async def test_each_part_that_is_killed_comes_back_at_its_address(system: SystemFactory) -> None:
    running = await system(own_servers=True)
    before = running.ready
    for name in ("worker", "api", "kafka"):
        old = running.kill(name)
        await running.comes_back(name, old)
    after = running.ready
    assert {key: after[key] for key in after if key != "pids"} == {key: before[key] for key in before if key != "pids"}
    assert await status_of(f"{after['api']}/healthz") == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_everything_and_leaves_no_process(system: SystemFactory, number: signal.Signals) -> None:
    running = await system()
    pids = list(running.ready["pids"].values())
    assert await running.stop(number) == 0
    assert await gone(pids)
    assert not running.ready_file.exists()


async def test_a_signal_during_the_start_stops_what_was_started(system: SystemFactory) -> None:
    running = await system(own_servers=True, wait=False)

    async def children() -> bool:
        return bool(psutil.Process(running.process.pid).children(recursive=True))

    assert await poll_until(children, GONE_SECONDS_MAX)
    pids = [child.pid for child in psutil.Process(running.process.pid).children(recursive=True)]
    assert await running.stop() == 0
    assert await gone(pids)


async def test_after_a_kill_nothing_is_left_and_the_same_data_serve_again(system: SystemFactory) -> None:
    first = await system(own_servers=True)
    pids = list(first.ready["pids"].values())
    addresses = {key: first.ready[key] for key in ("kafka", "redis")}
    await first.stop(signal.SIGKILL)
    assert await gone(pids)
    again = await system(own_servers=True)
    assert {key: again.ready[key] for key in ("kafka", "redis")} == addresses


async def test_a_second_start_on_the_same_data_is_refused(system: SystemFactory) -> None:
    first = await system()
    second: RunningSystem = await system(data=first.data, wait=False)
    # It shares the ready file's path with the first, which it must not touch.
    assert await asyncio.wait_for(second.process.wait(), GONE_SECONDS_MAX) == 1
    await second.stop()
    assert f"another `stocktide up` (process {first.process.pid}) runs on {first.data}" in second.printed
    assert json.loads(first.ready_file.read_text())["pids"]["api"] == first.pid("api")


async def test_topics_with_other_partitions_are_told_and_nothing_is_left(
    system: SystemFactory, kafka: EmbeddedKafka, app_id: str
) -> None:
    await ensure_topics(kafka.address, app_id, partitions=2)
    running = await system(wait=False)
    assert await asyncio.wait_for(running.process.wait(), GONE_SECONDS_MAX) == 1
    await running.stop()
    assert f"topic {app_id}-orders has 2 partitions and the settings say 4" in running.printed
    assert "Traceback" not in running.printed
    assert not running.ready_file.exists()
