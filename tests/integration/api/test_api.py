"""Every call of the contract, on a running system."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
import orjson
from yarl import URL

from stocktide.streams.contract import documents
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, order_event, order_paid, order_placed, stock_received


async def test_an_empty_system_has_no_channels_and_no_stock(shop: ApiTestClient) -> None:
    # The first test of this module: the system is empty.
    assert (await shop.get("/v1/channels")).body == {"items": []}
    assert (await shop.get("/v1/channels/tmall/stock")).body == {"items": [], "next": None}
    async with shop.feed("nobody") as feed:
        assert await feed.until_synced() == []


def has_shape_of(shape: Any, body: Any) -> None:
    """Fail if `body` lacks a field of the contract or has another one."""
    assert body.items() <= msgspec.to_builtins(msgspec.convert(body, shape)).items()


async def test_an_order_is_placed_once_however_often_it_is_sent_and_another_body_is_a_conflict(
    shop: ApiTestClient,
) -> None:
    sku, order_id = await shop.receive_new(10), unique_name("order")
    first, again, other = [await shop.place(sku, units, order_id=order_id) for units in (3, 3, 2)]
    assert other.problem == (409, "conflict")
    assert "order" not in other.body
    assert (first.status, again.status) == (201, 200)
    assert (first.body["replayed"], again.body["replayed"]) == (False, True)
    assert {**again.body, "replayed": False} == first.body
    has_shape_of(documents.Order, first.body)
    assert first.body["lines"][0]["warehouses"] == {"SH1": 3}
    assert (await shop.stock(sku))["locked"] == 3


async def test_a_refusal_gives_a_reason_per_line_and_stands(shop: ApiTestClient) -> None:
    scarce, unknown, plenty = unique_name("sku"), unique_name("sku"), unique_name("sku")
    await shop.receive(scarce, 1)
    await shop.receive(plenty, 9)
    order = {"order_id": unique_name("order"), "lines": lines_of((plenty, 2), (scarce, 2), (unknown, 2))}
    refused = await shop.place(**order)
    assert refused.problem == (409, "insufficient_stock")
    assert [(line["sku"], line["reason"]) for line in refused.body["lines"]] == [
        (scarce, "insufficient_stock"),
        (unknown, "unknown_sku"),
    ]
    has_shape_of(documents.Problem, refused.body)
    assert refused.body["order"]["state"] == "rejected"
    await shop.receive(scarce, 100)
    again = await shop.place(**order)
    assert (again.status, again.body["replayed"]) == (409, True)


async def test_a_partial_order_takes_the_lines_that_hold(shop: ApiTestClient) -> None:
    plenty, unknown = await shop.receive_new(9), unique_name("sku")
    taken = await shop.place(accept="partial", lines=lines_of((plenty, 2), (unknown, 2)))
    assert taken.status == 201
    assert [line["state"] for line in taken.body["lines"]] == ["reserved", "rejected"]


async def test_pay_and_cancel_are_idempotent_and_move_the_units(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    placed = await shop.place(sku, 4)
    order = f"/v1/orders/{placed.body['order_id']}"
    paid, again = await shop.post(f"{order}/pay"), await shop.post(f"{order}/pay", {})
    assert (paid.status, paid.body["state"], paid.body["replayed"]) == (200, "paid", False)
    assert (again.status, again.body["replayed"]) == (200, True)
    assert paid.body["expires_at"] is None
    stock = await shop.stock(sku)
    assert (stock["committed"], stock["locked"], stock["available"]) == (4, 0, 6)
    assert (await shop.post(f"{order}/cancel")).body["state"] == "cancelled"
    assert (await shop.stock(sku))["available"] == 10
    late = await shop.post(f"{order}/pay")
    assert late.problem == (409, "already_final")
    assert (await shop.get(order)).body["state"] == "cancelled"


async def test_extend_lengthens_the_hold_by_what_is_asked_or_900_seconds(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    placed = await shop.place(sku, 1, hold_seconds=60)
    order = f"/v1/orders/{placed.body['order_id']}"
    by_default = await shop.post(f"{order}/extend", {})
    longer = await shop.post(f"{order}/extend", {"hold_seconds": 5000})
    ends = [answer.body["expires_at"] for answer in (placed, by_default, longer)]
    assert ends == sorted(set(ends))


async def test_the_same_event_id_with_another_body_is_a_conflict(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    order = f"/v1/orders/{(await shop.place(sku)).body['order_id']}"
    assert (await shop.post(f"{order}/extend", {"id": "e1", "hold_seconds": 1000})).status == 200
    assert (await shop.post(f"{order}/extend", {"id": "e1", "hold_seconds": 1000})).body["replayed"]
    other = await shop.post(f"{order}/extend", {"id": "e1", "hold_seconds": 2000})
    assert other.problem == (409, "conflict")


async def test_an_unknown_order_is_404(shop: ApiTestClient) -> None:
    for call in ("pay", "cancel", "extend"):
        answer = await shop.post(f"/v1/orders/{unique_name('order')}/{call}")
        assert answer.problem == (404, "unknown_order")
    answer = await shop.get(f"/v1/orders/{unique_name('order')}")
    assert answer.problem == (404, "unknown_order")


async def test_a_hold_ends_by_itself(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    placed = await shop.place(sku, 4, hold_seconds=1)
    path = f"/v1/orders/{placed.body['order_id']}"
    await shop.get_when(path, lambda answer: answer.body["state"] == "expired")
    assert (await shop.stock(sku))["available"] == 10
    late = await shop.post(f"{path}/pay")
    assert late.problem == (409, "already_final")


async def test_concurrent_shoppers_never_get_a_unit_too_many(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(50)
    placed = await asyncio.gather(*(shop.place(sku, 1) for _ in range(120)))
    statuses = [answer.status for answer in placed]
    assert (statuses.count(201), statuses.count(409)) == (50, 70)
    assert (await shop.stock(sku))["available"] == 0


async def test_thousands_of_events_go_in_one_call_and_bad_lines_are_named(shop: ApiTestClient) -> None:
    sku = unique_name("sku")
    lines: list[bytes] = []
    for number in range(3000):
        lines.append(orjson.dumps(stock_received(f"{sku}-{number}", (sku, 1))))
    lines[10] = b""
    lines[20] = b'{"type":"stock.received"'
    lines[30] = lines[30].replace(b'"quantity":1', b'"quantity":-1')
    lines[40] = b'{"type":"stock.vanished","id":"1","occurred_at":"2026-11-11T00:00:00Z"}'
    lines[50] = b"\xff\xfe"
    answer = await shop.send_events(*lines)
    assert answer.status == 202
    has_shape_of(documents.EventsTaken, answer.body)
    assert answer.body["accepted"] == 2995
    rejected = {line["line"]: (line["code"], line["path"]) for line in answer.body["rejected"]}
    assert rejected == {
        21: ("malformed_json", None),
        31: ("invalid_field", "lines[0].quantity"),
        41: ("unknown_type", "type"),
        51: ("malformed_json", None),
    }
    await shop.movement("SH1", f"{sku}-2999")
    assert (await shop.stock(sku))["on_hand"] == 2995


async def test_events_of_one_order_keep_their_order(shop: ApiTestClient) -> None:
    sku, order_id = await shop.receive_new(5), unique_name("order")
    shipped = [{"sku": sku, "quantity": 2, "warehouse": "SH1"}]
    events = (order_placed(order_id, sku, 2), order_paid(order_id), order_event("shipped", order_id, lines=shipped))
    assert (await shop.send_events(*events)).body == {"accepted": 3, "rejected": []}
    await shop.get_when(f"/v1/orders/{order_id}", lambda answer: answer.body.get("state") == "shipped")
    assert (await shop.stock(sku))["on_hand"] == 3


async def test_a_movement_has_its_result_at_its_location(shop: ApiTestClient) -> None:
    sku, id_ = unique_name("sku"), f"a/b {{c}}%2F{unique_name('wms')}".replace(" ", "_")
    taken = await shop.post("/v1/movements", stock_received(id_, (sku, 7), warehouse="SH/1"))
    assert taken.status == 202
    has_shape_of(documents.MovementTaken, taken.body)
    assert taken.headers["Location"] == f"/v1/warehouses/SH%2F1/movements/{quote(id_, safe='')}"
    did = await shop.movement("SH%2F1", quote(id_, safe=""))
    has_shape_of(documents.MovementAnswer, did)
    assert (did["warehouse"], did["id"], did["outcome"], did["lines"][0]["on_hand"]) == (*("SH/1", id_, "received", 7),)


async def test_a_refused_movement_has_a_reason(shop: ApiTestClient) -> None:
    received = stock_received(unique_name("wms"), (unique_name("sku"), -1))
    adjusted = {**received, "type": "stock.adjusted", "reason": "damages"}
    assert (await shop.move(adjusted))["outcome"] == "unknown_sku"


async def test_stock_has_the_shape_of_the_contract_and_an_unknown_sku_is_404(shop: ApiTestClient) -> None:
    sku = unique_name("sku")
    await shop.receive(sku, 7, "SH1")
    await shop.receive(sku, 3, "BJ1")
    await shop.place(sku, 2)
    stock = await shop.stock(sku)
    has_shape_of(documents.StockAnswer, stock)
    assert (stock["on_hand"], stock["locked"], stock["available"]) == (10, 2, 8)
    assert set(stock["warehouses"]) == {"SH1", "BJ1"}
    assert stock["channels"]["tmall"] == {"mode": "in_stock", "quantity": 8, "preorder_remaining": 0}
    unknown = await shop.get(f"/v1/stock/{unique_name('sku')}")
    assert unknown.problem == (404, "unknown_sku")


async def test_a_channels_stock_comes_in_pages_that_miss_and_repeat_nothing(shop: ApiTestClient) -> None:
    mine = {unique_name("page") for _ in range(7)}
    for sku in mine:
        await shop.receive(sku, 1)
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await shop.get(f"/v1/channels/tmall/stock?limit=3&cursor={quote(cursor)}")).body
        has_shape_of(documents.ChannelPage, page)
        seen += [item["sku"] for item in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert len(seen) == len(set(seen))
    assert mine <= set(seen)
    one, two, *_ = sorted(mine)
    chosen = (await shop.get(f"/v1/channels/tmall/stock?sku={one}&sku={two}&sku={unique_name('sku')}")).body
    assert [item["sku"] for item in chosen["items"]] == [one, two]


async def test_a_policy_is_set_whole_shown_and_removed(shop: ApiTestClient) -> None:
    channel, sku = unique_name("channel"), unique_name("sku")
    path = f"/v1/policies/{channel}"
    before = (await shop.get(path)).body
    has_shape_of(documents.PolicyAnswer, before)
    assert before["own"] is None
    policy = {"safety_threshold": 5, "below_threshold": "preorder", "preorder_cap": 9, "buffer": None}
    shown = await shop.put(path, policy)
    assert shown.status == 200
    assert shown.body["own"] == {"safety_threshold": 5, "below_threshold": "preorder", "preorder_cap": 9}
    assert (shown.body["effective"]["resume_threshold"], shown.body["effective"]["share"]) == (6, 1.0)
    assert (await shop.put(path, {"buffer": 2})).body["own"] == {"buffer": 2}
    merged = (await shop.put(f"{path}/{sku}", {"share": 0.5})).body
    assert (merged["own"], merged["effective"]["buffer"]) == ({"share": 0.5}, 2)
    everywhere = await shop.put(f"/v1/policies/*/{sku}", {"preorder_cap": 3})
    assert (everywhere.status, everywhere.body["own"]) == (200, {"preorder_cap": 3})
    for level in (f"{path}/{sku}", path, f"/v1/policies/*/{sku}"):
        assert (await shop.call("DELETE", level)).status == 204
        gone = await shop.call("DELETE", level)
        assert gone.problem == (404, "unknown_policy")
    assert channel in (await shop.get("/v1/channels")).body["items"]


async def test_a_policy_is_in_force_when_it_is_answered(shop: ApiTestClient) -> None:
    channel, sku = unique_name("channel"), unique_name("sku")
    await shop.receive(sku, 10)
    await shop.put(f"/v1/policies/{channel}", {"safety_threshold": 10, "below_threshold": "suspend"})
    refused = await shop.place(sku, 1, channel=channel)
    assert refused.problem == (409, "channel_suspended")
    await shop.put(f"/v1/policies/{channel}", {})
    assert (await shop.place(sku, 1, channel=channel)).status == 201


async def test_the_process_reports_its_health(shop: ApiTestClient) -> None:
    assert (await shop.get("/healthz")).body == {"status": "ok"}
    ready = await shop.get("/readyz")
    assert (ready.status, ready.body) == (200, {"ready": True, "reasons": {}})
    metrics = (await shop.get("/metrics")).body.decode()
    assert "stocktide_api_requests_total" in metrics
    assert "stocktide_api_ready 1.0" in metrics
    page = await shop.get("/")
    assert page.status == 200 and b"Stocktide" in page.body


async def test_the_documents_are_served_and_the_type_of_a_problem_is_its_page(shop: ApiTestClient) -> None:
    assert (await shop.get("/openapi.json")).body["openapi"].startswith("3.1")
    assert (await shop.get("/asyncapi.json")).body["asyncapi"] == "3.0.0"
    refused = await shop.get(f"/v1/orders/{unique_name('nobody')}")
    page = await shop.get(refused.body["type"])
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"unknown_order" in page.body
    assert (await shop.get("/problems/teapot")).problem == (404, "not_found")


async def test_what_was_made_is_at_its_location(shop: ApiTestClient) -> None:
    sku, order_id = await shop.receive_new(5), unique_name("天猫/o%25")
    placed = await shop.place(sku, order_id=order_id)
    assert placed.status == 201
    found = await shop.get(URL(shop.api + placed.headers["Location"], encoded=True))
    assert found.body["order_id"] == placed.body["order_id"]
    repeated = await shop.place(sku, order_id=placed.body["order_id"])
    assert (repeated.status, "Location" in repeated.headers) == (200, False)
    asked = await shop.place(sku, force=True, reason="a gift")
    assert asked.status == 202
    assert (await shop.get(asked.headers["Location"])).body["id"] == asked.body["id"]
    definition = {"channel": "tmall", "url": "https://shop.example/stocktide"}
    webhook = await shop.call("PUT", URL(f"{shop.api}/v1/webhooks/%E5%A4%A9%2F1", encoded=True), definition)
    assert webhook.status == 201
    found = await shop.get(URL(shop.api + webhook.headers["Location"], encoded=True))
    assert found.body["name"] == "天/1"
