"""Redis is lost under real workers: a worker or `stocktide rebuild` restores it from Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import redis.asyncio

from stocktide.embedded import EmbeddedValkey
from stocktide.streams.topics import JOURNAL, RESERVATIONS
from stocktide.tables.audit.redis_keys import digest_of_redis
from stocktide.tables.ledger.records import SkuRecord
from tests.harness.events import order_placed, placed_and_paid
from tests.harness.process import StocktideProcess, started
from tests.harness.servers import KafkaServer
from tests.harness.trimming import restate_pass_offset, trim
from tests.harness.workers import WorkerGroup, worker_group

ORDERS_PLACED = 60


@pytest.fixture
async def group(
    kafka: KafkaServer, own_valkey: EmbeddedValkey, app_id: str, tmp_path: Path
) -> AsyncIterator[WorkerGroup]:
    """Workers on a Valkey that the test may empty, kill and truncate."""
    async with worker_group(kafka.address, own_valkey.url, app_id, tmp_path) as made:
        yield made


async def trade(group: WorkerGroup, first: int = 0) -> None:
    """Place orders, pay every other one, and wait until the ledger has them all."""
    numbers = range(first, first + ORDERS_PLACED)
    await group.send_orders(*(event for number in numbers[::2] for event in placed_and_paid(f"o{number}")))
    await group.send_orders(*(order_placed(f"o{number}", hold_seconds=86_400) for number in numbers[1::2]))
    await group.sku_when("A", holds(first + ORDERS_PLACED))


async def start_trading(group: WorkerGroup) -> StocktideProcess:
    worker = await group.start()
    await group.receive(["A"], 1_000)
    await trade(group)
    return worker


def holds(units: int) -> Callable[[SkuRecord], bool]:
    return lambda record: units == sum(record.counters.get(f"{name}@SH1", 0) for name in ("committed", "locked"))


async def digest_of(group: WorkerGroup) -> str:
    async with redis.asyncio.Redis.from_url(group.redis) as client:
        return (await digest_of_redis(client, group.app_id)).hex()


async def empty(group: WorkerGroup) -> None:
    async with redis.asyncio.Redis.from_url(group.redis) as client:
        await client.flushall()


async def test_a_worker_brings_an_emptied_redis_back_and_goes_on(group: WorkerGroup) -> None:
    worker = await start_trading(group)
    before = await digest_of(group)
    await empty(group)
    await trade(group, ORDERS_PLACED)
    assert "rebuilding it from the journal" in worker.output
    rows = await group.rows_when(RESERVATIONS, lambda found: len(found) == 2 * ORDERS_PLACED)
    assert {row["state"] for row in rows.values()} == {"reserved", "paid"}
    assert await digest_of(group) != before


async def test_a_worker_redoes_what_a_killed_redis_lost(group: WorkerGroup, own_valkey: EmbeddedValkey) -> None:
    worker = await start_trading(group)
    before = await digest_of(group)
    own_valkey.kill()
    await own_valkey.wait()
    cut_tail(own_valkey.folder, 20_000)
    await own_valkey.start()
    await group.sku_when("A", holds(ORDERS_PLACED))
    assert await digest_of(group) == before
    assert ": redo" in worker.output


async def test_rebuild_gives_the_digest_of_the_log_and_refuses_a_redis_that_holds_something(group: WorkerGroup) -> None:
    worker = await start_trading(group)
    await worker.stop()
    before = await digest_of(group)
    rebuilt = await group.run("rebuild")
    assert rebuilt.status == 1
    assert "would forget it first" in rebuilt.printed
    assert await digest_of(group) == before
    await empty(group)
    rebuilt = await group.run("rebuild")
    assert (rebuilt.status, rebuilt.printed.count(before), rebuilt.last_line) == (0, 2, "equal"), rebuilt
    assert (await group.run("rebuild", "--force")).status == 0
    assert await digest_of(group) == before


async def test_a_drill_rebuilds_into_another_redis_beside_a_running_worker(group: WorkerGroup, tmp_path: Path) -> None:
    worker = await start_trading(group)
    before = await digest_of(group)
    async with started(EmbeddedValkey(tmp_path / "drill", tmp_path / "drill.log")) as drill:
        rebuilt = await group.run("rebuild", "--check", "--redis", drill.url)
    assert (rebuilt.status, rebuilt.last_line) == (0, "equal"), rebuilt
    assert before in rebuilt.printed
    assert await worker.is_ready()
    rebuilt = await group.run("rebuild", "--check", "--redis", group.redis)
    assert rebuilt.status == 1
    assert "a drill needs another one" in rebuilt.printed


async def test_a_rebuild_starts_from_the_last_pass_over_all_rows_once_the_journal_was_cut(group: WorkerGroup) -> None:
    worker = await group.start(STOCKTIDE_RESTATE_SECONDS="1")
    await group.receive(["A", "B"], 1_000)
    await trade(group)
    begins = await restate_pass_offset(group.kafka, group.app_id)
    await trade(group, ORDERS_PLACED)
    await worker.stop()
    await trim(group.kafka, group.topic(JOURNAL), begins)
    before = await digest_of(group)
    await empty(group)
    rebuilt = await group.run("rebuild")
    assert (rebuilt.status, rebuilt.printed.count(before)) == (0, 2), rebuilt
    await group.start()
    await trade(group, 2 * ORDERS_PLACED)


def cut_tail(folder: Path, size: int) -> None:
    """Truncate the append-only file by so many bytes."""
    (newest,) = (folder / "appendonlydir").glob("*.incr.aof")
    with newest.open("rb+") as file:
        file.truncate(max(0, newest.stat().st_size - size))
