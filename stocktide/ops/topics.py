"""`stocktide topics`: the table of topics, and how each of them is on the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from stocktide.settings import Settings
from stocktide.streams.kafka.admin import TopicStatus, ensure_topics, inspect_topics
from stocktide.streams.topics import DAY_MS
from stocktide.text_wrapping import terminal_width, wrapped
from stocktide.wait_for_servers import wait_for_kafka

# In a narrow terminal the columns from here on follow as words, and so does the key.
_COLUMNS_NARROW = 5


def run(settings: Settings, create: bool, say: Callable[[str], None]) -> int:
    """Print the table; the exit status: 1 if topics are missing. Raises ServerUnreachable, TopicsError."""
    rows = asyncio.run(_rows(settings, create))
    head = ("topic", "key", "partitions", "replicas", "kept", "written by", "holds")
    lines = [head, *(_cells(row) for row in rows)]
    for line in format_table(lines, terminal_width()):
        say(line)
    missing = sum(not row.exists for row in rows)
    if missing:
        say(f"{missing} missing: `stocktide topics --create` makes them")
    return 1 if missing else 0


def format_table(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    """The table, its first row the heads: a line a topic, or where that is too wide more, the last columns as words."""
    lines = list(_columns(rows))
    if width is None or max(map(len, lines)) <= width:
        yield from lines
        return
    heads = rows[0][_COLUMNS_NARROW:]
    for line, row in zip(_columns([(row[0], *row[2:_COLUMNS_NARROW]) for row in rows]), rows, strict=True):
        yield from wrapped(line, width)
        if row is not rows[0]:
            told = [f"{head} {cell}" for head, cell in zip(heads, row[_COLUMNS_NARROW:], strict=True)]
            yield from wrapped(f"    {'; '.join((f'{rows[0][1]} {row[1]}', *told))}", width, indent=4)


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


async def _rows(settings: Settings, create: bool) -> list[TopicStatus]:
    access = settings.kafka_access()
    await wait_for_kafka(settings.kafka, **access)
    if create:
        return await ensure_topics(settings.kafka, settings.app_id, settings.partitions, settings.replication, **access)
    return (await inspect_topics(settings.kafka, settings.app_id, **access))[1]


def _cells(row: TopicStatus) -> tuple[str, ...]:
    topic = row.topic
    days = f"{topic.retention_ms // DAY_MS} days" if topic.retention_ms else ""
    kept = {"delete": days, "compact": "compacted", "compact,delete": f"compacted, {days}"}[topic.cleanup]
    partitions = str(row.partitions) if row.exists else "missing"
    return (row.full_name, topic.key, partitions, str(row.replicas or ""), kept, topic.writer, topic.holds)
