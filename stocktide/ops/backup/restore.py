"""`stocktide restore`: writes a backup into an empty Kafka. The first worker rebuilds Redis from it.

In: the settings, a folder that `stocktide backup` wrote. Out: the topics with their records, keys, headers and times;
the committed offsets; the journal at its old offsets.

The rows of `journal-positions` and a copied Redis refer to journal offsets, so these are kept: a journal that began
above offset 0 is filled up to there, and the fillers are deleted. In all other topics the records start at offset 0,
and each committed offset moves to the new offset of the same record; so do the progress of webhooks
and that of the totals by day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from rich.progress import Progress, TaskID

from stocktide.ops.backup.archive import (
    ArchivedRecord,
    CommittedOffset,
    Manifest,
    PartitionCopy,
    check_file,
    read_manifest,
)
from stocktide.ops.backup.archive import read_records as read_archived
from stocktide.ops.backup.backup import BACKUP_ORDER
from stocktide.ops.backup.daily_progress import with_moved_offsets
from stocktide.ops.backup.destination import RestoreError, check_destination
from stocktide.ops.backup.webhook_progress import with_moved_progress
from stocktide.settings import Settings
from stocktide.streams.kafka.admin import (
    RECORD_OVERHEAD_BYTES,
    TopicsError,
    admin_client,
    ensure_topics,
)
from stocktide.streams.kafka.groups import commit_offsets
from stocktide.streams.topics import (
    DAILY,
    INPUT_RETENTION_MS,
    JOURNAL,
    JOURNAL_RECORD_BYTES_MAX,
    MOVEMENTS,
    ORDERS,
    RESERVATIONS,
    WEBHOOK_ACKS,
    Topic,
)
from stocktide.wait_for_servers import wait_for_servers

# The journal comes last: without it the rows are newer than its end, and no worker blesses a Redis.
RESTORE_ORDER: tuple[Topic, ...] = (*(topic for topic in BACKUP_ORDER if topic is not JOURNAL), JOURNAL)
# Large enough to amortise the round trip of a produce request. A larger record is sent alone.
BATCH_BYTES_MAX = 1024 * 1024
REQUEST_MS_MAX = 60_000
# Fillers of nine bytes each, per batch and between two deletions, so that they do not fill the disk.
FILLERS_MAX = 100_000
FILLERS_KEPT_MAX = 20_000_000


def run(settings: Settings, folder: Path, check: bool = False) -> int:
    """Restore, or with `check` only read the backup; the exit status. Raises CommandError, KafkaError."""
    manifest = read_manifest(folder)
    with Progress(transient=True) as progress:
        task = progress.add_task("reading the backup", total=len(manifest.copies))
        for copy in manifest.copies:
            check_file(folder, copy)
            progress.advance(task)
    for line in _describe(folder, manifest):
        click.echo(line)
    if check:
        return 0
    with Progress(transient=True) as progress:
        asyncio.run(restore(settings, folder, manifest, progress))
    for line in _next_steps(settings, manifest):
        click.echo(line)
    return 0


def _describe(folder: Path, manifest: Manifest) -> Iterator[str]:
    records = sum(copy.records for copy in manifest.copies)
    yield (
        f"{folder} is whole: {records:,} records of {manifest.app_id} in {manifest.partitions} partitions, "
        f"from {manifest.began_at} to {manifest.ended_at}, by Stocktide {manifest.stocktide}"
    )
    age = datetime.now(UTC) - datetime.fromisoformat(manifest.began_at)
    if age > timedelta(milliseconds=INPUT_RETENTION_MS) and (open_inputs := _count_unread_inputs(folder, manifest)):
        yield (
            f"note: it is {age.days} days old, and {open_inputs:,} event(s) in it were not handled yet: they are "
            "refused as too old, or Kafka deletes them at once; their senders have to send them anew, with new ids"
        )


def _count_unread_inputs(folder: Path, manifest: Manifest) -> int:
    """The number of events that the workers had not read when the backup began."""
    committed = {(at.topic, at.partition): at.offset for at in manifest.committed}
    return sum(
        record.offset >= committed.get((copy.topic, copy.partition), 0)
        for copy in manifest.copies
        if copy.topic in (ORDERS.name, MOVEMENTS.name)
        for record in read_archived(folder, copy)
    )


def _next_steps(settings: Settings, manifest: Manifest) -> Iterator[str]:
    yield f"restored as {settings.app_id}" + (f", which was {manifest.app_id}" if _renamed(settings, manifest) else "")
    yield "next:"
    yield f"  remove each worker's folder of tables ({settings.data}/tables/…): they belong to the Kafka that was"
    yield "  start a worker: it makes Redis from the journal, and is ready when it has"
    yield "  start the API; subscribers begin anew, without Last-Event-ID"
    yield "  `stocktide doctor` and `stocktide audit` look at all of it"


def _renamed(settings: Settings, manifest: Manifest) -> bool:
    return settings.app_id != manifest.app_id


async def restore(settings: Settings, folder: Path, manifest: Manifest, progress: Progress) -> None:
    """Write all topics into an empty Kafka. Raises RestoreError where it is not empty, ArchiveError, KafkaError."""
    await wait_for_servers(settings)
    await check_destination(settings, manifest)
    access = settings.kafka_access()
    try:
        await ensure_topics(settings.kafka, settings.app_id, settings.partitions, settings.replication, **access)
    except TopicsError as error:
        raise RestoreError(str(error)) from error
    producer = AIOKafkaProducer(
        **settings.kafka_client(),
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=JOURNAL_RECORD_BYTES_MAX + RECORD_OVERHEAD_BYTES,
        request_timeout_ms=REQUEST_MS_MAX,
    )
    await producer.start()
    try:
        async with admin_client(settings.kafka, **access) as admin:
            writer = _Writer(settings, folder, manifest, producer, admin, progress)
            for topic in RESTORE_ORDER:
                if topic is JOURNAL:
                    await commit_offsets(settings.kafka_client(), settings.app_id, writer.committed)
                for copy in manifest.copies:
                    if copy.topic == topic.name:
                        await writer.write(topic, copy)
    finally:
        await producer.stop()


class _Writer:
    """Writes partitions. `committed`: the group's offsets, translated to the new offsets of the same records."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        manifest: Manifest,
        producer: AIOKafkaProducer,
        admin: AIOKafkaAdminClient,
        progress: Progress,
    ) -> None:
        self._app_id = settings.app_id
        self._folder = folder
        self._copies = {(copy.topic, copy.partition): copy for copy in manifest.copies}
        self._producer = producer
        self._admin = admin
        self._progress = progress
        self._committed: dict[tuple[str, int], CommittedOffset] = {
            (at.topic, at.partition): at for at in manifest.committed
        }
        # The journal keeps its offsets, and its group offset is committed before it is written.
        self.committed: dict[TopicPartition, int] = {
            TopicPartition(JOURNAL.full_name(self._app_id), at.partition): at.offset
            for at in manifest.committed
            if at.topic == JOURNAL.name
        }

    async def write(self, topic: Topic, copy: PartitionCopy) -> None:
        """Write one partition."""
        part = TopicPartition(topic.full_name(self._app_id), copy.partition)
        task = self._progress.add_task(f"{copy.topic} {copy.partition}", total=max(1, copy.records))
        base = 0
        if topic is JOURNAL:
            base = copy.first
            await self._fill(part, base)
        read = await self._write_records(part, copy, base, task)
        if topic is not JOURNAL and (copy.topic, copy.partition) in self._committed:
            self.committed[part] = base + read
        self._progress.update(task, completed=max(1, copy.records))

    async def _write_records(self, part: TopicPartition, copy: PartitionCopy, base: int, task: TaskID) -> int:
        """Write the records from offset `base` on; the number of those that the workers had read."""
        at = self._committed.get((copy.topic, copy.partition))
        committed = at.offset if at is not None else 0
        read = 0
        batch, count, next_offset = self._producer.create_batch(), 0, base
        for record in self._records(copy):
            read += record.offset < committed
            if not _append(batch, record):
                next_offset = await self._send(batch, part, next_offset, count)
                self._progress.advance(task, count)
                batch, count = self._producer.create_batch(), 0
                _append(batch, record)
            count += 1
        if count:
            await self._send(batch, part, next_offset, count)
        return read

    def _records(self, copy: PartitionCopy) -> Iterator[ArchivedRecord]:
        if copy.topic == DAILY.name:
            return with_moved_offsets(lambda: read_archived(self._folder, copy), self._counted)
        if copy.topic != WEBHOOK_ACKS.name:
            return read_archived(self._folder, copy)
        orders = self._copies[RESERVATIONS.name, copy.partition]
        return with_moved_progress(
            lambda: read_archived(self._folder, copy), lambda: read_archived(self._folder, orders)
        )

    def _counted(self, place: str) -> Iterator[ArchivedRecord]:
        """The records of a place of the rows of `daily`, such as `alerts/0`."""
        topic, _, partition = place.rpartition("/")
        return read_archived(self._folder, self._copies[topic, int(partition)])

    async def _send(self, batch: Any, part: TopicPartition, offset: int, count: int) -> int:
        """Send a batch that must begin at `offset`; the offset of the next one."""
        batch.close()
        metadata = await (await self._producer.send_batch(batch, part.topic, partition=part.partition))
        if metadata.offset != offset:
            raise RestoreError(
                f"topic {part.topic}, partition {part.partition}: another producer writes to it (offset "
                f"{metadata.offset}, not {offset}); stop them, delete the topics {self._app_id}-*, and restore again"
            )
        return offset + count

    async def _fill(self, part: TopicPartition, until: int) -> None:
        """Make the partition begin at offset `until`, by fillers that are deleted."""
        if not until:
            return
        task = self._progress.add_task(f"filling {part.topic} up to its first offset", total=until)
        done = kept = 0
        while done < until:
            batch, count = self._producer.create_batch(), 0
            while (
                count < min(FILLERS_MAX, until - done) and batch.append(key=None, value=b"", timestamp=None) is not None
            ):
                count += 1
            done = await self._send(batch, part, done, count)
            kept += count
            self._progress.update(task, completed=done)
            if kept >= FILLERS_KEPT_MAX or done == until:
                await self._admin.delete_records({part: RecordsToDelete(before_offset=done)})
                kept = 0


def _append(batch: Any, record: ArchivedRecord) -> bool:
    added = batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None
