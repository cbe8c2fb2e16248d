"""Pages of orders and of queues: every order that is asked for, whatever the limit, from a real server."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from stocktide.api.cursors import decode_cursor, encode_cursor
from stocktide.api.handlers.order_lists import KeyCursor, OrderListHandler, SkuCursor
from stocktide.tables.ledger import scripts
from stocktide.tables.ledger.records import OrderRecord
from tests.harness.servers import RedisServer
from tests.ledger.shop_client import RedisShopClient, open_shop
from tests.unit.test_pool_pages import FakeReads, ledger_alone

STATES = ("reserved", "paid", "shipped", "cancelled", "expired", "rejected")


@pytest.fixture
async def redis_shop(valkey: RedisServer) -> AsyncIterator[RedisShopClient]:
    async with open_shop(valkey.url) as shop:
        yield shop


def handler_of(shop: RedisShopClient) -> OrderListHandler:
    return OrderListHandler(shop.ledger, FakeReads(), ledger_alone(FakeReads()))  # type: ignore[arg-type]


async def get(shop: RedisShopClient, query: str, path: str = "orders") -> tuple[int, Any]:
    handler = handler_of(shop)
    answer = handler.orders if path == "orders" else handler.queue
    response = await answer(make_mocked_request("GET", f"/v1/{path}?{query}"))
    return response.status, msgspec.json.decode(response.body)  # type: ignore[arg-type]


async def all_of(shop: RedisShopClient, query: str, limit: int = 3, path: str = "orders", after: str = "") -> list[Any]:
    """The items of all pages after a cursor."""
    items: list[Any] = []
    cursor = f"&cursor={after}" if after else ""
    for _ in range(2_000):
        status, page = await get(shop, f"{query}&limit={limit}{cursor}", path)
        assert status == 200, page
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"
    raise AssertionError("the pages do not end")


async def ids_of(shop: RedisShopClient, query: str, limit: int = 3) -> list[str]:
    return sorted(order["order_id"] for order in await all_of(shop, query, limit))


async def fill_shop(shop: RedisShopClient, count: int, seed: int = 1) -> dict[str, OrderRecord]:
    """Orders of all states, two channels and three SKUs; some are short, and a warehouse of A falls below zero."""
    dice = random.Random(seed)
    await shop.receive_all({"A": count, "B": count}, at="SH1")
    await shop.receive_all({"A": count, "C": 3}, at="BJ1")
    for number in range(count):
        order_id, channel = f"o{number}", dice.choice(("tmall", "jd"))
        lines = {sku: dice.randint(1, 3) for sku in dice.sample("ABC", dice.randint(1, 2))}
        await shop.place(order_id, lines, channel=channel, **dice.choice(({}, {"accept": "sold"}, {"hold_seconds": 1})))
        after = dice.choice(("", "pay", "cancel", "ship"))
        if after:
            await shop.pay(order_id) if after != "cancel" else await shop.cancel(order_id)
        if after == "ship":
            await shop.ship(order_id, *((sku, units, "SH1") for sku, units in lines.items()))
    await shop.tick_after(2)
    await shop.count({"A": 1}, at="SH1")
    records = {f"o{number}": shop.order(f"o{number}") for number in range(count)}
    assert {record.state for record in records.values()} == set(STATES)
    return records


def is_at_risk(record: OrderRecord) -> bool:
    return any(line.sku == "A" and "SH1" in line.warehouses for line in record.lines)


@pytest.mark.parametrize("limit", [1, 7, 500])
async def test_a_pass_shows_every_order_that_matches_and_no_other(redis_shop: RedisShopClient, limit: int) -> None:
    records = await fill_shop(redis_shop, 60)
    warehouse = (await redis_shop.stored_counters("A"))["on_hand@SH1"]
    assert warehouse - (await redis_shop.stored_counters("A")).get("locked@SH1", 0) < 0

    def wanted(*states: str, channel: str = "", sku: str = "") -> list[str]:
        return sorted(
            order_id
            for order_id, record in records.items()
            if (not states or record.state in states)
            and channel in ("", record.channel)
            and (not sku or any(line.sku == sku for line in record.lines))
        )

    assert await ids_of(redis_shop, "", limit) == sorted(records)
    for state in STATES:
        assert await ids_of(redis_shop, f"state={state}", limit) == wanted(state)
    assert await ids_of(redis_shop, "state=paid&state=shipped&channel=jd", limit) == wanted(
        "paid", "shipped", channel="jd"
    )
    assert await ids_of(redis_shop, "sku=C", limit) == wanted(sku="C")
    shorts = {order_id for order_id, record in records.items() if any(line.short for line in record.lines)}
    assert len(shorts) > 2
    assert set(await ids_of(redis_shop, "short=true", limit)) == shorts
    assert await ids_of(redis_shop, "short=true&sku=C&state=paid", limit) == sorted(
        order_id
        for order_id in wanted("paid")
        if any(line.sku == "C" and line.short for line in records[order_id].lines)
    )
    at_risk = {order_id for order_id, record in records.items() if is_at_risk(record)}
    assert 3 < len(at_risk) < len(records)
    assert await ids_of(redis_shop, "at_risk=true", limit) == sorted(at_risk)
    assert await ids_of(redis_shop, "at_risk=true&sku=A&channel=tmall", limit) == sorted(
        order_id for order_id in at_risk if records[order_id].channel == "tmall"
    )
    assert await ids_of(redis_shop, "at_risk=true&sku=B", limit) == []
    assert await ids_of(redis_shop, "at_risk=true&short=true", limit) == sorted(at_risk & shorts)


async def test_an_order_is_shown_as_a_read_of_it_shows_it(redis_shop: RedisShopClient) -> None:
    await redis_shop.hold(2, of=5)
    (order,) = await all_of(redis_shop, "")
    assert order["lines"][0]["warehouses"] == {"SH1": 2}
    assert (order["order_id"], order["state"], order["replayed"]) == ("o1", "reserved", False)


async def test_events_that_wait_are_no_order(redis_shop: RedisShopClient) -> None:
    await redis_shop.receive("A", 1)
    await redis_shop.pay("early", by_kafka=True)
    assert await all_of(redis_shop, "") == []


async def test_a_pass_goes_on_past_orders_that_changed_meanwhile(redis_shop: RedisShopClient) -> None:
    records = await fill_shop(redis_shop, 60)
    held = [order_id for order_id, record in records.items() if is_at_risk(record)]
    for query in ("", "&at_risk=true&sku=A"):
        _, page = await get(redis_shop, f"limit=5{query}")
        first = [order["order_id"] for order in page["items"]]
        for order_id in first:
            if records[order_id].state in ("reserved", "paid"):
                await redis_shop.cancel(order_id)
        rest = await all_of(redis_shop, query, after=page["next"])
        wanted = held if query else list(records)
        found = first + [order["order_id"] for order in rest]
        still = {order_id for order_id in wanted if redis_shop.order(order_id).state in ("reserved", "paid")}
        assert still <= set(found)


async def test_a_cursor_of_another_server_begins_the_pass_again(redis_shop: RedisShopClient) -> None:
    records = await fill_shop(redis_shop, 60)
    _, page = await get(redis_shop, "limit=5")
    cursor = decode_cursor(page["next"], KeyCursor)
    assert isinstance(cursor, KeyCursor)
    for left in ((), ("o1", "o2")):
        other = encode_cursor(KeyCursor("another", "17", left))
        assert set(records) <= {order["order_id"] for order in await all_of(redis_shop, "", after=other)}


@pytest.fixture
def few_entries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whether a call reads few entries of a queue over all channels."""
    text_of = scripts._module_text
    if request.param:
        few = "ENTRIES_MAX = 6"
        monkeypatch.setattr(scripts, "_module_text", lambda name: text_of(name).replace("ENTRIES_MAX = 1000", few))
        scripts.load_source.cache_clear()
        assert few in scripts.load_source("read")
    yield
    scripts.load_source.cache_clear()


