"""The size benchmark: truncation of the append-only file, lost orders, pauses."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
from msgspec.structs import replace
from rich.console import Console

from bench.orders import LINES_PER_EVENT
from bench.report import Report
from bench.size.outage import OrderTraffic, parse_recovery_log
from bench.size.seeding import encode_held_order, receipts
from bench.valkey import TAIL_SECONDS, WATCH_SECONDS, AppendOnlyFile
from stocktide.loadtest.client.contract import LineView, OrderView

ORDER = OrderView(
    order_id="a",
    channel="jd",
    state="reserved",
    lines=(LineView("S1", 1),),
    placed_at="2026-11-11T00:00:00.000Z",
    expires_at="2026-11-18T00:00:00.000Z",
    sequence=1,
)


async def watched_file(folder: Path) -> tuple[AppendOnlyFile, Path]:
    """The files of Valkey, a base and 100 bytes of increments since, watched for some time; and that of these."""
    kept = folder / "appendonlydir"
    kept.mkdir()
    (kept / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
    )
    incr = kept / "appendonly.aof.2.incr.aof"
    incr.write_bytes(b"o" * 100)
    file = AppendOnlyFile(folder)
    watching = asyncio.create_task(file.watch())
    await asyncio.sleep(3 * WATCH_SECONDS)
    watching.cancel()
    return file, incr


async def test_only_what_was_written_while_it_was_watched_is_cut_off(tmp_path: Path) -> None:
    file, incr = await watched_file(tmp_path)
    incr.write_bytes(b"o" * 100 + b"n" * 50)
    lost, seconds = file.cut(time.monotonic())
    assert (lost, incr.read_bytes()) == (50, b"o" * 100)
    assert 0 < seconds <= TAIL_SECONDS


async def test_what_is_older_than_the_tail_is_not_cut_off(tmp_path: Path) -> None:
    file, incr = await watched_file(tmp_path)
    incr.write_bytes(b"o" * 150)
    assert file.cut(time.monotonic() + TAIL_SECONDS + 1)[0] == 0
    assert incr.stat().st_size == 150


async def test_an_order_that_is_missing_or_differs_from_its_answer_is_lost() -> None:
    traffic = OrderTraffic("", None, 1.0, 10, "t")
    there = {"same": ORDER, "changed": replace(ORDER, expires_at=None), "ended": replace(ORDER, state="expired")}
    traffic.responses = dict.fromkeys(("same", "changed", "gone"), ORDER)
    traffic.acknowledged_ids = ["ended", "gone-too"]

    async def look(order_id: str) -> OrderView | None:
        return there.get(order_id)

    assert await traffic.lost(look) == ["changed", "gone", "ended", "gone-too"]


def test_a_workers_log_shows_redone_batches_and_takeovers() -> None:
    log = (
        "WARNING tables.recovery.takeover: Redis came back with batch 5070, the journal holds 5493: redo\n"
        "INFO tables.recovery.takeover: blessed: term 2, journal at batch 5493, Redis came with batch 5070\n"
        "INFO tables.recovery.takeover: blessed: term 3, rebuilt up to batch 5494\n"
    )
    assert parse_recovery_log(log) == {"batches_redone": 423, "redos": 1, "takeovers": 2}


def test_every_sku_is_received_in_every_warehouse_once() -> None:
    events = [orjson.loads(value) for _, value in receipts(0, LINES_PER_EVENT + 1)]
    received = [(event["warehouse"], line["sku"]) for event in events for line in event["lines"]]
    assert len(received) == len(set(received)) == 3 * (LINES_PER_EVENT + 1)


def test_orders_are_held_for_as_long_as_may_be_over_all_channels_and_skus() -> None:
    orders = [orjson.loads(encode_held_order(f"o{number}", number, 100)) for number in range(500)]
    assert {order["hold_seconds"] for order in orders} == {604_800}
    assert len({order["channel"] for order in orders}) == 5
    assert len({order["lines"][0]["sku"] for order in orders}) == 100


def test_failed_checks_are_kept() -> None:
    notes = Report(Console(quiet=True))
    notes.check(True, "fine")
    notes.check(False, "an order is lost")
    assert notes.broken == ["an order is lost"]
