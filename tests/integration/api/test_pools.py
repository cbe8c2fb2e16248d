"""Pools on a running system: by HTTP and by Kafka."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import AT, Event, lines_of, order_placed


def pool_movement(kind: str, sku: str, units: int, purpose: str = "vip", **more: Any) -> Event:
    """`stock.reserved` or `stock.released` at SH1."""
    event = {"type": f"stock.{kind}", "id": unique_name("pool"), "occurred_at": AT, "warehouse": "SH1"}
    return {**event, "purpose": purpose, "lines": lines_of((sku, units)), **more}


async def test_units_in_a_pool_are_reserved_and_not_available(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    effect = await shop.move(pool_movement("reserved", sku, 4))
    assert (effect["type"], effect["outcome"], effect["lines"][0]["change"]) == ("stock.reserved", "reserved", 0)
    stock = await shop.stock(sku)
    assert (stock["on_hand"], stock["reserved"], stock["available"]) == (10, 4, 6)
    assert stock["warehouses"]["SH1"]["reserved"] == 4
    assert (await shop.place(sku, 7)).problem == (409, "insufficient_stock")
    effect = await shop.move(pool_movement("released", sku, 4))
    assert effect["outcome"] == "released"
    assert (await shop.stock(sku))["available"] == 10


async def test_a_pool_over_what_is_available_is_refused_with_its_path(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(3)
    effect = await shop.move(pool_movement("reserved", sku, 4))
    assert (effect["outcome"], effect["detail"]) == ("more_than_available", "lines[0].quantity")
    effect = await shop.move(pool_movement("released", sku, 1))
    assert (effect["outcome"], effect["detail"]) == ("more_than_reserved", "lines[0].quantity")
    wrong = await shop.post("/v1/movements", pool_movement("reserved", sku, 1, purpose="v@ip"))
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "purpose")


async def test_an_order_draws_from_its_pool_by_http_and_by_kafka_and_gives_back(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    await shop.move(pool_movement("reserved", sku, 4))
    placed = await shop.place(sku, 6, purpose="vip")
    assert (placed.status, placed.body["lines"][0]["reserved"]) == (201, 6)
    assert (await shop.stock(sku))["reserved"] == 0
    order_id = unique_name("order")
    await shop.send_events(order_placed(order_id, sku, 2, purpose="vip"))
    await shop.get_when(f"/v1/orders/{order_id}", lambda answer: answer.status == 200)
    assert (await shop.post(f"/v1/orders/{placed.body['order_id']}/cancel")).status == 200
    stock = await shop.stock(sku)
    assert (stock["reserved"], stock["locked"], stock["available"]) == (4, 2, 4)


async def test_what_is_left_of_a_pool_returns_at_its_end(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    ends = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    effect = await shop.move(pool_movement("reserved", sku, 4, until=ends))
    assert effect["outcome"] == "reserved"
    stock = await shop.get_when(f"/v1/stock/{sku}", lambda answer: answer.body["reserved"] == 0)
    assert stock["available"] == 10
    effect = await shop.move(pool_movement("reserved", sku, 4, until=ends))
    assert (effect["outcome"], effect["detail"]) == ("pool_ended", "until")


async def test_a_campaign_sells_from_its_pool_only(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(10), unique_name("campaign")
    policy = {"purposes": ["double-11"], "pool_only": True}
    answer = await shop.put(f"/v1/policies/{channel}", policy)
    assert (answer.status, answer.body["own"]) == (200, policy)
    assert answer.body["effective"].items() >= policy.items()
    await shop.move(pool_movement("reserved", sku, 4, purpose="double-11"))
    async with shop.feed(channel) as feed:
        await feed.until(sku, quantity=4)
        assert (await shop.place(sku, 5, channel=channel)).problem == (409, "insufficient_stock")
        assert (await shop.place(sku, 4, channel=channel)).status == 201
        await feed.until(sku, quantity=0)
    wrong = await shop.put(f"/v1/policies/{channel}", {"purposes": ["a b"]})
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "purposes[0]")


async def test_pools_are_listed_by_page(shop: ApiTestClient) -> None:
    sku, purpose = await shop.receive_new(10), unique_name("purpose")
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await shop.move(pool_movement("reserved", sku, 4, purpose=purpose, until=ends))
    await shop.move(pool_movement("reserved", sku, 1, purpose=f"{purpose}-b"))
    page = await shop.get(f"/v1/pools?purpose={purpose}")
    assert page.status == 200 and page.body["next"] is None
    (pool,) = page.body["items"]
    assert (pool["sku"], pool["warehouse"], pool["quantity"], pool["from"]) == (sku, "SH1", 4, None)
    assert pool["until"].startswith(ends[:19])
    first = await shop.get(f"/v1/pools?sku={sku}&limit=1")
    second = await shop.get(f"/v1/pools?sku={sku}&limit=1&cursor={first.body['next']}")
    assert [each["purpose"] for each in (*first.body["items"], *second.body["items"])] == [purpose, f"{purpose}-b"]
    wrong = await shop.get("/v1/pools?cursor=nothing")
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "cursor")
