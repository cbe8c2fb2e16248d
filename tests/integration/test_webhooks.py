"""Webhooks of a running system, sent to real HTTP servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from standardwebhooks.webhooks import WebhookVerificationError

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.receiver import Receiver, running_receiver
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system

CHANNEL = "tmall"


@pytest.fixture(scope="module")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    data = tmp_path_factory.mktemp("webhooks") / "data"
    environ = {"STOCKTIDE_WEBHOOK_ALLOW": "127.0.0.0/8"}
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as found:
        yield found


async def define(shop: ApiTestClient, receiver: Receiver, **fields: object) -> tuple[str, str]:
    """A new webhook of the receiver; its name and secret."""
    name = unique_name("hook")
    answer = await shop.put(f"/v1/webhooks/{name}", {"channel": CHANNEL, "url": receiver.url, **fields})
    assert answer.status == 201, answer.body
    return name, answer.body["secret"]


async def test_a_change_of_stock_is_sent_with_a_signature_that_the_reference_library_accepts(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    name, secret = await define(shop, receiver, skus=[sku])
    await shop.receive(sku, 5)
    await receiver.until(lambda: (receiver.newest(sku) or {}).get("quantity") == 5)
    call = receiver.calls[-1]
    call.verify(secret)
    with pytest.raises(WebhookVerificationError):
        call.verify("whsec_" + "A" * 44)
    assert "." not in call.id and call.body["type"] == "stock.updated" and call.body["channel"] == CHANNEL
    shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "ok")
    assert "secret" not in shown and shown["failures"] == 0


async def test_a_secret_is_shown_once_and_the_defaults_are_those_of_the_contract(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    name, secret = await define(shop, receiver)
    shown = (await shop.get(f"/v1/webhooks/{name}")).body
    expected = {"channel": CHANNEL, "skus": None, "prefix": None, "batch": 100, "per_second": 10, "events": ["stock"]}
    assert expected.items() <= shown.items()
    listed = await shop.get("/v1/webhooks")
    assert name in [item["name"] for item in listed.body["items"]]
    assert secret not in str(listed.body) and secret not in str(shown)
    again = await shop.put(f"/v1/webhooks/{name}", {"channel": CHANNEL, "url": receiver.url, "batch": 7})
    assert (again.status, again.body["batch"], "secret" in again.body) == (200, 7, False)
    assert (await shop.call("DELETE", f"/v1/webhooks/{name}")).status == 204
    assert (await shop.get(f"/v1/webhooks/{name}")).problem == (404, "unknown_webhook")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://shop.example/hook",
        "http://10.0.0.1/hook",
        "http://[::1]/hook",
        "http://[::ffff:10.0.0.1]/hook",
        "http://0xa.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "https://user:password@shop.example/hook",
    ],
)
async def test_a_url_that_can_never_be_called_is_rejected(shop: ApiTestClient, url: str) -> None:
    answer = await shop.put("/v1/webhooks/never", {"channel": CHANNEL, "url": url})
    assert answer.problem == (422, "url_not_allowed") and answer.body["errors"][0]["path"] == "url"


async def test_an_endpoint_that_was_down_gets_the_newest_state_of_each_sku_once_and_in_order(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    skus = [unique_name("down") for _ in range(12)]
    is_down = True
    receiver.answer = lambda call: web.Response(status=503 if is_down else 204)
    await define(shop, receiver, prefix="down-", batch=5)
    for _ in range(4):
        for sku in skus:
            await shop.receive(sku, 10)
    await receiver.until(lambda: len(receiver.calls) >= 2)
    is_down = False
    await receiver.until(lambda: all((receiver.newest(sku) or {}).get("quantity") == 40 for sku in skus))
    assert [len(receiver.versions(sku)) for sku in skus] == [1] * len(skus)
    assert receiver.in_flight_max == 1
    assert max(len(call.items) for call in receiver.calls) <= 5
    await shop.receive(skus[0], 1)
    await receiver.until(lambda: receiver.newest(skus[0])["quantity"] == 41)
    assert len(receiver.versions(skus[0])) == 2


async def test_a_retry_of_the_same_content_carries_the_same_id_and_the_time_of_its_attempt(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    receiver.answer = lambda call: web.Response(status=204 if len(receiver.calls) >= 2 else 500)
    _, secret = await define(shop, receiver, skus=[sku])
    await shop.receive(sku, 3)
    await receiver.until(lambda: bool(receiver.taken))
    assert len({call.id for call in receiver.calls}) == 1
    assert len({call.raw for call in receiver.calls}) == 1
    times = [int(call.headers["webhook-timestamp"]) for call in receiver.calls]
    assert times == sorted(times) and times[-1] > times[0]
    for call in receiver.calls:
        call.verify(secret)
