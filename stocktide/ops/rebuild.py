"""`stocktide rebuild`: rebuilds Redis from the log, with `--check` into a second, unused Redis.

In: settings. Out: a Redis with the state of the log, the digests of both, and an exit status: 1 where they differ. A
running worker also rebuilds an empty Redis; if it is faster, this command watches it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import click
from redis.asyncio import Redis

from stocktide.discovery import same_redis
from stocktide.errors import CommandError
from stocktide.ops.progress_bars import ProgressBars
from stocktide.ops.stalled import StallWatchdog
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms
from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.record import JournalReader, Position, RecordVerdict
from stocktide.streams.topics import JOURNAL
from stocktide.tables.audit.digest import KINDS, Digest
from stocktide.tables.audit.findings import summarize_log
from stocktide.tables.audit.fold import JournalFold
from stocktide.tables.audit.journal_follower import JournalFollower, find_start
from stocktide.tables.audit.redis_keys import digest_of_redis
from stocktide.tables.derived_rows import DerivedTopics
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.recovery.journal_scan import follow, newest_position_in
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery
from stocktide.tables.recovery.takeover import Superseded, take_over
from stocktide.wait_for_servers import wait_for_kafka, wait_for_redis

# Interval of the polls while a worker rebuilds Redis.
_WATCH_SECONDS = 0.5
# The digest is taken again if the batch advanced meanwhile.
_DIGEST_TRIES_MAX = 5


class RebuildRefused(CommandError):
    """Nothing was done; the message says why."""


def run(settings: Settings, check_url: str | None, force: bool) -> int:
    """Rebuild a Redis and compare the digests; the exit status. `check_url`: the Redis of a drill, instead of the one
    in use. `force`: discard what it holds of this app. Raises RebuildRefused, and what the servers raise."""
    return asyncio.run(_rebuild(settings, force) if check_url is None else _check(settings, check_url, force))


async def _rebuild(settings: Settings, force: bool) -> int:
    async with _servers(settings, settings.redis) as (redis, log, source):
        batch = await _head(redis, settings.app_id)
        if batch and not force:
            raise RebuildRefused(
                f"Redis holds batch {batch} of {settings.app_id}: a rebuild would forget it first. Look with "
                f"`stocktide audit`; with --force it is rebuilt all the same"
            )
        owner = f"rebuild-{os.getpid()}-{secrets.token_hex(4)}"
        began = time.monotonic()
        with ProgressBars("rebuild", lines=True) as bars:
            watchdog = bars.watchdog
            try:
                handover = LedgerControl(redis, settings.app_id)
                work = take_over(log, handover, owner, source, report=_reporter(bars), anew=bool(batch))
                await watchdog.run("Kafka and Redis", work)
            except Superseded:
                click.echo("a worker brings Redis back; watching it")
                await watchdog.run("a worker that brings Redis back", _watch(redis, settings.app_id, watchdog))
        rate = await _rate(redis, time.monotonic() - began)
        click.echo(f"Redis is back at batch {await _head(redis, settings.app_id)}: {rate}")
        return await _compare(settings, redis, log, source)


async def _check(settings: Settings, url: str, force: bool) -> int:
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
            raise RebuildRefused(f"another process uses the Redis of the drill: {seen.reason}")
        end = await StallWatchdog("rebuild --check").run("the journal's end", _end_of(log, source))
        with ProgressBars("rebuild --check", lines=True) as bars:
            recovery = Recovery(log, handover, term, seen, LedgerLimits(), _reporter(bars))
            await bars.watchdog.run("Kafka and the Redis of the drill", recovery.rebuild(end, source))
        click.echo(f"rebuilt up to batch {end.batch}: {await _rate(redis, time.monotonic() - began)}")
        return await _compare(settings, redis, log, source)


async def _compare(settings: Settings, redis: Redis, log: KafkaLog, source: DerivedTopics) -> int:
    """Print both digests and whether they are equal; the exit status."""
    found = await _digests(settings, redis, log, source)
    if found is None:
        click.echo(
            "the digests were not compared: orders come in meanwhile. `stocktide audit` compares beside live traffic"
        )
        return 0
    batch, of_log, of_redis = found
    click.echo(f"{'as of batch ' + str(batch):24} {'keys':>10}  digest")
    for name, digest in (("log", of_log), ("Redis", of_redis)):
        click.echo(f"{name:24} {digest.keys:>10}  {digest.hex()}")
    if of_log == of_redis:
        click.echo("equal")
        return 0
    for kind in KINDS:
        if of_log.hex(kind) != of_redis.hex(kind):
            counts = (of_log.by_kind()[kind]["keys"], of_redis.by_kind()[kind]["keys"])
            click.echo(f"DIFFERENT: {kind}: the log has {counts[0]}, Redis {counts[1]}; `stocktide audit` names them")
    return 1


async def _digests(
    settings: Settings, redis: Redis, log: KafkaLog, source: DerivedTopics
) -> tuple[int, Digest, Digest] | None:
    """A batch, and the digests of the log and of Redis as of it; None where Redis moves on each time."""
    watchdog = StallWatchdog("rebuild")
    for _ in range(_DIGEST_TRIES_MAX):
        as_of_ms = now_ms()
        batch = await _head(redis, settings.app_id)
        report = partial(watchdog.report, "keys", total=0)
        found = await watchdog.run("Redis's digest", digest_of_redis(redis, settings.app_id, report, as_of_ms=as_of_ms))
        if await _head(redis, settings.app_id) == batch:
            of_log = _digest_of_log(log, source, batch, as_of_ms, watchdog)
            return batch, await watchdog.run("the log's digest", of_log), found
    return None


async def _digest_of_log(
    log: KafkaLog, source: DerivedTopics, batch: int, as_of_ms: int, watchdog: StallWatchdog
) -> Digest:
    start = await find_start(log, await source.checkpoints())
    fold = JournalFold(LedgerLimits(), as_of_ms, start.batch)
    if start.batch:
        async for chunk in source.rows(report=partial(watchdog.report, "rows")):
            fold.add_rows(chunk)
    await JournalFollower(log, fold, start, watchdog.report).advance(batch)
    return (await summarize_log(fold))[0]


async def _end_of(log: KafkaLog, source: DerivedTopics) -> Position:
    """The position after the last valid batch."""
    beginning, end = await log.bounds()
    positions = (await source.checkpoints()).all() if end > beginning else ()
    reader = JournalReader(await newest_position_in(log, positions))
    last = reader.position
    async for verdict, _ in follow(log, reader, end):
        if verdict is RecordVerdict.BATCH:
            last = reader.position
    return last


async def _watch(redis: Redis, app_id: str, watchdog: StallWatchdog) -> None:
    """Return once a takeover has blessed Redis."""
    while await redis.hget(key_prefix(app_id) + "blessed", "run_id") in (None, b"none"):
        watchdog.report("keys", await redis.dbsize(), 0)
        watchdog.report("batch", await _head(redis, app_id), 0)
        await asyncio.sleep(_WATCH_SECONDS)


def _reporter(bars: ProgressBars) -> ProgressReporter:
    return ProgressReporter(lambda progress: bars.report(progress.phase, progress.done, progress.total))


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
