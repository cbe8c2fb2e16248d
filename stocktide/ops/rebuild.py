"""`stocktide rebuild`: Redis from the log, and `--check`, the same into a second Redis that nobody uses.

In: settings. Out: a Redis that holds what the log says, the digests of both, and an exit status: 1 where they differ.
Where workers run, one of them may be faster: it notices an empty Redis by itself, and then this command watches it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import rich.progress
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from stocktide.discovery import same_redis
from stocktide.errors import CommandError
from stocktide.ops.stalled import StallWatchdog
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.record import JournalReader, Position, RecordVerdict
from stocktide.streams.topics import JOURNAL
from stocktide.tables.audit.digest import EXPIRY_MARGIN_MS, KINDS, Digest, digest_of_redis, kept_until, kind_of
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import JournalFollower, find_start
from stocktide.tables.derived_rows import DerivedTopics
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl, StepRefused
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.recovery.journal_scan import follow, newest_position_in
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery, RecoveryProgress
from stocktide.tables.recovery.takeover import Superseded, take_over
from stocktide.wait_for_servers import wait_for_kafka, wait_for_redis

# A worker that brings Redis back tells nobody here how far it is; Redis is asked so often.
_WATCH_SECONDS = 0.5
# A digest beside live traffic is of no state at all: it is taken again while the batch moves meanwhile.
_DIGEST_TRIES_MAX = 5

Say = Callable[[str], None]


class RebuildRefused(CommandError):
    """Nothing was done; the message says why."""


@dataclass(frozen=True, slots=True)
class DigestPair:
    """The two digests that have to be equal, and as of which batch."""

    batch: int
    log: Digest
    redis: Digest


def run(settings: Settings, say: Say, *, force: bool) -> int:
    """Rebuild the Redis of the settings. Raises RebuildRefused, and what the servers raise."""
    return asyncio.run(_rebuild(settings, say, force))


def check(settings: Settings, say: Say, *, url: str, force: bool) -> int:
    """Rebuild into the Redis at `url`, and compare; nothing else is touched. Raises RebuildRefused."""
    return asyncio.run(_check(settings, say, url, force))


async def _rebuild(settings: Settings, say: Say, force: bool) -> int:
    async with _servers(settings, settings.redis) as (redis, log, source):
        batch = await _head(redis, settings.app_id)
        if batch and not force:
            raise RebuildRefused(
                f"Redis holds batch {batch} of {settings.app_id}: a rebuild would forget it first. Look with "
                f"`stocktide audit`; with --force it is rebuilt all the same"
            )
        owner = f"rebuild-{os.getpid()}-{secrets.token_hex(4)}"
        began, patience = time.monotonic(), StallWatchdog("rebuild")
        with _Bar() as bar:
            try:
                handover, report = LedgerControl(redis, settings.app_id), _watched(bar, patience)
                work = take_over(log, handover, owner, source, report=report, anew=bool(batch))
                await patience.of("Kafka and Redis", work)
            except Superseded:
                say("a worker brings Redis back; watching it")
                await patience.of("a worker that brings Redis back", _watch(redis, settings.app_id, patience))
        rate = await _rate(redis, time.monotonic() - began)
        say(f"Redis is back at batch {await _head(redis, settings.app_id)}: {rate}")
        return await _compare(settings, say, redis, log, source)


async def _check(settings: Settings, say: Say, url: str, force: bool) -> int:
    if same_redis(url, settings.redis):
        raise RebuildRefused("--redis is the Redis that is in use: a drill needs another one")
    async with _servers(settings, url) as (redis, log, source):
        if not force and (batch := await _head(redis, settings.app_id)):
            raise RebuildRefused(
                f"the Redis of the drill holds batch {batch} of {settings.app_id}: empty it, or use --force"
            )
        handover, began = LedgerControl(redis, settings.app_id), time.monotonic()
        seen = await handover.unbless(term := await handover.term() + 1)
        if isinstance(seen, StepRefused):
            raise RebuildRefused(f"somebody else is at work on the Redis of the drill: {seen.reason}")
        end = await StallWatchdog("rebuild --check").of("the journal's end", _end_of(log, source))
        with _Bar() as bar:
            patience = StallWatchdog("rebuild --check")
            recovery = Recovery(log, handover, term, seen, LedgerLimits(), _watched(bar, patience))
            await patience.of("Kafka and the Redis of the drill", recovery.rebuild(end, source))
        say(f"rebuilt up to batch {end.batch}: {await _rate(redis, time.monotonic() - began)}")
        return await _compare(settings, say, redis, log, source)


async def _compare(settings: Settings, say: Say, redis: Redis, log: KafkaLog, source: DerivedTopics) -> int:
    """Say both digests, and whether they are equal: the exit status."""
    sides = await _digests(settings, redis, log, source)
    if sides is None:
        say("the digests were not compared: orders come in meanwhile. `stocktide audit` compares beside live traffic")
        return 0
    say(f"{'as of batch ' + str(sides.batch):24} {'keys':>10}  digest")
    for name, digest in (("log", sides.log), ("Redis", sides.redis)):
        say(f"{name:24} {digest.keys:>10}  {digest.hex()}")
    if sides.log == sides.redis:
        say("equal")
        return 0
    for kind in KINDS:
        if sides.log.hex(kind) != sides.redis.hex(kind):
            counts = (sides.log.by_kind()[kind]["keys"], sides.redis.by_kind()[kind]["keys"])
            say(f"DIFFERENT: {kind}: the log has {counts[0]}, Redis {counts[1]}; `stocktide audit` names them")
    return 1


async def _digests(settings: Settings, redis: Redis, log: KafkaLog, source: DerivedTopics) -> DigestPair | None:
    patience = StallWatchdog("rebuild")
    for _ in range(_DIGEST_TRIES_MAX):
        as_of_ms = now_ms()
        batch = await _head(redis, settings.app_id)
        told = partial(patience.moved, "keys", total=0)
        found = await patience.of("Redis's digest", digest_of_redis(redis, settings.app_id, told, as_of_ms=as_of_ms))
        if await _head(redis, settings.app_id) == batch:
            of_log = _digest_of_log(log, source, batch, as_of_ms, patience)
            return DigestPair(batch, await patience.of("the log's digest", of_log), found)
    return None


async def _digest_of_log(
    log: KafkaLog, source: DerivedTopics, batch: int, as_of_ms: int, patience: StallWatchdog
) -> Digest:
    limits, checkpoints = LedgerLimits(), await source.checkpoints()
    start = await find_start(log, checkpoints)
    fold = JournalFold(limits, as_of_ms, start.batch)
    if start.batch:
        async for chunk in source.rows(report=partial(patience.moved, "rows")):
            fold.add_rows(chunk)
    await JournalFollower(log, fold, start, patience.moved).advance(batch)
    digest = Digest()
    for kind in ("sku", "order", "movement", "registry"):
        for key, record in fold.records(kind):
            if kept_until(record, limits) > as_of_ms + EXPIRY_MARGIN_MS:
                digest.add(kind_of(record), key, record)
    return digest


async def _end_of(log: KafkaLog, source: DerivedTopics) -> Position:
    """The position after the last batch that counts by now."""
    beginning, end = await log.bounds()
    positions = (await source.checkpoints()).all() if end > beginning else ()
    reader = JournalReader(await newest_position_in(log, positions))
    last = reader.position
    async for verdict, _ in follow(log, reader, end):
        if verdict is RecordVerdict.BATCH:
            last = reader.position
    return last


async def _watch(redis: Redis, app_id: str, patience: StallWatchdog) -> None:
    """Return once a takeover has blessed Redis."""
    while await redis.hget(key_prefix(app_id) + "blessed", "run_id") in (None, b"none"):
        patience.moved("keys", await redis.dbsize(), 0)
        patience.moved("batch", await _head(redis, app_id), 0)
        await asyncio.sleep(_WATCH_SECONDS)


def _watched(bar: _Bar, patience: StallWatchdog) -> ProgressReporter:
    """How far a recovery is, for the bar and for our patience."""

    def tell(progress: RecoveryProgress) -> None:
        patience.moved(progress.phase, progress.done, progress.total)
        bar.tell(progress)

    return ProgressReporter(tell)


async def _rate(redis: Redis, seconds: float) -> str:
    keys = await redis.dbsize()
    return f"{keys:,} keys in {seconds:.1f} s, {keys / max(seconds, 0.001):,.0f} a second"


async def _head(redis: Redis, app_id: str) -> int:
    return int(await redis.hget(key_prefix(app_id) + "head", "batch") or 0)


@asynccontextmanager
async def _servers(settings: Settings, url: str) -> AsyncIterator[tuple[Redis, KafkaLog, DerivedTopics]]:
    access, redis_access = settings.kafka_access(), settings.redis_access() if url == settings.redis else {}
    advice = None if url == settings.redis else "it is the Redis of the drill, which --redis names"
    await asyncio.gather(wait_for_kafka(settings.kafka, **access), wait_for_redis(url, advice=advice, **redis_access))
    redis = connect(url, **redis_access)
    log = KafkaLog(settings.kafka, JOURNAL.full_name(settings.app_id), **access)
    try:
        yield redis, log, DerivedTopics(settings.kafka, settings.app_id, **access)
    finally:
        await log.close()
        await redis.aclose()


class _Bar:
    """A bar on the terminal, one line a phase; a line now and then where there is no terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = Console(stderr=True)
        self._bar = rich.progress.Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, progress: RecoveryProgress) -> None:
        """Called now and then."""
        if not self._console.is_terminal:
            self._console.print(f"{progress.phase}: {progress.done:,} of {progress.total or '?'}")
            return
        if progress.phase not in self._tasks:
            self._tasks[progress.phase] = self._bar.add_task(progress.phase)
        self._bar.update(self._tasks[progress.phase], completed=progress.done, total=progress.total or None)
