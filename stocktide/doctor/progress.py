"""The doctor's examination of the processes and of their progress (rule 48).

In: the settings. Out: findings. It reads `/readyz` of the processes, and polls Redis and Kafka until every backlog has
moved or has stood still for STALL_SECONDS: an idle system costs one poll, a stalled one ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.doctor.finding import Finding, good, note, wrong
from stocktide.doctor.kafka import REACH_SECONDS_MAX
from stocktide.errors import ServerUnreachable
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import REQUEST_MS_MAX, admin_client
from stocktide.streams.topics import STOCK
from stocktide.tables.settlement.backlog import read_groups, read_shard, with_decisions
from stocktide.tables.settlement.stalls import STALL_SECONDS, PartStatus, Stall, StallDetector
from stocktide.up.run_file import ReadyFile, find_running_systems
from stocktide.wait_for_servers import ANSWER_SECONDS_MAX, wait_for_kafka, wait_for_redis

# A process that needs longer for /readyz is halted or overloaded.
READY_SECONDS_MAX = 5.0
POLL_SECONDS = 1.0
# All polls together; each asks servers that may be slow.
EXAMINE_SECONDS_MAX = 3 * STALL_SECONDS
_FETCH_MS = 3_000


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process's answer to /readyz. `status`: 0 without an answer, None without a listener. `expected`: a running
    `stocktide up` lists it."""

    name: str
    url: str
    expected: bool
    status: int | None
    reasons: tuple[str, ...] = ()


