"""A backup taken beside live traffic, everything lost, and the backup restored into new servers."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import redis.asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.ports import pick_free_port
from stocktide.embedded.process import ChildProcess
from stocktide.embedded.valkey import find_valkey, server_command
from stocktide.ops.backup.archive import read_manifest
from stocktide.ops.backup.backup import BACKUP_ORDER
from stocktide.retry import poll_until
from stocktide.streams.kafka.admin import admin_client
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
    TOPICS,
)
from stocktide.tables.recovery.checkpoints import read_checkpoints
from tests.harness import command
from tests.harness.api_client import AT, WAIT_SECONDS_MAX, ApiTestClient, fresh
from tests.harness.servers import RedisServer
from tests.harness.system import RunningSystem, start_system

pytestmark = pytest.mark.integration

COMMAND_SECONDS_MAX = 120.0
UNITS = 1_000
# Receipts of one unit, so many at a time: some 1,000 a second.
PUMPED, PUMP_SECONDS = 20, 0.02


@dataclass(slots=True)
class BackupTraffic:
    """What goes on while the backup is taken. `told` are the orders as the API answered."""

    sku: str
    told: dict[str, Any] = field(default_factory=dict)

    async def run(self, shop: ApiTestClient) -> None:
        """Place orders until cancelled, and pay every other one."""
        for number in itertools.count():
            answer = await shop.place(self.sku, 1)
            assert answer.status == 201, answer.body
            self.told[answer.body["order_id"]] = answer.body
            if number % 2:
                paid = await shop.post(f"/v1/orders/{answer.body['order_id']}/pay", {})
                self.told[answer.body["order_id"]] = paid.body


async def stocktide(environ: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command; its exit status and what it printed."""
    ended = await command.stocktide(*arguments, seconds_max=COMMAND_SECONDS_MAX, environ=environ)
    return ended.status, ended.printed


