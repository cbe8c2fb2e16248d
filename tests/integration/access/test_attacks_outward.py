"""Attacks on a running system by what it calls and what it takes without a key: webhooks out, and the intake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from stocktide.api.handlers.webhooks import CHANNEL_WEBHOOKS_MAX
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.receiver import Receiver, running_receiver
from tests.harness.system import RunningSystem
from tests.integration.access.conftest import ALLOWED_ADDRESS

REFUSED = "address_not_allowed"
UNKNOWN_WEBHOOK = (404, "unknown_webhook")


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that may be called."""
    async with running_receiver(host=ALLOWED_ADDRESS) as found:
        yield found


@pytest.fixture(scope="module")
async def private(receiver: Receiver) -> AsyncIterator[Receiver]:
    """A receiver at the same port of an address that may not be called."""
    async with running_receiver(port=port_of(receiver)) as found:
        yield found


@pytest.fixture
async def own(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client with the key of the channel `own`."""
    async with running.client("channel") as client:
        yield client


def port_of(receiver: Receiver) -> int:
    return int(receiver.url.split(":")[2].partition("/")[0])


def move_name(running: RunningSystem, name: str, address: str) -> None:
    """Let a name have another address from now on, in every process of the system."""
    Path(running.data.parent / "names").write_text(f"{name} {address}\n")


async def define(client: ApiTestClient, url: str, **fields: object) -> str:
    name = unique_name("hook")
    answer = await client.put(f"/v1/webhooks/{name}", {"channel": "own", "url": url, "skus": ["none"], **fields})
    assert answer.status == 201, answer.body
    return name


async def error_of_sending(shop: ApiTestClient, name: str) -> str:
    """The error with which the worker's calls end."""
    shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "failing")
    return str(shown["error"])


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0x7f.1", "10.0.0.1", "[::1]"])
async def test_a_private_address_in_a_url_is_rejected(shop: ApiTestClient, own: ApiTestClient, host: str) -> None:
    for client in (shop, own):
        answer = await client.put("/v1/webhooks/never", {"channel": "own", "url": f"http://{host}:9/hook"})
        assert answer.problem == (422, "url_not_allowed")


@pytest.mark.parametrize("address", [None, "127.0.0.1", "::ffff:127.0.0.1", "::1", "169.254.169.254"])
async def test_a_name_that_leads_to_a_private_address_is_not_dialled(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver, private: Receiver, address: str | None
) -> None:
    host = "localhost" if address is None else f"{unique_name('name')}.test"
    if address is not None:
        move_name(running, host, address)
    sku = unique_name("sku")
    name = await define(shop, f"http://{host}:{port_of(receiver)}/hook", skus=[sku])
    tested = await shop.post(f"/v1/webhooks/{name}/test")
    assert (tested.body["ok"], tested.body["error"]) == (False, REFUSED)
    if address == "::ffff:127.0.0.1":  # the worker's calls are the API's; once is enough
        await shop.receive(sku, 3)
        assert await error_of_sending(shop, name) == REFUSED
    assert not private.calls


async def test_a_name_that_moves_to_a_private_address_after_its_first_call_is_not_dialled(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver, private: Receiver
) -> None:
    host, sku = "rebinding.test", unique_name("sku")
    move_name(running, host, ALLOWED_ADDRESS)
    name = await define(shop, f"http://{host}:{port_of(receiver)}/hook", skus=[sku])
    assert (await shop.post(f"/v1/webhooks/{name}/test")).body["ok"]
    assert receiver.calls[-1].body["type"] == "webhook.test"
    move_name(running, host, "127.0.0.1")
    await shop.receive(sku, 3)
    assert await error_of_sending(shop, name) == REFUSED
    assert not private.calls


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(
    shop: ApiTestClient, receiver: Receiver, private: Receiver, status: int
) -> None:
    before = len(receiver.calls)
    receiver.answer = lambda call: web.Response(status=status, headers={"Location": private.url})
    try:
        sku = unique_name("sku")
        name = await define(shop, receiver.url, skus=[sku])
        tested = await shop.post(f"/v1/webhooks/{name}/test")
        assert (tested.body["ok"], tested.body["status"]) == (False, status)
        if status == 307:
            await shop.receive(sku, 3)
            assert str(status) in await error_of_sending(shop, name)
    finally:
        receiver.answer = lambda call: web.Response(status=204)
        await shop.call("DELETE", f"/v1/webhooks/{name}")
    assert len(receiver.calls) > before
    assert not private.calls


