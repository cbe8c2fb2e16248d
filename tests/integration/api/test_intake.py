"""Webhooks that are posted to a running system become orders, once each."""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web

from stocktide.ops.mapping import run_replay
from stocktide.settings import Settings
from stocktide.streams.mapping.mapping_reader import FOLDER
from stocktide.tables.dead_letters.reader import DeadLetterTopic
from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.events import order_event
from tests.harness.eventually import eventually
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system
from tests.intake_deliveries import PLATFORMS, OrderDetails, Platform, qimen_shipment
from tests.intake_payloads import (
    LARGE_ID,
    SECRET,
    Webhook,
    douyin,
    qimen_confirmation,
    qimen_order,
    shopify,
    shopify_order,
    shopify_refund,
    woocommerce,
    youzan,
)

SECONDS_MAX = 60.0
# Of orders that no other test has.
NUMBERS = count(1_000)


@pytest.fixture(scope="module")
async def details(certificates: Certificates) -> AsyncIterator[tuple[OrderDetails, str]]:
    """The stand-in, and its URL."""
    made, app = OrderDetails(), web.Application()
    app.router.add_get("/{path:.*}", made.get)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.server_key)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield made, f"https://localhost:{runner.addresses[0][1]}/order/orderDetail"
    await runner.cleanup()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mappings(tmp_path_factory: pytest.TempPathFactory, details: tuple[OrderDetails, str]) -> Path:
    """A folder with Douyin's mapping for the stand-in, and one of an outlet that looks for SKUs in the wrong field."""
    folder = tmp_path_factory.mktemp("mappings")
    douyin_file = (FOLDER / "douyin.yaml").read_text()
    url = next(line for line in douyin_file.splitlines() if line.startswith("  url:"))
    (folder / "douyin.yaml").write_text(douyin_file.replace(url, f"  url: {details[1]}"))
    outlet = (FOLDER / "shopify.yaml").read_text().replace("name: shopify", "name: outlet")
    (folder / "outlet.yaml").write_text(outlet.replace("sku: [sku, variant_id]", "sku: article"))
    return folder


@pytest.fixture(scope="module")
async def intake(
    kafka: KafkaServer,
    valkey: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
    mappings: Path,
    certificates: Certificates,
) -> AsyncIterator[RunningSystem]:
    """A system that takes webhooks of all platforms."""
    names = ("SHOPIFY", "WOOCOMMERCE", "YOUZAN", "QIMEN", "DOUYIN", "OUTLET")
    environ = {f"STOCKTIDE_INTAKE_{name}_SECRET": f"{SECRET},the-new-one" for name in names}
    environ |= {"STOCKTIDE_MAPPINGS": str(mappings), "SSL_CERT_FILE": str(certificates.ca)}
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


async def taken(shop: ApiTestClient, *webhooks: Webhook) -> None:
    for webhook in webhooks:
        assert (await send(shop, webhook)).status == 200


async def stock_is(shop: ApiTestClient, sku: str, **numbers: int) -> None:
    """Wait until the SKU has these numbers."""

    def holds(answer: ApiAnswer) -> bool:
        return answer.status == 200 and all(answer.body[name] == value for name, value in numbers.items())

    await shop.get_when(f"/v1/stock/{sku}", holds)


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform.name)
async def test_deliveries_out_of_order_repeated_and_replayed_make_one_order(
    intake: RunningSystem, shop: ApiTestClient, details: tuple[OrderDetails, str], platform: Platform
) -> None:
    sku, number = await shop.receive_new(10), LARGE_ID + next(NUMBERS)
    details[0].skus[str(number)] = sku
    await taken(shop, *platform.deliveries(number, sku))
    order_id = f"{platform.name}-{platform.order_id.format(number)}"
    order = await order_in(shop, order_id, "paid")
    assert order["channel"] == platform.name
    await stock_is(shop, sku, on_hand=10, committed=2, available=8)
    settings = Settings.from_environment({}, kafka=intake.ready["kafka"], app_id=intake.app_id)
    assert await run_replay(settings, platform.name, None) >= len(platform.deliveries(number, sku))
    # What ends the order comes after the replay, in the same partitions.
    await taken(shop, platform.end(number, sku))
    await order_in(shop, order_id, "shipped" if platform.name == "qimen" else "cancelled")
    left = 8 if platform.name == "qimen" else 10
    await stock_is(shop, sku, on_hand=left, committed=0, available=left)


