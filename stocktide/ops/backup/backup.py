"""`stocktide backup`: all topics, record by record, into a folder, beside live traffic.

In: the settings, a folder. Out: the files and the manifest of `stocktide.ops.backup.archive`.

Kafka's topics are the source of truth; Redis is derived from them. The copy is consistent because of its order,
against the data flow: committed offsets, derived topics, journal, inputs. Whatever is in the copy, its source is in the
copy too: no input counts as read without its outcome, and no row is newer than the journal's end. Inputs whose results
are not in the copy are processed again after the restore; ids make that safe (docs/decisions/0060).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError
from rich.progress import Progress

from stocktide.errors import CommandError
from stocktide.ops.backup.archive import (
    FORMAT,
    ArchivedRecord,
    CommittedOffset,
    Manifest,
    PartitionCopy,
    PartitionWriter,
    make_folder,
    read_records,
    write_manifest,
)
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import admin_client, inspect_topics
from stocktide.streams.kafka.groups import committed_offsets
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.topics import (
    ADJUSTMENTS,
    ALERTS,
    AUDIT,
    CHANNEL_STOCK,
    COMPLAINTS,
    DAILY,
    DEAD_LETTERS,
    INTAKE,
    JOURNAL,
    JOURNAL_POSITIONS,
    MOVEMENTS,
    ORDERS,
    POLICIES,
    POLICY_REQUESTS,
    PROCESSES,
    RESERVATIONS,
    STOCK,
    WEBHOOK_ACKS,
    WEBHOOK_HEALTH,
    WEBHOOKS,
    Topic,
)
from stocktide.tables.recovery.checkpoints import decode_checkpoints
from stocktide.wait_for_servers import wait_for_kafka

# Each topic is copied before its source; the committed offsets are read before all of them.
BACKUP_ORDER: tuple[Topic, ...] = (
    PROCESSES,
    JOURNAL_POSITIONS,
    DAILY,
    COMPLAINTS,
    WEBHOOK_HEALTH,
    WEBHOOK_ACKS,
    WEBHOOKS,
    CHANNEL_STOCK,
    STOCK,
    RESERVATIONS,
    ADJUSTMENTS,
    POLICIES,
    ALERTS,
    AUDIT,
    POLICY_REQUESTS,
    DEAD_LETTERS,
    JOURNAL,
    ORDERS,
    MOVEMENTS,
    INTAKE,
)
# Bounds the memory of a poll.
RECORDS_MAX = 5_000
# The broker answers a request for end offsets only after the fetch that it holds open.
FETCH_WAIT_MS_MAX = 20
# So many empty polls in a row before the end count as an outage.
EMPTY_POLLS_MAX = 30
# A compacted topic is read until its end stands still. Each round has less to read than the one before, and the last
# one takes less time than Kafka's cleaner sleeps.
ROUNDS_MAX = 10


class BackupError(CommandError):
    """The backup could not be made; the folder holds no valid backup."""


def run(settings: Settings, folder: Path) -> int:
    """Make the backup in an empty or new folder; the exit status. Raises CommandError, KafkaError."""
    make_folder(folder)
    try:
        with Progress(transient=True) as progress:
            manifest = asyncio.run(back_up(settings, folder, progress))
    except OSError as error:
        raise BackupError(f"the backup in {folder} could not be written: {error.strerror or error}") from error
    records = sum(copy.records for copy in manifest.copies)
    size = sum((folder / copy.file).stat().st_size for copy in manifest.copies)
    click.echo(f"{records:,} records of {len(BACKUP_ORDER)} topics are in {folder} ({size / 1e6:,.1f} MB)")
    click.echo(f"it holds every answer given before {manifest.began_at}; to read it again, without restoring anything:")
    click.echo(f"  stocktide restore {folder} --check")
    return 0


async def back_up(settings: Settings, folder: Path, progress: Progress) -> Manifest:
    """Copy all topics into the empty `folder`. Raises BackupError, KafkaError, OSError."""
    began_at = rfc3339(now_ms())
    access = settings.kafka_access()
    await wait_for_kafka(settings.kafka, **access)
    _, rows = await inspect_topics(settings.kafka, settings.app_id, **access)
    if missing := [row.full_name for row in rows if not row.exists]:
        raise BackupError(f"topics are missing, or one of their partitions has no leader: {', '.join(missing)}")
    partitions = {row.topic: row.partitions for row in rows}
    committed = await _read_committed(settings)
    copies: list[PartitionCopy] = []
    for topic in BACKUP_ORDER:
        name = topic.full_name(settings.app_id)
        async with topic_consumer(settings.kafka, name, fetch_max_wait_ms=FETCH_WAIT_MS_MAX, **access) as consumer:
            copies += await _TopicCopy(consumer, topic, folder, progress).run()
    _check_positions(folder, copies)
    orders, ended_at = partitions[ORDERS], rfc3339(now_ms())
    manifest = Manifest(
        FORMAT, version("stocktide"), settings.app_id, orders, began_at, ended_at, committed, tuple(copies)
    )
    write_manifest(folder, manifest)
    return manifest


def _check_positions(folder: Path, copies: list[PartitionCopy]) -> None:
    """The journal is trimmed below the derived position; the copied position must lie in the copied journal."""
    journals = {copy.partition: copy for copy in copies if copy.topic == JOURNAL.name}
    for copy in copies:
        if copy.topic != JOURNAL_POSITIONS.name:
            continue
        rows = {record.key: record.value for record in read_records(folder, copy) if record.key is not None}
        known = decode_checkpoints({key: value for key, value in rows.items() if value is not None}, copy.partition)
        needed = [position.offset for position in (known.derived, known.whole) if position is not None]
        if needed and min(needed) < journals[copy.partition].first:
            raise BackupError("the journal was cut while it was copied: back up again, into another folder")


async def _read_committed(settings: Settings) -> tuple[CommittedOffset, ...]:
    """The committed offsets of the workers' groups; none where no worker ever ran."""
    names = {topic.full_name(settings.app_id): topic.name for topic in BACKUP_ORDER}
    async with admin_client(settings.kafka, **settings.kafka_access()) as admin:
        try:
            found = await committed_offsets(admin, settings.app_id)
        except GroupCoordinatorNotAvailableError:
            return ()
    return tuple(
        CommittedOffset(names[part.topic], part.partition, offset)
        for part, offset in sorted(found.items())
        if part.topic in names
    )


