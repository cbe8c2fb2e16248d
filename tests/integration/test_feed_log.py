"""Faults of other systems' feeds, each against hubs that read a real topic: what a client has seen is never a gap."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from stocktide.client.feed import FeedTransport
from tests.harness.feed_nodes import FeedClient, FeedNode, FeedTopic, feed_node, new_topic
from tests.harness.servers import KafkaServer

pytestmark = pytest.mark.integration

SKUS = [f"S{number:03}" for number in range(60)]
RECONNECTS = 12
TRANSPORTS: tuple[FeedTransport, FeedTransport] = ("sse", "websocket")
both_transports = pytest.mark.parametrize("transport", TRANSPORTS)


@pytest.fixture
async def topic(kafka: KafkaServer) -> AsyncIterator[FeedTopic]:
    async with new_topic(kafka.address) as made:
        await made.publish(*SKUS)
        yield made


@pytest.fixture
async def node(topic: FeedTopic) -> AsyncIterator[FeedNode]:
    async with feed_node(topic) as running:
        yield running


async def snapshot(node: FeedNode, transport: FeedTransport) -> FeedClient:
    """A client that was synced once, and has left."""
    client = FeedClient()
    async with client.connected(node, transport):
        await client.until("synced")
    return client


@both_transports
async def test_an_unknown_id_gets_everything_and_then_catches_up(
    topic: FeedTopic, node: FeedNode, transport: FeedTransport
) -> None:
    for given in ("nonsense", "{epoch}.999999-999999-999999", "{epoch}.1-2", "0123456789ab.0-0-0", "7"):
        client = FeedClient()
        client.last_id = given.format(epoch=node.hub.ids.epoch)
        async with client.connected(node, transport):
            assert (await client.next()).name == "reset"
            await client.until("synced")
            await client.until_held(topic.versions)
            await topic.publish(*SKUS[:3])
            await client.until_held(topic.versions)
        await topic.publish(SKUS[0])
        await node.read_all()
        async with client.connected(node, transport):
            assert (await client.next()).name == "resumed"
            missed = [(event.data["sku"], event.data["version"]) for event in await client.until("synced")]
            assert missed == [(SKUS[0], topic.versions[SKUS[0]])]


@both_transports
async def test_a_replay_begins_where_the_client_was_and_ends_with_the_newest(
    topic: FeedTopic, node: FeedNode, transport: FeedTransport
) -> None:
    await topic.publish(*SKUS, rounds=5)
    await node.read_all()
    client = await snapshot(node, transport)
    assert client.held == topic.versions
    changed = SKUS[10:20]
    await topic.publish(*changed, rounds=100)
    await node.read_all()
    async with client.connected(node, transport):
        assert (await client.next()).name == "resumed"
        missed = await client.until("synced")
    # Of 1,000 rows the newest of each SKU, and nothing that the client had.
    found = [(event.data["sku"], event.data["version"]) for event in missed]
    assert sorted(found) == [(sku, topic.versions[sku]) for sku in changed]


async def test_between_replay_and_live_nothing_is_lost_wherever_a_client_is_cut(topic: FeedTopic) -> None:
    dice = random.Random(7)
    stop = asyncio.Event()

    async def keep_publishing() -> None:
        while not stop.is_set():
            await topic.publish(*dice.sample(SKUS, 5))
            await asyncio.sleep(0.002)

    async def keep_reconnecting(nodes: list[FeedNode]) -> tuple[FeedClient, int]:
        client, resumed = FeedClient(), 0
        for _ in range(RECONNECTS):
            async with client.connected(dice.choice(nodes), dice.choice(TRANSPORTS)):
                for _ in range(dice.randrange(1, 80)):
                    event = await client.next()
                    assert event.name in ("stock", "synced", "resumed")
                    resumed += event.name == "resumed"
        return client, resumed

    async with feed_node(topic) as first, feed_node(topic) as second:
        publishing = asyncio.create_task(keep_publishing())
        found = await asyncio.gather(*(keep_reconnecting([first, second]) for _ in range(6)))
        stop.set()
        await publishing
        for client, resumed in found:
            assert resumed == RECONNECTS - 1
            async with client.connected(first, dice.choice(TRANSPORTS)):
                await client.until("synced")
                await client.until_held(topic.versions)


@both_transports
async def test_a_node_that_never_saw_the_client_goes_on_exactly(
    topic: FeedTopic, node: FeedNode, transport: FeedTransport
) -> None:
    client = await snapshot(node, transport)
    await topic.publish(*SKUS[:4], rounds=3)
    async with feed_node(topic) as other:
        for turn, at in enumerate((other, node, other)):
            await at.read_all()
            async with client.connected(at, transport):
                assert (await client.next()).name == "resumed"
                missed = await client.until("synced")
                expected = SKUS[:4] if turn == 0 else [SKUS[turn]]
                assert sorted(event.data["sku"] for event in missed) == expected
            assert client.held == topic.versions
            await topic.publish(SKUS[turn + 1])


@both_transports
async def test_a_node_that_is_behind_the_client_waits_instead_of_setting_it_back(
    topic: FeedTopic, node: FeedNode, transport: FeedTransport
) -> None:
    async with feed_node(topic) as behind:
        await snapshot(behind, transport)
        await behind.pause()
        await topic.publish(*SKUS[:4], rounds=3)
        await node.read_all()
        client = await snapshot(node, transport)
        assert client.held == topic.versions
        async with client.connected(behind, transport):
            waiting = asyncio.create_task(client.next())
            await asyncio.sleep(0.7)
            assert not waiting.done()
            await topic.publish(SKUS[7])
            behind.go_on()
            assert (await waiting).name == "resumed"
            await client.until_held(topic.versions)


async def test_a_stream_made_anew_ends_its_feeds_and_never_takes_an_id_of_the_old_one(
    topic: FeedTopic, node: FeedNode
) -> None:
    clients = {transport: await snapshot(node, transport) for transport in TRANSPORTS}
    old_epoch = node.hub.ids.epoch
    async with (
        clients["sse"].connected(node, "sse"),
        clients["websocket"].connected(node, "websocket"),
    ):
        for client in clients.values():
            await client.until("synced")
        await topic.delete()
        await topic.create()
        # The same offsets have other rows now: fewer SKUs, in another order.
        topic.versions.clear()
        left = SKUS[:20]
        await topic.publish(*reversed(left), rounds=5)
        # Until the node looks at the topic's id it may send rows of the new log, with ids of the old one.
        await clients["sse"].until("error")
        assert clients["sse"].newest is not None and clients["sse"].newest.data["code"] == "stream_recreated"
        with pytest.raises(ConnectionAbortedError, match="4410"):
            await clients["websocket"].until("error")
    assert node.hub.ids.epoch != old_epoch
    await node.read_all()
    for transport, client in clients.items():
        async with client.connected(node, transport):
            event = await client.next()
            assert (event.name, event.data["reason"]) == ("reset", "other_epoch")
            await client.until("synced")
            assert client.held == topic.versions


async def test_no_row_of_a_shorter_log_made_anew_is_sent_with_an_id_of_the_old_one(topic: FeedTopic) -> None:
    async with feed_node(topic, epoch_seconds=3_600) as node:
        client = FeedClient()
        async with client.connected(node, "sse"):
            await client.until("synced")
            await topic.delete()
            await topic.create()
            topic.versions = dict.fromkeys(SKUS[:6], 100)
            await topic.publish(*topic.versions)
            assert await client.until("error") == []
        async with client.connected(node, "sse"):
            assert (await client.next()).data["reason"] == "other_epoch"
            await client.until("synced")
            assert client.held == topic.versions


@both_transports
async def test_a_log_that_went_back_with_its_id_is_another_one_by_its_generation(
    topic: FeedTopic, node: FeedNode, transport: FeedTransport
) -> None:
    client = await snapshot(node, transport)
    async with feed_node(topic, generation="2") as restored, client.connected(restored, transport):
        event = await client.next()
        assert (event.name, event.data["reason"]) == ("reset", "other_epoch")
        await client.until("synced")
        assert client.held == topic.versions