async def test_units_of_a_shopify_order_go_back_once_and_by_the_kind_of_their_refund(
    intake: RunningSystem, shop: ApiTestClient
) -> None:
    sku, number = await shop.receive_new(20), next(NUMBERS)
    order = shopify_order(number, sku, 6, financial_status="paid")
    line = order["line_items"][0]

    def refund(refund_id: int, kind: str, units: int) -> Webhook:
        item = {"sku": sku}
        made = shopify_refund(
            number, refund_id, restock_type=kind, quantity=units, line_item=item, line_item_id=line["id"]
        )
        order.setdefault("refunds", []).append(made)
        return shopify("refunds/create", made)

    await taken(shop, shopify("orders/create", order))
    await stock_is(shop, sku, committed=6, available=14)
    # The total comes first, without its refund; then the refund of the same unit; then both again.
    line["current_quantity"] = 5
    total = shopify("orders/updated", order)
    first = refund(1, "cancel", 1)
    await taken(shop, total, first, total, first)
    await stock_is(shop, sku, committed=5, available=15)
    # The refund comes first.
    await taken(shop, refund(2, "cancel", 1))
    line["current_quantity"] = 4
    await taken(shop, shopify("orders/updated", order))
    shipped = {"sku": sku, "quantity": 2, "warehouse": "SH1"}
    order_id = f"shopify-{number}"
    assert (await shop.send_events(order_event("shipped", order_id, id="s1", lines=[shipped]))).status == 202
    await stock_is(shop, sku, on_hand=18, committed=2, available=16)
    # One sent unit comes back, and one that was not sent does not.
    await taken(shop, refund(3, "return", 1), refund(4, "no_restock", 1), refund(5, "legacy_restock", 1))
    line["current_quantity"] = 2
    await taken(shop, shopify("orders/updated", order), refund(6, "cancel", 1))
    await stock_is(shop, sku, on_hand=19, committed=1, available=18)
    lines = (await shop.get(f"/v1/orders/{order_id}")).body["lines"]
    assert [(each["cancelled"], each["shipped"], each["returned"]) for each in lines] == [(3, 2, 1)]
    await is_dead(intake, "unknown_word", "refund_line_items[0].restock_type", "legacy_restock")


async def is_dead(intake: RunningSystem, reason: str, path: str, text: str) -> None:
    """Wait until there is a dead letter with this reason and path, whose detail has `text`."""
    box = DeadLetterTopic(f"{intake.app_id}-dead-letters", {"bootstrap_servers": intake.ready["kafka"]})

    async def is_there() -> bool:
        rows = [row.row async for row in box.rows()]
        return any((row.reason, row.path) == (reason, path) and text in row.detail for row in rows)

    await eventually(is_there, SECONDS_MAX)


async def test_what_a_mapping_does_not_know_is_a_dead_letter_with_its_path(
    intake: RunningSystem, shop: ApiTestClient
) -> None:
    await taken(
        shop,
        woocommerce("invented"),
        youzan("trade_TradePaid", full=False),
        qimen_order("Q1", kind="XXCK"),
        douyin(2, 1),
    )
    await is_dead(intake, "unknown_word", "status", "invented")
    await is_dead(intake, "missing_field", "msg.full_order_info.order_info.status", "required")
    await is_dead(intake, "unknown_word", "deliveryOrder.orderType", "XXCK")
    # The stand-in redirects for an order that it does not know, and the redirect is not followed.
    await is_dead(intake, "fetch_failed", "fetched", "302")


