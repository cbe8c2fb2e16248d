"""The worker on a real Kafka and a real Redis: what goes in, what comes out, what a fault leaves."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.retry import poll_until
from stocktide.streams.topics import ADJUSTMENTS, CHANNEL_STOCK, DEAD_LETTERS, MOVEMENTS, ORDERS, RESERVATIONS, STOCK
from stocktide.tables.ledger.records import SkuRecord
from tests.harness.servers import RedisServer
from tests.harness.workers import (
    WAIT_SECONDS_MAX,
    WorkerGroup,
    make_worker_group,
    order_of,
    paid,
    placed,
    send_steadily,
)

pytestmark = pytest.mark.integration
OPENING = 1_000_000
# Longer than the session of streams.app: the group has given the partitions away.
LONGER_THAN_SESSION_SECONDS = 13.0


@pytest.fixture
async def fleet(kafka: EmbeddedKafka, valkey: RedisServer, app_id: str, tmp_path: Path) -> AsyncIterator[WorkerGroup]:
    """A fleet without workers."""
    made = await make_worker_group(kafka.address, valkey.url, app_id, tmp_path)
    yield made
    await made.close()


async def check_all(fleet: WorkerGroup, orders: int) -> None:
    """Each of the orders counts once; every derived topic says what the ledger says; all is committed."""
    record = await fleet.sku_when("A", lambda sku: sku.counters.get("committed@SH1") == orders)
    assert record.counters["on_hand@SH1"] == OPENING and not record.counters.get("locked@SH1")
    rows = await fleet.newest_when(RESERVATIONS, lambda rows: sum(map(is_paid, rows.values())) == orders)
    assert set(rows) == {f"o{number}" for number in range(orders)}
    stock = (await fleet.newest_when(STOCK, lambda rows: rows["A"]["version"] == record.version))["A"]
    assert stock["committed"] == orders and stock["available"] == OPENING - orders
    told = (await fleet.newest_when(CHANNEL_STOCK, lambda rows: has_offer(rows["jd/A"], stock)))["jd/A"]
    assert told["version"] <= record.version
    await check_versions_grow(fleet)

    async def all_committed() -> bool:
        return not any((await fleet.uncommitted()).values())

    assert await poll_until(all_committed, WAIT_SECONDS_MAX), await fleet.uncommitted()


async def check_versions_grow(fleet: WorkerGroup) -> None:
    seen: dict[bytes | None, int] = {}
    for record in await fleet.records(CHANNEL_STOCK):
        version = json.loads(record.value or b"")["version"]
        # The same update may come twice after a crash; an older one never.
        assert version >= seen.get(record.key, 0)
        seen[record.key] = version


def is_paid(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "paid")


def has_offer(told: dict[str, Any], stock: dict[str, Any]) -> bool:
    offer = stock["channels"]["jd"]
    return all(told[name] == offer[name] for name in ("mode", "quantity", "preorder_remaining"))


def committed(count: int) -> Any:
    """Whether a SKU's committed units reached `count`."""

    def holds(record: SkuRecord) -> bool:
        return record.counters.get("committed@SH1", 0) >= count

    return holds


