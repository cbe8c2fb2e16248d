"""The consumer groups of the workers: one that decides, one that publishes (decision 0043).

In: an app id. Out: the groups, their committed offsets, and offsets that are committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.topics import JOURNAL, MOVEMENTS, ORDERS, STOCK

logger = logging.getLogger(__name__)

DECIDED_TOPICS = (ORDERS, MOVEMENTS)
PUBLISHED_TOPICS = (JOURNAL, STOCK)
# Attempts to adopt offsets: a broker that has just started loads them for some seconds.
ADOPTIONS_MAX = 60
RETRY_SECONDS = 0.5


def deciding_group(app_id: str) -> str:
    """The group that consumes the input topics."""
    return app_id


def publishing_group(app_id: str) -> str:
    """The group that consumes the journal and `stock`. No app id contains a colon."""
    return f"{app_id}:publish"


def webhooks_group(app_id: str) -> str:
    """The group that shares the partitions among the senders of webhooks; it commits nothing."""
    return f"{app_id}:webhooks"


def alerts_group(app_id: str, receiver: str) -> str:
    """The group that sends alerts to one receiver: each has its own, so that one that is down delays no other."""
    return f"{app_id}:alerts:{receiver}"


async def committed_offsets(admin: AIOKafkaAdminClient, app_id: str) -> dict[TopicPartition, int]:
    """The committed offsets of both groups. Those of an older version, which had one group, count where the publishing
    group has none. Raises KafkaError."""
    offsets: dict[TopicPartition, int] = {}
    for group in (deciding_group(app_id), publishing_group(app_id)):
        found: Mapping[TopicPartition, Any] = await admin.list_consumer_group_offsets(group)
        offsets.update({part: int(at.offset) for part, at in found.items() if at.offset >= 0})
    return offsets


async def commit_offsets(client: Mapping[str, Any], app_id: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Commit offsets for the groups of their topics, which have no member. `client`: aiokafka's options. Raises
    KafkaError."""
    published = {topic.full_name(app_id) for topic in PUBLISHED_TOPICS}
    for group, is_publishing in ((deciding_group(app_id), False), (publishing_group(app_id), True)):
        own = {part: offset for part, offset in offsets.items() if (part.topic in published) is is_publishing}
        if own:
            async with AIOKafkaConsumer(**client, group_id=group, enable_auto_commit=False) as consumer:
                consumer.assign(list(own))
                await consumer.commit(own)


async def adopt_offsets(client: Mapping[str, Any], app_id: str) -> None:
    """Let the publishing group begin where the one group of an older version has read up to. Each worker calls this
    before it joins, so that all is adopted once the group has a member. Raises KafkaError."""
    access = {name: value for name, value in client.items() if name != "bootstrap_servers"}
    published = {topic.full_name(app_id) for topic in PUBLISHED_TOPICS}
    async with admin_client(client["bootstrap_servers"], **access) as admin:
        for attempt in range(1, ADOPTIONS_MAX + 1):
            try:
                before = await admin.list_consumer_group_offsets(deciding_group(app_id))
                own = await admin.list_consumer_group_offsets(publishing_group(app_id))
                missing = {
                    part: int(at.offset)
                    for part, at in before.items()
                    if part.topic in published and at.offset >= 0 and part not in own
                }
                await commit_offsets(client, app_id, missing)
            except GroupAuthorizationFailedError:
                raise
            except KafkaError:
                # The broker still loads the offsets; or a worker has joined meanwhile, which has adopted them.
                if attempt == ADOPTIONS_MAX:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                for part, offset in missing.items():
                    logger.info("%s-%d is read from offset %d on, as before", part.topic, part.partition, offset)
                return