async def test_confirmations_of_a_qimen_warehouse_move_stock(shop: ApiTestClient) -> None:
    sku, number = await shop.receive_new(10), next(NUMBERS)
    entry = f"<entryOrderCode>E{number}</entryOrderCode><outBizCode>{{}}</outBizCode><status>{{}}</status>"
    parts = [
        qimen_confirmation("entryorder.confirm", "entryOrder", entry.format(*words), sku, units)
        for *words, units in (("b1", "PARTFULFILLED", 3), ("b2", "FULFILLED", 2), ("b3", "CANCELED", 5))
    ]
    await taken(shop, *parts, *parts, qimen_order(f"D{number}", sku, 4))
    await stock_is(shop, sku, on_hand=15, committed=4, available=11)
    await taken(shop, qimen_shipment(number, sku, 4), qimen_shipment(number, sku, 4))
    await stock_is(shop, sku, on_hand=11, committed=0, available=11)
    for units, kind in ((1, "ZP"), (2, "CC")):
        head = f"<returnOrderCode>R{units}</returnOrderCode><preDeliveryOrderCode>D{number}</preDeliveryOrderCode>"
        await taken(shop, qimen_confirmation("returnorder.confirm", "returnOrder", head, sku, units, kind))
    await stock_is(shop, sku, on_hand=12, damaged=2, available=12)
    head = f"<deliveryOrderCode>T{number}</deliveryOrderCode><orderType>DBCK</orderType>"
    leaving = qimen_confirmation("stockout.confirm", "deliveryOrder", head, sku, 5)
    await taken(shop, leaving, leaving)
    await stock_is(shop, sku, on_hand=7, committed=0, available=7)


async def test_lines_are_fetched_over_tls_no_faster_than_the_mapping_says(
    shop: ApiTestClient, details: tuple[OrderDetails, str]
) -> None:
    sku, server = await shop.receive_new(30), details[0]
    numbers = [LARGE_ID + next(NUMBERS) for _ in range(6)]
    server.skus |= {str(number): sku for number in numbers}
    await taken(shop, *(douyin(2, number) for number in numbers))
    await stock_is(shop, sku, committed=12, available=18)
    at = [time for time, order_id in server.asked if order_id in {str(number) for number in numbers}]
    assert len(at) == 6
    # Five a second, with some tolerance for the way of a call.
    assert at[-1] - at[0] > 0.8, at


async def test_a_corrected_mapping_is_run_again_over_the_stored_webhooks(
    intake: RunningSystem, shop: ApiTestClient, mappings: Path
) -> None:
    sku, number = await shop.receive_new(10), next(NUMBERS)
    order = shopify("orders/create", shopify_order(number, sku, financial_status="paid"))
    await taken(shop, replace(order, name="outlet"))
    await is_dead(intake, "missing_field", "line_items[0].article", "article")
    wrong = (mappings / "outlet.yaml").read_text()
    (mappings / "outlet.yaml").write_text(wrong.replace("sku: article", "sku: [sku, variant_id]"))
    await intake.restart_part("worker")
    replayed = await intake.run("mapping", "replay", "outlet")
    assert (replayed.status, replayed.out.strip()) == (0, "1 webhooks of outlet are mapped again"), replayed.printed
    await order_in(shop, f"outlet-{number}", "paid")
    await stock_is(shop, sku, on_hand=10, committed=2, available=8)


async def test_a_signed_test_message_is_taken_and_an_unsigned_one_only_answered(
    intake: RunningSystem, shop: ApiTestClient
) -> None:
    sku = await shop.receive_new(10)
    signed = youzan("trade_TradeCreate", "E-test", sku=sku, test=True)
    unsigned = json.loads(youzan("trade_TradeCreate", "E-unsigned", sku=sku, test=True).body)
    forged = json.dumps({**unsigned, "sign": "0" * 32})
    del unsigned["sign"]
    assert (await shop.post("/v1/intake/youzan", unsigned)).body == {"code": 0, "msg": "success"}
    assert (await shop.post("/v1/intake/youzan", forged)).problem == (401, "bad_signature")
    await taken(shop, signed)
    await order_in(shop, "youzan-E-test", "reserved")
    assert (await shop.get("/v1/orders/youzan-E-unsigned")).status == 404
    await stock_is(shop, sku, on_hand=10, available=8)


async def test_a_packed_webhook_is_refused_with_the_reason(shop: ApiTestClient) -> None:
    order = shopify("orders/create", shopify_order(next(NUMBERS)))
    packed = replace(order, body=gzip.compress(order.body), headers={**order.headers, "Content-Encoding": "gzip"})
    refused = await send(shop, packed)
    assert (*refused.problem, "Content-Encoding" in refused.body["detail"]) == (415, "unsupported_media_type", True)
    assert (await send(shop, order)).status == 200


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
    for name in ("taobao", "SHOPIFY", "..%2Fshopify", "%2e%2e", "nothing"):
        assert (await shop.call("POST", f"/v1/intake/{name}", b"{}")).status in (404, 400)
    large = await send(shop, shopify("orders/create", b" " * (1024 * 1024 + 1)))
    assert large.status == 413
