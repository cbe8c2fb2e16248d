"""Holds that move away from a warehouse below zero, on a running system."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import AT, lines_of


async def test_held_units_move_where_a_warehouse_falls_below_zero(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(5), unique_name("channel")
    answer = await shop.put(f"/v1/policies/{channel}", {"reroute": True})
    assert (answer.status, answer.body["own"], answer.body["effective"]["reroute"]) == (200, {"reroute": True}, True)
    placed = await shop.place(sku, 4, channel=channel)
    await shop.receive(sku, 3, "BJ1")
    lost = {"type": "stock.adjusted", "id": unique_name("lost"), "occurred_at": AT, "warehouse": "SH1"}
    await shop.move({**lost, "reason": "lost", "lines": lines_of((sku, -3))})
    order = (await shop.get(f"/v1/orders/{placed.body['order_id']}")).body
    assert (order["lines"][0]["warehouses"], order["sequence"]) == ({"SH1": 2, "BJ1": 2}, 2)
    stock = await shop.stock(sku)
    assert {name: each["available"] for name, each in stock["warehouses"].items()} == {"SH1": 0, "BJ1": 1}
