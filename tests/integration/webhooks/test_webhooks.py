"""Webhooks of a running system, sent to real HTTP servers on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import WebhookVerificationError

from stocktide.agents.webhooks.endpoint import BREAKER_SECONDS, JITTER
from stocktide.streams.topics import ALERTS
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.receiver import CHANNEL, Receiver, define_webhook, running_receiver
from tests.harness.system import RunningSystem, SystemFactory
from tests.harness.workers import WorkerGroup


@pytest.fixture(scope="module")
async def recovering(running: RunningSystem) -> AsyncIterator[tuple[str, Receiver]]:
    """The name of a webhook whose endpoint fails five times, and the endpoint. It is for the first test and the last,
    so that no test waits for its circuit breaker alone."""
    async with running_receiver() as receiver, running.client() as shop:
        receiver.answer = lambda call: web.Response(status=500 if len(receiver.calls) < 5 else 204)
        sku = unique_name("sku")
        name, _ = await define_webhook(shop, receiver, skus=[sku])
        await shop.receive(sku, 3)
        yield name, receiver


async def test_pauses_double_with_jitter_until_the_circuit_breaker_opens(
    shop: ApiTestClient, recovering: tuple[str, Receiver]
) -> None:
    name, endpoint = recovering
    shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["open"])
    assert shown["state"] == "failing" and shown["failures"] == len(endpoint.calls) == 5
    assert shown["pending"] == 1 and shown["lag_seconds"] > 3 and shown["failing_since"]
    pauses = [later.at - earlier.at for earlier, later in pairwise(endpoint.calls)]
    for pause, longest in zip(pauses, (0.5, 1.0, 2.0, 4.0), strict=True):
        assert pause >= longest * (1 - JITTER)
    assert pauses[3] < 4.0 + 2.0, "that much longer is not the pause"


async def test_a_change_of_stock_is_sent_with_a_signature_that_the_reference_library_accepts(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    name, secret = await define_webhook(shop, receiver, skus=[sku])
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
    name, secret = await define_webhook(shop, receiver)
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


async def test_a_retry_of_the_same_content_carries_the_same_id_and_the_time_of_its_attempt(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    receiver.answer = lambda call: web.Response(status=204 if len(receiver.calls) >= 2 else 500)
    _, secret = await define_webhook(shop, receiver, skus=[sku])
    await shop.receive(sku, 3)
    await receiver.until(lambda: bool(receiver.taken))
    assert len({call.id for call in receiver.calls}) == 1
    assert len({call.raw for call in receiver.calls}) == 1
    times = [int(call.headers["webhook-timestamp"]) for call in receiver.calls]
    assert times == sorted(times) and times[-1] > times[0]
    for call in receiver.calls:
        call.verify(secret)


async def alerts_about(system: RunningSystem, name: str) -> list[str]:
    """The reasons of alerts `webhook_disabled` of a webhook."""
    group = WorkerGroup(system.ready["kafka"], system.ready["redis"], system.app_id, system.data)
    rows = [orjson.loads(record.value or b"{}") for record in await group.records(ALERTS)]
    return [row["reason"] for row in rows if row["type"] == "webhook_disabled" and row["reason"].startswith(f"{name}:")]


async def test_410_disables_the_webhook_with_an_alert_and_a_new_definition_enables_it(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    is_gone = True
    receiver.answer = lambda call: web.Response(status=410 if is_gone else 204)
    name, _ = await define_webhook(shop, receiver, skus=[sku])
    await shop.receive(sku, 3)
    shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "disabled")
    assert "410" in shown["error"]
    count = len(receiver.calls)
    await shop.receive(sku, 3)
    await shop.get_when(f"/v1/channels/{CHANNEL}/stock?sku={sku}", lambda answer: sku in str(answer.body))
    assert len(receiver.calls) == count == 1
    await eventually(lambda: _has_alert(running, name))
    is_gone = False
    await shop.put(f"/v1/webhooks/{name}", {"channel": CHANNEL, "url": receiver.url, "skus": [sku]})
    await receiver.until(lambda: (receiver.newest(sku) or {}).get("quantity") == 6)
    await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "ok")


async def _has_alert(system: RunningSystem, name: str) -> bool:
    return len(await alerts_about(system, name)) == 1


async def test_a_redirect_is_a_failure_and_is_not_followed(shop: ApiTestClient, receiver: Receiver) -> None:
    sku = unique_name("sku")
    async with running_receiver() as elsewhere:
        receiver.answer = lambda call: web.Response(status=302, headers={"Location": elsewhere.url})
        name, _ = await define_webhook(shop, receiver, skus=[sku])
        await shop.receive(sku, 3)
        shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "failing")
        assert "302" in shown["error"] and receiver.calls and not elsewhere.calls


async def test_a_wait_that_the_receiver_asks_for_is_kept(shop: ApiTestClient, receiver: Receiver) -> None:
    sku = unique_name("sku")
    receiver.answer = lambda call: (
        web.Response(status=204) if len(receiver.calls) > 0 else web.Response(status=429, headers={"Retry-After": "2"})
    )
    await define_webhook(shop, receiver, skus=[sku])
    await shop.receive(sku, 3)
    await receiver.until(lambda: bool(receiver.taken))
    first, second = receiver.calls
    assert second.at - first.at >= 1.9


async def test_both_secrets_sign_after_a_rotation(shop: ApiTestClient, receiver: Receiver) -> None:
    sku = unique_name("sku")
    name, old = await define_webhook(shop, receiver, skus=[sku])
    rotated = await shop.post(f"/v1/webhooks/{name}/rotate")
    new = rotated.body["secret"]
    assert rotated.status == 200 and new != old and rotated.body["rotating_until"]
    await shop.receive(sku, 3)
    await receiver.until(lambda: bool(receiver.taken))
    for secret in (old, new):
        receiver.calls[-1].verify(secret)


async def test_a_test_call_is_signed_and_says_what_the_endpoint_answered(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    name, secret = await define_webhook(shop, receiver, skus=["none"])
    receiver.answer = lambda call: web.Response(status=418)
    answer = await shop.post(f"/v1/webhooks/{name}/test")
    assert (answer.status, answer.body["ok"], answer.body["status"]) == (200, False, 418)
    receiver.calls[-1].verify(secret)
    assert receiver.calls[-1].body == {"type": "webhook.test", "channel": CHANNEL, "items": []}


async def test_a_replay_sends_the_present_state_once_more_with_another_id(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    sku = unique_name("sku")
    name, _ = await define_webhook(shop, receiver, skus=[sku])
    await shop.receive(sku, 3)
    await receiver.until(lambda: bool(receiver.taken))
    assert (await shop.post(f"/v1/webhooks/{name}/replay")).status == 202
    await receiver.until(lambda: len(receiver.taken) == 2)
    first, second = receiver.taken
    assert first.body == second.body and first.id != second.id


async def test_a_slow_endpoint_does_not_delay_another(shop: ApiTestClient, receiver: Receiver) -> None:
    skus = [unique_name("slow") for _ in range(3)]
    async with running_receiver() as slow:
        slow.gate.clear()
        await define_webhook(shop, slow, skus=skus)
        await define_webhook(shop, receiver, skus=skus)
        for sku in skus:
            await shop.receive(sku, 7)
        await receiver.until(lambda: all(receiver.newest(sku) for sku in skus))
        await slow.until(lambda: bool(slow.calls))
        assert not slow.taken


async def test_outcomes_of_orders_are_sent_and_nothing_internal_with_them(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    channel, sku = unique_name("channel"), unique_name("sku")
    name, secret = await define_webhook(shop, receiver, channel=channel, events=["orders"])
    await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "ok")
    await shop.receive(sku, 3)
    order_id = (await shop.place(sku, 1, channel=channel)).body["order_id"]
    await shop.place(sku, 1, channel=unique_name("channel"))
    await receiver.until(lambda: bool(receiver.taken))
    await shop.post(f"/v1/orders/{order_id}/cancel")
    await receiver.until(lambda: receiver.taken[-1].items[-1]["state"] == "cancelled")
    assert {item["order_id"] for call in receiver.taken for item in call.items} == {order_id}
    assert {call.body["type"] for call in receiver.taken} == {"order.updated"}
    assert not {"record", "batch"} & set(receiver.taken[-1].items[-1])
    receiver.calls[-1].verify(secret)


async def test_the_circuit_breaker_closes_again(shop: ApiTestClient, recovering: tuple[str, Receiver]) -> None:
    name, endpoint = recovering
    await endpoint.until(lambda: bool(endpoint.taken))
    shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "ok")
    assert (shown["open"], shown["pending"], shown["failures"], shown["error"]) == (False, 0, 0, None)
    assert endpoint.calls[5].at - endpoint.calls[4].at >= BREAKER_SECONDS - 0.5


async def test_a_name_that_resolves_to_a_private_address_gets_no_call_and_is_disabled_with_an_alert(
    system: SystemFactory, receiver: Receiver
) -> None:
    running = await system(environ={"STOCKTIDE_WEBHOOK_FAILING_SECONDS": "2"})
    async with running.client() as shop:
        literal = await shop.put("/v1/webhooks/w", {"channel": CHANNEL, "url": receiver.url})
        assert literal.problem == (422, "url_not_allowed")
        receiver.url = receiver.url.replace("127.0.0.1", "localhost")
        name, secret = await define_webhook(shop, receiver)
        tested = await shop.post(f"/v1/webhooks/{name}/test")
        assert (tested.body["ok"], tested.body["error"]) == (False, "address_not_allowed")
        await shop.receive(unique_name("sku"), 3)
        shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "failing")
        assert shown["error"] == "address_not_allowed"
        shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "disabled")
        assert shown["error"] == "every call has failed for 0.0 h: address_not_allowed" and shown["failures"] >= 3
        await eventually(lambda: _has_alert(running, name))
        assert not receiver.calls
        assert secret not in running.logs and secret.removeprefix("whsec_") not in running.logs
