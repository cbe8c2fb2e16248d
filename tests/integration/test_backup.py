"""A backup is taken during live traffic, everything is lost, and the backup is restored into new servers."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from stocktide.embedded import EmbeddedKafka, EmbeddedValkey
from stocktide.embedded.valkey import find_valkey
from stocktide.ops.backup.archive import read_manifest
from stocktide.ops.backup.backup import BACKUP_ORDER
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
    TOPICS,
    WEBHOOK_ACKS,
    WEBHOOK_HEALTH,
    WEBHOOKS,
)
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import Event, stock_received
from tests.harness.eventually import eventually
from tests.harness.process import CommandResult, run_stocktide, started
from tests.harness.servers import KafkaServer, RedisProcess, RedisServer
from tests.harness.system import running_system
from tests.harness.trimming import restate_pass_offset, trim

UNITS = 1_000
# Receipts of one unit, PUMPED at a time: some 250 a second.
PUMPED, PUMP_SECONDS = 10, 0.04


@dataclass(slots=True)
class BackupTraffic:
    """Orders during the backup. `answered` are the orders as the API answered them."""

    sku: str
    answered: dict[str, Any] = field(default_factory=dict)

    async def run(self, shop: ApiTestClient) -> None:
        """Place orders until cancelled, and pay every other one."""
        for number in itertools.count():
            answer = await shop.place(self.sku, 1)
            assert answer.status == 201, answer.body
            self.answered[answer.body["order_id"]] = answer.body
            if number % 2:
                paid = await shop.post(f"/v1/orders/{answer.body['order_id']}/pay", {})
                self.answered[answer.body["order_id"]] = paid.body


def environment(kafka: str, redis_url: str, app_id: str, folder: Path) -> dict[str, str]:
    """The variables of an installation, with a cache that lists no other one."""
    servers = {"STOCKTIDE_KAFKA": kafka, "STOCKTIDE_REDIS": redis_url}
    return {**servers, "STOCKTIDE_APP_ID": app_id, "XDG_CACHE_HOME": str(folder)}


@dataclass(slots=True)
class BackedUpSystem:
    """The first installation: its answers before the backup began, and its traffic during the backup."""

    app_id: str
    folder: Path
    orders: dict[str, Any]
    stocks: dict[str, Any]
    # The last id of a subscriber.
    feed_id: str | None
    # Receipts of one unit each that were accepted: those before the backup began, and all.
    pumped_sku: str
    during: BackupTraffic
    pumped: list[dict[str, Any]] = field(default_factory=list)
    pumped_before: int = 0
    rdb: Path | None = None


async def trade_and_back_up(kafka: str, redis_url: str, folder: Path, save: bool = False) -> BackedUpSystem:
    """Run an installation that trades, back it up during the traffic, and stop it. With `save`, Redis is copied before
    the backup."""
    app_id = unique_name("old")
    environ = environment(kafka, redis_url, app_id, folder)
    old_environ = {**environ, "STOCKTIDE_RESTATE_SECONDS": "1"}
    async with running_system(folder / "old", environ=old_environ) as system, system.client() as shop:
        old = await _trade(shop, app_id, folder / "backup")
        await _trim_journal(kafka, app_id)
        if save:
            old.rdb = await _save(redis_url)
        traffic = [
            asyncio.create_task(old.during.run(shop)),
            asyncio.create_task(pump(shop, old.pumped_sku, old.pumped)),
        ]
        await eventually(lambda: len(old.pumped) > 10 * PUMPED)
        old.pumped_before = len(old.pumped)
        done = await run_stocktide("backup", str(old.folder), environ=environ)
        assert done.status == 0, done
        for each in traffic:
            assert not each.done(), each
            each.cancel()
        await asyncio.wait(traffic)
    return old


async def _trade(shop: ApiTestClient, app_id: str, folder: Path) -> BackedUpSystem:
    skus = [unique_name("sku") for _ in range(5)]
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
    async with shop.feed("tmall") as feed:
        await feed.until_synced()
    return BackedUpSystem(app_id, folder, orders, stocks, feed.last_id, skus[3], BackupTraffic(skus[4]))


async def _trim_journal(kafka: str, app_id: str) -> None:
    """Trim the journal up to the newest complete restate pass, as in an installation of some age."""
    assert await trim(kafka, JOURNAL.full_name(app_id), await restate_pass_offset(kafka, app_id)) > 0


async def pump(shop: ApiTestClient, sku: str, accepted: list[dict[str, Any]]) -> None:
    """Receive single units until cancelled: at any moment some are accepted and not yet applied."""
    for number in itertools.count():
        events = [stock_received(f"pumped-{number}-{index}", (sku, 1)) for index in range(PUMPED)]
        await send(shop, events)
        accepted += events
        await asyncio.sleep(PUMP_SECONDS)


async def send(shop: ApiTestClient, events: list[Event]) -> None:
    answer = await shop.send_events(*events)
    assert (answer.status, answer.body["accepted"]) == (202, len(events))


async def _save(redis_url: str) -> Path:
    """A snapshot, as `redis-cli --rdb` makes one."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        await client.save()
        found = await client.config_get("dir", "dbfilename")
    return Path(found["dir"]) / found["dbfilename"]


