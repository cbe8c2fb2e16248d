"""Attacks on the intake of a running system: forged, repeated, cut, hostile and slow webhooks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import psutil
import pytest

from tests.harness.api_client import ApiAnswer, ApiTestClient, open_client, unique_name
from tests.harness.eventually import eventually
from tests.harness.system import RunningSystem
from tests.intake_payloads import Webhook, qimen, qimen_order, shopify, shopify_order, youzan
from tests.integration.access.conftest import dead_letters, until_rejected

FORGED = (401, "bad_signature")
# Shopify ends a connection after five; the rule says one. A mapping takes longer where the worker is busy or stopped.
ANSWER_SECONDS_MAX = 1.0
# A bomb would take GB.
GROWTH_BYTES_MAX = 50 * 1024 * 1024


@pytest.fixture
async def platform(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A platform, which has no key."""
    async with open_client(running.api) as client:
        yield client


async def send(platform: ApiTestClient, webhook: Webhook) -> ApiAnswer:
    path = f"/v1/intake/{webhook.name}"
    return await platform.call("POST", path, webhook.body, headers=webhook.headers, params=webhook.query)


def order_number() -> int:
    return time.time_ns() // 1_000


async def test_a_repeated_webhook_makes_one_order(platform: ApiTestClient, shop: ApiTestClient) -> None:
    sku, number = await shop.receive_new(10), order_number()
    for topic in ("orders/create", "orders/create", "orders/updated"):
        for delivery in ("a", "a", "b"):
            webhook = shopify(topic, shopify_order(number, sku), **{"X-Shopify-Webhook-Id": delivery})
            assert (await send(platform, webhook)).status == 200
    last = shopify("orders/paid", shopify_order(number, sku, financial_status="paid"))
    assert (await send(platform, last)).status == 200
    await shop.get_when(f"/v1/orders/shopify-{number}", lambda answer: answer.body["state"] == "paid")
    assert (await shop.stock(sku))["available"] == 8


async def test_a_forged_webhook_is_refused(platform: ApiTestClient, shop: ApiTestClient) -> None:
    number = order_number()
    real, other = shopify("orders/create", shopify_order(number)), shopify("orders/create", shopify_order(number + 1))
    name = "X-Shopify-Hmac-Sha256"
    sign = real.headers[name]
    digest = base64.b64decode(sign)
    wrong = ["", sign[:-4], sign + sign, sign + "AAAA", digest.hex(), "é" * 44, base64.b64encode(digest[:16]).decode()]
    for signature in (*wrong, other.headers[name]):
        forged = Webhook("shopify", real.body, {**real.headers, name: signature})
        assert (await send(platform, forged)).problem == FORGED, signature
    unsigned = Webhook("shopify", real.body, {"X-Shopify-Topic": "orders/create"})
    assert (await send(platform, unsigned)).problem == FORGED
    for body in (real.body + b" ", real.body[:-1], b""):
        assert (await send(platform, Webhook("shopify", body, real.headers))).problem == FORGED
    assert (await send(platform, Webhook("qimen", qimen_order("D").body, {}, {"sign": "0" * 32}))).status == 401
    assert (await shop.get(f"/v1/orders/shopify-{number}")).status == 404


async def test_a_body_of_another_length_than_it_says_is_not_taken(running: RunningSystem, shop: ApiTestClient) -> None:
    number = order_number()
    webhook = shopify("orders/create", shopify_order(number))
    headers = "".join(f"{name}: {value}\r\n" for name, value in webhook.headers.items())
    size = len(webhook.body)
    cases = {
        "longer": f"Content-Length: {size + 5}\r\n",
        "shorter": f"Content-Length: {size - 5}\r\n",
        "two": f"Content-Length: {size}\r\nContent-Length: {size - 1}\r\n",
        "both": f"Content-Length: {size}\r\nTransfer-Encoding: chunked\r\n",
        "negative": "Content-Length: -1\r\n",
        "signed": f"Content-Length: +{size}\r\n",
    }
    answers = {}
    for name, length in cases.items():
        head = f"POST /v1/intake/shopify HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}{length}\r\n"
        answers[name] = await exchange(running, head.encode() + webhook.body)
    # A reset may overtake the answer, because the server does not read what follows an error.
    assert set(answers.values()) <= {b"", b"400", b"401", b"408"}, answers
    assert (await shop.get(f"/v1/orders/shopify-{number}")).status == 404
    assert not [each for each in await dead_letters(running) if str(number).encode() in each.event]


async def exchange(running: RunningSystem, request: bytes) -> bytes:
    """The status of the first answer; none if the server closes without one after the client's end."""
    url = urlsplit(running.api)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                return (await reader.read()).partition(b"\r\n")[0][9:12]
            return b""
    finally:
        writer.close()


