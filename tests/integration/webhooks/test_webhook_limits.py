"""What a webhook's calls are allowed, and what is kept of them, in a running system."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import pairwise

import psutil

from stocktide.streams.topics import WEBHOOK_ACKS
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.receiver import CHANNEL, Receiver, define_webhook, running_receiver
from tests.harness.system import RunningSystem
from tests.harness.workers import WorkerGroup
from tests.integration.webhooks.trade import stocked


async def test_a_call_has_as_many_items_and_bytes_and_a_second_as_many_calls_as_the_definition_allows(
    shop: ApiTestClient, receiver: Receiver
) -> None:
    prefix = f"{unique_name('x' * 90)}-"
    skus = await stocked(shop, prefix, 400)
    async with running_receiver() as large:
        await define_webhook(shop, receiver, skus=skus[:100], batch=20, per_second=4)
        await define_webhook(shop, large, prefix=prefix, batch=1_000, per_second=1_000)
        await large.until(lambda: all(large.versions(sku) for sku in skus))
        assert 15_000 < max(len(call.raw) for call in large.calls) < 20_000
    await receiver.until(lambda: all(receiver.versions(sku) for sku in skus[:100]))
    assert max(len(call.items) for call in receiver.calls) == 20
    spans = [later.at - earlier.at for earlier, later in pairwise(receiver.calls)]
    assert sum(spans) / len(spans) > 0.24


async def test_an_answer_without_an_end_is_a_success_of_which_nothing_is_kept(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    poured = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal poured
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        with contextlib.suppress(OSError):
            while poured < 100_000_000:
                writer.write(b"x" * 65_536)
                await writer.drain()
                poured += 65_536
        writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        sku = unique_name("sku")
        endless = Receiver(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook")
        name, _ = await define_webhook(shop, endless, skus=[sku])
        assert (await shop.post(f"/v1/webhooks/{name}/test")).body["ok"]
        await shop.receive(sku, 3)
        shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["last_success"])
        assert (shown["state"], shown["pending"], shown["error"]) == ("ok", 0, None)
    assert poured < 20_000_000, "only what the buffers of both connections hold is sent"


async def test_a_proxy_of_the_environment_gets_no_call(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver, proxy: Receiver
) -> None:
    for part in ("worker", "api"):
        assert psutil.Process(running.part_pid(part)).environ()["HTTP_PROXY"] == proxy.url
    sku = unique_name("sku")
    name, _ = await define_webhook(shop, receiver, skus=[sku])
    assert (await shop.post(f"/v1/webhooks/{name}/test")).body["ok"]
    await shop.receive(sku, 3)
    await receiver.until(lambda: len(receiver.taken) == 2)
    assert not proxy.calls


async def acks_of(running: RunningSystem, name: str) -> set[str]:
    """What `webhook-acks` holds of a webhook: SKUs, and the progress of its queues."""
    group = WorkerGroup(running.ready["kafka"], running.ready["redis"], running.app_id, running.data)
    rows = await group.rows(WEBHOOK_ACKS)
    return {key.partition("/")[2] for key, row in rows.items() if row is not None and key.startswith(f"{name}/")}


async def test_acknowledgements_go_with_their_webhook_and_with_the_skus_that_it_leaves_out(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver
) -> None:
    skus = [unique_name("acks") for _ in range(6)]
    fields: dict[str, object] = {"channel": CHANNEL, "url": receiver.url, "events": ["stock", "orders"]}
    name, _ = await define_webhook(shop, receiver, **fields, skus=skus)
    for sku in skus:
        await shop.receive(sku, 3)
    await receiver.until(lambda: all(receiver.versions(sku) for sku in skus))

    async def held(*expected: str) -> None:
        async def are_held() -> bool:
            return await acks_of(running, name) == set(expected)

        await eventually(are_held, message=lambda: f"not only {expected} are held")

    await held(*skus, " stock", " orders")
    await shop.put(f"/v1/webhooks/{name}", {**fields, "skus": skus[:2], "events": ["stock"]})
    await held(*skus[:2], " stock")
    await shop.call("DELETE", f"/v1/webhooks/{name}")
    await held()