async def test_a_channel_has_its_own_webhooks_and_no_others(
    shop: ApiTestClient, own: ApiTestClient, receiver: Receiver
) -> None:
    mine = await define(own, receiver.url)
    theirs = await define(shop, receiver.url, channel="jd")
    unknown = unique_name("nobody")
    actions = (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/replay"), ("POST", "/rotate"))
    calls = [own.call(method, f"/v1/webhooks/{name}{do}") for method, do in actions for name in (theirs, unknown)]
    answers = await asyncio.gather(*calls)
    assert {answer.problem for answer in answers} == {UNKNOWN_WEBHOOK}
    assert all(answer.body == answers[0].body for answer in answers)
    body = {"channel": "own", "url": receiver.url}
    assert (await own.put(f"/v1/webhooks/{theirs}", body)).problem == UNKNOWN_WEBHOOK
    assert (await own.put(f"/v1/webhooks/{mine}", {**body, "channel": "jd"})).problem == (403, "forbidden")
    assert (await own.put(f"/v1/webhooks/{unknown}", {**body, "channel": "jd"})).problem == (403, "forbidden")
    names = {item["name"] for item in (await own.get("/v1/webhooks")).body["items"]}
    assert mine in names and theirs not in names
    assert {mine, theirs} <= {item["name"] for item in (await shop.get("/v1/webhooks")).body["items"]}
    assert (await shop.get(f"/v1/webhooks/{theirs}")).body["channel"] == "jd"
    rotated = await own.post(f"/v1/webhooks/{mine}/rotate")
    assert rotated.body["secret"].startswith("whsec_")
    assert (await own.call("DELETE", f"/v1/webhooks/{mine}")).status == 204


async def test_a_webhook_of_a_channels_key_names_no_warehouses(
    shop: ApiTestClient, own: ApiTestClient, receiver: Receiver
) -> None:
    sku = await shop.receive_new(5)
    by_own, by_operator = [await define(client, receiver.url, events=["orders"]) for client in (own, shop)]
    for name in (by_own, by_operator):
        await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "ok")
    order_id = (await own.place(sku, channel="own")).body["order_id"]

    def lines() -> list[dict[str, object]]:
        return [item["lines"][0] for call in receiver.taken for item in call.items if item.get("order_id") == order_id]

    await receiver.until(lambda: len(lines()) >= 2)
    assert sorted("warehouses" in line for line in lines()) == [False, True]
    for name in (by_own, by_operator):
        await shop.call("DELETE", f"/v1/webhooks/{name}")


async def test_a_channel_makes_a_bounded_number_of_webhooks_also_at_the_same_time(
    own: ApiTestClient, receiver: Receiver
) -> None:
    body = {"channel": "own", "url": receiver.url, "skus": ["none"]}
    names = [unique_name("many") for _ in range(CHANNEL_WEBHOOKS_MAX + 5)]
    answers = await asyncio.gather(*(own.put(f"/v1/webhooks/{name}", body) for name in names))
    refused = [answer for answer in answers if answer.status != 201]
    assert len(refused) >= 5
    assert {answer.problem for answer in refused} == {(409, "too_many_webhooks")}
    await asyncio.gather(*(own.call("DELETE", f"/v1/webhooks/{name}") for name in names))
    assert (await own.put(f"/v1/webhooks/{names[0]}", body)).status == 201
    assert (await own.call("DELETE", f"/v1/webhooks/{names[0]}")).status == 204