async def test_an_event_that_comes_again_and_again_counts_once(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    await fleet.send(ORDERS, [pair for number in range(20) for _ in range(3) for pair in order_of(f"o{number}")])
    await fleet.receive(["A"], OPENING)
    await check_all(fleet, 20)
    assert len(await fleet.newest(ADJUSTMENTS)) == 1


async def test_an_order_that_is_paid_before_it_is_placed_is_paid_once_both_are_there(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    await fleet.send(ORDERS, [paid("o0")])
    await asyncio.sleep(0.5)
    await fleet.send(ORDERS, [placed("o0")])
    await check_all(fleet, 1)
    assert not await fleet.newest(DEAD_LETTERS)


async def test_early_events_of_a_megabyte_stop_nothing_and_pay_their_order_when_it_comes(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    order_id, event = paid("o0")
    large = [(order_id, {**event, "id": f"paid-{number}", "note": "x" * 1_000_000}) for number in range(17)]
    await fleet.send(ORDERS, [*large, *order_of("o1")])
    await fleet.sku_when("A", committed(1))
    await fleet.send(ORDERS, [placed("o0")])
    await check_all(fleet, 2)
    assert not await fleet.newest(DEAD_LETTERS)


async def test_a_return_that_comes_before_its_shipment_counts_with_it(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    line = {"sku": "A", "quantity": 1, "warehouse": "SH1"}
    common = {"occurred_at": "2026-11-24T00:00:00Z", "order_id": "o0", "lines": [line]}
    await fleet.send(ORDERS, [("o0", {"type": "order.returned", "id": "r", **common}), *order_of("o0")])
    await fleet.sku_when("A", committed(1))
    await fleet.send(ORDERS, [("o0", {"type": "order.shipped", "id": "s", **common})])
    rows = await fleet.newest_when(RESERVATIONS, lambda rows: rows["o0"]["state"] == "shipped")
    assert rows["o0"]["lines"][0]["returned"] == 1
    assert (await fleet.sku_when("A", lambda sku: not sku.counters.get("committed@SH1"))).counters[
        "on_hand@SH1"
    ] == OPENING
    assert not await fleet.newest(DEAD_LETTERS)


async def test_an_event_whose_order_never_comes_ends_in_the_dead_letters(fleet: WorkerGroup) -> None:
    await fleet.start(STOCKTIDE_PARK_SECONDS="1")
    await fleet.receive(["A"], OPENING)
    await fleet.send(ORDERS, [paid("ghost")])
    letter = (await fleet.newest_when(DEAD_LETTERS, lambda rows: "ghost" in rows))["ghost"]
    assert letter["reason"] == "unknown_order" and json.loads(letter["raw"])["order_id"] == "ghost"


async def test_poison_goes_to_the_dead_letters_and_its_neighbours_go_on(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    poison: list[bytes] = [b"{", b"\xff\xfe", b"", b"NaN", b"[" * 100_000, b" " * (2 * 1024 * 1024), b'{"type":"x"}']
    poison += [json.dumps(placed("p", quantity=quantity)[1]).encode() for quantity in (0, -1, 10**30)]
    poison.append(json.dumps(placed("p", lines=[{"sku": "A", "quantity": 1}] * 2_001)[1]).encode())
    await fleet.send(ORDERS, [*order_of("o0"), *((f"p{at}", raw) for at, raw in enumerate(poison)), *order_of("o1")])
    await fleet.send(MOVEMENTS, [("SH1", b"\x00"), ("SH1", placed("o7")[1])])
    await check_all(fleet, 2)
    letters = await fleet.newest_when(DEAD_LETTERS, lambda rows: len(rows) == len(poison) + 1)
    for at in range(len(poison)):
        letter = letters[f"p{at}"]
        assert letter["reason"] and letter["detail"] and letter["topic"].endswith("-orders")
    assert letters["SH1"]["reason"] == "unknown_type"


async def test_a_conflict_is_a_dead_letter_with_its_origin(fleet: WorkerGroup) -> None:
    await fleet.start()
    await fleet.receive(["A"], OPENING)
    await fleet.send(ORDERS, [*order_of("o0"), placed("o0", quantity=2)])
    letter = (await fleet.newest_when(DEAD_LETTERS, lambda rows: "o0" in rows))["o0"]
    assert letter["reason"] == "conflict" and letter["offset"] == 2
    await check_all(fleet, 1)


async def test_a_worker_that_is_told_to_stop_goes_within_seconds_and_the_next_one_goes_on(fleet: WorkerGroup) -> None:
    worker = await fleet.start()
    await fleet.receive(["A"], OPENING)
    sending = asyncio.create_task(send_steadily(fleet, range(600), 300))
    await asyncio.sleep(1)
    async with asyncio.timeout(15):
        assert await worker.end(signal.SIGTERM) == 0, worker.last_log_lines()
    await fleet.start()
    await sending
    await check_all(fleet, 600)


async def test_a_worker_that_is_killed_in_mid_stream_loses_nothing_and_does_nothing_twice(fleet: WorkerGroup) -> None:
    worker = await fleet.start()
    await fleet.receive(["A"], OPENING)
    sending = asyncio.create_task(send_steadily(fleet, range(1_500), 300))
    for count in (100, 500, 900):
        await fleet.sku_when("A", committed(count))
        await worker.end(signal.SIGKILL)
        worker = await fleet.start()
    await sending
    await check_all(fleet, 1_500)


async def test_a_second_worker_joins_and_the_first_one_leaves_in_mid_stream(fleet: WorkerGroup) -> None:
    first = await fleet.start("w1")
    await fleet.receive(["A"], OPENING)
    sending = asyncio.create_task(send_steadily(fleet, range(2_400), 200))
    await fleet.sku_when("A", committed(100))
    second = await fleet.start("w2")
    await fleet.sku_when("A", committed(700))
    await first.wait_ready()
    await second.wait_ready()
    assert await first.gauge("stocktide_relay_blessed") + await second.gauge("stocktide_relay_blessed") == 1
    assert await first.end(signal.SIGTERM) == 0, first.last_log_lines()
    await sending
    await check_all(fleet, 2_400)
    assert await second.gauge("stocktide_relay_blessed") == 1


async def test_a_worker_that_was_stopped_and_wakes_up_late_changes_nothing(fleet: WorkerGroup) -> None:
    first = await fleet.start("w1")
    await fleet.receive(["A"], OPENING)
    second = await fleet.start("w2")
    sending = asyncio.create_task(send_steadily(fleet, range(4_000), 200))
    await fleet.sku_when("A", committed(200))
    owner, other = (first, second) if await first.gauge("stocktide_relay_blessed") else (second, first)
    owner.send(signal.SIGSTOP)
    await asyncio.sleep(LONGER_THAN_SESSION_SECONDS)
    assert await other.gauge("stocktide_relay_blessed") == 1, other.last_log_lines()
    owner.send(signal.SIGCONT)
    await sending
    await check_all(fleet, 4_000)
    await owner.wait_ready()


async def test_a_worker_that_is_stopped_for_a_moment_goes_on(fleet: WorkerGroup) -> None:
    worker = await fleet.start()
    await fleet.receive(["A"], OPENING)
    sending = asyncio.create_task(send_steadily(fleet, range(800), 200))
    for count in (100, 300):
        await fleet.sku_when("A", committed(count))
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(1)
        worker.send(signal.SIGCONT)
    await sending
    await check_all(fleet, 800)


async def test_a_worker_without_kafka_or_redis_says_so_in_a_sentence_and_fails(fleet: WorkerGroup) -> None:
    for missing in ({"STOCKTIDE_KAFKA": "127.0.0.1:1"}, {"STOCKTIDE_REDIS": "redis://127.0.0.1:1/0"}):
        worker = await fleet.start("lonely", ready=False, **missing)
        status = await asyncio.wait_for(worker.process.wait(), WAIT_SECONDS_MAX)
        assert status != 0
        log = worker.log.read_text()
        assert "127.0.0.1:1" in log and "Traceback" not in log, log


async def test_a_row_that_a_former_owner_wrote_late_is_put_right_by_the_next_owner(fleet: WorkerGroup) -> None:
    worker = await fleet.start()
    await fleet.receive(["A"], OPENING)
    await fleet.send(ORDERS, order_of("o0"))
    await check_all(fleet, 1)
    right = (await fleet.newest(CHANNEL_STOCK))["jd/A"]
    assert await worker.end(signal.SIGTERM) == 0
    late = {**right, "quantity": 7, "version": right["version"] - 1}
    (partition,) = {record.partition for record in await fleet.records(CHANNEL_STOCK)}
    async with fleet.producer() as publisher:
        row = (b"jd/A", json.dumps(late).encode())
        topic = CHANNEL_STOCK.full_name(fleet.app_id)
        await publisher.publish(topic, [row], publisher.epoch, to_partition=lambda _: partition)
    await fleet.start()
    await fleet.newest_when(CHANNEL_STOCK, lambda rows: rows["jd/A"] == right)
