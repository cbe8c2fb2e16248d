"""Creates the topics of `streams.topics` with their settings, and lists them.

In: a broker's address, the app id, the installation's number of partitions. Out: the status of each topic.
Idempotent, also from several processes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stocktide.errors import StocktideError
from stocktide.streams.topics import JOURNAL, TOPICS, Topic

# From this many brokers on, a topic survives the loss of one without a pause.
SAFE_BROKERS = 3
SAFE_REPLICAS = 3
SAFE_INSYNC_REPLICAS = 2
# An input event is at most 1 MiB; as base64 in a dead letter, or as a row with its record, it grows.
RECORD_BYTES_MAX = 4 * 1024 * 1024
# A key and a batch header beside the largest value.
RECORD_OVERHEAD_BYTES = 64 * 1024
# A new topic reaches the metadata of every broker within moments.
VISIBLE_SECONDS_MAX = 15.0
POLL_SECONDS = 0.05
REQUEST_MS_MAX = 15_000


class TopicsError(StocktideError):
    """The topics cannot be created as required."""


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic on the broker. `partitions` and `replicas` are 0 if it is missing."""

    topic: Topic
    full_name: str
    partitions: int
    replicas: int
    created: bool = False

    @property
    def exists(self) -> bool:
        """Whether the broker has this topic."""
        return self.partitions > 0


# Kafka compacts closed segments only and closes one at 1 GiB by default: until then every restore of a table (a
# worker's tables, an API's feeds) reads all updates.
COMPACTED_SEGMENT_BYTES = 32 * 1024 * 1024


def topic_settings(topic: Topic, brokers: int) -> dict[str, str]:
    """The topic's Kafka configuration for a cluster of `brokers`."""
    settings = {
        "cleanup.policy": topic.cleanup,
        "max.message.bytes": str((topic.record_bytes_max or RECORD_BYTES_MAX) + RECORD_OVERHEAD_BYTES),
    }
    if topic.retention_ms is not None:
        settings["retention.ms"] = "-1" if topic.trimmed_by_stocktide else str(topic.retention_ms)
    if "compact" in topic.cleanup:
        settings["segment.bytes"] = str(COMPACTED_SEGMENT_BYTES)
    if brokers >= SAFE_BROKERS:
        settings["min.insync.replicas"] = str(SAFE_INSYNC_REPLICAS)
        settings["unclean.leader.election.enable"] = "false"
    elif topic is JOURNAL:
        # Without a second replica only the disk keeps an answer through a power cut.
        settings["flush.messages"] = "1"
    return settings


def replicas_for(brokers: int, wanted: int = 0) -> int:
    """The replication factor: `wanted`, or with 0 what the number of brokers allows."""
    if wanted:
        return wanted
    return SAFE_REPLICAS if brokers >= SAFE_BROKERS else 1


async def ensure_topics(
    kafka: str, app_id: str, partitions: int, replication: int = 0, **security: Any
) -> list[TopicStatus]:
    """Create the missing topics, and list all topics in the order of `TOPICS`.

    `kafka` is HOST:PORT[,HOST:PORT]; `security` holds aiokafka's security options. Raises TopicsError if an existing
    topic has another number of partitions or the broker refuses one, and KafkaError if no broker answers.
    """
    async with admin_client(kafka, **security) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        before = {row.topic.name: row for row in await _rows(admin, app_id)}
        replicas = replicas_for(brokers, replication)
        absent = [topic for topic in TOPICS if not before[topic.name].exists]
        await _create(admin, app_id, absent, partitions, replicas, brokers)
        rows = await _visible_rows(admin, app_id)
    _check_partitions(rows, partitions)
    created = {topic.name for topic in absent}
    return [
        TopicStatus(row.topic, row.full_name, row.partitions, row.replicas, row.topic.name in created) for row in rows
    ]


async def inspect_topics(kafka: str, app_id: str, **security: Any) -> tuple[int, list[TopicStatus]]:
    """The number of brokers, and all topics, missing ones included. Raises KafkaError if no broker answers."""
    async with admin_client(kafka, **security) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        return brokers, await _rows(admin, app_id)


@asynccontextmanager
async def admin_client(kafka: str, **security: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started client, closed at the end. Raises KafkaError if no broker answers."""
    admin = AIOKafkaAdminClient(**{"bootstrap_servers": kafka, **security}, request_timeout_ms=REQUEST_MS_MAX)
    try:
        await admin.start()
        yield admin
    finally:
        with contextlib.suppress(KafkaError):
            await admin.close()


async def _create(
    admin: AIOKafkaAdminClient,
    app_id: str,
    topics: list[Topic],
    partitions: int,
    replicas: int,
    brokers: int,
) -> None:
    if not topics:
        return
    wanted = [
        NewTopic(
            topic.full_name(app_id),
            topic.partitions or partitions,
            replicas,
            topic_configs=topic_settings(topic, brokers),
        )
        for topic in topics
    ]
    answer = await admin.create_topics(wanted)
    for name, code, *rest in answer.topic_errors:
        if code in (0, TopicAlreadyExistsError.errno):  # another process created it meanwhile
            continue
        reason = (rest[0] if rest else None) or for_code(code).__name__
        raise TopicsError(f"topic {name} cannot be created: {reason}")


async def _visible_rows(admin: AIOKafkaAdminClient, app_id: str) -> list[TopicStatus]:
    """Wait until the broker lists all topics, with a leader for each partition."""
    deadline = asyncio.get_running_loop().time() + VISIBLE_SECONDS_MAX
    while True:
        rows = await _rows(admin, app_id)
        absent = [row.full_name for row in rows if not row.exists]
        if not absent:
            return rows
        if asyncio.get_running_loop().time() > deadline:
            raise TopicsError(f"the broker still does not show {', '.join(absent)}")
        await asyncio.sleep(POLL_SECONDS)


async def _rows(admin: AIOKafkaAdminClient, app_id: str) -> list[TopicStatus]:
    found = {entry["topic"]: entry for entry in await admin.describe_topics() if _is_usable(entry)}
    return [_row(topic, topic.full_name(app_id), found.get(topic.full_name(app_id))) for topic in TOPICS]


def _is_usable(entry: Mapping[str, Any]) -> bool:
    return entry["error_code"] == 0 and all(part["leader"] >= 0 for part in entry["partitions"])


def _row(topic: Topic, full_name: str, entry: Mapping[str, Any] | None) -> TopicStatus:
    partitions = entry["partitions"] if entry else []
    replicas = min((len(part["replicas"]) for part in partitions), default=0)
    return TopicStatus(topic, full_name, len(partitions), replicas)


def _check_partitions(rows: list[TopicStatus], partitions: int) -> None:
    """Check the partition counts: with another count a key's new records would go to another partition."""
    for row in rows:
        wanted = row.topic.partitions or partitions
        if row.partitions != wanted:
            raise TopicsError(
                f"topic {row.full_name} has {row.partitions} partitions and the settings say {wanted}: "
                "set STOCKTIDE_PARTITIONS to what is there, or use another STOCKTIDE_APP_ID"
            )
