"""What a restore keeps of each record and of the committed offsets, and when it refuses."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich import progress as terminal

import stocktide.ops.backup.backup as backup_module
from stocktide.agents.webhooks.queues import Progress
from stocktide.ops.backup.archive import (
    ArchivedRecord,
    ArchiveError,
    Manifest,
    make_folder,
    read_manifest,
    read_records,
)
from stocktide.ops.backup.backup import BackupError, back_up
from stocktide.ops.backup.restore import RestoreError, restore, run
from stocktide.settings import Settings
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.admin import admin_client, ensure_topics
from stocktide.streams.kafka.groups import committed_offsets
from stocktide.streams.topics import (
    ALERTS,
    CHANNEL_STOCK,
    DAILY,
    JOURNAL,
    JOURNAL_POSITIONS,
    MOVEMENTS,
    ORDERS,
    RESERVATIONS,
    STOCK,
    TOPICS,
    WEBHOOK_ACKS,
    Topic,
)
from stocktide.tables.ledger.scripts import key_prefix
from tests.harness.api_client import unique_name
from tests.harness.servers import KafkaServer, RedisServer
from tests.harness.trimming import trim

PARTITIONS = 2
HEADERS = [("origin", b"shop"), ("note", b"")]
AT_MS = now_ms() - 60_000  # Kafka deletes records that are older than their topic keeps them
QUIET = terminal.Progress(disable=True)


Backup = tuple[Path, Manifest]


async def new_place(kafka: KafkaServer, valkey: RedisServer) -> Settings:
    """An installation with topics and nothing in them."""
    settings = Settings(kafka=kafka.address, redis=valkey.url, app_id=unique_name("from"), partitions=PARTITIONS)
    await ensure_topics(settings.kafka, settings.app_id, PARTITIONS)
    return settings


@pytest.fixture
async def place(kafka: KafkaServer, valkey: RedisServer) -> Settings:
    return await new_place(kafka, valkey)


@pytest.fixture(scope="module")
async def small(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Backup]:
    """An installation with one record in the journal, and its backup."""
    place = await new_place(kafka, valkey)
    await write(place, JOURNAL, (None, b"x"))
    return place, await saved(place, tmp_path_factory.mktemp("small"))


@pytest.fixture
async def made(small: tuple[Settings, Backup]) -> Settings:
    """Another installation with empty topics."""
    to = elsewhere(small[0])
    await ensure_topics(to.kafka, to.app_id, PARTITIONS)
    return to


def elsewhere(settings: Settings, **changed: Any) -> Settings:
    """Another installation, empty, on the same servers."""
    return replace(settings, **{"app_id": unique_name("to"), **changed})


async def write(settings: Settings, topic: Topic, *rows: tuple[bytes | None, bytes | None], partition: int = 0) -> None:
    """Write records, a second apart."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as made:
        for number, (key, value) in enumerate(rows):
            await made.send_and_wait(
                topic.full_name(settings.app_id),
                key=key,
                value=value,
                partition=partition,
                timestamp_ms=AT_MS + 1000 * number,
                headers=HEADERS,
            )


async def commit(settings: Settings, offsets: Mapping[Topic, int]) -> None:
    """Commit the offset of partition 0 of each topic."""
    parts = {TopicPartition(topic.full_name(settings.app_id), 0): offset for topic, offset in offsets.items()}
    options = {"group_id": settings.app_id, "enable_auto_commit": False}
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka, **options) as consumer:
        consumer.assign(list(parts))
        await consumer.commit(parts)


async def committed(settings: Settings) -> dict[str, int]:
    """The committed offset of partition 0 of each topic."""
    async with admin_client(settings.kafka) as admin:
        found = await committed_offsets(admin, settings.app_id)
    return {part.topic.removeprefix(f"{settings.app_id}-"): offset for part, offset in found.items()}


async def saved(settings: Settings, folder: Path) -> Backup:
    made = folder / unique_name("backup")
    make_folder(made)
    return made, await back_up(settings, made, QUIET)


async def restored(place: Settings, folder: Path) -> tuple[Backup, Settings, Backup]:
    """A backup of a place, another place that it is restored to, and a backup of that one."""
    first, to = await saved(place, folder), elsewhere(place)
    await restore(to, *first, QUIET)
    return first, to, await saved(to, folder)


