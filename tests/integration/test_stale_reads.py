"""Reads while the ledger cannot be read: from the published tables, marked as stale."""

from __future__ import annotations

import signal
from typing import Any

from redis.asyncio import Redis

from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.system import SystemFactory


async def _published(shop: ApiTestClient) -> tuple[str, str, dict[str, Any]]:
    """A SKU and an order of it, and what each path answers."""
    sku = await shop.receive_new(10)
    async with shop.feed("tmall") as feed:
        order = (await shop.place(sku, 3)).body
        await feed.until(sku, quantity=7)  # a worker that is halted publishes nothing
    paths = (
        f"/v1/stock/{sku}",
        f"/v1/orders/{order['order_id']}",
        f"/v1/stock?prefix={sku}",
        f"/v1/orders?sku={sku}&state=reserved",
        f"/v1/channels/tmall/stock?sku={sku}",
        "/v1/channels/tmall/stock",
    )
    # A page of orders may be empty and have a next one, where Redis is slow.
    answers = {path: await shop.get_when(path, lambda answer: answer.body.get("items") != []) for path in paths}
    return sku, order["order_id"], answers


async def _stale(shop: ApiTestClient, path: str, wanted: Any) -> ApiAnswer:
    """The answer from the tables, once they have what was there."""
    found: list[ApiAnswer] = []

    async def is_there() -> bool:
        found[:] = [await shop.get(path)]
        return found[0].status == 200 and _without_cursor(found[0].body) == {**_without_cursor(wanted), "stale": True}

    await eventually(is_there, 30, lambda: str((path, wanted, found)))
    return found[0]


def _without_cursor(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "next"}


async def test_reads_are_answered_from_the_tables_while_the_ledger_is_unblessed(system: SystemFactory) -> None:
    running = await system()
    async with running.client() as shop, Redis.from_url(running.ready["redis"]) as redis:
        sku, order_id, fresh = await _published(shop)
        assert not any("stale" in body for body in fresh.values())
        worker = running.signal_part("worker", signal.SIGSTOP)
        await redis.delete(f"{running.app_id}:{{0}}:blessed")
        try:
            for path, body in fresh.items():
                await _stale(shop, path, body)
            unknown = unique_name("unknown")
            for path in (f"/v1/stock/{unknown}", f"/v1/orders/{unknown}", "/v1/orders?at_risk=true"):
                assert (await shop.get(path)).problem == (503, "unavailable"), "the ledger may know it"
            assert (await shop.place(sku, 1)).status == 503, "nothing is promised from the tables"
        finally:
            running.signal_part("worker", signal.SIGCONT)
        assert worker

        async def is_fresh() -> bool:
            return "stale" not in (await shop.get(f"/v1/orders/{order_id}")).body

        await eventually(is_fresh, 60, running.log_tail)
        assert (await shop.get(f"/v1/stock/{sku}")).body == fresh[f"/v1/stock/{sku}"]


async def test_reads_are_answered_from_the_tables_while_redis_hangs_and_after_it_was_emptied(
    system: SystemFactory,
) -> None:
    running = await system(own_servers=True)
    async with running.client() as shop:
        _, order_id, fresh = await _published(shop)
        running.signal_part("redis", signal.SIGSTOP)
        try:
            for path, body in fresh.items():
                await _stale(shop, path, body)
        finally:
            running.signal_part("redis", signal.SIGCONT)

        async def is_fresh() -> bool:
            answer = await shop.get(f"/v1/orders/{order_id}")
            return answer.status == 200 and "stale" not in answer.body

        await eventually(is_fresh, 60, running.log_tail)
        running.signal_part("worker", signal.SIGSTOP)
        async with Redis.from_url(running.ready["redis"]) as redis:
            await redis.flushall()
        try:
            for path, body in fresh.items():
                await _stale(shop, path, body)
        finally:
            running.signal_part("worker", signal.SIGCONT)
        await eventually(is_fresh, 60, running.log_tail)
