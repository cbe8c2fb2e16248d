"""The feed of a channel's orders as a client gets it on a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, FeedReader, unique_name
from tests.harness.events import AT, lines_of, order_placed
from tests.harness.eventually import eventually
from tests.harness.system import RunningSystem


@asynccontextmanager
async def followed(shop: ApiTestClient, channel: str) -> AsyncIterator[FeedReader]:
    """A new subscription, which begins now."""
    async with shop.feed(channel, of="orders/feed") as feed:
        frame = await feed.next()
        assert (frame.event, frame.data) == ("synced", {"channel": channel})
        yield feed


async def next_orders(feed: FeedReader, count: int) -> list[Any]:
    """The data of the next events, which have to be orders."""
    events = [await feed.next() for _ in range(count)]
    assert [event.event for event in events] == ["order"] * count
    return [event.data for event in events]


async def missed(shop: ApiTestClient, channel: str, last_id: str | None) -> tuple[list[Any], str | None]:
    """The orders that a client gets that resumes, up to `synced`, and its last id then."""
    async with shop.feed(channel, last_id, "orders/feed") as feed:
        frame = await feed.next()
        assert (frame.event, frame.data) == ("resumed", {"channel": channel})
        orders = []
        while (event := await feed.next()).event != "synced":
            orders.append(event.data)
        return orders, feed.last_id


async def place(shop: ApiTestClient, sku: str, channel: str, quantity: int = 1, **more: Any) -> str:
    placed = await shop.place(sku, quantity, channel=channel, **more)
    return str((placed.body.get("order") or placed.body)["order_id"])


async def test_a_sender_gets_every_outcome_of_its_orders_and_no_other_channels(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(5), unique_name("channel")
    async with followed(shop, channel) as feed:
        await place(shop, sku, unique_name("other"))
        held = await place(shop, sku, channel, 3)
        (order,) = await next_orders(feed, 1)
        assert order == (await shop.get(f"/v1/orders/{held}")).body
        refused = await place(shop, sku, channel, 3)
        (order,) = await next_orders(feed, 1)
        assert (order["order_id"], order["state"]) == (refused, "rejected")
        assert order["lines"][0]["reason"] == "insufficient_stock"
        await shop.post(f"/v1/orders/{held}/pay", {})
        await shop.post(f"/v1/orders/{held}/cancel", {})
        seen = await feed.orders_until((held, "cancelled"))
        assert set(seen) <= {(held, "paid"), (held, "cancelled")}


async def test_an_order_by_kafka_and_its_expiry_come_as_events(shop: ApiTestClient) -> None:
    sku, channel, order_id = await shop.receive_new(5), unique_name("channel"), unique_name("order")
    async with followed(shop, channel) as feed:
        await shop.send_events({**order_placed(order_id, sku, 2), "channel": channel, "hold_seconds": 1})
        seen = await feed.orders_until((order_id, "expired"))
        assert seen == [(order_id, "reserved"), (order_id, "expired")]


async def test_a_fill_of_a_waiting_order_comes_as_an_event(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(1), unique_name("channel")
    async with followed(shop, channel) as feed:
        body = {"order_id": unique_name("order"), "channel": channel, "lines": lines_of((sku, 4)), "occurred_at": AT}
        assert (await shop.post("/v1/orders", {**body, "accept": "sold"})).status == 201
        (order,) = await next_orders(feed, 1)
        assert (order["lines"][0]["reserved"], order["lines"][0]["short"]) == (1, 3)
        await shop.receive(sku, 3)
        (order,) = await next_orders(feed, 1)
        assert (order["lines"][0]["reserved"], order["lines"][0]["short"]) == (4, 0)


async def test_a_client_that_was_cut_gets_exactly_what_it_missed(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(50), unique_name("channel")
    async with followed(shop, channel) as feed:
        before = await place(shop, sku, channel)
        await feed.orders_until((before, "reserved"))
        last_id = feed.last_id
    async with followed(shop, channel) as other:
        ids = [await place(shop, sku, channel) for _ in range(5)]
        await other.orders_until(*((order_id, "reserved") for order_id in ids))
    orders, last_id = await missed(shop, channel, last_id)
    assert sorted(order["order_id"] for order in orders) == sorted(ids)
    assert await missed(shop, channel, last_id) == ([], last_id)


async def test_a_client_resumes_after_a_restart_of_the_api(shop: ApiTestClient, running: RunningSystem) -> None:
    sku, channel = await shop.receive_new(500), unique_name("channel")
    async with followed(shop, channel) as feed:
        ids = [await place(shop, sku, channel) for _ in range(3)]
        await feed.orders_until(*((order_id, "reserved") for order_id in ids))
        last_id = feed.last_id
    more = await asyncio.gather(*(place(shop, sku, channel) for _ in range(40)))
    await place(shop, sku, unique_name("other"))
    await shop.post(f"/v1/orders/{ids[0]}/cancel", {})
    async with shop.feed(channel, last_id, "orders/feed") as feed:
        await feed.orders_until((ids[0], "cancelled"), *((order_id, "reserved") for order_id in more))
    await running.restart_part("api")
    shop.api = running.api
    orders, last_id = await missed(shop, channel, last_id)
    assert sorted(order["order_id"] for order in orders) == sorted([*more, ids[0]])
    assert {order["order_id"]: order for order in orders}[ids[0]]["state"] == "cancelled"
    assert await missed(shop, channel, last_id) == ([], last_id)


async def test_a_client_cut_after_any_frame_of_what_it_missed_resumes_there(
    shop: ApiTestClient, running: RunningSystem
) -> None:
    sku, channel = await shop.receive_new(500), unique_name("channel")
    async with followed(shop, channel) as feed:
        start = feed.last_id
        ids = [await place(shop, sku, channel) for _ in range(12)]
        await feed.orders_until(*((order_id, "reserved") for order_id in ids))
    await running.restart_part("api")
    shop.api = running.api
    for cut in (1, 5, 11):
        async with shop.feed(channel, start, "orders/feed") as feed:
            assert (await feed.next()).event == "resumed"
            first = [order["order_id"] for order in await next_orders(feed, cut)]
            last_id = feed.last_id
        rest, _ = await missed(shop, channel, last_id)
        assert sorted(first + [order["order_id"] for order in rest]) == sorted(ids)


async def test_a_feed_says_why_it_cannot_resume_and_begins_now(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(5), unique_name("channel")
    await place(shop, sku, channel)
    async with shop.feed(channel, of="orders/feed") as feed:
        await feed.until_synced()
    epoch = str(feed.last_id).partition(".")[0]
    for unknown, reason in (
        ("nonsense", "malformed_id"),
        (f"{epoch}.1-2", "malformed_id"),
        (f"{epoch}.99999-99999-99999-99999", "unknown_id"),
        ("0123456789ab.0-0-0-0", "other_epoch"),
    ):
        async with shop.feed(channel, unknown, "orders/feed") as feed:
            frame = await feed.next()
            assert (frame.event, frame.data) == ("reset", {"channel": channel, "reason": reason})
            frame = await feed.next()
            assert (frame.event, frame.data) == ("synced", {"channel": channel})


async def test_a_feed_of_all_channels_or_of_no_name_is_refused(shop: ApiTestClient) -> None:
    assert (await shop.get("/v1/channels/*/orders/feed")).problem == (422, "invalid_field")
    assert (await shop.get(f"/v1/channels/{'x' * 129}/orders/feed")).problem == (422, "invalid_field")


async def test_two_subscribers_get_the_same_bytes(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(50), unique_name("channel")
    async with followed(shop, channel) as first, followed(shop, channel) as second:
        ids = [await place(shop, sku, channel) for _ in range(10)]
        seen = [[await feed.next() for _ in ids] for feed in (first, second)]
    assert [(event.id, event.data) for event in seen[0]] == [(event.id, event.data) for event in seen[1]]


async def test_subscribers_and_the_progress_of_their_reader_are_in_the_metrics(shop: ApiTestClient) -> None:
    async def metrics() -> list[str]:
        return (await shop.get("/metrics")).body.decode().splitlines()

    async def is_watched() -> bool:
        return any(line.startswith("stocktide_stalled{") and "-reservations-0" in line for line in await metrics())

    async def are_none() -> bool:
        return "stocktide_api_order_feed_readers 0.0" in await metrics()

    sku, channel = await shop.receive_new(5), unique_name("channel")
    await eventually(are_none)
    async with followed(shop, channel) as feed:
        await place(shop, sku, channel)
        await next_orders(feed, 1)
        lines = await metrics()
        assert "stocktide_api_order_feed_readers 1.0" in lines
        assert "stocktide_api_order_feed_bytes 0.0" not in lines
        await eventually(is_watched)
        assert (await shop.get("/readyz")).status == 200
    await eventually(are_none)


class Follower:
    """Follows a channel's orders through every interruption; `newest`: the sequence of the last event of each order."""

    def __init__(self, shop: ApiTestClient, channel: str) -> None:
        self.newest: dict[str, int] = {}
        self.connections = 0
        self.resets = 0
        self._shop = shop
        self._channel = channel
        self.last_id: str | None = None

    async def run(self) -> None:
        while True:
            try:
                async with self._shop.feed(self._channel, self.last_id, "orders/feed") as feed:
                    self.connections += 1
                    await self._read(feed)
            except (EOFError, OSError, TimeoutError, AssertionError, aiohttp.ClientError):
                await asyncio.sleep(0.1)

    async def _read(self, feed: FeedReader) -> None:
        while True:
            event = await feed.next()
            if event.event == "order":
                self.newest[event.data["order_id"]] = event.data["sequence"]
            self.resets += event.event == "reset"
            self.last_id = feed.last_id or self.last_id


