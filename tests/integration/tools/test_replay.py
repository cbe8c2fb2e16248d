"""`stocktide replay` of small made-up files: through Kafka and HTTP, and through restarts.

The tests share a system. Each has a part of its own: no SKU, invoice or day of its file is in another one.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem

REPLAY_SECONDS_MAX = 240.0
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
COUNTRIES = ("United Kingdom", "France", "EIRE")
SEED = 7


def sku_of(part: int, number: int = 0) -> str:
    return f"1{part}{number:03}"


def retail_file(path: Path, invoices: int, part: int = 0) -> Path:
    """A file of orders over 20 SKUs; every tenth invoice also has a return and a write-off after it."""
    chance = random.Random(SEED)
    rows = [HEADER]
    for minute in range(invoices):
        number = 500_000 + 10_000 * part + minute
        at = f"2010-12-{part + 1:02} {minute // 60 % 24:02}:{minute % 60:02}"
        rest = f"{at},1.25,17850,{chance.choice(COUNTRIES)}\n"
        for _ in range(chance.randint(1, 4)):
            rows.append(f"{number},{sku_of(part, chance.randrange(20))},A THING,{chance.randint(1, 9)},{rest}")
        if number % 10 == 0:
            rows.append(f"{number},POST,POSTAGE,1,{rest}")
            rows.append(f"C{number},{sku_of(part, chance.randrange(20))},A THING,-2,{rest}")
            rows.append(f"{number}9,{sku_of(part, chance.randrange(20))},damages,-1,{rest}")
    path.write_text("".join(rows))
    return path


async def replay(running: RunningSystem, file: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; its exit status, its report and its output."""
    report = running.data.with_name("report.json")
    report.unlink(missing_ok=True)
    arguments = ("replay", str(file), *running.options, "--report", str(report), *options)
    # A system of another app id is not the one that the command finds a key for.
    environ = {"STOCKTIDE_KEY": running.ready["keys"]["operator"]}
    ended = await run_stocktide(*arguments, environ=environ, seconds_max=REPLAY_SECONDS_MAX)
    assert "Traceback" not in ended.printed, ended.printed
    return ended.status, json.loads(report.read_text()) if report.exists() else {}, ended.printed


async def test_with_enough_stock_every_order_is_paid(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 200, part=1)
    status, report, printed = await replay(running, file, "--opening", "100000")
    assert status == 0, printed
    assert report["outcomes"] == {"paid": 200}
    assert report["movements"] == {"adjusted": 40, "received": 1}
    assert report["skipped"] == {"fee POST": 20}
    assert report["check"] == {"ok": True, "skus": 20, "differences": []}
    assert (report["changed"], report["missing"], report["dead_letters"]) == (True, [], {})


async def test_a_copy_of_another_format_is_replayed(running: RunningSystem, tmp_path: Path) -> None:
    file = tmp_path / "second.csv"
    rows = [
        "Invoice;StockCode;Description;Quantity;InvoiceDate;Price;Customer ID;Country",
        "500001;10001;\u00a32 LAMP;2;13/12/2010 8:26;1,25;17850.0;France",
        "500002;10001;LAMP;3;31/12/10 14:05;1,25",
    ]
    file.write_text("\n".join(rows), encoding="cp1252")
    status, report, printed = await replay(
        running, file, "--opening", "10", "--dates", "dmy", "--encoding", "cp1252", "--report", str(tmp_path / "r.json")
    )
    assert (status, report) == (0, {}), printed
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["outcomes"], report["check"]["ok"]) == ({"paid": 2}, True)
    assert (report["first_at"], report["last_at"]) == ("2010-12-13T08:26:00+00:00", "2010-12-31T14:05:00+00:00")
    assert (report["ragged_rows"], report["ragged_first"][0][:7]) == (1, "line 3:")
    assert "2010-12-13 to 2010-12-31" in printed
    status, _, printed = await replay(running, file, "--encoding", "cp1252")
    assert status == 2
    assert (
        "line 2: InvoiceDate is '13/12/2010 8:26', and --dates is iso: with --dates dmy that is 13 December" in printed
    )


async def test_the_same_file_again_changes_nothing_and_reports_that(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 50, part=2)
    await replay(running, file, "--opening", "1000")
    async with running.client() as shop:
        before = await shop.stock(sku_of(2))
    for door in ("kafka", "http"):
        status, report, printed = await replay(running, file, "--opening", "1000", "--door", door)
        assert (status, report["changed"], report["confirmed"]) == (0, False, True), printed
        assert "nothing changed: every event was known already" in printed
    async with running.client() as shop:
        assert await shop.stock(sku_of(2)) == before


async def test_by_http_the_same_orders_end_the_same_way(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 100, part=3)
    status, report, printed = await replay(running, file, "--opening", "1000", "--door", "http")
    assert status == 0, printed
    assert (report["outcomes"], report["check"]["ok"], report["door"]) == ({"paid": 100}, True, "http")


async def test_shipped_orders_leave_the_shelf(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 100, part=4)
    status, report, printed = await replay(running, file, "--opening", "1000", "--until", "shipped")
    assert status == 0, printed
    assert (report["outcomes"], report["check"]["ok"]) == ({"shipped": 100}, True)
    async with running.client() as shop:
        assert (await shop.stock(sku_of(4)))["committed"] == 0


async def test_with_short_stock_orders_are_refused_or_preordered(running: RunningSystem, tmp_path: Path) -> None:
    policy = {"safety_threshold": 5, "below_threshold": "preorder", "preorder_cap": 100}
    async with running.client() as shop:
        assert (await shop.put("/v1/policies/france", policy)).status == 200
    status, report, printed = await replay(
        running, retail_file(tmp_path / "retail.csv", 300, part=5), "--opening", "30"
    )
    assert status == 0, printed
    assert report["outcomes"]["insufficient_stock"] > 0
    assert report["placings"]["preordered"] > 0
    assert report["check"]["differences"] == []


@pytest.mark.soak
async def test_killing_the_worker_and_the_api_on_the_way_loses_nothing(running: RunningSystem, tmp_path: Path) -> None:
    # Slowed to a few seconds, so that the kills fall into its middle: 1,500 invoices, one a minute of their time.
    file = retail_file(tmp_path / "retail.csv", 1_500, part=6)
    replaying = asyncio.create_task(replay(running, file, "--opening", "100000", "--speed", "12000"))
    await asyncio.sleep(4)
    for name in ("worker", "api"):
        await running.restart_part(name)
    status, report, printed = await replaying
    assert status == 0, printed
    assert (report["outcomes"], report["check"]["ok"]) == ({"paid": 1_500}, True)


async def test_without_a_running_system_the_command_fails_with_a_reason(tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 1)
    nowhere = ("--api", "http://127.0.0.1:9", "--kafka", "127.0.0.1:9")
    ended = await run_stocktide("replay", str(file), *nowhere, seconds_max=REPLAY_SECONDS_MAX)
    assert ended.status == 2
    assert "no API answers at http://127.0.0.1:9" in ended.printed
    assert "Traceback" not in ended.printed


async def test_where_the_topics_are_missing_the_command_names_the_first(running: RunningSystem, tmp_path: Path) -> None:
    file = retail_file(tmp_path / "retail.csv", 1)
    status, _, printed = await replay(running, file, "--app-id", "nobody")
    assert status == 2
    assert "has no topic nobody-reservations" in printed.replace("\n", " ")
