"""Names are stored exactly as they were sent, by every path and query that takes a name."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from yarl import URL

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, stock_received

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

ASCII = "".join(map(chr, range(0x21, 0x7F)))
# A sample of all printable characters.
SOME = [chr(number) for number in range(0xA1, sys.maxunicode, 97) if chr(number).isprintable()]
NAMES = [
    ASCII,
    *("".join(SOME[start : start + 120]) for start in range(0, len(SOME), 1_200)),
    *("a/b", "%2F", "%", "a%C3%A9", "..", "a+b", "a?b#c", "e\u0301", "é"),
]


def escaped(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


async def call(shop: ApiTestClient, method: str, target: str, body: Any = None) -> Any:
    """The body of one call whose target is sent as it is."""
    answer = await shop.call(method, URL(shop.api + target, encoded=True), body)
    assert answer.status < 300, answer.body
    return answer.body


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_name_is_stored_as_it_was_sent_by_every_way(shop: ApiTestClient, name: str) -> None:
    name = (name + unique_name("-"))[-128:]
    it = escaped(name)
    policy = await call(shop, "PUT", f"/v1/policies/{it}/{it}", {"buffer": 1})
    assert (policy["channel"], policy["sku"]) == (name, name)
    accepted = await shop.post("/v1/movements", stock_received(name, (name, 7), warehouse=name))
    location = URL(shop.api + accepted.headers["Location"], encoded=True)
    moved = await shop.get_when(location, lambda answer: answer.status == 200)
    assert (moved["warehouse"], moved["id"], moved["lines"][0]["sku"]) == (name, name, name)
    order = {"order_id": name, "channel": name, "lines": lines_of((name, 1))}
    assert (await call(shop, "POST", "/v1/orders", order))["order_id"] == name
    assert (await call(shop, "POST", f"/v1/orders/{it}/pay", {}))["state"] == "paid"
    assert (await call(shop, "GET", f"/v1/orders/{it}"))["order_id"] == name
    stock = await call(shop, "GET", f"/v1/stock/{it}")
    assert stock["sku"] == name and stock["on_hand"] == 7
    assert set(stock["warehouses"]) == {name} and name in stock["channels"]
    assert (await call(shop, "GET", f"/v1/stock/{it}/history"))["sku"] == name
    page = await call(shop, "GET", f"/v1/channels/{it}/stock?sku={it}")
    assert [item["sku"] for item in page["items"]] == [name]
    before = name[:-1] + chr(ord(name[-1]) - 1)
    page = await call(shop, "GET", f"/v1/channels/{it}/stock?cursor={escaped(before)}&limit=1")
    assert page["items"][0]["sku"] == name
    timeout = aiohttp.ClientTimeout(total=30)
    async with shop.session.get(URL(f"{shop.api}/v1/channels/{it}/feed", encoded=True), timeout=timeout) as feed:
        async for line in feed.content:
            if line.startswith(b"data: ") and orjson.loads(line[6:]).get("sku") == name:
                assert orjson.loads(line[6:])["channel"] == name
                break


async def test_an_escape_that_is_no_utf_8_creates_nothing(shop: ApiTestClient) -> None:
    channel = unique_name("web")
    for sku in ("caf%E9", "%", "%4", "%zz"):
        url = URL(f"{shop.api}/v1/policies/{channel}/{sku}", encoded=True)
        assert (await shop.call("PUT", url, {})).problem == (400, "malformed_path")
    assert channel not in (await shop.get("/v1/channels")).body["items"]


async def test_a_thousand_skus_are_asked_for_in_one_query(shop: ApiTestClient) -> None:
    skus = [unique_name("sku") for _ in range(3)]
    for sku in skus:
        await shop.receive(sku, 1)
    unknown = [f"unknown-{number:04d}-{'x' * 40}" for number in range(997)]
    query = "&".join(f"sku={sku}" for sku in [*unknown, *skus])
    page = await call(shop, "GET", f"/v1/channels/tmall/stock?{query}")
    assert [item["sku"] for item in page["items"]] == skus
    answer = await shop.call("GET", f"/v1/channels/tmall/stock?sku={'x' * 70_000}")
    assert answer.problem == (414, "uri_too_long")


async def test_events_after_a_byte_order_mark_are_taken_and_a_leap_second_is_explained(shop: ApiTestClient) -> None:
    sku = unique_name("sku")
    movement = stock_received(unique_name("wms"), (sku, 3))
    leap = {**movement, "occurred_at": "2016-12-31T23:59:60Z"}
    answer = await shop.send_events(BYTE_ORDER_MARK + orjson.dumps(movement), leap)
    assert (answer.status, answer.body["accepted"]) == (202, 1)
    assert [(line["line"], line["path"]) for line in answer.body["rejected"]] == [(2, "occurred_at")]
    assert "leap second" in answer.body["rejected"][0]["detail"]
    await shop.movement("SH1", movement["id"])
    assert (await shop.stock(sku))["on_hand"] == 3
    other = stock_received(unique_name("wms"), (sku, 3))
    assert (await shop.post("/v1/movements", BYTE_ORDER_MARK + orjson.dumps(other))).status == 202
