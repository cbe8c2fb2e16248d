"""Webhooks that are posted to a running system become orders, once each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system
from tests.intake_payloads import (
    LARGE_ID,
    SECRET,
    Webhook,
    qimen_order,
    shopify,
    shopify_order,
    woocommerce,
    youzan,
)

SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
async def intake(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """A system that takes webhooks of all platforms but Douyin."""
    names = ("SHOPIFY", "WOOCOMMERCE", "YOUZAN", "QIMEN")
    environ = {f"STOCKTIDE_INTAKE_{name}_SECRET": f"{SECRET},the-new-one" for name in names}
    data = tmp_path_factory.mktemp("intake") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


@pytest.fixture
async def shop(intake: RunningSystem) -> AsyncIterator[ApiTestClient]:
    async with intake.client() as client:
        yield client


async def send(shop: ApiTestClient, webhook: Webhook) -> ApiAnswer:
    path = f"/v1/intake/{webhook.name}"
    return await shop.call("POST", path, webhook.body, headers=webhook.headers, params=webhook.query)


async def order_in(shop: ApiTestClient, order_id: str, state: str) -> dict[str, object]:
    async def is_there() -> bool:
        answer = await shop.get(f"/v1/orders/{order_id}")
        return answer.status == 200 and answer.body["state"] == state

    await eventually(is_there, SECONDS_MAX)
    return dict((await shop.get(f"/v1/orders/{order_id}")).body)


async def test_webhooks_out_of_order_and_repeated_make_one_order(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    unpaid = shopify_order(LARGE_ID, sku)
    paid = shopify_order(LARGE_ID, sku, financial_status="paid")
    # Paid comes first; deliveries repeat with the same and with other ids of delivery and event.
    for topic, order in (("orders/paid", paid), ("orders/create", unpaid), ("orders/updated", paid)):
        for ids in ({"X-Shopify-Webhook-Id": "a"}, {"X-Shopify-Webhook-Id": "b", "X-Shopify-Event-Id": "a"}):
            answer = await send(shop, shopify(topic, order, **ids))
            assert (answer.status, answer.body) == (200, None)
    order = await order_in(shop, f"shopify-{LARGE_ID}", "paid")
    assert order["channel"] == "shopify"
    stock = (await shop.get(f"/v1/stock/{sku}")).body
    assert "10" in str(stock) and "8" in str(stock), stock


async def test_each_platform_is_answered_in_its_own_format(shop: ApiTestClient) -> None:
    code = unique_name("D")
    youzan_ok = await send(shop, youzan("trade_TradeCreate", tid=code))
    assert (youzan_ok.status, youzan_ok.body) == (200, {"code": 0, "msg": "success"})
    test_call = await shop.post("/v1/intake/youzan", {"test": True})
    assert (test_call.status, test_call.body) == (200, {"code": 0, "msg": "success"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    ping = await shop.call("POST", "/v1/intake/woocommerce", b"webhook_id=7", headers=form)
    assert ping.status == 200
    assert (await send(shop, woocommerce("processing"))).status == 200
    taken = await send(shop, qimen_order(code))
    assert (taken.status, b"<flag>success</flag>" in taken.body) == (200, True)
    await order_in(shop, f"qimen-{code}", "paid")


async def test_a_forged_webhook_is_refused_and_a_wrong_name_is_not_found(shop: ApiTestClient) -> None:
    forged = shopify("orders/create", shopify_order(5), secret="guessed")
    assert (await send(shop, forged)).problem == (401, "bad_signature")
    assert (await send(shop, shopify("orders/create", shopify_order(6), secret="the-new-one"))).status == 200
    refused = await shop.call("POST", "/v1/intake/qimen?method=x&sign=y", b"<a/>")
    assert (refused.status, b"<flag>failure</flag>" in refused.body) == (401, True)
    almost_ping = await shop.call("POST", "/v1/intake/woocommerce", b"webhook_id=7&x=1")
    assert almost_ping.problem == (401, "bad_signature")
    for name in ("douyin", "SHOPIFY", "..%2Fshopify", "%2e%2e", "nothing"):
        assert (await shop.call("POST", f"/v1/intake/{name}", b"{}")).status in (404, 400)
    large = await send(shop, shopify("orders/create", b" " * (1024 * 1024 + 1)))
    assert large.status == 413
