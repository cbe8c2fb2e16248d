"""`stocktide backup`: all topics, record by record, into a folder, beside live traffic.

In: the settings, a folder. Out: the files and the manifest of `stocktide.ops.backup.archive`.

Kafka's topics are the truth; Redis is made from them. What makes the copy whole is the order: against the stream.
First how far the workers have read, then what was derived, then the journal, then the inputs. So whatever is in the
copy, what it was made from is in the copy too: no input counts as read whose outcome is missing, no row is newer than
the journal's end. What is in the copy upstream and not downstream is done again after the restore; ids make that safe.
docs/decisions/0060 has the whole argument.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from stocktide.streams.kafka.admin import admin_client, inspect_topics
from stocktide.streams.topics import (
    ADJUSTMENTS,
    ALERTS,
    AUDIT,
    CHANNEL_STOCK,
    DEAD_LETTERS,
    JOURNAL,
    JOURNAL_POSITIONS,
    MOVEMENTS,
    ORDERS,
    POLICIES,
    RESERVATIONS,
    STOCK,
    Topic,
)
from stocktide.tables.recovery.checkpoints import decode_checkpoints
from stocktide.wait_for_servers import wait_for_kafka

# Against the stream: each is copied before what it is made from. The workers' positions come before all of them.
BACKUP_ORDER: tuple[Topic, ...] = (
    JOURNAL_POSITIONS,
    CHANNEL_STOCK,
    STOCK,
    RESERVATIONS,
    ADJUSTMENTS,
    POLICIES,
    ALERTS,
    AUDIT,
    DEAD_LETTERS,
    JOURNAL,
    ORDERS,
    MOVEMENTS,
)
# A poll's records: bounds the memory of a chunk.
RECORDS_MAX = 5_000
FETCH_BYTES_MAX = 4 * 1024 * 1024
POLL_MS = 500
# The broker answers where a topic ends only after the fetch that it holds open.
FETCH_WAIT_MS_MAX = 20
# A broker that gives nothing for so many polls in a row, before the end is reached, is an outage.
EMPTY_POLLS_MAX = 60
# A compacted topic is read on until its end stands still, at the most so often: each round has less left to read than
# the one before, and the last one takes less time than Kafka's cleaner sleeps.
ROUNDS_MAX = 10


class BackupError(CommandError):
    """The backup could not be made. What lies in the folder is none."""


def run(settings: Settings, folder: Path, say: Callable[[str], None]) -> int:
    """Back up and tell; the exit status. Raises CommandError, KafkaError."""
    make_folder(folder)
    try:
        with Progress(transient=True) as progress:
            manifest = asyncio.run(back_up(settings, folder, progress))
    except OSError as error:
        raise BackupError(f"the backup in {folder} could not be written: {error.strerror or error}") from error
    records = sum(copy.records for copy in manifest.copies)
    size = sum((folder / copy.file).stat().st_size for copy in manifest.copies)
    say(f"{records:,} records of {len(BACKUP_ORDER)} topics are in {folder} ({size / 1e6:,.1f} MB)")
    say(f"all that anyone was told before {manifest.began_at} is in it; to read it again, without restoring anything:")
    say(f"  stocktide restore {folder} --check")
    return 0


async def back_up(settings: Settings, folder: Path, progress: Progress) -> Manifest:
    """Copy everything into the empty `folder`. Raises BackupError, KafkaError, OSError."""
    began_at = _now()
    access = settings.kafka_access()
    await wait_for_kafka(settings.kafka, **access)
    _, rows = await inspect_topics(settings.kafka, settings.app_id, **access)
    if missing := [row.full_name for row in rows if not row.exists]:
        raise BackupError(f"topics are missing, or one of their partitions has no leader: {', '.join(missing)}")
    partitions = {row.topic: row.partitions for row in rows}
    committed = await _read_committed(settings)
    consumer = AIOKafkaConsumer(
        **settings.kafka_client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
        fetch_max_wait_ms=FETCH_WAIT_MS_MAX,
    )
    await consumer.start()
    try:
        copies: list[PartitionCopy] = []
        for topic in BACKUP_ORDER:
            copies += await _TopicCopy(consumer, settings.app_id, topic, partitions[topic], folder, progress).run()
    finally:
        await consumer.stop()
    _check_positions(folder, copies)
    manifest = Manifest(
        FORMAT, version("stocktide"), settings.app_id, partitions[ORDERS], began_at, _now(), committed, tuple(copies)
    )
    write_manifest(folder, manifest)
    return manifest


def _check_positions(folder: Path, copies: list[PartitionCopy]) -> None:
    """The journal is cut below what is derived; what was derived when we began has to lie in the copy."""
    journals = {copy.partition: copy for copy in copies if copy.topic == JOURNAL.name}
    for copy in copies:
        if copy.topic != JOURNAL_POSITIONS.name:
            continue
        rows = {record.key: record.value for record in read_records(folder, copy) if record.key is not None}
        known = decode_checkpoints({key: value for key, value in rows.items() if value is not None}, copy.partition)
        needed = [position.offset for position in (known.derived, known.whole) if position is not None]
        if needed and min(needed) < journals[copy.partition].first:
            raise BackupError("the journal was cut while it was copied: back up again, into another folder")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _read_committed(settings: Settings) -> tuple[CommittedOffset, ...]:
    """How far the workers have read. Nothing where none ever ran."""
    names = {topic.full_name(settings.app_id): topic.name for topic in BACKUP_ORDER}
    async with admin_client(settings.kafka, **settings.kafka_access()) as admin:
        try:
            found: Mapping[TopicPartition, Any] = await admin.list_consumer_group_offsets(settings.app_id)
        except GroupCoordinatorNotAvailableError:
            return ()
    return tuple(
        CommittedOffset(names[part.topic], part.partition, at.offset)
        for part, at in sorted(found.items())
        if part.topic in names and at.offset >= 0
    )


class _TopicCopy:
    """Copies one topic, all its partitions at once."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        app_id: str,
        topic: Topic,
        partitions: int,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._parts = [TopicPartition(topic.full_name(app_id), number) for number in range(partitions)]
        self._folder = folder
        self._progress = progress
        self._task = progress.add_task(topic.name, total=None)

    async def run(self) -> list[PartitionCopy]:
        """Copy it up to its end as that is now, or, of a compacted one, until the end stands still."""
        self._consumer.assign(self._parts)
        writers = {part: PartitionWriter(self._folder, self._topic.name, part.partition) for part in self._parts}
        try:
            first = await self._consumer.beginning_offsets(self._parts)
            await self._consumer.seek_to_beginning(*self._parts)
            ends = await self._read_to_end(writers, first)
        finally:
            for writer in writers.values():
                with writer:
                    pass
        if self._topic is JOURNAL:
            self._check_whole(writers)
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
            # A row that was superseded behind the end may have been cleaned away before we came to it: its newer one
            # has to be in the copy.
            before, ends = ends, await self._consumer.end_offsets(self._parts)
            if before == ends:
                return ends
        return before

    async def _read_to(
        self, writers: Mapping[TopicPartition, PartitionWriter], ends: Mapping[TopicPartition, int]
    ) -> None:
        left = set(self._parts)
        silent = 0
        while left := {part for part in left if await self._consumer.position(part) < ends[part]}:
            fetched = await self._consumer.getmany(*left, timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            silent = 0 if fetched else silent + 1
            if silent > EMPTY_POLLS_MAX:
                raise BackupError(f"{self._parts[0].topic} gives nothing any more, before its end")
            for part, records in fetched.items():
                kept = [_archived(record) for record in records if record.offset < ends[part]]
                await asyncio.to_thread(writers[part].write, kept)
                self._progress.advance(self._task, len(kept))
                if len(kept) < len(records):
                    self._consumer.seek(part, ends[part])

    def _check_whole(self, writers: Mapping[TopicPartition, PartitionWriter]) -> None:
        for part, writer in writers.items():
            if writer.first is not None and writer.next is not None and writer.next - writer.first != writer.records:
                raise BackupError(f"{part.topic} was cut while it was copied: back up again, into another folder")


def _archived(record: Any) -> ArchivedRecord:
    return ArchivedRecord(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