async def check_restored(shop: ApiTestClient, old: BackedUpSystem) -> None:
    """All answers from before the backup hold, and the traffic during it adds up."""
    for order_id, order in old.orders.items():
        assert (await shop.get(f"/v1/orders/{order_id}")).body == order
    for sku, stock in old.stocks.items():
        assert without_time(await shop.stock(sku)) == without_time(stock)
    await check_feed(shop, old)
    await check_traffic(shop, old.during)
    await shop.receive(unique_name("sku"), 1)  # in order: everything sent before it is applied
    pumped = (await shop.stock(old.pumped_sku))["on_hand"] - UNITS
    assert old.pumped_before <= pumped <= len(old.pumped)
    await send(shop, old.pumped)
    await shop.receive(unique_name("sku"), 1)
    assert (await shop.stock(old.pumped_sku))["on_hand"] - UNITS == len(old.pumped)


async def check_feed(shop: ApiTestClient, old: BackedUpSystem) -> None:
    """The id of a subscriber from before means other rows by now: it gets everything."""
    async with shop.feed("tmall", old.feed_id) as feed:
        event = await feed.next()
        assert (event.event, event.data["reason"]) == ("reset", "other_epoch")
        assert {*old.stocks, old.pumped_sku} <= {update["sku"] for update in await feed.until_synced()}


async def check_traffic(shop: ApiTestClient, traffic: BackupTraffic) -> None:
    """Each order placed during the backup is as answered, in an earlier state, or missing; units add up."""
    found = {order_id: await shop.get(f"/v1/orders/{order_id}") for order_id in traffic.answered}
    kept = [answer.body for answer in found.values() if answer.status == 200]
    assert 0 < len(kept) < len(found)
    for order in kept:
        assert order["state"] in ("reserved", traffic.answered[order["order_id"]]["state"])
    stock = await shop.stock(traffic.sku)
    assert stock["on_hand"] == UNITS
    assert stock["locked"] == sum(order["state"] == "reserved" for order in kept)
    assert stock["committed"] == sum(order["state"] == "paid" for order in kept)


def without_time(stock: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stock.items() if name != "as_of"}


async def restored(kafka: str, redis_url: str, old: BackedUpSystem, folder: Path) -> str:
    """Restore into these servers, start everything, and check the result; the worker's log."""
    environ = environment(kafka, redis_url, old.app_id, folder)

    async def run(*arguments: str) -> CommandResult:
        return await run_stocktide(*arguments, environ=environ)

    assert (done := await run("restore", str(old.folder))).status == 0, done
    refused = await run("restore", str(old.folder))
    assert refused.status == 1 and "restored into an empty Kafka" in refused.printed, refused
    async with running_system(folder / "new", environ=environ) as system, system.client() as shop:
        await check_restored(shop, old)
        assert (await shop.place(next(iter(old.stocks)), 1)).status == 201
        assert (done := await run("doctor")).status == 0, done
    assert (done := await run("rebuild", "--force")).status == 0 and "equal" in done.printed, done
    return (folder / "new" / "logs" / "worker.log").read_text()