def of(backup: Backup, topic: Topic) -> list[ArchivedRecord]:
    """The records of partition 0 in a backup."""
    folder, manifest = backup
    (copy,) = (each for each in manifest.copies if (each.topic, each.partition) == (topic.name, 0))
    return list(read_records(folder, copy))


class EventPipeline:
    """An installation in which each turn takes one event through all topics and commits."""

    def __init__(self, settings: Settings, writer: AIOKafkaProducer) -> None:
        self._settings = settings
        self._writer = writer
        self.turns = 0

    async def turn(self) -> None:
        """One event, each step acknowledged before the next."""
        self.turns += 1
        value = str(self.turns).encode()
        for topic in (ORDERS, JOURNAL, STOCK, RESERVATIONS, ALERTS, CHANNEL_STOCK, JOURNAL_POSITIONS):
            await self._writer.send_and_wait(topic.full_name(self._settings.app_id), key=b"k", value=value, partition=0)
        await commit(self._settings, {ORDERS: self.turns, JOURNAL: self.turns})


async def test_a_backup_has_the_sources_of_all_its_records(
    place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=place.kafka) as writer:
        stream = EventPipeline(place, writer)
        await stream.turn()

        def moved_on_before(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def moved(*arguments: Any) -> Any:
                await stream.turn()
                return await step(*arguments)

            return moved

        monkeypatch.setattr(backup_module, "_read_committed", moved_on_before(backup_module._read_committed))
        monkeypatch.setattr(backup_module._TopicCopy, "run", moved_on_before(backup_module._TopicCopy.run))
        backup = await saved(place, tmp_path)
    assert stream.turns > len(TOPICS)
    newest = {
        topic: int(of(backup, topic)[-1].value or b"0")
        for topic in (JOURNAL_POSITIONS, CHANNEL_STOCK, STOCK, RESERVATIONS, ALERTS, JOURNAL, ORDERS)
    }
    read = {at.topic: at.offset for at in backup[1].committed}
    assert read["journal"] <= newest[JOURNAL_POSITIONS]
    assert read["orders"] <= newest[JOURNAL_POSITIONS] <= min(newest[topic] for topic in (STOCK, RESERVATIONS, ALERTS))
    assert newest[CHANNEL_STOCK] <= newest[STOCK]
    assert max(newest[topic] for topic in (STOCK, RESERVATIONS, ALERTS)) <= newest[JOURNAL] <= newest[ORDERS]


async def test_records_come_back_with_all_that_kafka_knows_of_them(place: Settings, tmp_path: Path) -> None:
    await write(place, ORDERS, (b"o1", b"{}"), (None, b"no key"), (b"", b""))
    await write(place, STOCK, (b"A", b"1"), (b"B", b"2"), (b"A", None))
    first, _, second = await restored(place, tmp_path)
    assert of(second, ORDERS) == of(first, ORDERS)
    assert of(second, STOCK) == of(first, STOCK)
    (record, *_) = of(second, ORDERS)
    assert record == ArchivedRecord(0, AT_MS, b"o1", b"{}", tuple(HEADERS))


async def test_the_journal_keeps_its_offsets_and_committed_offsets_move(place: Settings, tmp_path: Path) -> None:
    for topic in (JOURNAL, ORDERS, MOVEMENTS):
        await write(place, topic, *((b"k", f"{number}".encode()) for number in range(10)))
    for topic, below in ((JOURNAL, 6), (ORDERS, 4), (MOVEMENTS, 10)):
        await trim(place.kafka, topic.full_name(place.app_id), below)
    await commit(place, {JOURNAL: 8, ORDERS: 7, MOVEMENTS: 10})
    first, to, second = await restored(place, tmp_path)
    assert of(second, JOURNAL) == of(first, JOURNAL)
    assert [record.offset for record in of(second, JOURNAL)] == [6, 7, 8, 9]
    assert [(record.offset, record.value) for record in of(second, ORDERS)] == [
        (number - 4, f"{number}".encode()) for number in range(4, 10)
    ]
    assert await committed(to) == {"journal": 8, "orders": 3, "movements": 0}


async def test_the_progress_of_webhooks_and_of_totals_by_day_moves_with_the_records(
    place: Settings, tmp_path: Path
) -> None:
    for topic in (RESERVATIONS, ALERTS):
        await write(place, topic, *((b"k", f"{number}".encode()) for number in range(10)))
    await trim(place.kafka, ALERTS.full_name(place.app_id), 4)
    rows = {b"some/ orders": 7, b"beyond/ orders": 12, b"some/ stock": -1}
    await write(place, WEBHOOK_ACKS, *((key, encode(Progress("e-0", (), at))) for key, at in rows.items()))
    await write(place, DAILY, (b"followed", b'{"through":{"alerts/0":7}}'), (b"orders/2026-11-11/jd", b'{"through":7}'))
    _, _, second = await restored(place, tmp_path)
    moved = {record.key: orjson.loads(record.value or b"")["next"] for record in of(second, WEBHOOK_ACKS)}
    assert moved == {b"some/ orders": 7, b"beyond/ orders": 10, b"some/ stock": -1}
    counted = {record.key: orjson.loads(record.value or b"")["through"] for record in of(second, DAILY)}
    assert counted == {b"followed": {"alerts/0": 3}, b"orders/2026-11-11/jd": 7}


async def test_an_empty_journal_continues_at_its_offset(place: Settings, tmp_path: Path) -> None:
    await write(place, JOURNAL, *((None, b"x") for _ in range(5)))
    await trim(place.kafka, JOURNAL.full_name(place.app_id), 5)
    _, to, _ = await restored(place, tmp_path)
    await write(to, JOURNAL, (None, b"next"))
    assert [record.offset for record in of(await saved(to, tmp_path), JOURNAL)] == [5]


async def refusal(to: Settings, backup: Backup) -> str:
    with pytest.raises(RestoreError) as refused:
        await restore(to, *backup, QUIET)
    return str(refused.value)


async def test_a_place_that_is_not_empty_is_refused(small: tuple[Settings, Backup], made: Settings) -> None:
    await write(made, MOVEMENTS, (b"k", b"v"), partition=1)
    assert f"topic {made.app_id}-movements was written to already" in await refusal(made, small[1])


async def test_a_place_with_committed_offsets_is_refused(small: tuple[Settings, Backup], made: Settings) -> None:
    await commit(made, {ORDERS: 3})
    assert "knows how far it had read" in await refusal(made, small[1])


async def test_a_place_where_a_worker_runs_is_refused(small: tuple[Settings, Backup], made: Settings) -> None:
    member = AIOKafkaConsumer(ORDERS.full_name(made.app_id), bootstrap_servers=made.kafka, group_id=made.app_id)
    async with member:
        assert "is running: stop all of them" in await refusal(made, small[1])


async def test_another_number_of_partitions_is_refused(small: tuple[Settings, Backup]) -> None:
    to = elsewhere(small[0], partitions=3)
    assert "STOCKTIDE_PARTITIONS is 3, and the backup has 2" in await refusal(to, small[1])


async def test_a_redis_that_knows_more_than_the_backup_is_refused(small: tuple[Settings, Backup]) -> None:
    to = elsewhere(small[0])
    settled = {"offset": 2, "term": 1, "owner": "w", "batch": 1, "token": "t"}
    async with redis.asyncio.Redis.from_url(to.redis) as client:
        await client.hset(f"{key_prefix(to.app_id)}settled", mapping=settled)
    assert "Redis knows decisions that the backup does not" in await refusal(to, small[1])


async def test_a_backup_is_refused_where_topics_are_missing(small: tuple[Settings, Backup], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="topics are missing"):
        await saved(elsewhere(small[0]), tmp_path)


async def test_a_damaged_or_unfinished_backup_is_not_restored(small: tuple[Settings, Backup], tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    await asyncio.to_thread(shutil.copytree, small[1][0], folder)
    to = elsewhere(small[0])

    async def error_text() -> str:
        with pytest.raises(ArchiveError) as refused:
            await asyncio.to_thread(run, to, folder)
        return str(refused.value)

    file = folder / "journal-0.gz"
    whole = file.read_bytes()
    file.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    assert "is not what was written" in await error_text()
    file.unlink()
    assert "cannot be read" in await error_text()
    file.write_bytes(whole)
    (folder / "manifest.json").unlink()
    assert "is no backup" in await error_text()
    assert not (await committed(to))


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    with pytest.raises(ArchiveError, match="is not empty"):
        make_folder(tmp_path)
    with pytest.raises(ArchiveError, match="is no backup"):
        read_manifest(tmp_path)
