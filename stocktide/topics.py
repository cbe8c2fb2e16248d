"""`stocktide topics`: the table of topics, and how each of them is on the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from stocktide.reach import reach_kafka
from stocktide.settings import Settings
from streams.admin import TopicRow, ensure_topics, inspect_topics
from streams.topics import DAY_MS


def run(settings: Settings, create: bool, say: Callable[[str], None]) -> int:
    """Print the table; the exit status: 1 if topics are missing. Raises ServerUnreachable, TopicsError."""
    rows = asyncio.run(_rows(settings, create))
    head = ("topic", "key", "partitions", "replicas", "kept", "written by", "holds")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    missing = sum(not row.exists for row in rows)
    if missing:
        say(f"{missing} missing: `stocktide topics --create` makes them")
    return 1 if missing else 0


async def _rows(settings: Settings, create: bool) -> list[TopicRow]:
    access = settings.kafka_access()
    await reach_kafka(settings.kafka, **access)
    if create:
        return await ensure_topics(settings.kafka, settings.app_id, settings.partitions, settings.replication, **access)
    return (await inspect_topics(settings.kafka, settings.app_id, **access))[1]


def _cells(row: TopicRow) -> tuple[str, ...]:
    topic = row.topic
    days = f"{topic.retention_ms // DAY_MS} days" if topic.retention_ms else ""
    kept = {"delete": days, "compact": "compacted", "compact,delete": f"compacted, {days}"}[topic.cleanup]
    partitions = str(row.partitions) if row.exists else "missing"
    return (row.full_name, topic.key, partitions, str(row.replicas or ""), kept, topic.writer, topic.holds)
