"""Checks the Kafka and the Redis that a restore writes into.

In: the settings and the backup's manifest. Out: nothing, or a RestoreError that says what is in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from stocktide.errors import CommandError
from stocktide.ops.backup.archive import ArchiveError, Manifest
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import admin_client, inspect_topics
from stocktide.streams.kafka.groups import deciding_group, publishing_group
from stocktide.streams.topics import JOURNAL, TOPICS
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl

# States of a group without members.
INACTIVE_GROUP_STATES = ("Empty", "Dead", "")


class RestoreError(CommandError):
    """The backup could not be restored."""


async def check_destination(settings: Settings, manifest: Manifest) -> None:
    """Check that Kafka is empty, unused and fits the backup, and that Redis is not newer. Raises RestoreError."""
    if settings.partitions != manifest.partitions:
        raise RestoreError(
            f"STOCKTIDE_PARTITIONS is {settings.partitions}, and the backup has {manifest.partitions} partitions: a "
            f"key lies by their number, so set it to {manifest.partitions}"
        )
    known = {topic.name for topic in TOPICS}
    if unknown := sorted({copy.topic for copy in manifest.copies} - known):
        raise ArchiveError(f"the backup holds topics that this version does not know: {', '.join(unknown)}")
    await _check_empty(settings)
    async with admin_client(settings.kafka, **settings.kafka_access()) as admin:
        for group in (deciding_group(settings.app_id), publishing_group(settings.app_id)):
            await _check_group(admin, group)
    await _check_redis(settings, manifest)


async def _check_empty(settings: Settings) -> None:
    _, rows = await inspect_topics(settings.kafka, settings.app_id, **settings.kafka_access())
    parts = [TopicPartition(row.full_name, number) for row in rows for number in range(row.partitions)]
    if not parts:
        return
    async with AIOKafkaConsumer(**settings.kafka_client(), group_id=None, enable_auto_commit=False) as consumer:
        ends = await consumer.end_offsets(parts)
    if written := sorted({part.topic for part, end in ends.items() if end}):
        raise RestoreError(
            f"topic {written[0]} was written to already: a backup is restored into an empty Kafka, or under another "
            f"STOCKTIDE_APP_ID; to begin anew, delete the topics {settings.app_id}-* and the groups "
            f"{deciding_group(settings.app_id)} and {publishing_group(settings.app_id)}"
        )


async def _check_group(admin: AIOKafkaAdminClient, group: str) -> None:
    try:
        committed = await admin.list_consumer_group_offsets(group)
        answers: Sequence[Any] = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:
        return  # the group never existed
    states = [str(found[2]) for answer in answers for found in answer.groups]
    if any(state not in INACTIVE_GROUP_STATES for state in states):
        raise RestoreError(
            f"a worker of {group} is running: stop all of them, and the API, while the backup is restored"
        )
    if any(at.offset > 0 for at in committed.values()):
        raise RestoreError(
            f"the group {group} knows how far it had read topics that are gone: delete it with "
            f"kafka-consumer-groups.sh --delete --group {group}"
        )


async def _check_redis(settings: Settings, manifest: Manifest) -> None:
    """Refuse a Redis that is newer than the backup: the first worker would empty it."""
    end = max(copy.end for copy in manifest.copies if copy.topic == JOURNAL.name)
    redis = connect(settings.redis, **settings.redis_access())
    try:
        settled = await LedgerControl(redis, settings.app_id).settled()
    finally:
        await redis.aclose()
    if settled is not None and settled.offset > end:
        raise RestoreError(
            f"this Redis is settled up to offset {settled.offset} of the journal, and the backup's journal ends at "
            f"{end}: Redis knows decisions that the backup does not. To go back to the backup, give an empty Redis "
            "(FLUSHDB empties this one), or the copy that was made before the backup"
        )