@pytest.mark.parametrize("few_entries", [False, True], indirect=True)
@pytest.mark.parametrize("limit", [1, 4, 100])
async def test_the_queue_of_a_sku_is_in_the_order_in_which_it_is_filled(
    few_entries: None, redis_shop: RedisShopClient, limit: int
) -> None:
    for channel in ("tmall", "jd", "own"):
        await redis_shop.set_policy(channel, below_threshold="preorder", preorder_cap=100)
    await redis_shop.receive("A", 1)
    await redis_shop.place("o0", {"A": 3}, accept="sold", allow_preorder=False)
    for number in range(1, 8):
        channel = ("tmall", "jd", "own")[number % 3]
        await redis_shop.place(f"o{number}", {"A": 2}, channel=channel, priority="vip" if number == 5 else "standard")
    await redis_shop.place("o8", {"A": 1}, channel="own", accept="sold", allow_preorder=False)
    items = await all_of(redis_shop, "sku=A", limit, "preorders")
    assert [item["order_id"] for item in items] == ["o0", "o8", "o5", "o1", "o2", "o3", "o4", "o6", "o7"]
    assert items[0]["place"] == 1
    (_, page) = await get(redis_shop, "sku=A&limit=2", "preorders")
    assert [item["place"] for item in page["items"]] == [1, 2]
    assert items[0] | {"short": 2, "preordered": 0, "channel": "tmall", "priority": "standard"} == items[0]
    assert items[2] | {"short": 0, "preordered": 2, "channel": "own", "priority": "vip", "sku": "A"} == items[2]
    await redis_shop.receive("B", 1)
    assert await all_of(redis_shop, "sku=B", limit, "preorders") == []
    assert (await get(redis_shop, "sku=unheard-of", "preorders"))[0] == 404


