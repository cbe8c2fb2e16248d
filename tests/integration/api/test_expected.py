"""Announced receipts over HTTP, on a running system."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import stock_expected, stock_received
from tests.harness.system import RunningSystem

LATER = "2026-11-11T00:00:01Z"
NO_MORE = "2026-11-11T00:00:02Z"


async def announcement(shop: ApiTestClient, sku: str, **wanted: Any) -> Any:
    """The only announcement of a SKU, once it has these values."""
    path = f"/v1/expected?sku={sku}"

    def matches(answer: Any) -> bool:
        items = answer.body["items"]
        return len(items) == 1 and all(items[0][name] == value for name, value in wanted.items())

    return (await shop.get_when(path, matches))["items"][0]


async def receive(shop: ApiTestClient, sku: str, units: int, po: str) -> Any:
    return await shop.move({**stock_received(unique_name("wms"), (sku, units)), "expected_id": po})


async def test_an_announcement_is_received_in_parts_and_over_receipt_is_told(shop: ApiTestClient) -> None:
    sku, po = unique_name("sku"), unique_name("po")
    assert (await shop.get(f"/v1/stock/{sku}")).status == 404
    done = await shop.move(stock_expected(po, (sku, 100)))
    assert (done["type"], done["outcome"]) == ("stock.expected", "expected")
    stock = await shop.stock(sku)
    assert (stock["incoming"], stock["on_hand"], stock["available"], stock["warehouses"]) == (100, 0, 0, {})
    found = await announcement(shop, sku, state="expected")
    assert found["lines"] == [{"sku": sku, "quantity": 100, "received": 0, "incoming": 100, "over": 0}]
    assert (found["id"], found["warehouse"], found["eta"]) == (po, "SH1", "2099-01-01T00:00:00.000Z")
    await receive(shop, sku, 30, po)
    found = await announcement(shop, sku, state="partly_received")
    assert found["lines"][0]["received"] == 30 and (await shop.stock(sku))["incoming"] == 70
    assert (await receive(shop, sku, 75, po))["outcome"] == "received"
    found = await announcement(shop, sku, state="over_received")
    assert found["lines"][0] == {"sku": sku, "quantity": 100, "received": 105, "incoming": 0, "over": 5}
    stock = await shop.stock(sku)
    assert (stock["incoming"], stock["on_hand"]) == (0, 105)


async def test_preorders_follow_what_is_announced_amended_and_withdrawn(shop: ApiTestClient) -> None:
    sku, po, channel = unique_name("sku"), unique_name("po"), unique_name("channel")
    policy = {"below_threshold": "preorder", "preorder_cap": 50, "preorder_backed": True}
    await shop.put(f"/v1/policies/{channel}/{sku}", policy)
    async with shop.feed(channel) as feed:
        await feed.until_synced()
        await shop.move(stock_expected(po, (sku, 10)))
        await feed.until(sku, mode="preorder", preorder_remaining=10)
        placed = await shop.place(sku, 4, channel=channel)
        assert (placed.status, placed.body["lines"][0]["state"]) == (201, "preordered")
        await feed.until(sku, mode="preorder", preorder_remaining=6)
        assert (await shop.place(sku, 7, channel=channel)).problem == (409, "preorder_cap_reached")
        await shop.send_events(stock_expected(po, (sku, 5), at=LATER), stock_expected(po, (sku, 99)))
        await feed.until(sku, mode="preorder", preorder_remaining=1)
        await shop.send_events(stock_expected(po, (sku, 0), at=NO_MORE))
        await feed.until(sku, mode="sold_out", preorder_remaining=0)
    found = await announcement(shop, sku, state="withdrawn")
    assert (found["amendments"], found["occurred_at"]) == (2, "2026-11-11T00:00:02.000Z")
    assert (await shop.stock(sku))["preordered"] == 4, "the preorders stand"


async def test_announcements_are_listed_by_warehouse_and_page_and_the_late_ones_alone(shop: ApiTestClient) -> None:
    sku, here, there = unique_name("sku"), unique_name("W"), unique_name("V")
    for number in range(3):
        eta = "2026-01-01T00:00:00Z" if number == 1 else "2099-01-01T00:00:00Z"
        await shop.move(stock_expected(f"po-{number}", (sku, 1), eta=eta, warehouse=here))
    await shop.move(stock_expected("po-0", (sku, 1), warehouse=there))
    ids, cursor = [], ""
    for _ in range(3):
        page = (await shop.get(f"/v1/expected?warehouse={here}&limit=1{cursor}")).body
        ids += [item["id"] for item in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert ids == ["po-0", "po-1", "po-2"] and page["next"] is None
    assert len((await shop.get(f"/v1/expected?sku={sku}")).body["items"]) == 4
    late = f"/v1/expected?warehouse={here}&sku={sku}&overdue=true"
    items = (await shop.get_when(late, lambda answer: answer.body["items"]))["items"]
    assert [(item["id"], item["overdue"]) for item in items] == [("po-1", True)]
    others = (await shop.get(f"/v1/expected?warehouse={here}&overdue=false")).body["items"]
    assert [item["id"] for item in others] == ["po-0", "po-2"]
    assert (await shop.get(f"/v1/expected?warehouse={unique_name('no')}")).body == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("overdue=perhaps", "overdue"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("sku=", "sku"),
        ("warehouse=%20", "warehouse"),
    ],
)
async def test_a_query_that_says_nothing_is_refused_with_its_path(shop: ApiTestClient, query: str, path: str) -> None:
    refused = await shop.get(f"/v1/expected?{query}")
    assert refused.problem == (422, "invalid_field") and refused.body["errors"][0]["path"] == path


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"eta": None}, "missing_field", "eta"),
        ({"eta": "soon"}, "invalid_field", "eta"),
        ({"lines": [{"sku": "A", "quantity": -1}]}, "invalid_field", "lines[0].quantity"),
        ({"lines": []}, "invalid_field", "lines"),
        ({"occurred_at": "2099-01-01T00:00:00Z"}, "occurred_in_future", "occurred_at"),
    ],
)
async def test_an_announcement_that_is_none_is_refused_with_its_path(
    shop: ApiTestClient, change: dict[str, Any], code: str, path: str
) -> None:
    refused = await shop.post("/v1/movements", {**stock_expected("po-9", ("A", 1)), **change})
    assert refused.problem == (422, code) and refused.body["errors"][0]["path"] == path


async def test_explain_tells_what_was_announced_and_an_audit_finds_no_drift(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    sku, po = unique_name("sku"), unique_name("po")
    await shop.move(stock_expected(po, (sku, 10)))
    await receive(shop, sku, 4, po)
    explained = await running.run("explain", sku, environ={"COLUMNS": "160"})
    assert f"announcement {po} at SH1: 10 to come" in explained.out
    assert f"announced as {po}" in explained.out
    audited = await running.run("audit", "--json")
    assert audited.status == 0, audited