async def examine_processes(settings: Settings) -> list[Finding]:
    """Read /readyz of the processes of the system that the settings point at."""
    running = next((each.ready for each in find_running_systems() if _is_meant(each.ready, settings)), None)
    if running is not None:
        places = [("the API", running.api, True), ("the worker", running.worker, True)]
        if running.publisher:
            places.append(("the worker that publishes", running.publisher, True))
    else:
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
        scheme = "https" if settings.tls_cert else "http"
        places = [("the API", f"{scheme}://{host}:{settings.port}", False)]
        if settings.worker_port:
            places.append(("the worker", f"http://{host}:{settings.worker_port}", False))
    timeout = aiohttp.ClientTimeout(total=READY_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        found = await asyncio.gather(*(_ask(session, *place) for place in places))
    findings = list(judge_processes(found))
    if len(places) == 1:
        findings.append(note("STOCKTIDE_WORKER_PORT is not set, so that no worker was asked whether it is ready"))
    return findings


def _is_meant(ready: ReadyFile, settings: Settings) -> bool:
    return (ready.app_id, ready.kafka, ready.redis) == (settings.app_id, settings.kafka, settings.redis)


async def _ask(session: aiohttp.ClientSession, name: str, url: str, expected: bool) -> ProcessStatus:
    try:
        # On this machine the certificate names another host; nothing is sent that has to be kept.
        async with session.get(f"{url}/readyz", ssl=False) as answer:
            body: Any = await answer.json(content_type=None)
            return ProcessStatus(name, url, expected, answer.status, tuple(_reasons(body)))
    except aiohttp.ClientConnectorError:
        return ProcessStatus(name, url, expected, None)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return ProcessStatus(name, url, expected, 0)


def _reasons(body: Any) -> Iterator[str]:
    """The reasons of a worker (a list) or of an API (by check)."""
    reasons = body.get("reasons") if isinstance(body, dict) else None
    if isinstance(reasons, dict):
        yield from (f"{check}: {reason}" for check, reason in reasons.items())
    elif isinstance(reasons, list):
        yield from map(str, reasons)


def judge_processes(found: Iterable[ProcessStatus]) -> Iterator[Finding]:
    """One finding or more for each process."""
    for process in found:
        where = f"{process.name} at {process.url}"
        if process.status == 200:
            yield good(f"{where} is ready")
        elif process.status is None and process.expected:
            yield wrong(f"{where} is not there, though a running `stocktide up` has it; see its log")
        elif process.status is None:
            yield note(f"{where} is not there, so that it was not asked whether it is ready")
        elif not process.status:
            yield wrong(f"{where} takes connections and does not answer: it is halted or overloaded; see its log")
        elif process.reasons:
            yield from (wrong(f"{where} is not ready: {reason}") for reason in process.reasons)
        else:
            yield wrong(f"{where} is not ready: /readyz answered {process.status} and gave no reason")


async def examine_progress(settings: Settings) -> list[Finding]:
    """Poll Redis and Kafka until every backlog has moved, or one has stood still for STALL_SECONDS."""
    detector = StallDetector(unseen_seconds_max=EXAMINE_SECONDS_MAX)
    stalls: tuple[Stall, ...] = ()
    positions: dict[str, object] = {}
    try:
        await asyncio.gather(
            wait_for_kafka(settings.kafka, REACH_SECONDS_MAX, **settings.kafka_access()),
            wait_for_redis(settings.redis, REACH_SECONDS_MAX, **settings.redis_access()),
        )
    except ServerUnreachable:
        return []  # the examination of that server reports it
    try:
        async with asyncio.timeout(EXAMINE_SECONDS_MAX), _open_reader(settings) as reader:
            while True:
                parts = await reader.read()
                stalls = detector.look(parts)
                waiting = [
                    at for at in parts if at.pending and positions.setdefault(at.part, at.position) == at.position
                ]
                if not waiting or len(stalls) == len(waiting):
                    stalls = tuple([stall for stall in stalls if await reader.has_record(stall)])
                    return list(judge_progress(parts, stalls))
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return [
            wrong(f"whether anything moves could not be told within {EXAMINE_SECONDS_MAX:.0f} s"),
            *_stall_findings(stalls),
        ]
    except (KafkaError, RedisError, OSError) as error:
        return [wrong(f"whether anything moves could not be told: {error}")]


def judge_progress(parts: Sequence[PartStatus], stalls: Sequence[Stall]) -> Iterator[Finding]:
    """Findings, where everything has moved except `stalls`."""
    if stalls:
        yield from _stall_findings(stalls)
        return
    waiting = {at.part: at.pending for at in parts if at.pending}
    yield good(
        "what waits moves: " + ", ".join(f"{part} {count:,}" for part, count in waiting.items())
        if waiting
        else "nothing waits: all that was decided is in the journal, and all that was sent was read"
    )


def _stall_findings(stalls: Iterable[Stall]) -> Iterator[Finding]:
    for stall in stalls:
        # A row of `stock` may wait for a policy's interval, which only the worker knows.
        finding = note if stall.part.startswith(STOCK.name) else wrong
        yield finding(stall.sentence)


@asynccontextmanager
async def _open_reader(settings: Settings) -> AsyncIterator[_ProgressReader]:
    async with AsyncExitStack() as stack:
        client = redis.asyncio.Redis.from_url(
            settings.redis, **settings.redis_access(), socket_timeout=ANSWER_SECONDS_MAX, decode_responses=True
        )
        stack.push_async_callback(client.aclose)
        consumer = AIOKafkaConsumer(
            **settings.kafka_client(), enable_auto_commit=False, request_timeout_ms=REQUEST_MS_MAX
        )
        stack.push_async_callback(consumer.stop)  # also after a start that failed
        await consumer.start()
        admin = await stack.enter_async_context(admin_client(settings.kafka, **settings.kafka_access()))
        yield _ProgressReader(settings.app_id, client, consumer, admin)


class _ProgressReader:
    """Reads the progress from Redis and Kafka."""

    def __init__(
        self, app_id: str, client: redis.asyncio.Redis, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient
    ) -> None:
        self._app_id = app_id
        self._redis = client
        self._consumer = consumer
        self._admin = admin

    async def read(self) -> list[PartStatus]:
        """The status of every part. Raises KafkaError and RedisError."""
        shard = await read_shard(self._redis, self._app_id)
        groups = await read_groups(self._admin, self._consumer, self._app_id)
        return [shard.settling, *with_decisions(groups, shard)]

    async def has_record(self, stall: Stall) -> bool:
        """Whether there is a record at the reader's offset, and not only a transaction marker."""
        at = stall.status
        if at.part == "settling" or at.offset is None:
            return True
        partition = TopicPartition(at.topic, at.partition)
        self._consumer.assign([partition])
        self._consumer.seek(partition, at.offset)
        found = await self._consumer.getmany(partition, timeout_ms=_FETCH_MS, max_records=1)
        return bool(found.get(partition)) or await self._consumer.position(partition) == at.offset
