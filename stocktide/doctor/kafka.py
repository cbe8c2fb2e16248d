"""The doctor's examination of Kafka: topics, replication, retention, committed offsets.

In: the settings. Out: findings. This module reads a `ClusterView`, `kafka_judgement` judges it.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    KafkaError,
)

from stocktide.doctor.finding import Finding, good, wrong
from stocktide.doctor.kafka_judgement import (
    OFFSETS_TOPIC,
    ClusterView,
    GroupOffset,
    PartitionView,
    expected_topics,
    judge_cluster,
)
from stocktide.errors import ServerUnreachable
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import (
    REQUEST_MS_MAX,
    admin_client,
)
from stocktide.streams.kafka.groups import committed_offsets
from stocktide.streams.topics import TOPICS
from stocktide.wait_for_servers import wait_for_kafka

# Short: the doctor runs because something may be wrong.
REACH_SECONDS_MAX = 2.0


async def examine_kafka(settings: Settings) -> list[Finding]:
    """Examine the cluster as far as its ACL allows."""
    access = settings.kafka_access()
    try:
        await wait_for_kafka(settings.kafka, REACH_SECONDS_MAX, **access)
        async with admin_client(settings.kafka, **access) as admin:
            view = await read_cluster(admin, settings)
    except (ServerUnreachable, KafkaError) as error:
        return [wrong(str(error))]
    return [
        good(f"Kafka answers at {settings.kafka}, {len(view.alive)} of {view.brokers} broker(s)"),
        *judge_cluster(view, settings.app_id, settings.partitions),
    ]


async def read_cluster(admin: AIOKafkaAdminClient, settings: Settings) -> ClusterView:
    """Read everything that is judged. Raises KafkaError."""
    brokers = [entry["node_id"] for entry in (await admin.describe_cluster())["brokers"]]
    prefix = f"{settings.app_id}-"
    topics = {
        entry["topic"]: tuple(
            PartitionView(len(part["replicas"]), len(part["isr"]), part["leader"] >= 0) for part in entry["partitions"]
        )
        for entry in await admin.describe_topics()
        if entry["topic"].startswith(prefix) or entry["topic"] == OFFSETS_TOPIC
    }
    expected = expected_topics(settings.app_id, topics)
    of_topics = await _read_settings(admin, ConfigResourceType.TOPIC, [name for name in expected if name in topics])
    of_brokers = await _read_settings(admin, ConfigResourceType.BROKER, [str(number) for number in brokers])
    # A broker that is down is not listed, but its replicas are.
    replicas = max((part.replicas for parts in topics.values() for part in parts), default=0)
    return ClusterView(
        max(len(brokers), replicas),
        topics,
        of_topics,
        {int(number): found for number, found in of_brokers.items()},
        tuple(brokers),
        await _read_group_offsets(admin, settings),
    )


async def _read_settings(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: list[str]
) -> dict[str, dict[str, str]]:
    """The settings in force, by name, as far as the ACL allows."""
    if not names:
        return {}
    answers = await admin.describe_configs([ConfigResource(kind, name) for name in names])
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for answer in answers
        for code, _reason, _kind, name, entries in answer.resources
        if code == 0
    }


async def _read_group_offsets(admin: AIOKafkaAdminClient, settings: Settings) -> tuple[GroupOffset, ...] | None:
    try:
        committed = await committed_offsets(admin, settings.app_id)
    except (GroupCoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return ()  # the group never existed: Kafka is creating the topic of the offsets
    except GroupAuthorizationFailedError:
        return None
    ours = {topic.full_name(settings.app_id) for topic in TOPICS}
    parts = [part for part in committed if part.topic in ours]
    if not parts:
        return ()
    consumer = AIOKafkaConsumer(**settings.kafka_client(), enable_auto_commit=False, request_timeout_ms=REQUEST_MS_MAX)
    try:
        await consumer.start()
        first, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    finally:
        await consumer.stop()
    return tuple(GroupOffset(part.topic, part.partition, committed[part], first[part], ends[part]) for part in parts)
