"""`stocktide doctor`: shows the settings and looks whether what they point at is there and safe.

In: the settings. Out: findings, each good, worth knowing, or wrong with the reason; wrong ones make exit status 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

import redis.asyncio
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.errors import ServerUnreachable
from stocktide.reach import ANSWER_SECONDS_MAX, hidden_url, reach_kafka, reach_redis
from stocktide.settings import Settings
from streams.admin import SAFE_BROKERS, SAFE_REPLICAS, TopicRow, differing_settings, inspect_topics

REDIS_VERSION_MIN = 7
# The doctor is asked because something may be wrong: it does not wait long for who is not there.
REACH_SECONDS_MAX = 2.0


class Verdict(Enum):
    """How a finding stands; the value is its mark on the console."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    what: str


def run(settings: Settings, say: Callable[[str], None]) -> int:
    """Look at everything; the exit status: 1 if something is wrong."""
    say("settings:")
    for line in shown_settings(settings):
        say(f"  {line}")
    findings = asyncio.run(examine(settings))
    say("findings:")
    for finding in findings:
        say(f"  {finding.verdict.value:<6} {finding.what}")
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    say(f"{wrong} wrong" if wrong else "all is well")
    return 1 if wrong else 0


def shown_settings(settings: Settings) -> Iterator[str]:
    """Each setting as `STOCKTIDE_NAME=value`, secrets hidden."""
    for spec in fields(settings):
        value = str(getattr(settings, spec.name))
        if spec.metadata.get("secret"):
            value = hidden_url(value) if "://" in value else "***" if value else ""
        yield f"STOCKTIDE_{spec.name.upper()}={value}"


async def examine(settings: Settings) -> list[Finding]:
    """Look at Kafka and Redis, both at once."""
    kafka, server = await asyncio.gather(_examine_kafka(settings), _examine_redis(settings))
    return [*kafka, *server]


async def _examine_kafka(settings: Settings) -> list[Finding]:
    try:
        await reach_kafka(settings.kafka, REACH_SECONDS_MAX, **settings.kafka_access())
        brokers, rows = await inspect_topics(settings.kafka, settings.app_id, **settings.kafka_access())
        differences = await differing_settings(settings.kafka, rows, brokers, **settings.kafka_access())
    except (ServerUnreachable, KafkaError) as error:
        return [Finding(Verdict.WRONG, str(error))]
    return [
        Finding(Verdict.GOOD, f"Kafka answers at {settings.kafka}, {brokers} broker(s)"),
        *judge_topics(rows, brokers, settings.partitions),
        *(Finding(Verdict.WRONG, difference) for difference in differences),
    ]


def judge_topics(rows: list[TopicRow], brokers: int, partitions: int) -> Iterator[Finding]:
    """What is to say about the topics on a cluster of that many brokers."""
    missing = [row.full_name for row in rows if not row.exists]
    if missing:
        yield Finding(
            Verdict.WRONG, f"topics are missing, `stocktide topics --create` makes them: {', '.join(missing)}"
        )
    for row in rows:
        wanted = row.topic.partitions or partitions
        if row.exists and row.partitions != wanted:
            yield Finding(Verdict.WRONG, f"topic {row.full_name} has {row.partitions} partitions, not {wanted}")
        if row.exists and brokers >= SAFE_BROKERS and row.replicas < SAFE_REPLICAS:
            yield Finding(
                Verdict.WRONG,
                f"topic {row.full_name} has {row.replicas} replica(s) on {brokers} brokers: "
                "the loss of one broker loses what was promised",
            )
    if brokers < SAFE_BROKERS:
        yield Finding(Verdict.NOTE, f"with {brokers} broker(s) the loss of a disk loses the log; production has 3")
    if not missing:
        yield Finding(Verdict.GOOD, f"all {len(rows)} topics are there")


async def _examine_redis(settings: Settings) -> list[Finding]:
    try:
        await reach_redis(settings.redis, REACH_SECONDS_MAX, **settings.redis_access())
        client = redis.asyncio.Redis.from_url(
            settings.redis, **settings.redis_access(), socket_timeout=ANSWER_SECONDS_MAX, decode_responses=True
        )
        try:
            about: Mapping[str, Any] = await client.info()
            config = await client.config_get("appendonly", "appendfsync", "maxmemory-policy")
        finally:
            await client.aclose()
    except (ServerUnreachable, RedisError, OSError) as error:
        return [Finding(Verdict.WRONG, str(error))]
    return list(judge_redis(about, {str(name): str(value) for name, value in config.items()}))


def judge_redis(about: Mapping[str, Any], config: Mapping[str, str]) -> Iterator[Finding]:
    """What is to say about a server, from its INFO and its CONFIG."""
    name = "Valkey" if "valkey_version" in about else "Redis"
    version = str(about.get("valkey_version") or about.get("redis_version") or "0")
    if int(version.split(".")[0]) < REDIS_VERSION_MIN:
        yield Finding(Verdict.WRONG, f"{name} {version} is too old: {REDIS_VERSION_MIN} or later, for its scripts")
    else:
        yield Finding(Verdict.GOOD, f"{name} {version} answers")
    policy = config.get("maxmemory-policy", "unknown")
    if policy != "noeviction":
        yield Finding(
            Verdict.WRONG, f"maxmemory-policy is {policy}: a key that is evicted is stock that is lost; noeviction"
        )
    if config.get("appendonly") != "yes":
        yield Finding(
            Verdict.WRONG,
            "appendonly is off: a restart forgets everything, and the worker has to rebuild it; appendonly yes",
        )
    elif config.get("appendfsync") == "no":
        yield Finding(
            Verdict.WRONG, "appendfsync is no: a power cut may lose half a minute of it; appendfsync everysec"
        )
    if about.get("role") != "master":
        yield Finding(Verdict.WRONG, f"the server is a {about.get('role')}: only a primary decides")
    if not about.get("maxmemory"):
        yield Finding(Verdict.NOTE, "maxmemory is not set: the system ends the server when memory runs out")