async def test_a_time_without_a_zone_is_the_platforms(platform: ApiTestClient, shop: ApiTestClient) -> None:
    """Read as UTC, it would lie eight hours ahead, and be refused."""
    sku, code = await shop.receive_new(5), unique_name("E")
    now = datetime.now(ZoneInfo("Asia/Shanghai"))
    created, expired = (f"{at:%Y-%m-%d %H:%M:%S}" for at in (now, now + timedelta(minutes=10)))
    webhook = youzan("trade_TradeCreate", tid=code, sku=sku, created=created, expired_time=expired)
    assert (await send(platform, webhook)).status == 200
    order = await shop.get_when(f"/v1/orders/youzan-{code}", lambda answer: answer.status == 200)
    assert order["state"] == "reserved"
    left = datetime.fromisoformat(order["expires_at"]) - now
    assert timedelta(minutes=8) < left < timedelta(minutes=12)


async def test_a_wrong_zone_is_rejected_and_what_follows_is_taken(
    running: RunningSystem, platform: ApiTestClient, shop: ApiTestClient
) -> None:
    first = order_number()
    for number, at in enumerate(("2026-11-11T08:00:00+99:00", "2026-11-11T08:00:00 Mars/Base", "+08:00", 1e30), first):
        assert (await send(platform, shopify("orders/create", shopify_order(number, created_at=at)))).status == 200
    sku = await shop.receive_new(5)
    await send(platform, shopify("orders/create", shopify_order(first + 4, sku)))
    await shop.get_when(f"/v1/orders/shopify-{first + 4}", lambda answer: answer.status == 200)
    await until_rejected(running, {str(first + number): "invalid_field" for number in range(4)})


def bombs() -> dict[str, Webhook]:
    laughs = "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10))
    inner = {
        "laughs": f'<!DOCTYPE a [<!ENTITY a0 "ha">{laughs}]><request>&a9;</request>',
        "quadratic": f'<!DOCTYPE a [<!ENTITY x "{"A" * 100_000}">]><request>{"&x;" * 100_000}</request>',
        "file": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><request>&x;</request>',
        "remote": '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><request/>',
        "parameter": '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]><request/>',
        "deep": "<a>" * 300_000,
        "many": f"<request>{'<a/>' * 200_000}</request>",
        "wide": "<request " + " ".join(f"a{number}=''" for number in range(50_000)) + "/>",
    }
    made = {name: qimen("deliveryorder.create", xml) for name, xml in inner.items()}
    deep = {
        "arrays": b"[" * 500_000,
        "objects": b'{"a":' * 200_000,
        "closed": b'{"id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "number": b'{"id":' + b"9" * 500_000 + b"}",
    }
    return {**made, **{name: shopify("orders/create", body) for name, body in deep.items()}}


async def test_bombs_of_xml_and_json_are_dead_letters_and_cost_nothing(
    running: RunningSystem, platform: ApiTestClient, shop: ApiTestClient
) -> None:
    parts = [psutil.Process(running.part_pid(name)) for name in ("api", "worker")]
    before = [part.memory_info().rss for part in parts]
    letters = len(await dead_letters(running))
    sent = bombs()
    for name, webhook in sent.items():
        started = time.monotonic()
        assert (await send(platform, webhook)).status == 200, name
        assert time.monotonic() - started < ANSWER_SECONDS_MAX, name
    sku, code = await shop.receive_new(5), unique_name("D")
    assert (await send(platform, qimen_order(code, sku))).status == 200
    await shop.get_when(f"/v1/orders/qimen-{code}", lambda answer: answer.status == 200)

    async def all_rejected() -> bool:
        return len(await dead_letters(running)) >= letters + len(sent)

    await eventually(all_rejected, 30)
    grown = [part.memory_info().rss - size for part, size in zip(parts, before, strict=True)]
    assert max(grown) < GROWTH_BYTES_MAX


async def test_an_unsigned_bomb_is_not_even_read(platform: ApiTestClient) -> None:
    for webhook in bombs().values():
        answer = await send(platform, Webhook(webhook.name, webhook.body, {}, {}))
        assert answer.status == 401


async def test_the_answer_comes_before_the_mapping(
    running: RunningSystem, platform: ApiTestClient, shop: ApiTestClient
) -> None:
    sku, number = await shop.receive_new(5), order_number()
    running.signal_part("worker", signal.SIGSTOP)
    try:
        seconds = []
        for webhook in (shopify("orders/create", shopify_order(number, sku)), qimen_order(unique_name("D"), sku)):
            started = time.monotonic()
            assert (await send(platform, webhook)).status == 200
            seconds.append(time.monotonic() - started)
        assert max(seconds) < ANSWER_SECONDS_MAX
        assert (await shop.get(f"/v1/orders/shopify-{number}")).status == 404
    finally:
        running.signal_part("worker", signal.SIGCONT)
    await shop.get_when(f"/v1/orders/shopify-{number}", lambda answer: answer.status == 200)
