"""`stocktide topics`: the table of topics, and the state of each on the broker.

In: settings. Out: a table, and an exit status: 1 where topics are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import click

from stocktide.settings import Settings
from stocktide.streams.kafka.admin import TopicStatus, ensure_topics, inspect_topics
from stocktide.streams.topics import DAY_MS
from stocktide.text_wrapping import terminal_width, wrapped
from stocktide.wait_for_servers import wait_for_kafka

# In a narrow terminal the key and the columns from here on are printed below the line.
_COLUMNS_NARROW = 5


def run(settings: Settings, create: bool) -> int:
    """Print the table, after creating the missing topics with `create`; the exit status. Raises ServerUnreachable,
    TopicsError."""
    rows = asyncio.run(_rows(settings, create))
    head = ("topic", "key", "partitions", "replicas", "kept", "written by", "holds")
    lines = [head, *(_cells(row) for row in rows)]
    for line in format_table(lines, terminal_width()):
        click.echo(line)
    missing = sum(not row.exists for row in rows)
    if missing:
        click.echo(f"{missing} missing: `stocktide topics --create` makes them")
    return 1 if missing else 0


def format_table(rows: Sequence[tuple[str, ...]], width: int | None) -> Iterator[str]:
    """The table with its heading: one line for each topic, or more where the terminal is too narrow."""
    lines = list(_columns(rows))
    if width is None or max(map(len, lines)) <= width:
        yield from lines
        return
    heads = rows[0][_COLUMNS_NARROW:]
    for line, row in zip(_columns([(row[0], *row[2:_COLUMNS_NARROW]) for row in rows]), rows, strict=True):
        yield from wrapped(line, width)
        if row is not rows[0]:
            details = [f"{head} {cell}" for head, cell in zip(heads, row[_COLUMNS_NARROW:], strict=True)]
            yield from wrapped(f"    {'; '.join((f'{rows[0][1]} {row[1]}', *details))}", width, indent=4)


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
