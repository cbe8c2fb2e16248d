"""A kill of Redis under load that loses its newest writes: the duration of the recovery, and the lost orders.

In: a shop with traffic. Out: seconds from the first response of Redis to blessed, and the batches that were redone.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import deque
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.servers import BenchServers, StocktideProcess
from bench.size.report import SizeReport
from bench.size.seeding import PREFIX
from bench.size.traffic import OrderTraffic
from stocktide.tables.ledger.connection import connect

# The loss of `everysec`.
TAIL_SECONDS = 2.0
# Orders arrive before the kill, so that the tail holds batches, and afterwards.
BEFORE_SECONDS, AFTER_SECONDS = 8.0, 4.0
WATCH_SECONDS = 0.02
POLL_SECONDS = 0.005
# A slower recovery is a failure, not a measurement.
BLESSED_SECONDS_MAX = 1_800.0
REDO_SECONDS_MAX = 10.0

_REDO = re.compile(r"Redis came back with batch (\d+), the journal holds (\d+): redo")
_BLESSED = re.compile(r"blessed: term \d+")


class RecoveryDurations(Struct, frozen=True):
    """Seconds from the start of Redis to its first response; from then until it was blessed. `answered_at`: the time of
    the first response (monotonic clock)."""

    load_seconds: float
    blessed_seconds: float
    answered_at: float


class AppendOnlyFile:
    """Records the growth of the file, so that a cut loses the writes of some seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "appendonlydir"
        # Longer than the tail.
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS / WATCH_SECONDS))

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            path = self._newest()
            self._sizes.append((time.monotonic(), path, path.stat().st_size))
            await asyncio.sleep(WATCH_SECONDS)

    def cut(self, killed_at: float) -> tuple[int, float]:
        """Cut off the writes of the last seconds before `killed_at`; their bytes and seconds."""
        path = self._newest()
        known = [(at, size) for at, its_path, size in self._sizes if its_path == path]
        # The oldest size within the tail: no older byte is lost.
        sizes = ((at, size) for at, size in known if at >= killed_at - TAIL_SECONDS)
        at, size = next(sizes, (killed_at, path.stat().st_size))
        lost = path.stat().st_size - size
        os.truncate(path, size)
        return lost, killed_at - at

    def _newest(self) -> Path:
        manifest = next(self._folder.glob("*.manifest")).read_text().splitlines()
        names = [line.split()[1] for line in manifest if line.endswith(" type i")]
        return self._folder / names[-1]


async def restart_redis(servers: BenchServers) -> RecoveryDurations:
    """Start a killed Valkey, and wait until it is blessed."""
    began = time.monotonic()
    starting = asyncio.create_task(servers.valkey.start())
    redis = connect(servers.valkey.url)
    try:
        while not await _answers(redis):
            if starting.done():
                await starting  # raises if it did not start
            await asyncio.sleep(POLL_SECONDS)
        answered = time.monotonic()
        await wait_until_blessed(redis)
        done = time.monotonic()
        await starting
        return RecoveryDurations(answered - began, done - answered, answered)
    finally:
        await redis.aclose()


async def wait_until_blessed(redis: Redis) -> None:
    """Wait until this run of the server is blessed. Raises TimeoutError."""
    run_id = str((await redis.info("server"))["run_id"]).encode()
    deadline = time.monotonic() + BLESSED_SECONDS_MAX
    while time.monotonic() < deadline:
        if await redis.hget(PREFIX + "blessed", "run_id") == run_id:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise TimeoutError(f"Redis was not blessed within {BLESSED_SECONDS_MAX:.0f} s: see the worker's log")


async def _answers(redis: Redis) -> bool:
    try:
        return bool(await redis.ping())
    except (RedisError, OSError):
        return False


def parse_recovery_log(text: str) -> dict[str, Any]:
    """The recoveries in a worker's log."""
    redone = [int(there) - int(here) for here, there in _REDO.findall(text)]
    return {"batches_redone": sum(redone), "redos": len(redone), "takeovers": len(_BLESSED.findall(text))}


async def lose_tail(
    servers: BenchServers, worker: StocktideProcess, traffic: OrderTraffic, report: SizeReport
) -> dict[str, Any]:
    """Kill Redis, cut its file, restart it and wait, under load. Figures."""
    file = AppendOnlyFile(servers.valkey.folder)
    watching = asyncio.create_task(file.watch())
    await asyncio.sleep(BEFORE_SECONDS)
    offset = worker.log.stat().st_size
    killed_at = time.monotonic()
    servers.valkey.kill()
    await servers.valkey.wait()
    watching.cancel()
    lost, seconds = file.cut(killed_at)
    report.log(f"redo: Valkey killed, {lost:,} bytes of its file cut off, {seconds:.2f} s of writes; starting it")
    found = await restart_redis(servers)
    report.log(f"redo: it loaded for {found.load_seconds:.1f} s and was blessed {found.blessed_seconds:.2f} s later")
    await asyncio.sleep(AFTER_SECONDS)
    figures = parse_recovery_log(worker.log_since(offset))
    figures["first_told_seconds"], figures["longest_pause_seconds"] = traffic.silence(found.answered_at)
    return {"cut_bytes": lost, "cut_seconds": seconds, "load_seconds": found.load_seconds,
            "blessed_seconds": found.blessed_seconds, **figures}  # fmt: skip


def report_redos(report: SizeReport, found: list[dict[str, Any]]) -> None:
    """Rows of several outages; the worst of them counts."""

    def each(name: str, form: str = ".2f") -> str:
        return ", ".join(format(one[name], form) for one in found)

    worst = max(one["blessed_seconds"] for one in found)
    report.add(
        "redo, from Redis's first answer to blessed",
        f"{each('blessed_seconds')} s; {each('batches_redone', ',')} batches of the last "
        f"{each('cut_seconds', '.1f')} s, after {each('load_seconds', '.1f')} s of loading",
        goal="<= 10 s",
        met=worst <= REDO_SECONDS_MAX and all(one["redos"] for one in found),
        figures={"runs": found},
    )
    report.add(
        "redo, from Redis's first answer to the first response",
        f"{each('first_told_seconds')} s; longest pause after that {each('longest_pause_seconds')} s; "
        f"takeovers {each('takeovers', 'd')}; longest latency {each('longest_answer_seconds', '.1f')} s",
    )
    report.add(
        "redo, orders lost",
        f"{sum(one['lost'] for one in found)} of {sum(one['told'] for one in found):,} answered by HTTP "
        f"and {sum(one['by_kafka'] for one in found):,} sent by Kafka",
    )
