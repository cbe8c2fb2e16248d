"""Pages of SKUs: every SKU that is asked for once, whatever the limit and the filters, from a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from stocktide.api.handlers.stock_list import StockListHandler
from tests.harness.servers import RedisServer
from tests.ledger.shop_client import RedisShopClient, open_shop
from tests.unit.test_pool_pages import FakeReads, ledger_alone

NAMES = [f"sku-{number:03}" for number in range(60)] + [f"店-{number}" for number in range(5)] + ["sku", "sku-", "t"]


@pytest.fixture
async def shop(valkey: RedisServer) -> AsyncIterator[RedisShopClient]:
    async with open_shop(valkey.url) as shop:
        for number, name in enumerate(NAMES):
            await shop.receive(name, number + 1)
        await shop.set_policy("jd", safety_threshold=50, below_threshold="suspend")
        await shop.set_policy("tmall")
        yield shop


async def get(shop: RedisShopClient, query: str) -> tuple[int, Any]:
    reads = FakeReads()
    handler = StockListHandler(shop.ledger, reads, ledger_alone(reads))  # type: ignore[arg-type]
    response = await handler.get(make_mocked_request("GET", f"/v1/stock?{query}"))
    return response.status, msgspec.json.decode(response.body)  # type: ignore[arg-type]


async def all_of(shop: RedisShopClient, query: str, limit: int) -> list[Any]:
    items: list[Any] = []
    cursor = ""
    for _ in range(200):
        status, page = await get(shop, f"{query}&limit={limit}{cursor}")
        assert status == 200 and len(page["items"]) <= limit and "stale" not in page
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 7, 59, 60, 61, 500])
async def test_pages_hold_every_sku_once_by_name(shop: RedisShopClient, limit: int) -> None:
    found = [item["sku"] for item in await all_of(shop, "", limit)]
    assert found == sorted(NAMES)
    found = [item["sku"] for item in await all_of(shop, "prefix=sku-", limit)]
    assert found == sorted(name for name in NAMES if name.startswith("sku-"))
    found = [item["sku"] for item in await all_of(shop, "prefix=%E5%BA%97", limit)]
    assert found == [f"店-{number}" for number in range(5)]
    assert await all_of(shop, "prefix=none", limit) == []


@pytest.mark.parametrize("limit", [1, 9, 10, 100])
async def test_filters_by_mode_and_by_available_units_leave_out_the_others(shop: RedisShopClient, limit: int) -> None:
    found = await all_of(shop, "below=11&prefix=sku-0", limit)
    assert [(item["sku"], item["available"]) for item in found] == [(f"sku-{n:03}", n + 1) for n in range(10)]
    found = await all_of(shop, "mode=suspended&prefix=sku-0", limit)
    assert [item["sku"] for item in found] == [f"sku-{number:03}" for number in range(50)]
    assert all(item["channels"]["jd"]["mode"] == "suspended" for item in found)
    assert await all_of(shop, "mode=sold_out", limit) == []
    assert await all_of(shop, "below=0", limit) == []


async def test_an_item_has_the_numbers_of_the_sku(shop: RedisShopClient) -> None:
    await shop.place("o1", {"sku-004": 2})
    ((item),) = await all_of(shop, "sku=sku-004", 10)
    assert (item["on_hand"], item["locked"], item["available"]) == (5, 2, 3)
    assert (item["warehouses"]["SH1"]["available"], item["channels"]["tmall"]["quantity"]) == (3, 3)


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_named_skus_are_listed_once_without_unknown_ones(shop: RedisShopClient, limit: int) -> None:
    found = await all_of(shop, "sku=t&sku=unknown&sku=sku-001&sku=t&sku=sku", limit)
    assert [item["sku"] for item in found] == ["sku", "sku-001", "t"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("mode=open", "mode"),
        ("below=few", "below"),
        ("below=1e3", "below"),
        ("prefix=", "prefix"),
        ("sku=a&prefix=a", "prefix"),
        ("limit=501", "limit"),
        ("cursor=x", "cursor"),
    ],
)
async def test_what_is_no_filter_is_refused_with_its_path(shop: RedisShopClient, query: str, path: str) -> None:
    status, problem = await get(shop, query)
    assert (status, problem["errors"][0]["path"]) == (422, path)
