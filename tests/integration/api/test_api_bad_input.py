"""Bad input gets a 4xx problem document that says what is wrong and where, and the API continues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of

ORDER = {"order_id": "bad", "channel": "tmall", "lines": [{"sku": "A", "quantity": 1}]}


def order(**changes: Any) -> bytes:
    """An order with some fields replaced."""
    return orjson.dumps({**ORDER, **changes})


# A field of each kind; tests/unit/test_events.py has every wrong value.
WRONG_FIELDS = [
    (order(lines=[{"sku": "A", "quantity": 600_000}] * 2), "lines[1].quantity"),
    (order().replace(b'"quantity":1', b'"quantity":1' + b"0" * 400), "lines[0].quantity"),
    (order(lines=[{"sku": "A", "quantity": 1}, {"quantity": 1}]), "lines[1].sku"),
    (order(lines=[{"sku": f"S{number}", "quantity": 1} for number in range(2001)]), "lines"),
    (order(lines=None), "lines"),
    (order(order_id="x" * 129), "order_id"),
    (order(channel="*"), "channel"),
    (order(channel="\u202e"), "channel"),
    (order(priority="gold"), "priority"),
    (order(hold_seconds=604_801), "hold_seconds"),
    (order(occurred_at="2026-11-11T00:00:00"), "occurred_at"),
    (b'{"channel":"tmall","lines":[{"sku":"A","quantity":1}]}', "order_id"),
]


@pytest.mark.parametrize(("body", "path"), WRONG_FIELDS)
async def test_a_wrong_field_is_422_with_its_path(shop: ApiTestClient, body: bytes, path: str) -> None:
    answer = await shop.post("/v1/orders", body)
    assert answer.status == 422, answer.body
    assert answer.code in ("invalid_field", "missing_field")
    assert answer.body["errors"][0]["path"] == path


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"nonsense",
        b"\xff\xfe\x00",
        b'{"type":"stock.received","order_id":"1","id":"\xff"}',
        b'{"type":"stock.received","order_id":NaN}',
        b'{"type":"stock.received","order_id":-Infinity}',
        b'{"a":' * 50_000,
        b'{"a":' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("path", ["/v1/orders", "/v1/movements"])
async def test_what_is_no_json_is_a_400_problem(shop: ApiTestClient, path: str, body: bytes) -> None:
    answer = await shop.post(path, body)
    assert answer.problem == (400, "malformed_json"), answer.body


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/movements", "/v1/events", "/v1/orders/o/pay"])
async def test_ten_megabytes_are_a_413_problem(shop: ApiTestClient, path: str) -> None:
    body = order(padding="x" * 10_000_000)
    answer = await shop.post(path, body)
    assert answer.problem == (413, "too_large")


async def test_a_body_that_does_not_say_how_long_it_is_is_cut_off_as_well(shop: ApiTestClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 65_536

    assert (await shop.post("/v1/orders", endless())).problem == (413, "too_large")


async def test_a_line_too_large_is_rejected_and_its_neighbours_are_taken(shop: ApiTestClient) -> None:
    body = b'{"pad":"' + b"x" * 1_100_000 + b'"}\n' + b"{}\n"
    answer = await shop.post("/v1/events", body)
    assert answer.status == 202
    assert [(line["line"], line["code"]) for line in answer.body["rejected"]] == [
        (1, "too_large"),
        (2, "missing_field"),
    ]


async def test_more_lines_than_a_call_takes_are_a_413_problem(shop: ApiTestClient) -> None:
    answer = await shop.post("/v1/events", b"\n" * 1_000_000)
    assert answer.problem == (413, "too_many_lines")


async def test_rule_40_what_is_dated_too_far_ahead_is_422_at_every_path(shop: ApiTestClient) -> None:
    sku, ahead = unique_name("sku"), "2099-01-01T00:00:00Z"
    await shop.receive(sku, 5)
    answer = await shop.place(sku, occurred_at=ahead)
    assert (answer.status, answer.code, answer.body["errors"][0]["path"]) == (422, "occurred_in_future", "occurred_at")
    count = {"type": "stock.counted", "id": unique_name("c"), "warehouse": "SH1", "lines": lines_of((sku, 1))}
    answer = await shop.post("/v1/movements", count | {"occurred_at": ahead})
    assert (answer.status, answer.code, answer.body["errors"][0]["path"]) == (422, "occurred_in_future", "occurred_at")
    answer = await shop.send_events(*(count | {"occurred_at": at} for at in (ahead, "2026-11-20T00:00:00Z")))
    assert (answer.status, answer.body["accepted"]) == (202, 1)
    assert [(line["line"], line["code"], line["path"]) for line in answer.body["rejected"]] == [
        (1, "occurred_in_future", "occurred_at")
    ]


async def test_an_event_that_is_no_movement_is_refused_at_movements(shop: ApiTestClient) -> None:
    answer = await shop.post("/v1/movements", {**ORDER, "type": "order.placed", "id": "1"})
    assert answer.problem == (422, "unknown_type")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/board/..%2Fserver.py", 404, "not_found"),
        ("PATCH", "/v1/orders", 405, "method_not_allowed"),
        ("GET", "/v1/events", 405, "method_not_allowed"),
        ("DELETE", "/v1/stock/A", 405, "method_not_allowed"),
        ("GET", f"/v1/orders/{'x' * 129}", 422, "invalid_field"),
        ("GET", "/v1/stock/a%20b", 422, "invalid_field"),
        ("GET", "/v1/stock/%00", 422, "invalid_field"),
        ("GET", "/v1/channels/tmall/stock?limit=0", 422, "invalid_field"),
        ("GET", "/v1/channels/tmall/stock?limit=-1", 422, "invalid_field"),
        ("GET", "/v1/channels/tmall/stock?limit=many", 422, "invalid_field"),
        ("GET", "/v1/channels/tmall/stock?limit=99999999999999999999", 422, "invalid_field"),
        ("GET", "/v1/channels/tmall/stock?sku=", 422, "invalid_field"),
        ("GET", "/v1/channels/*/stock", 422, "invalid_field"),
        ("GET", "/v1/channels/*/feed", 422, "invalid_field"),
        ("GET", "/v1/policies/*", 422, "invalid_field"),
        ("PUT", "/v1/policies/*", 422, "invalid_field"),
        ("DELETE", "/v1/policies/nobody", 404, "unknown_policy"),
    ],
)
async def test_a_wrong_url_is_a_problem(shop: ApiTestClient, method: str, path: str, status: int, code: str) -> None:
    answer = await shop.call(method, path, b"{}" if method == "PUT" else None)
    assert answer.problem == (status, code)


@pytest.mark.parametrize("body", [b"[]", b'{"share":2}', b'{"safety_threshold":3,"resume_threshold":3}'])
async def test_a_wrong_policy_is_422_and_changes_nothing(shop: ApiTestClient, body: bytes) -> None:
    path = f"/v1/policies/{unique_name('channel')}"
    answer = await shop.put(path, body)
    assert answer.problem == (422, "invalid_field")
    assert (await shop.get(path)).body["own"] is None


async def test_a_type_that_is_no_json_is_415(shop: ApiTestClient) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await shop.call("POST", "/v1/orders", order(), headers=headers)
    assert answer.problem == (415, "unsupported_media_type")


async def test_a_page_of_another_origin_changes_nothing(shop: ApiTestClient) -> None:
    headers = {"Origin": "https://evil.example"}
    answer = await shop.call("POST", "/v1/orders", order(), headers=headers)
    assert answer.problem == (403, "foreign_origin")
    own = await shop.call("POST", "/v1/orders/none/pay", headers={"Origin": shop.api})
    assert own.code == "unknown_order"


async def test_the_api_still_works_after_all_bad_input(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(1)
    assert (await shop.place(sku)).status == 201
    assert (await shop.get("/readyz")).status == 200