@asynccontextmanager
async def storefront(system: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client of its API."""
    async with aiohttp.ClientSession() as session:
        yield ApiTestClient(session, system.api)


async def _true(holds: bool) -> bool:
    return holds


def environment(kafka: str, redis_url: str, app_id: str, folder: Path) -> dict[str, str]:
    """The variables of an installation, whose commands find no other one."""
    return {
        "STOCKTIDE_KAFKA": kafka,
        "STOCKTIDE_REDIS": redis_url,
        "STOCKTIDE_APP_ID": app_id,
        "XDG_CACHE_HOME": str(folder),
    }


@dataclass(slots=True)
class BackedUpSystem:
    """What the first installation was told and told, before the backup began."""

    app_id: str
    folder: Path
    orders: dict[str, Any]
    stocks: dict[str, Any]
    # Receipts of one unit each that were accepted: those before the backup began, and all.
    pumped_sku: str
    during: BackupTraffic
    pumped: list[dict[str, Any]] = field(default_factory=list)
    pumped_before: int = 0
    rdb: Path | None = None


async def trade_and_back_up(kafka: str, redis_url: str, folder: Path, save: bool = False) -> BackedUpSystem:
    """An installation that trades; a backup of it beside the traffic; then it is gone. With `save`, Redis is copied
    before the backup."""
    app_id = fresh("old")
    environ = environment(kafka, redis_url, app_id, folder)
    system = await start_system(folder / "old", (), {**environ, "STOCKTIDE_RESTATE_SECONDS": "1"})
    try:
        await system.wait_ready()
        async with storefront(system) as shop:
            old = await _trade(shop, app_id, folder / "backup")
            await _cut_journal(kafka, app_id)
            if save:
                old.rdb = await _save(redis_url)
            traffic = [
                asyncio.create_task(old.during.run(shop)),
                asyncio.create_task(pump(shop, old.pumped_sku, old.pumped)),
            ]
            assert await poll_until(lambda: _true(len(old.pumped) > 10 * PUMPED), WAIT_SECONDS_MAX)
            old.pumped_before = len(old.pumped)
            status, printed = await stocktide(environ, "backup", str(old.folder))
            assert status == 0, printed
            for each in traffic:
                assert not each.done(), each
                each.cancel()
            await asyncio.wait(traffic)
    finally:
        await system.stop()
    return old


async def _trade(shop: ApiTestClient, app_id: str, folder: Path) -> BackedUpSystem:
    skus = [fresh("sku") for _ in range(5)]
    for sku in skus:
        await shop.receive(sku, UNITS)
    await shop.call("PUT", f"/v1/policies/tmall/{skus[0]}", {"buffer": 3})
    orders = {}
    for number in range(60):
        answer = await shop.place(skus[number % 3], 2 if number % 7 else UNITS + 1)
        assert answer.status == (201 if number % 7 else 409)
        order_id = answer.body["order_id"] if answer.status == 201 else answer.body["order"]["order_id"]
        if number % 3 == 1 and answer.status == 201:
            await shop.post(f"/v1/orders/{order_id}/pay", {})
        if number % 3 == 2 and answer.status == 201:
            await shop.post(f"/v1/orders/{order_id}/cancel", {})
        orders[order_id] = (await shop.get(f"/v1/orders/{order_id}")).body
    stocks = {sku: await shop.stock(sku) for sku in skus[:3]}
    return BackedUpSystem(app_id, folder, orders, stocks, skus[3], BackupTraffic(skus[4]))


async def _cut_journal(kafka: str, app_id: str) -> None:
    """Have the journal begin where the last pass over all rows began, as that of an installation of some age does."""

    async def whole() -> int:
        checkpoints = await read_checkpoints(kafka, app_id)
        return checkpoints.whole.offset if checkpoints.whole else 0

    assert await poll_until(lambda: _positive(whole()), WAIT_SECONDS_MAX)
    async with admin_client(kafka) as admin:
        journal = TopicPartition(JOURNAL.full_name(app_id), 0)
        begins = await admin.delete_records({journal: RecordsToDelete(before_offset=await whole())})
    assert begins[journal] > 0


async def _positive(number: Awaitable[int]) -> bool:
    return await number > 0


async def pump(shop: ApiTestClient, sku: str, accepted: list[dict[str, Any]]) -> None:
    """Receive single units, one after the other, until cancelled: at any moment some are accepted and not done."""
    for number in itertools.count():
        events = [receipt_of_one(sku, f"pumped-{number}-{index}") for index in range(PUMPED)]
        await send(shop, events)
        accepted += events
        await asyncio.sleep(PUMP_SECONDS)


def receipt_of_one(sku: str, movement_id: str) -> dict[str, Any]:
    """One unit into SH1."""
    line = {"sku": sku, "quantity": 1}
    return {"type": "stock.received", "id": movement_id, "occurred_at": AT, "warehouse": "SH1", "lines": [line]}


async def send(shop: ApiTestClient, events: list[dict[str, Any]]) -> None:
    """Send events until they are accepted, which is before they are done."""
    body = b"".join(orjson.dumps(event) + b"\n" for event in events)
    taken = await shop.call("POST", "/v1/events", body, headers={"Content-Type": "application/x-ndjson"})
    assert (taken.status, taken.body["accepted"]) == (202, len(events))


async def _save(redis_url: str) -> Path:
    """A snapshot, as `redis-cli --rdb` makes one."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        await client.save()
        found = await client.config_get("dir", "dbfilename")
    return Path(found["dir"]) / found["dbfilename"]


async def judge(shop: ApiTestClient, old: BackedUpSystem) -> None:
    """All that was told before the backup began is there, and what came beside it adds up."""
    for order_id, told in old.orders.items():
        assert (await shop.get(f"/v1/orders/{order_id}")).body == told
    for sku, told in old.stocks.items():
        assert without_time(await shop.stock(sku)) == without_time(told)
    await judge_traffic(shop, old.during)
    await shop.receive(fresh("sku"), 1)  # in the warehouse's order: all that was sent before it is done
    pumped = (await shop.stock(old.pumped_sku))["on_hand"] - UNITS
    assert old.pumped_before <= pumped <= len(old.pumped)
    await send(shop, old.pumped)
    await shop.receive(fresh("sku"), 1)
    assert (await shop.stock(old.pumped_sku))["on_hand"] - UNITS == len(old.pumped)


async def judge_traffic(shop: ApiTestClient, traffic: BackupTraffic) -> None:
    """Each order of the time of the backup is as it was told, or an earlier state of it, or not there; units add up."""
    found = {order_id: await shop.get(f"/v1/orders/{order_id}") for order_id in traffic.told}
    kept = [answer.body for answer in found.values() if answer.status == 200]
    assert 0 < len(kept) < len(found)
    for order in kept:
        assert order["state"] in ("reserved", traffic.told[order["order_id"]]["state"])
    stock = await shop.stock(traffic.sku)
    assert stock["on_hand"] == UNITS
    assert stock["locked"] == sum(order["state"] == "reserved" for order in kept)
    assert stock["committed"] == sum(order["state"] == "paid" for order in kept)


def without_time(stock: Mapping[str, Any]) -> dict[str, Any]:
    """All but the time at which it was asked."""
    return {name: value for name, value in stock.items() if name != "as_of"}


async def restored(kafka: str, redis_url: str, old: BackedUpSystem, folder: Path) -> str:
    """Restore into these servers, start everything anew, and judge; what the worker logged."""
    environ = environment(kafka, redis_url, old.app_id, folder)
    status, printed = await stocktide(environ, "restore", str(old.folder))
    assert status == 0, printed
    status, refused = await stocktide(environ, "restore", str(old.folder))
    assert status == 1
    assert "restored into an empty Kafka" in refused
    system = await start_system(folder / "new", (), environ)
    try:
        await system.wait_ready()
        async with storefront(system) as shop:
            await judge(shop, old)
            assert (await shop.place(next(iter(old.stocks)), 1)).status == 201
        status, printed = await stocktide(environ, "doctor")
        assert status == 0, printed
    finally:
        await system.stop()
    status, printed = await stocktide(environ, "rebuild", "--force")
    assert status == 0, printed
    assert "equal" in printed
    return (folder / "new" / "logs" / "worker.log").read_text()


async def test_what_was_told_before_a_backup_is_there_after_all_was_lost(
    kafka: EmbeddedKafka, valkey: RedisServer, tmp_path: Path
) -> None:
    old = await trade_and_back_up(kafka.address, valkey.url, tmp_path)
    log = await restore_and_judge(old, tmp_path)
    assert "rebuilding" in log, "Redis was empty: all that was judged came from the topics"


@pytest.mark.soak
async def test_a_copy_of_redis_from_before_the_backup_is_a_head_start(
    kafka: EmbeddedKafka, valkey: RedisServer, tmp_path: Path
) -> None:
    old = await trade_and_back_up(kafka.address, valkey.url, tmp_path, save=True)
    assert old.rdb is not None
    await load(old.rdb, tmp_path / "valkey")
    log = await restore_and_judge(old, tmp_path)
    assert ": redo" in log
    assert "rebuilding" not in log


async def load(rdb: Path, folder: Path) -> None:
    """Have a new server begin with a snapshot: it loads one only while it keeps no append-only file."""
    await asyncio.to_thread(shutil.copytree, rdb.parent, folder, ignore=lambda _, names: {*names} - {rdb.name})
    child, port = ChildProcess("Valkey, loading", folder / "loading.log"), pick_free_port()
    command = server_command(find_valkey(), port, folder)
    command[command.index("--appendonly") + 1] = "no"
    await child.spawn(command)
    async with redis.asyncio.Redis(port=port, decode_responses=True) as client:

        async def written() -> bool:
            try:
                await client.config_set("appendonly", "yes")
                about = await client.info("persistence")
            except redis.exceptions.RedisError:
                return False
            return not about["aof_rewrite_in_progress"] and not about["aof_rewrite_scheduled"]

        assert await poll_until(written, WAIT_SECONDS_MAX), child.last_log_lines()
    await child.stop(WAIT_SECONDS_MAX)


async def restore_and_judge(old: BackedUpSystem, folder: Path) -> str:
    """New servers, the backup in them, everything started anew; what the worker logged."""
    _see_that_something_was_under_way(old)
    status, printed = await stocktide({}, "restore", str(old.folder), "--check")
    assert status == 0, printed
    async with AsyncExitStack() as stack:
        new_kafka = EmbeddedKafka(folder / "kafka", folder / "kafka.log")
        new_valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
        for server in (new_kafka, new_valkey):
            stack.push_async_callback(server.stop)
            await server.start()
        return await restored(new_kafka.address, new_valkey.url, old, folder)


def _see_that_something_was_under_way(old: BackedUpSystem) -> None:
    manifest = read_manifest(old.folder)
    (movements,) = [copy for copy in manifest.copies if copy.topic == "movements" and copy.records]
    (committed,) = [
        at.offset for at in manifest.committed if (at.topic, at.partition) == ("movements", movements.partition)
    ]
    assert committed < movements.end, "nothing was under way when the backup began: this test shows too little"


def test_each_topic_is_copied_before_what_it_is_made_from() -> None:
    made_from = {
        JOURNAL_POSITIONS: {RESERVATIONS, ADJUSTMENTS, STOCK, POLICIES, ALERTS, AUDIT, DEAD_LETTERS, JOURNAL},
        CHANNEL_STOCK: {STOCK},
        **{topic: {JOURNAL} for topic in (STOCK, RESERVATIONS, ADJUSTMENTS, POLICIES, ALERTS, AUDIT)},
        DEAD_LETTERS: {JOURNAL, ORDERS, MOVEMENTS},
        JOURNAL: {ORDERS, MOVEMENTS},
        ORDERS: set(),
        MOVEMENTS: set(),
    }
    assert set(made_from) == set(TOPICS) == set(BACKUP_ORDER)
    assert len(BACKUP_ORDER) == len(TOPICS)
    for topic, sources in made_from.items():
        assert all(BACKUP_ORDER.index(topic) < BACKUP_ORDER.index(source) for source in sources), topic
