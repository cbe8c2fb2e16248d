"""Rule 39 on a running system: no legal input, however wide, blocks anything; orders of another SKU are answered.

Each kind of input runs at a reduced size in `make check`, and at full size in `make soak`.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.harness.api_client import ApiTestClient, open_client, unique_name
from tests.harness.events import Event, lines_of, order_paid, stock_received
from tests.harness.eventually import eventually
from tests.harness.system import RunningSystem

# The longest wait for an answer, on a busy machine.
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
    return prefix + "x" * (length - len(prefix))


def skus_of(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:04d}" for number in range(count)]


def receipt(warehouse: str, skus: list[str], units: int = 1) -> Event:
    return stock_received(unique_name("wide"), *((sku, units) for sku in skus), warehouse=warehouse)


async def receive_everywhere(shop: ApiTestClient, warehouses: list[str], skus: list[str]) -> None:
    """Receive a unit of every SKU in every warehouse, and wait until the ledger has them."""
    receipts = [receipt(warehouse, skus) for warehouse in warehouses]
    for each in receipts:
        assert (await shop.post("/v1/movements", each)).status == 202
    for each in receipts:
        body = await shop.movement(each["warehouse"], each["id"])
        assert body["outcome"] == "received", body


@asynccontextmanager
async def selling(shop: ApiTestClient) -> AsyncIterator[list[float]]:
    """Sell another SKU meanwhile: every order has to be answered in time. The seconds that each took."""
    sku = unique_name("sold-meanwhile")
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
    """Wait until a feed of the channel, which is derived from the journal, shows this quantity."""

    async def is_shown() -> bool:
        async with shop.feed(channel) as feed:
            newest = {update["sku"]: update for update in await feed.until_synced()}
        return bool(newest.get(sku, {}).get("quantity") == quantity)

    await eventually(is_shown, DERIVED_SECONDS_MAX, lambda: f"{channel} does not show {quantity} of {sku}")


@pytest.mark.parametrize("scale", SCALES)
async def test_receipts_of_many_skus_and_warehouses_with_long_names_are_taken(
    shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(unique_name("wide"), scale.lines)
    place = unique_name("W")[-12:]
    warehouses = [long_name(f"{place}-{number}", scale.name_length) for number in range(scale.warehouses)]
    async with selling(shop):
        await receive_everywhere(shop, warehouses, skus)
    stock = await shop.stock(skus[-1])
    assert stock["available"] == scale.warehouses == len(stock["warehouses"])
    await channel_shows(shop, "tmall", skus[0], scale.warehouses)


@pytest.mark.parametrize("scale", SCALES)
async def test_an_order_with_long_names_beyond_a_records_size_is_rejected_alone(
    shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(unique_name("split"), 2_000)
    await receive_everywhere(shop, [long_name(unique_name(f"S{number}-")) for number in range(7)], skus)
    lines = lines_of(*((sku, 7) for sku in skus))
    order_id = unique_name("split")
    async with selling(shop):
        began = time.monotonic()
        answer = await shop.place(order_id=order_id, lines=lines)
        assert answer.status == 413 and answer.code == "too_large", answer.body
        assert time.monotonic() - began < ANSWER_SECONDS_MAX
        assert (await shop.place(order_id=order_id, lines=lines)).body["replayed"]
        held = await shop.place(lines=lines[: scale.lines // 2])
        assert held.status == 201, held.body
    await channel_shows(shop, "tmall", skus[0], 0)
    assert (await shop.post(f"/v1/orders/{held.body['order_id']}/cancel", {})).status == 200
    await channel_shows(shop, "tmall", skus[0], 7)


@pytest.mark.parametrize("scale", SCALES)
async def test_wide_holds_that_expire_together_all_end(
    running: RunningSystem, shop: ApiTestClient, scale: Scale
) -> None:
    skus = skus_of(unique_name("expiring"), scale.lines)
    await shop.move(receipt("SH1", skus, scale.orders))
    for _ in range(scale.orders):
        placed = await shop.place(hold_seconds=4, lines=lines_of(*((sku, 1) for sku in skus)))
        assert placed.status == 201
    running.signal_part("worker", signal.SIGSTOP)
    await asyncio.sleep(5)
    running.signal_part("worker", signal.SIGCONT)
    async with selling(shop):
        body = await shop.get_when(f"/v1/stock/{skus[-1]}", lambda answer: answer.body["locked"] == 0)
    assert body["available"] == scale.orders


async def test_early_events_with_large_unknown_fields_wait_without_stopping_anything(shop: ApiTestClient) -> None:
    order_id = unique_name("early")
    async with selling(shop):
        for number in range(17):
            event = order_paid(order_id, id=f"early-{number}", note="x" * 1_000_000)
            answer = await shop.send_events(event)
            assert answer.body["accepted"] == 1, answer.body
    assert (await shop.get(f"/v1/orders/{order_id}")).status == 404


async def test_a_policy_over_skus_in_many_warehouses_reaches_all_of_them(shop: ApiTestClient) -> None:
    skus = skus_of(unique_name("swept"), 600)
    await receive_everywhere(shop, [long_name(unique_name(f"P{number}-")) for number in range(16)], skus)
    channel = unique_name("swept-channel")
    async with selling(shop):
        answer = await shop.put(f"/v1/policies/{channel}", {"buffer": 6})
        assert answer.status == 200, answer.body
    await channel_shows(shop, channel, skus[-1], 10)


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client that waits as long as a wide input takes."""
    async with open_client(running.api, DERIVED_SECONDS_MAX, running.ready["keys"]["operator"]) as client:
        yield client
