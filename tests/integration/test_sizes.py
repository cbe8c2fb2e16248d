"""Rule 39 on a running system: no legal input, however wide, stops anything; another SKU is sold meanwhile.

Each kind of input runs at a size that `make check` has time for, and at full size in `make soak`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from stocktide.retry import poll_until
from tests.harness.api_client import AT, ApiAnswer, ApiTestClient, fresh
from tests.harness.system import RunningSystem

pytestmark = pytest.mark.integration

# What a caller waits at most for an answer, on a machine that is shared.
ANSWER_SECONDS_MAX = 5.0
DERIVED_SECONDS_MAX = 120.0
NAME_LENGTH_MAX = 128


@dataclass(frozen=True, slots=True)
class Scale:
    """How wide the inputs of a test are."""

    lines: int
    warehouses: int
    orders: int
    name_length: int


REDUCED = Scale(lines=500, warehouses=18, orders=12, name_length=NAME_LENGTH_MAX)
# With names of this length the version before stopped at the 140th warehouse, with the longest at the 16th.
FULL = Scale(lines=2_000, warehouses=145, orders=100, name_length=20)
SCALES = (pytest.param(REDUCED, id="reduced"), pytest.param(FULL, id="full", marks=pytest.mark.soak))


def long_name(prefix: str, length: int = NAME_LENGTH_MAX) -> str:
    """A name of that length."""
    return prefix + "x" * (length - len(prefix))


def skus_of(prefix: str, count: int) -> list[str]:
    """So many SKUs."""
    return [f"{prefix}-{number:04d}" for number in range(count)]


def receipt(warehouse: str, skus: list[str], units: int = 1) -> dict[str, Any]:
    """A receipt of every SKU."""
    return {
        "type": "stock.received",
        "id": fresh("wide"),
        "occurred_at": AT,
        "warehouse": warehouse,
        "lines": [{"sku": sku, "quantity": units} for sku in skus],
    }


async def receive_everywhere(shop: ApiTestClient, warehouses: list[str], skus: list[str]) -> None:
    """Have a unit of every SKU in every warehouse, and wait until the ledger has them."""
    receipts = [receipt(warehouse, skus) for warehouse in warehouses]
    for each in receipts:
        assert (await shop.post("/v1/movements", each)).status == 202
    for each in receipts:
        body = await applied(shop, each)
        assert body["outcome"] == "received", body


async def applied(shop: ApiTestClient, movement: dict[str, Any]) -> Any:
    """What a movement did, once the ledger has it."""
    answers: list[ApiAnswer] = []

    async def known() -> bool:
        answers[:] = [await shop.get(f"/v1/warehouses/{movement['warehouse']}/movements/{movement['id']}")]
        return answers[0].status == 200

    assert await poll_until(known, DERIVED_SECONDS_MAX), answers[0]
    return answers[0].body


@asynccontextmanager
async def selling(shop: ApiTestClient) -> AsyncIterator[list[float]]:
    """Sell another SKU all the while: every order has to be answered in time. The seconds that each took."""
    sku = fresh("sold-meanwhile")
    await shop.receive(sku, 100_000)
    took: list[float] = []
    over = asyncio.Event()

    async def sell() -> None:
        while not over.is_set():
            began = time.monotonic()
            answer = await shop.place(sku)
            took.append(time.monotonic() - began)
            assert answer.status == 201, answer.body
            await asyncio.sleep(0.1)

    seller = asyncio.create_task(sell())
    try:
        yield took
    finally:
        over.set()
        await seller
    assert took and max(took) < ANSWER_SECONDS_MAX, max(took)


async def channel_shows(shop: ApiTestClient, channel: str, sku: str, quantity: int) -> None:
    """Wait until a feed of the channel, which is derived from the journal, shows the SKU so."""

    async def shown() -> bool:
        async with shop.feed(channel) as feed:
            newest = {update["sku"]: update for update in await feed.until_synced()}
        return newest.get(sku, {}).get("quantity") == quantity

    assert await poll_until(shown, DERIVED_SECONDS_MAX), f"{channel} does not show {quantity} of {sku}"


@pytest.mark.parametrize("scale", SCALES)
async def test_receipts_of_many_skus_from_many_warehouses_with_long_names_are_taken(
    shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(fresh("wide"), scale.lines)
    place = fresh("W")[-12:]
    warehouses = [long_name(f"{place}-{number}", scale.name_length) for number in range(scale.warehouses)]
    async with selling(shop):
        await receive_everywhere(shop, warehouses, skus)
    stock = await shop.stock(skus[-1])
    assert stock["available"] == scale.warehouses == len(stock["warehouses"])
    await channel_shows(shop, "tmall", skus[0], scale.warehouses)


@pytest.mark.parametrize("scale", SCALES)
async def test_an_order_that_draws_on_long_names_beyond_a_records_size_is_rejected_alone(
    shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(fresh("split"), 2_000)
    await receive_everywhere(shop, [long_name(fresh(f"S{number}-")) for number in range(7)], skus)
    order = {"order_id": fresh("split"), "channel": "tmall", "lines": [{"sku": sku, "quantity": 7} for sku in skus]}
    async with selling(shop):
        began = time.monotonic()
        answer = await shop.post("/v1/orders", order)
        assert answer.status == 413 and answer.code == "too_large", answer.body
        assert time.monotonic() - began < ANSWER_SECONDS_MAX
        assert (await shop.post("/v1/orders", order)).body["replayed"]
        few = {**order, "order_id": fresh("split"), "lines": order["lines"][: scale.lines // 2]}  # type: ignore[index]
        held = await shop.post("/v1/orders", few)
        assert held.status == 201, held.body
    await channel_shows(shop, "tmall", skus[0], 0)
    assert (await shop.post(f"/v1/orders/{few['order_id']}/cancel", {})).status == 200
    await channel_shows(shop, "tmall", skus[0], 7)


@pytest.mark.parametrize("scale", SCALES)
async def test_wide_holds_that_expire_together_after_a_pause_end_all(
    running: RunningSystem, shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(fresh("expiring"), scale.lines)
    await applied_receipt(shop, skus, scale.orders)
    for _ in range(scale.orders):
        order = {"order_id": fresh("hold"), "channel": "tmall", "hold_seconds": 4}
        lines = [{"sku": sku, "quantity": 1} for sku in skus]
        assert (await shop.post("/v1/orders", {**order, "lines": lines})).status == 201
    running.kill("worker", signal.SIGSTOP)
    await asyncio.sleep(5)
    running.kill("worker", signal.SIGCONT)
    async with selling(shop):
        body = await shop.once(f"/v1/stock/{skus[-1]}", lambda answer: answer.body["locked"] == 0)
    assert body["available"] == scale.orders


async def applied_receipt(shop: ApiTestClient, skus: list[str], units: int) -> None:
    """Receive so many units of every SKU in one warehouse."""
    movement = receipt("SH1", skus, units)
    assert (await shop.post("/v1/movements", movement)).status == 202
    await applied(shop, movement)


async def test_early_events_with_large_unknown_fields_wait_without_stopping_anything(shop: ApiTestClient) -> None:
    order_id = fresh("early")
    events = [
        {
            "type": "order.paid",
            "id": f"early-{number}",
            "occurred_at": AT,
            "order_id": order_id,
            "note": "x" * 1_000_000,
        }
        for number in range(17)
    ]
    async with selling(shop):
        for event in events:
            answer = await shop.call(
                "POST",
                "/v1/events",
                json.dumps(event).encode() + b"\n",
                headers={"Content-Type": "application/x-ndjson"},
            )
            assert answer.body["accepted"] == 1, answer.body
    assert (await shop.get(f"/v1/orders/{order_id}")).status == 404


async def test_a_policy_over_skus_in_many_warehouses_reaches_all_of_them(shop: ApiTestClient) -> None:
    skus = skus_of(fresh("swept"), 600)
    await receive_everywhere(shop, [long_name(fresh(f"P{number}-")) for number in range(16)], skus)
    channel = fresh("swept-channel")
    async with selling(shop):
        answer = await shop.call("PUT", f"/v1/policies/{channel}", {"buffer": 6})
        assert answer.status == 200, answer.body
    await channel_shows(shop, channel, skus[-1], 10)


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client that may wait for a wide input."""
    timeout = aiohttp.ClientTimeout(total=DERIVED_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield ApiTestClient(session, running.api)
