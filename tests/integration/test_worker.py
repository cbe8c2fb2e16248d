"""Workers on a real Kafka and a real Redis: from input events to derived rows, also through faults."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stocktide.agents.days.retention import FORGOTTEN_ROWS_MAX
from stocktide.streams.contract.daily import DAYS_STORED
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher, make_producer
from stocktide.streams.topics import (
    ADJUSTMENTS,
    ALERTS,
    AUDIT,
    CHANNEL_STOCK,
    DAILY,
    DEAD_LETTERS,
    MOVEMENTS,
    ORDERS,
    RESERVATIONS,
    STOCK,
)
from stocktide.tables.ledger.records import SkuRecord
from tests.harness.events import lines_of, order_event, order_paid, order_placed, placed_and_paid
from tests.harness.eventually import eventually
from tests.harness.process import StocktideProcess
from tests.harness.workers import WAIT_SECONDS_MAX, WorkerGroup
from tests.unit.fakes import FakeMembership

OPENING = 1_000_000
# Longer than the session timeout of streams.app: the partitions are reassigned.
LONGER_THAN_SESSION_SECONDS = 13.0


async def start_with_stock(group: WorkerGroup, name: str = "w1", **settings: str) -> StocktideProcess:
    worker = await group.start(name, **settings)
    await group.receive(["A"], OPENING)
    return worker


async def check_all(group: WorkerGroup, orders: int) -> None:
    """Each order counts once; every derived topic agrees with the ledger; all input offsets are committed."""
    record = await group.sku_when("A", lambda sku: sku.counters.get("committed@SH1") == orders)
    assert record.counters["on_hand@SH1"] == OPENING and not record.counters.get("locked@SH1")
    rows = await group.rows_when(RESERVATIONS, lambda rows: sum(map(is_paid, rows.values())) == orders)
    assert set(rows) == {f"o{number}" for number in range(orders)}
    stock = (await group.rows_when(STOCK, lambda rows: rows["A"]["version"] == record.version))["A"]
    assert stock["committed"] == orders and stock["available"] == OPENING - orders
    update = (await group.rows_when(CHANNEL_STOCK, lambda rows: has_offer(rows["jd/A"], stock)))["jd/A"]
    assert update["version"] <= record.version
    await check_versions_grow(group)
    totals = await group.rows_when(DAILY, lambda rows: orders_of_days(rows) >= orders)
    assert orders_of_days(totals) == orders

    async def is_all_committed() -> bool:
        return await group.uncommitted() == 0

    await eventually(is_all_committed, WAIT_SECONDS_MAX)


async def check_versions_grow(group: WorkerGroup) -> None:
    seen: dict[bytes | None, int] = {}
    for record in await group.records(CHANNEL_STOCK):
        version = json.loads(record.value or b"")["version"]
        # After a crash the same update may come twice, but never an older one.
        assert version >= seen.get(record.key, 0)
        seen[record.key] = version


def orders_of_days(totals: dict[str, Any]) -> int:
    return sum(row.get("orders", 0) for key, row in totals.items() if row and key.startswith("orders/"))


def is_paid(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "paid")


def has_offer(update: dict[str, Any], stock: dict[str, Any]) -> bool:
    offer = stock["channels"]["jd"]
    return all(update[name] == offer[name] for name in ("mode", "quantity", "preorder_remaining"))


def committed(count: int) -> Callable[[SkuRecord], bool]:
    return lambda record: record.counters.get("committed@SH1", 0) >= count


async def test_an_event_that_comes_again_and_again_counts_once(group: WorkerGroup) -> None:
    await start_with_stock(group)
    for number in range(20):
        await group.send_orders(*3 * placed_and_paid(f"o{number}"))
    await group.receive(["A"], OPENING)
    await check_all(group, 20)
    assert len(await group.rows(ADJUSTMENTS)) == 1


async def test_early_events_of_a_megabyte_stop_nothing_and_pay_their_order_when_it_comes(group: WorkerGroup) -> None:
    await start_with_stock(group)
    large = [order_paid("o0", id=f"paid-{number}", note="x" * 1_000_000) for number in range(17)]
    await group.send_orders(*large, *placed_and_paid("o1"))
    await group.sku_when("A", committed(1))
    await group.send_orders(order_placed("o0"))
    await check_all(group, 2)
    assert not await group.rows(DEAD_LETTERS)


async def test_a_return_that_comes_before_its_shipment_counts_with_it(group: WorkerGroup) -> None:
    await start_with_stock(group)
    line = {"sku": "A", "quantity": 1, "warehouse": "SH1"}
    await group.send_orders(order_event("returned", "o0", lines=[line]), *placed_and_paid("o0"))
    await group.sku_when("A", committed(1))
    await group.send_orders(order_event("shipped", "o0", lines=[line]))
    rows = await group.rows_when(RESERVATIONS, lambda rows: rows["o0"]["state"] == "shipped")
    assert rows["o0"]["lines"][0]["returned"] == 1
    record = await group.sku_when("A", lambda sku: not sku.counters.get("committed@SH1"))
    assert record.counters["on_hand@SH1"] == OPENING
    assert not await group.rows(DEAD_LETTERS)


async def test_totals_of_old_days_are_forgotten_in_the_table_and_in_what_a_restart_reads(group: WorkerGroup) -> None:
    today = datetime.now(UTC).date()
    kept, old = ((today - timedelta(days=days)).isoformat() for days in (DAYS_STORED - 1, DAYS_STORED))
    # More than one write removes; the newest key of each kind, the oldest, and one whose channel looks like a day.
    many = [f"orders/2020-01-01/c{number}" for number in range(FORGOTTEN_ROWS_MAX + 5)]
    gone = {
        *many,
        f"orders/{old}/jd",
        f"inputs/{old}",
        f"switches/{old}/jd",
        f"dead-letters/{old}",
        "switches/2020-01-01/x",
    }
    stay = {f"orders/{kept}/2020-01-01", f"inputs/{kept}", f"switches/{kept}/jd", f"dead-letters/{kept}"}
    row = {"day": kept, "channel": "jd", "orders": 7}
    await group.write(DAILY, *((key, row) for key in sorted(gone | stay)), to_partition=lambda _: 0)
    worker = await start_with_stock(group)
    rows = await group.rows_when(DAILY, lambda rows: not any(rows[key] for key in gone))
    assert {key for key in gone | stay if rows[key] is not None} == stay
    await worker.stop(signal.SIGKILL)
    end = len(await group.records(DAILY))
    await start_with_stock(group, "w2")  # it restores the same rows, and finds nothing to remove
    await group.send_orders(order_placed("o0"))
    await group.rows_when(DAILY, lambda rows: orders_of_days(rows) == 7 + 1)
    assert all(record.value for record in (await group.records(DAILY))[end:])


async def test_a_change_of_mode_that_is_written_again_after_a_kill_counts_once(group: WorkerGroup) -> None:
    def switches(*ids: str) -> list[tuple[str, dict[str, Any]]]:
        row = {"type": "mode_switched", "sku": "A", "channel": "jd", "at": datetime.now(UTC).isoformat()}
        return [("A", {**row, "id": id_}) for id_ in ids]

    def counted(rows: dict[str, Any]) -> int:
        return sum(row["published_ms"][0] for key, row in rows.items() if key.startswith("switches/"))

    worker = await group.start()
    await group.write(ALERTS, *switches("m1", "m2"))
    await group.rows_when(DAILY, lambda rows: counted(rows) == 2)
    await worker.stop(signal.SIGKILL)
    await group.write(ALERTS, *switches("m2", "m3"))
    await group.start("w2")
    await group.write(ALERTS, *switches("m1", "m4"))
    rows = await group.rows_when(DAILY, lambda rows: counted(rows) >= 4)
    assert counted(rows) == 4

    async def is_read() -> bool:
        through = (await group.rows(DAILY))["followed"]["through"]
        return sum(end for place, end in through.items() if place.startswith("alerts/")) == 6

    await eventually(is_read, WAIT_SECONDS_MAX)
    assert counted(await group.rows(DAILY)) == 4


async def test_an_event_whose_order_never_comes_ends_in_the_dead_letters(group: WorkerGroup) -> None:
    await start_with_stock(group, STOCKTIDE_PARK_SECONDS="1")
    await group.send_orders(order_paid("ghost"))
    letter = (await group.rows_when(DEAD_LETTERS, lambda rows: "ghost" in rows))["ghost"]
    assert letter["reason"] == "unknown_order" and json.loads(letter["raw"])["order_id"] == "ghost"


async def test_a_forced_order_that_nobody_approves_ends_and_its_request_is_audited(group: WorkerGroup) -> None:
    await start_with_stock(group, STOCKTIDE_APPROVAL_SECONDS="1")
    await group.send_orders(order_placed("o0", force=True, reason="for the press", actor="anna"))
    row = (await group.rows_when(RESERVATIONS, lambda rows: rows["o0"]["state"] == "rejected"))["o0"]
    assert (row["lines"][0]["reason"], row["record"]["approval"]["state"]) == ("not_approved", "expired")
    audited = [json.loads(record.value or b"") for record in await group.records(AUDIT)]
    assert [(each["actor"], each["action"]) for each in audited] == [
        ("anna", "approval_requested"),
        ("ledger", "approval_expired"),
    ]
    alerts = [json.loads(record.value or b"") for record in await group.records(ALERTS)]
    assert [each["type"] for each in alerts if each["order_id"] == "o0"] == ["approval_waiting", "approval_expired"]
    assert not await group.rows(DEAD_LETTERS)


async def test_poison_goes_to_the_dead_letters_and_its_neighbours_go_on(group: WorkerGroup) -> None:
    await start_with_stock(group)
    poison: list[bytes] = [b"{", b"\xff\xfe", b"", b"NaN", b"[" * 100_000, b" " * (2 * 1024 * 1024), b'{"type":"x"}']
    poison += [json.dumps(order_placed("p", quantity=quantity)).encode() for quantity in (0, -1, 10**30)]
    poison.append(json.dumps(order_placed("p", lines=lines_of(("A", 1)) * 2_001)).encode())
    await group.send_orders(*placed_and_paid("o0"))
    await group.write(ORDERS, *((f"p{at}", raw) for at, raw in enumerate(poison)))
    await group.send_orders(*placed_and_paid("o1"), order_placed("o0", quantity=2))
    await group.write(MOVEMENTS, ("SH1", b"\x00"), ("SH1", order_placed("o7")))
    await check_all(group, 2)
    letters = await group.rows_when(DEAD_LETTERS, lambda rows: len(rows) == len(poison) + 2)
    for at in range(len(poison)):
        letter = letters[f"p{at}"]
        assert letter["reason"] and letter["detail"] and letter["topic"].endswith("-orders")
    assert letters["SH1"]["reason"] == "unknown_type"
    assert letters["o0"]["reason"] == "conflict" and letters["o0"]["offset"] >= 2
    assert json.loads(letters["o0"]["raw"]) == order_placed("o0", quantity=2)


async def test_a_worker_stops_within_seconds_and_the_next_one_continues(group: WorkerGroup) -> None:
    worker = await start_with_stock(group)
    sending = asyncio.create_task(group.place_orders(range(600), 300))
    await asyncio.sleep(1)
    async with asyncio.timeout(15):
        assert await worker.stop(signal.SIGTERM) == 0, worker.log_tail()
    await group.start()
    await sending
    await check_all(group, 600)


async def test_a_worker_that_is_killed_in_mid_stream_loses_nothing_and_does_nothing_twice(group: WorkerGroup) -> None:
    worker = await start_with_stock(group)
    sending = asyncio.create_task(group.place_orders(range(1_500), 300))
    for count in (100, 500, 900):
        await group.sku_when("A", committed(count))
        await worker.stop(signal.SIGKILL)
        worker = await group.start()
    await sending
    await check_all(group, 1_500)


@pytest.mark.soak
async def test_a_second_worker_joins_and_the_first_one_leaves_in_mid_stream(group: WorkerGroup) -> None:
    first = await start_with_stock(group, "w1")
    sending = asyncio.create_task(group.place_orders(range(1_600), 150))
    await group.sku_when("A", committed(100))
    second = await group.start("w2")
    await group.sku_when("A", committed(700))
    await first.wait_ready()
    await second.wait_ready()
    assert await first.metric("stocktide_relay_blessed") + await second.metric("stocktide_relay_blessed") == 1
    assert await first.stop(signal.SIGTERM) == 0, first.log_tail()
    await sending
    await check_all(group, 1_600)
    assert await second.metric("stocktide_relay_blessed") == 1


@pytest.mark.soak
async def test_a_worker_that_was_stopped_and_wakes_up_late_changes_nothing(group: WorkerGroup) -> None:
    first = await start_with_stock(group, "w1")
    second = await group.start("w2")
    sending = asyncio.create_task(group.place_orders(range(2_000), 100))
    await group.sku_when("A", committed(100))
    owner, other = (first, second) if await first.metric("stocktide_relay_blessed") else (second, first)
    owner.send_signal(signal.SIGSTOP)
    await asyncio.sleep(LONGER_THAN_SESSION_SECONDS)
    assert await other.metric("stocktide_relay_blessed") == 1, other.log_tail()
    owner.send_signal(signal.SIGCONT)
    await sending
    await check_all(group, 2_000)
    await owner.wait_ready()


async def test_rows_in_the_buffers_of_a_process_that_stops_are_not_sent_when_it_goes_on(group: WorkerGroup) -> None:
    producer, membership = make_producer(group.kafka), FakeMembership(session_seconds=10.0)
    publisher, send_batch = Publisher(producer, membership), producer.send_batch
    await publisher.start()

    async def stop_with_rows_in_the_buffer(*args: Any, **options: Any) -> Any:
        sent = await send_batch(*args, **options)
        membership.now += LONGER_THAN_SESSION_SECONDS
        return sent

    producer.send_batch = stop_with_rows_in_the_buffer
    row = (b"jd/A", b'{"version":1}')
    publishing = asyncio.create_task(publisher.publish(group.topic(CHANNEL_STOCK), [row], membership.epoch))
    await asyncio.sleep(0.5)
    producer.send_batch = send_batch
    assert not publishing.done() and not await group.records(CHANNEL_STOCK)
    membership.end()
    with pytest.raises(MembershipLost):
        await publishing
    membership.begin()
    await publisher.publish(group.topic(CHANNEL_STOCK), [row], membership.epoch)
    assert [record.value for record in await group.records(CHANNEL_STOCK)] == [row[1]]
    await publisher.stop()


@pytest.mark.soak
async def test_a_worker_that_is_stopped_for_a_moment_goes_on(group: WorkerGroup) -> None:
    worker = await start_with_stock(group)
    sending = asyncio.create_task(group.place_orders(range(800), 200))
    for count in (100, 300):
        await group.sku_when("A", committed(count))
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1)
        worker.send_signal(signal.SIGCONT)
    await sending
    await check_all(group, 800)


async def test_a_worker_without_kafka_or_redis_fails_with_a_sentence(group: WorkerGroup) -> None:
    for missing in ({"STOCKTIDE_KAFKA": "127.0.0.1:1"}, {"STOCKTIDE_REDIS": "redis://127.0.0.1:1/0"}):
        worker = await group.start("lonely", wait=False, **missing)
        assert await worker.wait() != 0
        assert "127.0.0.1:1" in worker.output and "Traceback" not in worker.output, worker.output


async def test_a_worker_without_a_folder_fails_with_a_sentence(group: WorkerGroup, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    worker = await group.start("homeless", wait=False, STOCKTIDE_DATA=str(tmp_path / "file"))
    assert await worker.wait() == 1
    assert f"STOCKTIDE_DATA is {tmp_path / 'file'}" in worker.output and "Traceback" not in worker.output, worker.output


async def test_a_row_that_a_former_owner_wrote_late_is_put_right_by_the_next_owner(group: WorkerGroup) -> None:
    worker = await start_with_stock(group)
    await group.send_orders(*placed_and_paid("o0"))
    await check_all(group, 1)
    right = (await group.rows(CHANNEL_STOCK))["jd/A"]
    assert await worker.stop(signal.SIGTERM) == 0
    late = {**right, "quantity": 7, "version": right["version"] - 1}
    (partition,) = {record.partition for record in await group.records(CHANNEL_STOCK)}
    await group.write(CHANNEL_STOCK, ("jd/A", late), to_partition=lambda _: partition)
    await group.start()
    await group.rows_when(CHANNEL_STOCK, lambda rows: rows["jd/A"] == right)