# A cursor of SCAN of twenty nines.
BEYOND_64_BITS = "lKRrZXlzoXK0OTk5OTk5OTk5OTk5OTk5OTk5OTmQ"
NO_CURSORS = ("x", encode_cursor(SkuCursor("A", "1")), encode_cursor(KeyCursor("r", "1")) + "AAAA")


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("state=gone", "state"),
        ("state=paid&state=", "state"),
        ("short=yes", "short"),
        ("at_risk=false", "at_risk"),
        ("channel=*", "channel"),
        ("sku=", "sku"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        *((f"cursor={cursor}", "cursor") for cursor in NO_CURSORS),
        (f"at_risk=true&cursor={encode_cursor(KeyCursor())}", "cursor"),
        (f"short=true&cursor={encode_cursor(msgspec.structs.replace(SkuCursor('A'), score='x'))}", "cursor"),
        (f"cursor={encode_cursor(msgspec.structs.replace(KeyCursor(), cursor='-1'))}", "cursor"),
        (f"cursor={encode_cursor(KeyCursor('r', '1', ('o',) * 1_001))}", "cursor"),
        (f"cursor={BEYOND_64_BITS}", "cursor"),
    ],
)
async def test_a_query_that_is_none_is_refused_with_its_path(
    redis_shop: RedisShopClient, query: str, path: str
) -> None:
    status, problem = await get(redis_shop, query)
    assert (status, problem["errors"][0]["path"]) == (422, path)


async def test_a_queue_without_a_sku_or_with_a_foreign_cursor_is_refused(redis_shop: RedisShopClient) -> None:
    for query, path in (("", "sku"), (f"sku=A&cursor={encode_cursor(KeyCursor())}", "cursor")):
        status, problem = await get(redis_shop, query, "preorders")
        assert (status, problem["errors"][0]["path"]) == (422, path)