async def until_taken(shop: ApiTestClient, path: str, body: Any) -> None:
    """A call that is repeated until it is answered."""
    while True:
        try:
            if (await shop.post(path, body)).status < 500:
                return
        except (OSError, TimeoutError, aiohttp.ClientError):
            pass
        await asyncio.sleep(0.1)


@pytest.mark.soak
async def test_through_kills_a_follower_ends_with_every_order_as_the_ledger_has_it(
    shop: ApiTestClient, running: RunningSystem
) -> None:
    sku, channel = await shop.receive_new(10_000), unique_name("channel")
    ids = [unique_name("order") for _ in range(150)]

    async def live(first: int) -> None:
        for order_id in ids[first::5]:
            body = {"order_id": order_id, "channel": channel, "lines": lines_of((sku, 1))}
            await until_taken(shop, "/v1/orders", body)
            await until_taken(shop, f"/v1/orders/{order_id}/{'pay' if len(order_id) % 2 else 'extend'}", {})
            await until_taken(shop, f"/v1/orders/{order_id}/cancel", {})
            await asyncio.sleep(0.05)

    follower = Follower(shop, channel)
    following = asyncio.create_task(follower.run())
    await eventually(lambda: follower.last_id is not None)
    lives = asyncio.gather(*(live(first) for first in range(5)))
    for part in ("api", "worker", "api"):
        await asyncio.sleep(1)
        await running.restart_part(part)
        shop.api = running.api
    await lives
    wanted = {order_id: (await shop.get(f"/v1/orders/{order_id}")).body["sequence"] for order_id in ids}
    await eventually(lambda: follower.newest == wanted, WAIT_SECONDS_MAX)
    assert follower.connections >= 3
    assert follower.resets == 0
    following.cancel()