class _TopicCopy:
    """Copies all partitions of one topic."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topic: Topic,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._parts: list[TopicPartition] = sorted(consumer.assignment())
        self._folder = folder
        self._progress = progress
        self._task = progress.add_task(topic.name, total=None)

    async def run(self) -> list[PartitionCopy]:
        """Copy up to the current end; a compacted topic until its end stands still."""
        writers = {part: PartitionWriter(self._folder, self._topic.name, part.partition) for part in self._parts}
        try:
            first = await self._consumer.beginning_offsets(self._parts)
            ends = await self._read_to_end(writers, first)
        finally:
            for writer in writers.values():
                writer.close()
        if self._topic is JOURNAL:
            self._check_complete(writers)
        self._progress.update(self._task, completed=1, total=1)
        return [
            writer.copy(first[part] if writer.first is None else writer.first, ends[part])
            for part, writer in writers.items()
        ]

    async def _read_to_end(
        self, writers: Mapping[TopicPartition, PartitionWriter], first: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(self._parts)
        for _ in range(ROUNDS_MAX):
            self._progress.update(self._task, total=sum(ends.values()) - sum(first.values()))
            await self._read_to(writers, ends)
            if "compact" not in self._topic.cleanup:
                return ends
            # Compaction may have removed a row before it was read; then its newer version, beyond the end, is needed.
            before, ends = ends, await self._consumer.end_offsets(self._parts)
            if before == ends:
                return ends
        return before

    async def _read_to(
        self, writers: Mapping[TopicPartition, PartitionWriter], ends: Mapping[TopicPartition, int]
    ) -> None:
        records = read_topic(self._consumer, ends, empty_polls_max=EMPTY_POLLS_MAX, records_max=RECORDS_MAX)
        async for part, some in records:
            await asyncio.to_thread(writers[part].write, [_archived(record) for record in some])
            self._progress.advance(self._task, len(some))

    def _check_complete(self, writers: Mapping[TopicPartition, PartitionWriter]) -> None:
        for part, writer in writers.items():
            if writer.first is not None and writer.next is not None and writer.next - writer.first != writer.records:
                raise BackupError(f"{part.topic} was cut while it was copied: back up again, into another folder")


def _archived(record: Any) -> ArchivedRecord:
    return ArchivedRecord(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
