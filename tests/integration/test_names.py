"""Names arrive intact: what is stored is what was sent, by every path and query that takes a name."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest
from yarl import URL

from stocktide.retry import poll_until
from tests.harness.api_client import AT, WAIT_SECONDS_MAX, ApiTestClient, fresh

pytestmark = pytest.mark.integration

ASCII = "".join(map(chr, range(0x21, 0x7F)))
# Other writing, and some of all that is printable.
SOME = [chr(number) for number in range(0xA1, sys.maxunicode, 97) if chr(number).isprintable()]
NAMES = [
    ASCII,
    *("".join(SOME[start : start + 120]) for start in range(0, len(SOME), 1_200)),
    "a/b",
    "%2F",
    "%",
    "a%C3%A9",
    "..",
    "a+b",
    "a?b#c",
    "e\u0301",
    "é",
]


def escaped(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


async def ask(shop: ApiTestClient, method: str, target: str, body: Any = None) -> Any:
    """One call whose target is sent as it is here."""
    headers = {"Content-Type": "application/json"}
    data = None if body is None else orjson.dumps(body)
    url = URL(shop.api + target, encoded=True)
    async with shop.session.request(method, url, data=data, headers=headers) as response:
        raw = await response.read()
        assert response.status < 300, raw
        return orjson.loads(raw)


async def is_there(shop: ApiTestClient, target: str) -> bool:
    """Whether GET of a target finds something."""
    async with shop.session.get(URL(shop.api + target, encoded=True)) as response:
        return response.status == 200


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_name_is_stored_as_it_was_sent_by_every_way(shop: ApiTestClient, name: str) -> None:
    # Unique, and within 128 characters.
    name = (name + fresh("-"))[-128:]
    it = escaped(name)
    policy = await ask(shop, "PUT", f"/v1/policies/{it}/{it}", {"buffer": 1})
    assert (policy["channel"], policy["sku"]) == (name, name)
    lines = [{"sku": name, "quantity": 7}]
    movement = {"type": "stock.received", "id": name, "occurred_at": AT, "warehouse": name, "lines": lines}
    headers = {"Content-Type": "application/json"}
    async with shop.session.post(f"{shop.api}/v1/movements", data=orjson.dumps(movement), headers=headers) as taken:
        location = taken.headers["Location"]
    assert await poll_until(lambda: is_there(shop, location), WAIT_SECONDS_MAX)
    moved = await ask(shop, "GET", location)
    assert (moved["warehouse"], moved["id"], moved["lines"][0]["sku"]) == (name, name, name)
    order = {"order_id": name, "channel": name, "lines": [{"sku": name, "quantity": 1}]}
    assert (await ask(shop, "POST", "/v1/orders", order))["order_id"] == name
    assert (await ask(shop, "POST", f"/v1/orders/{it}/pay", {}))["state"] == "paid"
    assert (await ask(shop, "GET", f"/v1/orders/{it}"))["order_id"] == name
    stock = await ask(shop, "GET", f"/v1/stock/{it}")
    assert stock["sku"] == name and stock["on_hand"] == 7
    assert set(stock["warehouses"]) == {name} and name in stock["channels"]
    assert (await ask(shop, "GET", f"/v1/stock/{it}/history"))["sku"] == name
    page = await ask(shop, "GET", f"/v1/channels/{it}/stock?sku={it}")
    assert [item["sku"] for item in page["items"]] == [name]
    before = name[:-1] + chr(ord(name[-1]) - 1)
    page = await ask(shop, "GET", f"/v1/channels/{it}/stock?cursor={escaped(before)}&limit=1")
    assert page["items"][0]["sku"] == name
    timeout = aiohttp.ClientTimeout(total=30)
    async with shop.session.get(URL(f"{shop.api}/v1/channels/{it}/feed", encoded=True), timeout=timeout) as feed:
        async for line in feed.content:
            if line.startswith(b"data: ") and orjson.loads(line[6:]).get("sku") == name:
                assert orjson.loads(line[6:])["channel"] == name
                break


async def test_an_escape_that_is_no_utf_8_creates_nothing(shop: ApiTestClient) -> None:
    channel = fresh("web")
    for sku in ("caf%E9", "%", "%4", "%zz"):
        url = URL(f"{shop.api}/v1/policies/{channel}/{sku}", encoded=True)
        async with shop.session.put(url, data=b"{}", headers={"Content-Type": "application/json"}) as response:
            assert response.status == 400
            assert response.content_type == "application/problem+json"
            assert (await response.json(content_type=None))["code"] == "malformed_path"
    assert channel not in (await shop.get("/v1/channels")).body["items"]


async def test_a_thousand_skus_are_asked_for_in_one_query(shop: ApiTestClient) -> None:
    skus = [fresh("sku") for _ in range(3)]
    for sku in skus:
        await shop.receive(sku, 1)
    unknown = [f"unknown-{number:04d}-{'x' * 40}" for number in range(997)]
    query = "&".join(f"sku={sku}" for sku in [*unknown, *skus])
    page = await ask(shop, "GET", f"/v1/channels/tmall/stock?{query}")
    assert [item["sku"] for item in page["items"]] == skus
    answer = await shop.call("GET", f"/v1/channels/tmall/stock?sku={'x' * 70_000}")
    assert (answer.status, answer.code) == (414, "uri_too_long")


async def test_events_after_a_byte_order_mark_are_taken_and_a_leap_second_is_explained(shop: ApiTestClient) -> None:
    sku = fresh("sku")
    movement = {"type": "stock.received", "id": fresh("wms"), "occurred_at": AT, "warehouse": "SH1"}
    good = orjson.dumps({**movement, "lines": [{"sku": sku, "quantity": 3}]})
    leap = orjson.dumps({**movement, "occurred_at": "2016-12-31T23:59:60Z", "lines": [{"sku": sku, "quantity": 3}]})
    answer = await shop.post("/v1/events", b"\xef\xbb\xbf" + good + b"\n" + leap + b"\n")
    assert answer.status == 202
    assert answer.body["accepted"] == 1
    assert [(line["line"], line["path"]) for line in answer.body["rejected"]] == [(2, "occurred_at")]
    assert "leap second" in answer.body["rejected"][0]["detail"]
    await shop.movement("SH1", movement["id"])
    assert (await shop.stock(sku))["on_hand"] == 3
    one = {**movement, "id": fresh("wms"), "lines": [{"sku": sku, "quantity": 3}]}
    assert (await shop.post("/v1/movements", b"\xef\xbb\xbf" + orjson.dumps(one))).status == 202