@pytest.mark.soak
async def test_answers_before_a_backup_hold_after_a_loss(
    kafka: KafkaServer, valkey: RedisServer, tmp_path: Path
) -> None:
    old = await trade_and_back_up(kafka.address, valkey.url, tmp_path)
    log = await restore_and_check(old, tmp_path)
    assert "rebuilding" in log, "Redis was empty: all that was checked came from the topics"


@pytest.mark.soak
async def test_an_older_copy_of_redis_is_a_head_start(kafka: KafkaServer, valkey: RedisServer, tmp_path: Path) -> None:
    old = await trade_and_back_up(kafka.address, valkey.url, tmp_path, save=True)
    assert old.rdb is not None
    await load(old.rdb, tmp_path / "valkey")
    log = await restore_and_check(old, tmp_path)
    assert ": redo" in log
    assert "rebuilding" not in log


async def load(rdb: Path, folder: Path) -> None:
    """Start a new server with a snapshot, which it loads only without an append-only file."""
    await asyncio.to_thread(shutil.copytree, rdb.parent, folder, ignore=lambda _, names: {*names} - {rdb.name})
    async with (
        started(RedisProcess(find_valkey(), folder, "--appendonly", "no")) as server,
        redis.asyncio.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        await client.config_set("appendonly", "yes")

        async def is_written() -> bool:
            about = await client.info("persistence")
            return not about["aof_rewrite_in_progress"] and not about["aof_rewrite_scheduled"]

        await eventually(is_written)


async def restore_and_check(old: BackedUpSystem, folder: Path) -> str:
    """Restore the backup into new servers and check it; the worker's log."""
    _check_that_events_were_under_way(old)
    checked = await run_stocktide("restore", str(old.folder), "--check")
    assert checked.status == 0, checked
    async with (
        started(EmbeddedKafka(folder / "kafka", folder / "kafka.log")) as kafka,
        started(EmbeddedValkey(folder / "valkey", folder / "valkey.log")) as valkey,
    ):
        return await restored(kafka.address, valkey.url, old, folder)


def _check_that_events_were_under_way(old: BackedUpSystem) -> None:
    manifest = read_manifest(old.folder)
    (movements,) = [copy for copy in manifest.copies if copy.topic == "movements" and copy.records]
    (committed,) = [
        at.offset for at in manifest.committed if (at.topic, at.partition) == ("movements", movements.partition)
    ]
    assert committed < movements.end, "nothing was under way when the backup began: this test shows too little"


def test_each_topic_is_copied_before_what_it_is_made_from() -> None:
    made_from = {
        JOURNAL_POSITIONS: {RESERVATIONS, ADJUSTMENTS, STOCK, POLICIES, ALERTS, AUDIT, DEAD_LETTERS, DAILY, JOURNAL},
        CHANNEL_STOCK: {STOCK},
        **{topic: {JOURNAL} for topic in (STOCK, RESERVATIONS, ADJUSTMENTS, POLICIES, ALERTS, AUDIT)},
        DEAD_LETTERS: {JOURNAL, ORDERS, MOVEMENTS, INTAKE},
        JOURNAL: {ORDERS, MOVEMENTS},
        ORDERS: {INTAKE},
        MOVEMENTS: {INTAKE},
        INTAKE: set(),
        WEBHOOK_HEALTH: {WEBHOOK_ACKS, WEBHOOKS},
        WEBHOOK_ACKS: {CHANNEL_STOCK, RESERVATIONS, WEBHOOKS},
        WEBHOOKS: set(),
        DAILY: {ALERTS, DEAD_LETTERS, JOURNAL},
        COMPLAINTS: set(),
        # An approved change is made before its request is done.
        POLICY_REQUESTS: {JOURNAL},
        PROCESSES: set(),
    }
    assert set(made_from) == set(TOPICS) == set(BACKUP_ORDER)
    assert len(BACKUP_ORDER) == len(TOPICS)
    for topic, sources in made_from.items():
        assert all(BACKUP_ORDER.index(topic) < BACKUP_ORDER.index(source) for source in sources), topic
