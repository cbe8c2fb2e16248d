"""The feed as a client gets it on a real connection."""

from __future__ import annotations

import asyncio

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import stock_received
from tests.harness.system import RunningSystem


async def receive_all(shop: ApiTestClient, skus: list[str], units: int = 5) -> None:
    """One receipt of many SKUs, applied."""
    await shop.move(stock_received(unique_name("wms"), *((sku, units) for sku in skus)))


async def fill_channel(shop: ApiTestClient) -> tuple[str, list[str], dict[str, int], str | None]:
    """A channel, its SKUs with 10 units each, and what a first subscriber saw: their versions and the last id."""
    channel, skus = unique_name("channel"), [unique_name("sku") for _ in range(6)]
    await shop.put(f"/v1/policies/{channel}", {})
    await receive_all(shop, skus, 10)
    async with shop.feed(channel) as feed:
        while set(skus) - set(feed.versions):
            await feed.next()
        return channel, skus, dict(feed.versions), feed.last_id


async def test_a_channel_is_known_from_its_first_subscription(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(5), unique_name("channel")
    async with shop.feed(channel) as feed:
        assert await feed.until(sku) == {
            "channel": channel,
            "sku": sku,
            "quantity": 5,
            "mode": "in_stock",
            "preorder_remaining": 0,
            "version": 2,
            "as_of": (await shop.stock(sku))["as_of"],
        }


async def test_a_feed_begins_with_all_there_is_and_goes_on_with_what_changes(shop: ApiTestClient) -> None:
    channel, skus, _, _ = await fill_channel(shop)
    async with shop.feed(channel) as feed:
        snapshot = await feed.until_synced()
        assert set(skus) <= {update["sku"] for update in snapshot}
        await shop.place(skus[0], 4)
        assert (await feed.until(skus[0]))["quantity"] == 6


async def test_a_feed_switches_at_the_threshold_and_back_at_the_resume_threshold(shop: ApiTestClient) -> None:
    sku, channel = unique_name("sku"), unique_name("channel")
    policy = {"safety_threshold": 5, "resume_threshold": 8, "below_threshold": "preorder", "preorder_cap": 20}
    await shop.put(f"/v1/policies/{channel}", policy)
    async with shop.feed(channel) as feed:
        await shop.receive(sku, 7)
        assert (await feed.until(sku))["quantity"] == 7
        await shop.place(sku, 2, channel=channel)
        assert await feed.until(sku, mode="preorder", quantity=0)
        await shop.place(sku, 3, channel=channel)
        assert await feed.until(sku, mode="preorder", preorder_remaining=17)
        await shop.receive(sku, 2)
        assert await feed.until(sku, mode="preorder", preorder_remaining=19), "two go to the order that waits"
        await shop.receive(sku, 4)
        assert await feed.until(sku, mode="in_stock", quantity=8)


async def test_a_client_that_was_cut_gets_exactly_what_it_missed(shop: ApiTestClient) -> None:
    channel, skus, seen, last_id = await fill_channel(shop)
    changed = skus[:3]
    async with shop.feed(channel) as other:
        await other.until_synced()
        for sku in changed:
            await shop.place(sku, 1)
            await other.until(sku)
    async with shop.feed(channel, last_id) as feed:
        feed.versions = seen
        missed = [update for update in await feed.until_synced() if update["sku"] in skus]
        assert {update["sku"]: update["quantity"] for update in missed} == dict.fromkeys(changed, 9)
        last_id = feed.last_id
    async with shop.feed(channel, last_id) as feed:
        # SKUs of other tests may go on changing.
        assert [update for update in await feed.until_synced() if update["sku"] in skus] == []


async def test_when_the_input_stops_the_last_update_equals_the_ledger(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(500), unique_name("channel")
    async with shop.feed(channel) as feed:
        await feed.until(sku)
        await asyncio.gather(*(shop.place(sku, 1, channel=channel) for _ in range(200)))
        update = await feed.until(sku, quantity=300)
    stock = await shop.stock(sku)
    assert update["version"] == stock["version"]
    assert stock["channels"][channel]["quantity"] == 300


async def test_after_a_restart_of_the_api_a_feed_resumes_and_a_new_one_is_whole(
    shop: ApiTestClient, running: RunningSystem
) -> None:
    skus, channel = [unique_name("sku") for _ in range(146)], unique_name("channel")
    await receive_all(shop, skus)
    async with shop.feed(channel) as feed:
        await feed.until_synced()
        seen, last_id = dict(feed.versions), feed.last_id
    await shop.place(skus[0], 1, channel=channel)
    await running.restart_part("api")
    shop.api = running.api
    async with shop.feed(channel, last_id) as feed:
        feed.versions = seen
        assert (await feed.until(skus[0]))["quantity"] == 4
    assert set(skus) <= await snapshot(shop, unique_name("channel"))


async def snapshot(shop: ApiTestClient, channel: str, last_id: str | None = None) -> set[str]:
    """The SKUs that a new client gets before the first `synced`."""
    async with shop.feed(channel, last_id) as feed:
        return {update["sku"] for update in await feed.until_synced()}


async def test_a_sku_that_became_known_a_moment_ago_comes_before_synced(shop: ApiTestClient) -> None:
    channel = unique_name("channel")
    await shop.put(f"/v1/policies/{channel}", {})
    skus: list[str] = []
    last_id = None
    for _ in range(20):
        new = [unique_name("sku") for _ in range(10)]
        await receive_all(shop, new)
        skus += new
        async with shop.feed(channel, last_id) as feed:
            seen = {update["sku"] for update in await feed.until_synced()}
            last_id = feed.last_id
        assert set(new) <= seen
        assert set(skus) <= await snapshot(shop, channel)


async def test_a_sweep_of_several_steps_and_subscribers_at_once_are_waited_for(shop: ApiTestClient) -> None:
    skus = [unique_name("sku") for _ in range(1_500)]
    await receive_all(shop, skus)
    channel = unique_name("channel")
    found = await asyncio.gather(*(snapshot(shop, channel) for _ in range(30)))
    assert all(set(skus) <= seen for seen in found)


async def test_a_channel_that_an_order_makes_known_is_synced_after_its_snapshot(shop: ApiTestClient) -> None:
    skus = [unique_name("sku") for _ in range(300)]
    await receive_all(shop, skus)
    for number in range(5):
        channel = unique_name("channel")
        placed, seen = await asyncio.gather(shop.place(skus[number], 1, channel=channel), snapshot(shop, channel))
        assert placed.status == 201
        assert set(skus) <= seen


async def test_a_feed_says_whether_it_resumes_or_resets(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(3), unique_name("channel")
    async with shop.feed(channel) as feed:
        assert sku in {update["sku"] for update in await feed.until_synced()}
        last_id = feed.last_id
    async with shop.feed(channel, last_id) as feed:
        frame = await feed.next()
        assert (frame.event, frame.data, frame.id) == ("resumed", {"channel": channel}, None)
        assert await feed.until_synced() == []
    epoch = str(last_id).partition(".")[0]
    for unknown, reason in (
        ("nonsense", "malformed_id"),
        (f"{epoch}.1-2", "malformed_id"),
        (f"{epoch}.99999-99999-99999-99999", "unknown_id"),
        ("0123456789ab.0-0-0-0", "other_epoch"),
    ):
        async with shop.feed(channel, unknown) as feed:
            frame = await feed.next()
            assert (frame.event, frame.data) == ("reset", {"channel": channel, "reason": reason})
            assert sku in {update["sku"] for update in await feed.until_synced()}
