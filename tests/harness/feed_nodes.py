"""The feeds of API processes on a real topic, without the processes: several of them in a test, and a topic that the
test writes, deletes and makes anew.

    async with new_topic(kafka.address) as topic, feed_node(topic) as node:
        await topic.publish("A", "B")
        async with feed_client(node, "sse") as client:
            await client.until("synced")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import orjson
from aiohttp.test_utils import TestServer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from stocktide.api.app import make_app
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.consumer import ChannelStockConsumer
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import make_epoch
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import ChannelFeeds, FeedHandler
from stocktide.api.metrics import ApiMetrics
from stocktide.api.routes.route import Route
from stocktide.api_feeds import make_consumer
from stocktide.client.feed import FeedFrame, FeedTransport, open_event_stream, open_socket
from stocktide.settings import Settings
from stocktide.streams.contract.documents import ChannelUpdate, Status, encode
from stocktide.streams.kafka.admin import admin_client
from stocktide.streams.kafka.topic_ids import read_topic_id
from stocktide.streams.topics import join_key
from stocktide.tables.ledger.client import KnownSkus
from tests.unit.access_parts import open_guard

CHANNEL = "tmall"
SECONDS_MAX = 20.0
AS_OF = "2026-11-29T09:30:00.123Z"
OPEN = {"sse": open_event_stream, "websocket": open_socket}


class FeedTopic:
    """A `channel-stock` of one channel. `versions`: the newest of each SKU."""

    def __init__(self, kafka: str, producer: AIOKafkaProducer, partitions: int) -> None:
        self.kafka = kafka
        self.name = f"feed-{uuid4().hex[:12]}"
        self.partitions = partitions
        self.versions: dict[str, int] = {}
        self.producer = producer

    async def create(self) -> None:
        async with admin_client(self.kafka) as admin:
            compacted = {"cleanup.policy": "compact"}
            await admin.create_topics([NewTopic(self.name, self.partitions, 1, topic_configs=compacted)])
        await self.producer.partitions_for(self.name)

    async def delete(self) -> None:
        async with admin_client(self.kafka) as admin:
            await admin.delete_topics([self.name])

    async def publish(self, *skus: str, rounds: int = 1) -> None:
        """The next version of each SKU, so many times; the quantity is the version."""
        written = []
        for sku in skus * rounds:
            version = self.versions[sku] = self.versions.get(sku, 0) + 1
            update = encode(ChannelUpdate(CHANNEL, sku, version, "in_stock", 0, version, AS_OF))
            partition = sum(sku.encode()) % self.partitions
            key = join_key(CHANNEL, sku).encode()
            written.append(await self.producer.send(self.name, update, key=key, partition=partition))
        await asyncio.gather(*written)


@asynccontextmanager
async def new_topic(kafka: str, partitions: int = 3) -> AsyncIterator[FeedTopic]:
    """An empty topic."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, metadata_max_age_ms=500) as producer:
        topic = FeedTopic(kafka, producer, partitions)
        await topic.create()
        yield topic


class FeedNode:
    """The feeds of one process; `pause` and `go_on` stop and continue its reading."""

    def __init__(self, url: str, hub: Hub, source: ChannelStockConsumer) -> None:
        self.url = url
        self.hub = hub
        self._source = source
        self._reading: asyncio.Task[None] | None = None

    async def read_all(self) -> None:
        """Wait until it has read what the topic has now."""
        assert await self.hub.reached(await self._source.ends(), SECONDS_MAX)

    def go_on(self) -> None:
        self._reading = asyncio.create_task(self._source.run())

    async def pause(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


class _Channels:
    async def ensure(self, channel: str) -> None:
        """Every channel is known."""


@asynccontextmanager
async def feed_node(topic: FeedTopic, generation: str = "", epoch_seconds: float = 0.2) -> AsyncIterator[FeedNode]:
    """The feeds of another process, which looks at the topic's id each `epoch_seconds`.

    What the ledger knows is what the test has published.
    """

    async def read_known(cursor: str, limit: int) -> KnownSkus:
        return KnownSkus(len(topic.versions), tuple(sorted(sku for sku in topic.versions if sku > cursor)[:limit]))

    async def read_epoch() -> str:
        return make_epoch(await read_topic_id(topic.producer.client, topic.name), generation)

    async with AsyncExitStack() as stack:
        consumer = make_consumer(Settings(kafka=topic.kafka), auto_offset_reset="earliest", metadata_max_age_ms=500)
        stack.push_async_callback(consumer.stop)
        await consumer.start()
        hub = Hub(topic.partitions, await read_epoch())
        source = ChannelStockConsumer(consumer, topic.name, hub, read_epoch)
        source.epoch_seconds = epoch_seconds
        catch_up, snapshots = CatchUp(hub, source, 0.2), SnapshotMonitor(hub, read_known)
        feeds = ChannelFeeds(hub, catch_up, _Channels(), snapshots, lambda: Status(True, {}), OpenFeeds())
        routes = [
            Route(
                method="GET",
                path="/v1/channels/{channel}/feed",
                handler=FeedHandler(feeds).feed,
                summary="",
                answers={},
            ),
            Route(
                method="GET",
                path="/v1/channels/{channel}/socket",
                handler=SocketHandler(feeds).socket,
                summary="",
                answers={},
            ),
        ]
        server = TestServer(make_app(routes, ApiMetrics(), open_guard()))
        await server.start_server()
        stack.push_async_callback(server.close)
        stack.callback(hub.close)
        node = FeedNode(f"http://{server.host}:{server.port}", hub, source)
        stack.push_async_callback(node.pause)
        node.go_on()
        yield node


class Event(NamedTuple):
    """An event of either transport."""

    name: str
    data: dict[str, Any]
    id: str | None


class FeedClient:
    """One subscriber for all of its connections: `last_id` and `held` stay when it connects again."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        # By SKU: the version.
        self.held: dict[str, int] = {}
        self.newest: Event | None = None
        self._portions: Any = None
        self._arrived: list[FeedFrame] = []

    @asynccontextmanager
    async def connected(self, node: FeedNode, transport: FeedTransport) -> AsyncIterator[None]:
        """Connect, with the last id."""
        channel = f"{node.url}/v1/channels/{CHANNEL}"
        async with aiohttp.ClientSession() as session, OPEN[transport](session, channel, self.last_id) as portions:
            self._portions, self._arrived = portions, []
            yield

    async def next(self) -> Event:
        """The next event. A version that does not grow fails the test, unless the feed was reset."""
        async with asyncio.timeout(SECONDS_MAX):
            while not self._arrived:
                self._arrived = [frame for frame in await anext(self._portions) if frame.event]
        frame = self._arrived.pop(0)
        event = Event(frame.event.decode(), orjson.loads(frame.data), frame.id.decode() if frame.id else None)
        self.newest, self.last_id = event, event.id or self.last_id
        if event.name == "reset":
            self.held.clear()
        if event.name == "stock":
            sku, version = event.data["sku"], event.data["version"]
            assert version > self.held.get(sku, 0), f"{sku} went from {self.held[sku]} to {version}"
            self.held[sku] = version
        return event

    async def until(self, name: str) -> list[Event]:
        """The events before the next one of this name."""
        events = []
        while (event := await self.next()).name != name:
            events.append(event)
        return events

    async def until_held(self, versions: Mapping[str, int]) -> None:
        """Read until it has these versions."""
        while self.held != versions:
            await self.next()
