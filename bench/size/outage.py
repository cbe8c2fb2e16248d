"""Redis dies under orders and comes back without its newest writes: how long until it decides again, and what is lost.

In: a shop with traffic. Out: seconds from the moment Redis answers to blessed, the batches that were redone, the orders
that were told and are gone (none may be).
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

from bench.size.report import SizeReport
from bench.size.stage import PREFIX, SizeServers, StocktideProcess
from bench.size.traffic import OrderTraffic
from stocktide.tables.ledger.connection import connect

# What `everysec` may lose and no more (design, section 9).
TAIL_SECONDS = 2.0
# Orders go in before the kill, so that the tail is a busy one, and go on afterwards.
BEFORE_SECONDS, AFTER_SECONDS = 8.0, 4.0
WATCH_SECONDS = 0.02
POLL_SECONDS = 0.005
# A recovery that takes longer is not measured but broken.
BLESSED_SECONDS_MAX = 1_800.0

_REDO = re.compile(r"Redis came back with batch (\d+), the journal holds (\d+): redo")
_BLESSED = re.compile(r"blessed: term \d+")


class RecoveryDurations(Struct, frozen=True):
    """How Redis came back, seconds: until it answered after it was started; from then until it was blessed.
    `answered_at`: by the monotonic clock."""

    load_seconds: float
    blessed_seconds: float
    answered_at: float


class AppendOnlyFile:
    """Watches how the file grows, so that a cut loses so many seconds of writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "appendonlydir"
        # More than the seconds that are ever cut off.
        self._sizes: deque[tuple[float, Path, int]] = deque(maxlen=int(2 * TAIL_SECONDS / WATCH_SECONDS))

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            path = self._newest()
            self._sizes.append((time.monotonic(), path, path.stat().st_size))
            await asyncio.sleep(WATCH_SECONDS)

    def cut(self, killed_at: float) -> tuple[int, float]:
        """Cut off what was written in the last seconds before `killed_at`; how many bytes, and seconds."""
        path = self._newest()
        known = [(at, size) for at, its_path, size in self._sizes if its_path == path]
        # The oldest look within the seconds: not a byte that is older is lost.
        looks = ((at, size) for at, size in known if at >= killed_at - TAIL_SECONDS)
        at, size = next(looks, (killed_at, path.stat().st_size))
        lost = path.stat().st_size - size
        os.truncate(path, size)
        return lost, killed_at - at

    def _newest(self) -> Path:
        manifest = next(self._folder.glob("*.manifest")).read_text().splitlines()
        names = [line.split()[1] for line in manifest if line.endswith(" type i")]
        return self._folder / names[-1]


async def restart_redis(stage: SizeServers) -> RecoveryDurations:
    """Start a Valkey that was killed, and wait until it is blessed."""
    began = time.monotonic()
    starting = asyncio.create_task(stage.valkey.start())
    redis = connect(stage.valkey.url)
    try:
        while not await _answers(redis):
            if starting.done():
                await starting  # says why it did not start
            await asyncio.sleep(POLL_SECONDS)
        answered = time.monotonic()
        await wait_until_blessed(redis)
        done = time.monotonic()
        await starting
        return RecoveryDurations(answered - began, done - answered, answered)
    finally:
        await redis.aclose()


async def wait_until_blessed(redis: Redis) -> None:
    """Return once this very server was blessed. Raises TimeoutError."""
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
    """What a worker's log says of recoveries."""
    redone = [int(there) - int(here) for here, there in _REDO.findall(text)]
    return {"batches_redone": sum(redone), "redos": len(redone), "takeovers": len(_BLESSED.findall(text))}


async def lose_tail(
    stage: SizeServers, worker: StocktideProcess, traffic: OrderTraffic, notes: SizeReport
) -> dict[str, Any]:
    """Kill, cut, start, wait; while orders go in. Figures."""
    file = AppendOnlyFile(stage.valkey.folder)
    watching = asyncio.create_task(file.watch())
    await asyncio.sleep(BEFORE_SECONDS)
    offset = worker.log.stat().st_size
    killed_at = time.monotonic()
    stage.valkey.kill()
    await stage.valkey.wait()
    watching.cancel()
    lost, seconds = file.cut(killed_at)
    notes.say(f"redo: Valkey killed, {lost:,} bytes of its file cut off, {seconds:.2f} s of writes; starting it")
    back = await restart_redis(stage)
    notes.say(f"redo: it loaded for {back.load_seconds:.1f} s and was blessed {back.blessed_seconds:.2f} s later")
    await asyncio.sleep(AFTER_SECONDS)
    told = parse_recovery_log(worker.log_since(offset))
    told["first_told_seconds"], told["longest_pause_seconds"] = traffic.silence(back.answered_at)
    return {"cut_bytes": lost, "cut_seconds": seconds, "load_seconds": back.load_seconds,
            "blessed_seconds": back.blessed_seconds, **told}  # fmt: skip
