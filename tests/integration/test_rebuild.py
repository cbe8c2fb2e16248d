"""Redis lost under real workers: it comes back from Kafka, by a worker itself or by `stocktide rebuild`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.topics import JOURNAL, ORDERS, RESERVATIONS
from stocktide.tables.audit.digest import digest_of_redis
from stocktide.tables.recovery.checkpoints import read_checkpoints
from tests.harness import command
from tests.harness.workers import PARTITIONS, WorkerGroup, make_worker_group, order_of, placed

COMMAND_SECONDS_MAX = 60.0
ORDERS_PLACED = 60


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey that a test may empty, kill and cut."""
    server = EmbeddedValkey(tmp_path / "valkey", tmp_path / "valkey.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def drill(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A second one, for a rebuild that touches nothing."""
    server = EmbeddedValkey(tmp_path / "drill", tmp_path / "drill.log")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def lone(kafka: EmbeddedKafka, own: EmbeddedValkey, app_id: str, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    """Workers on that Valkey."""
    fleet = await make_worker_group(kafka.address, own.url, app_id, tmp_path)
    yield fleet
    await fleet.close()


async def trade(fleet: WorkerGroup, first: int = 0) -> None:
    """Orders, paid and not, once the ledger has them all."""
    numbers = range(first, first + ORDERS_PLACED)
    await fleet.send(ORDERS, [pair for number in numbers[::2] for pair in order_of(f"o{number}")])
    await fleet.send(ORDERS, [placed(f"o{number}", hold_seconds=86_400) for number in numbers[1::2]])
    await fleet.sku_when("A", lambda record: sum(_held(record.counters)) == first + ORDERS_PLACED)


def _held(counters: dict[str, int]) -> list[int]:
    return [counters.get("committed@SH1", 0), counters.get("locked@SH1", 0)]


async def digest_of(fleet: WorkerGroup) -> str:
    async with redis.asyncio.Redis.from_url(fleet.redis) as client:
        return (await digest_of_redis(client, fleet.app_id)).hex()


async def stocktide(fleet: WorkerGroup, *arguments: str) -> tuple[int, str]:
    """Run a command; its exit status and what it printed."""
    environ = {
        "STOCKTIDE_APP_ID": fleet.app_id,
        "STOCKTIDE_KAFKA": fleet.kafka,
        "STOCKTIDE_REDIS": fleet.redis,
        "STOCKTIDE_DATA": str(fleet.folder),
        "STOCKTIDE_PARTITIONS": str(PARTITIONS),
    }
    ended = await command.stocktide(*arguments, seconds_max=COMMAND_SECONDS_MAX, environ=environ)
    return ended.status, ended.printed


async def test_a_worker_brings_an_emptied_redis_back_and_goes_on(lone: WorkerGroup) -> None:
    worker = await lone.start()
    await lone.receive(["A"], 1_000)
    await trade(lone)
    before = await digest_of(lone)
    async with redis.asyncio.Redis.from_url(lone.redis) as client:
        await client.flushall()
    await trade(lone, ORDERS_PLACED)
    assert "rebuilding it from the journal" in worker.last_log_lines()
    rows = await lone.newest_when(RESERVATIONS, lambda found: len(found) == 2 * ORDERS_PLACED)
    assert {row["state"] for row in rows.values()} == {"reserved", "paid"}
    assert await digest_of(lone) != before


async def test_a_worker_redoes_what_a_killed_redis_lost(lone: WorkerGroup, own: EmbeddedValkey) -> None:
    worker = await lone.start()
    await lone.receive(["A"], 1_000)
    await trade(lone)
    before = await digest_of(lone)
    own.kill()
    await own.wait()
    cut_tail(own.folder, 20_000)
    await own.start()
    await lone.sku_when("A", lambda record: sum(_held(record.counters)) == ORDERS_PLACED)
    assert await digest_of(lone) == before
    assert ": redo" in worker.last_log_lines()


async def test_rebuild_gives_the_digest_of_the_log_and_refuses_a_redis_that_holds_something(lone: WorkerGroup) -> None:
    worker = await lone.start()
    await lone.receive(["A"], 1_000)
    await trade(lone)
    await worker.end(signal.SIGTERM)
    before = await digest_of(lone)
    status, printed = await stocktide(lone, "rebuild")
    assert status == 1
    assert "would forget it first" in printed
    assert await digest_of(lone) == before
    async with redis.asyncio.Redis.from_url(lone.redis) as client:
        await client.flushall()
    status, printed = await stocktide(lone, "rebuild")
    assert (status, printed.count(before), printed.rstrip().splitlines()[-1]) == (0, 2, "equal"), printed
    assert (await stocktide(lone, "rebuild", "--force"))[0] == 0
    assert await digest_of(lone) == before


async def test_a_drill_rebuilds_into_another_redis_beside_a_running_worker(
    lone: WorkerGroup, drill: EmbeddedValkey
) -> None:
    worker = await lone.start()
    await lone.receive(["A"], 1_000)
    await trade(lone)
    before = await digest_of(lone)
    status, printed = await stocktide(lone, "rebuild", "--check", "--redis", drill.url)
    assert (status, printed.rstrip().splitlines()[-1]) == (0, "equal"), printed
    assert before in printed
    assert await worker.is_ready()
    status, printed = await stocktide(lone, "rebuild", "--check", "--redis", lone.redis)
    assert status == 1
    assert "a drill needs another one" in printed


async def test_a_rebuild_starts_from_the_last_pass_over_all_rows_once_the_journal_was_cut(lone: WorkerGroup) -> None:
    worker = await lone.start(STOCKTIDE_RESTATE_SECONDS="1")
    await lone.receive(["A", "B"], 1_000)
    await trade(lone)

    async def whole() -> int:
        checkpoints = await read_checkpoints(lone.kafka, lone.app_id)
        return checkpoints.whole.offset if checkpoints.whole else 0

    async with asyncio.timeout(COMMAND_SECONDS_MAX):
        while (begins := await whole()) <= 2:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    await trade(lone, ORDERS_PLACED)
    await worker.end(signal.SIGTERM)
    await cut_journal(lone, begins)
    before = await digest_of(lone)
    async with redis.asyncio.Redis.from_url(lone.redis) as client:
        await client.flushall()
    status, printed = await stocktide(lone, "rebuild")
    assert (status, printed.count(before)) == (0, 2), printed
    await lone.start()
    await trade(lone, 2 * ORDERS_PLACED)


async def cut_journal(fleet: WorkerGroup, below: int) -> None:
    """As the broker does it, whatever the age of what lies there."""
    async with admin_client(fleet.kafka) as admin:
        partition = TopicPartition(JOURNAL.full_name(fleet.app_id), 0)
        await admin.delete_records({partition: RecordsToDelete(before_offset=below)})


def cut_tail(folder: Path, size: int) -> None:
    """Cut so many bytes off the file to which the newest writes were appended."""
    (newest,) = (folder / "appendonlydir").glob("*.incr.aof")
    with newest.open("rb+") as file:
        file.truncate(max(0, newest.stat().st_size - size))
