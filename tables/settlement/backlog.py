"""What waits in a shard and in the workers' groups, asked of Redis and Kafka.

In: clients of both. Out: a `PartStatus` for settling, and one for each partition that a group consumes; the doctor
(rule 48) and `GET /v1/health` look at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
)
from msgspec import Struct, structs
from redis.asyncio import Redis

from stocktide.streams.kafka.groups import committed_offsets
from stocktide.streams.topics import INTAKE, JOURNAL, MOVEMENTS, ORDERS, STOCK
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.settlement.stalls import PartStatus

# The topics of the workers' groups.
CONSUMED = (ORDERS, MOVEMENTS, INTAKE, JOURNAL, STOCK)
_DECIDED = (f"{ORDERS.name}-", f"{MOVEMENTS.name}-")


class ShardBacklog(Struct, frozen=True):
    """What waits in Redis: `settling`, and the batches in the outbox. `blessed`: this server decides."""

    settling: PartStatus
    outbox: int
    blessed: bool


async def read_shard(redis: Redis, app_id: str) -> ShardBacklog:
    """The shard as Redis has it. Raises RedisError."""
    prefix, journal = key_prefix(app_id), JOURNAL.full_name(app_id)
    pipeline = redis.pipeline(transaction=False)
    pipeline.hget(prefix + "head", "batch")
    pipeline.hmget(prefix + "settled", "batch", "offset")
    pipeline.hget(prefix + "blessed", "run_id")
    pipeline.xlen(prefix + "outbox")
    pipeline.info("server")
    head, settled, blessed, outbox, server = await pipeline.execute()
    at, offset = (int(each or 0) for each in settled)
    run_id = blessed.decode() if isinstance(blessed, bytes) else blessed
    is_blessed = run_id == server["run_id"]
    reason = "no worker copies them from Redis into the journal: does one run, and what does its log say?"
    if not is_blessed:
        reason = "this Redis was started anew or is another one, and no worker has taken over: does one run?"
    known = run_id is not None or int(head or 0) > 0
    waiting = max(int(head or 0) - at, int(known and not is_blessed))
    status = PartStatus("settling", waiting, (at, run_id), reason, journal, 0, offset)
    return ShardBacklog(status, int(outbox), is_blessed)


def with_decisions(groups: Sequence[PartStatus], shard: ShardBacklog) -> list[PartStatus]:
    """The groups, where a partition of orders or movements moves with what is settled too: a chunk of large events is
    committed at its end. Which partition it is of, only the worker knows."""
    settled = shard.settling.position
    return [
        structs.replace(each, position=(each.position, settled)) if each.part.startswith(_DECIDED) else each
        for each in groups
    ]


async def read_groups(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, app_id: str) -> list[PartStatus]:
    """What the workers' groups have not consumed, by partition. Raises KafkaError."""
    names = {topic.full_name(app_id): topic for topic in CONSUMED}
    try:
        committed = await committed_offsets(admin, app_id)
    except (GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError, CoordinatorLoadInProgressError):
        return []  # hidden by the ACL, which another finding reports, or the group never existed
    parts = [part for part in committed if part.topic in names]
    ends: Any = await consumer.end_offsets(parts) if parts else {}
    reason = "the workers' groups do not commit: does a worker run, and what does its log say?"
    return [
        PartStatus(
            f"{names[part.topic].name}-{part.partition}",
            max(0, ends[part] - committed[part]),
            committed[part],
            reason,
            part.topic,
            part.partition,
            committed[part],
        )
        for part in parts
    ]
