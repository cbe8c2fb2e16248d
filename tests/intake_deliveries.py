"""What each platform sends for one paid order, as it may arrive: out of order, repeated, with other ids of deliveries.

In: a number of an order, a SKU. Out: signed webhooks; and a stand-in for the API that Douyin's lines are fetched from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tests.intake_payloads import (
    Webhook,
    douyin,
    qimen_confirmation,
    qimen_order,
    shopify,
    shopify_order,
    woocommerce,
    youzan,
)


class OrderDetails:
    """A stand-in for Douyin's API over HTTPS: what it was asked when, and the SKU of the orders that it knows."""

    def __init__(self) -> None:
        self.skus: dict[str, str] = {}
        self.asked: list[tuple[float, str]] = []

    async def get(self, request: web.Request) -> web.Response:
        order_id = request.query["shop_order_id"]
        self.asked.append((asyncio.get_running_loop().time(), order_id))
        if request.path != "/order/orderDetail" or order_id not in self.skus:
            return web.Response(status=302, headers={"Location": f"/elsewhere?shop_order_id={order_id}"})
        line = {"sku_id": 8, "code": self.skus[order_id], "item_num": 2, "create_time": 1_762_819_200}
        return web.json_response({"data": {"shop_order_detail": {"sku_order_list": [line]}}})


def shopify_deliveries(number: int, sku: str) -> list[Webhook]:
    paid = shopify_order(number, sku, financial_status="paid")
    topics = (("orders/paid", paid), ("orders/create", shopify_order(number, sku)), ("orders/updated", paid))
    # Both readings of the delivery's id: the same one again, and another one of the same event.
    ids = ({"X-Shopify-Webhook-Id": "a"}, {"X-Shopify-Webhook-Id": "b", "X-Shopify-Event-Id": "a"})
    return [shopify(topic, order, **each) for topic, order in topics for each in ids]


def woocommerce_deliveries(number: int, sku: str) -> list[Webhook]:
    statuses = ("processing", "pending", "completed")
    return [woocommerce(status, number, sku, 2, delivery) for status in statuses for delivery in ("d1", "d2")]


def youzan_deliveries(number: int, sku: str) -> list[Webhook]:
    paid = {"status": "TRADE_PAID", "pay_time": "2026-11-11 08:10:00"}
    kinds: tuple[tuple[str, dict[str, str]], ...] = (("trade_TradePaid", paid), ("trade_TradeCreate", {}))
    ids = ("m1", "m1", "m2")
    return [youzan(kind, f"E{number}", sku=sku, message=each, **info) for kind, info in kinds for each in ids]


def qimen_deliveries(number: int, sku: str) -> list[Webhook]:
    times = ("2026-11-11 08:00:00", "2026-11-11 08:00:00", "2026-11-11 08:05:00")
    return [qimen_order(f"D{number}", sku, at=at) for at in times]


def douyin_deliveries(number: int, sku: str) -> list[Webhook]:
    return [douyin(status, number, message) for status in (2, 1) for message in ("m1", "m1", "m2")]


def qimen_shipment(number: int, sku: str, units: int = 2, status: str = "DELIVERED") -> Webhook:
    head = f"<deliveryOrderCode>D{number}</deliveryOrderCode><orderType>JYCK</orderType><status>{status}</status>"
    return qimen_confirmation("deliveryorder.confirm", "deliveryOrder", head, sku, units)


@dataclass(frozen=True)
class Platform:
    """What it sends for one paid order of two units, and what ends the order."""

    name: str
    deliveries: Callable[[int, str], list[Webhook]]
    end: Callable[[int, str], Webhook]
    order_id: str = "{}"


PLATFORMS = (
    Platform(
        "shopify",
        shopify_deliveries,
        lambda number, sku: shopify(
            "orders/cancelled",
            shopify_order(number, sku, financial_status="paid", cancelled_at="2026-11-12T00:00:00Z"),
        ),
    ),
    Platform("woocommerce", woocommerce_deliveries, lambda number, sku: woocommerce("cancelled", number, sku, 2)),
    Platform(
        "youzan",
        youzan_deliveries,
        lambda number, sku: youzan("trade_TradeClose", f"E{number}", sku=sku, status="TRADE_CLOSED"),
        "E{}",
    ),
    Platform("qimen", qimen_deliveries, qimen_shipment, "D{}"),
    Platform("douyin", douyin_deliveries, lambda number, _: douyin(4, number)),
)
