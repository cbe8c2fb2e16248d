"""Webhooks under load: an endpoint that was down, a worker that is killed during a call."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from redis.asyncio import Redis

from stocktide.streams.topics import CHANNEL_STOCK
from tests.check import say
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.receiver import ALLOW_LOOPBACK, CHANNEL, ReceivedCall, Receiver, define_webhook, running_receiver
from tests.harness.system import RunningSystem
from tests.harness.workers import WorkerGroup
from tests.integration.webhooks.trade import newest_versions, stocked, trading

ORDERS_PER_SECOND = 40
SKUS = 200
BATCH = 20
TYPES = ("stock.updated", "order.updated")
# The longest pause between two attempts and the time of the calls.
CATCH_UP_SECONDS_MAX = 120.0


def verifying(secret: str) -> Any:
    """An answer of a receiver that takes what the reference library verifies."""

    def answer(call: ReceivedCall) -> web.Response:
        call.verify(secret)
        return web.Response(status=204)

    return answer


async def published_versions(running: RunningSystem, skus: Iterable[str]) -> dict[str, int]:
    """The versions of the newest rows of `channel-stock`."""
    group = WorkerGroup(running.ready["kafka"], running.ready["redis"], running.app_id, running.data)
    rows = await group.rows(CHANNEL_STOCK)
    return {sku: rows[f"{CHANNEL}/{sku}"]["version"] for sku in skus}


def check_attempts(calls: Iterable[ReceivedCall], name: str = "sku", version: str = "version") -> None:
    """What is sent again carries the same id and nothing that was not in it; no number falls, also in failed calls."""
    ids: dict[tuple[str, int], set[str]] = defaultdict(set)
    contents: dict[str, set[tuple[str, int]]] = {}
    newest: dict[str, int] = defaultdict(int)
    for call in calls:
        content = {(item[name], item[version]) for item in call.items}
        assert content <= contents.get(call.id, content), f"{call.id} was sent again with something else"
        contents[call.id] = content
        for each in content:
            ids[each].add(call.id)
            assert each[1] >= newest[each[0]], f"an old number of {each[0]} was sent"
            newest[each[0]] = each[1]
        assert len(content) == len(call.items) <= BATCH and len(call.raw) < 20_000
    assert {each: found for each, found in ids.items() if len(found) > 1} == {}, "sent again with another id"


async def outlast(running: RunningSystem, shop: ApiTestClient, seconds: float) -> str:
    """An endpoint is down for some seconds while orders change all SKUs; what it got afterwards."""
    prefix = unique_name("down") + "-"
    skus = await stocked(shop, prefix, SKUS)
    quiet = skus[::2]
    async with running_receiver() as before:
        name, secret = await define_webhook(shop, before, prefix=prefix, batch=BATCH, per_second=100)
        before.answer = verifying(secret)
        await before.until(lambda: all(before.versions(sku) for sku in skus))
        port = int(before.url.split(":")[2].split("/")[0])
    async with trading(shop, skus, ORDERS_PER_SECOND) as trade:
        await asyncio.sleep(seconds)
        trade.skus = skus[1::2]
        shown = await shop.get_when(f"/v1/webhooks/{name}", lambda answer: answer.body["state"] == "failing")
        assert 0 < shown["pending"] <= SKUS and shown["lag_seconds"] > seconds / 2, shown
        await asyncio.sleep(0.5)
        published = await published_versions(running, skus)
        changed = [sku for sku in skus if published[sku] > before.versions(sku)[-1]]
        async with running_receiver(port) as after:
            after.answer = verifying(secret)
            await after.until(lambda: all(after.versions(sku) for sku in changed), CATCH_UP_SECONDS_MAX)
            await asyncio.sleep(0.5)
            trade.skus = trade.skus[:1]
            changing, rate = trade.skus[0], trade.rate
            newest = await newest_versions(shop, skus)
            del newest[changing]
            await after.until(lambda: all(after.versions(sku)[-1] >= newest[sku] for sku in newest if sku in changed))
    assert {sku: after.versions(sku) for sku in quiet} == {sku: [newest[sku]] * (sku in changed) for sku in quiet}
    assert len(changed) > min(SKUS, rate * seconds) / 2, "the load has changed too few"
    for sku in changed:
        assert after.versions(sku)[0] >= published[sku]
        assert after.versions(sku) == sorted(set(after.versions(sku)))
    assert after.in_flight_max == before.in_flight_max == 1
    assert len(after.taken) == len(after.calls)
    check_attempts([*before.calls, *after.calls])
    states = sum(newest[sku] - 1 for sku in quiet)
    return (
        f"down for {seconds:.0f} s at {rate:.0f} orders/s: {len(changed)} of {SKUS} SKUs changed, and half of them, "
        f"which had {states} states and then stood still, came once each; {shown['pending']} pending, "
        f"{shown['failures']} failed calls, {len(after.calls)} calls afterwards"
    )


async def test_an_endpoint_that_was_down_gets_the_newest_state_of_each_sku_once_and_in_order(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    await outlast(running, shop, 3.5)  # nearly five until it is up: the fifth failure would open the circuit breaker


@pytest.mark.soak
async def test_an_endpoint_that_was_down_for_five_minutes_gets_the_newest_state_of_each_sku_once_and_in_order(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    say(await outlast(running, shop, 300.0))


@pytest.mark.soak
async def test_a_worker_killed_during_a_call_leaves_nothing_out_and_what_is_sent_again_carries_the_same_id(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver, tmp_path: Path
) -> None:
    prefix = unique_name("kill") + "-"
    skus = await stocked(shop, prefix, 80)
    group = WorkerGroup(running.ready["kafka"], running.ready["redis"], running.app_id, tmp_path)
    try:
        second = await group.start("w2", STOCKTIDE_WORKER_ROLE="publish", **ALLOW_LOOPBACK)
        # Two calls a second, so that each has many SKUs.
        _, secret = await define_webhook(shop, receiver, prefix=prefix, batch=BATCH, per_second=2)
        receiver.answer = verifying(secret)
        await receiver.until(lambda: all(receiver.versions(sku) for sku in skus))
        async with trading(shop, skus, ORDERS_PER_SECOND) as trade:
            await asyncio.sleep(0.5)
            receiver.gate.clear()
            # One call of each of the two owners.
            await receiver.until(lambda: receiver.in_flight == 2)
            held = [call for call in receiver.calls if not call.status]
            quiet = {item["sku"] for call in held for item in call.items[::2]}
            trade.skus = [sku for sku in skus if sku not in quiet]
            await second.stop(signal.SIGKILL)
            await receiver.until(lambda: receiver.in_flight == 1)
            receiver.gate.set()
            ids = {call.id for call in held}
            await receiver.until(lambda: ids <= {call.id for call in receiver.taken}, CATCH_UP_SECONDS_MAX)
        newest = await newest_versions(shop, skus)
        await receiver.until(lambda: all(receiver.versions(sku)[-1] >= newest[sku] for sku in skus))
    finally:
        await group.close()
    (lost,) = (call for call in held if not call.status)
    (again,) = (call for call in receiver.taken if call.id == lost.id)
    assert {item["sku"] for item in again.items} & quiet
    check_attempts(receiver.calls)


async def lose_redis(running: RunningSystem) -> None:
    """Remove all that the installation has in Redis; its worker makes it anew from Kafka."""
    async with Redis.from_url(running.ready["redis"]) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{running.app_id}:*", count=1_000)]
        await redis.delete(*keys)


@pytest.mark.soak
async def test_a_killed_worker_and_a_lost_redis_leave_out_no_order_and_repeat_none_with_another_id(
    running: RunningSystem, shop: ApiTestClient, receiver: Receiver
) -> None:
    channel, prefix = unique_name("channel"), unique_name("lost") + "-"
    skus = await stocked(shop, prefix, 40)
    kinds: list[str] = ["orders", "stock"]
    _, secret = await define_webhook(shop, receiver, channel=channel, prefix=prefix, events=kinds, batch=BATCH)
    receiver.answer = verifying(secret)
    # The first order comes before any worker has read the definition.
    async with trading(shop, skus, ORDERS_PER_SECOND, channel) as trade:
        await receiver.until(lambda: len(orders_of(receiver.taken)) > 20)
        receiver.gate.clear()
        await receiver.until(lambda: receiver.in_flight == 1)
        cancelled = trade.placed[:10]
        for order_id in cancelled:
            assert (await shop.post(f"/v1/orders/{order_id}/cancel")).status == 200
        await running.restart_part("worker")
        receiver.gate.set()
        await lose_redis(running)
        log = running.data / "logs" / "worker.log"
        await eventually(lambda: "rebuilding it from the journal" in log.read_text(), message=running.log_tail)
        count = len(trade.placed)
        await eventually(lambda: len(trade.placed) > count + ORDERS_PER_SECOND, 60, running.log_tail)
    expected = {order_id: "cancelled" if order_id in cancelled else "reserved" for order_id in trade.placed}
    await receiver.until(lambda: expected.items() <= orders_of(receiver.taken).items())
    newest = await newest_versions(shop, skus, channel)
    await receiver.until(lambda: all(receiver.versions(sku)[-1] >= newest[sku] for sku in skus))
    contents = [item for call in receiver.taken for item in call.items]
    assert len({str(item) for item in contents}) == len(contents), "sent again although it was answered"
    by_type = {kind: [call for call in receiver.calls if call.body["type"] == kind] for kind in TYPES}
    check_attempts(by_type["stock.updated"])
    check_attempts(by_type["order.updated"], "order_id", "sequence")


def orders_of(calls: Iterable[ReceivedCall]) -> dict[str, str]:
    """The newest state of each order that was sent."""
    return {item["order_id"]: item["state"] for call in calls for item in call.items if "order_id" in item}
