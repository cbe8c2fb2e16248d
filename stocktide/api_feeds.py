"""Makes the feeds of an API process: those of stock, and those of orders.

In: the settings and clients of Kafka. Out: the parts that the composition root `api_server.py` connects.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.consumer import ChannelStockConsumer
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import make_epoch
from stocktide.api.feeds.order_history import HISTORY_FETCH_BYTES_MAX, OrderHistory
from stocktide.api.feeds.order_tail import OrderTail
from stocktide.api.feeds.orders import OrderHub
from stocktide.errors import StartError
from stocktide.progress import WaitReporter
from stocktide.retry import poll_until
from stocktide.settings import Settings
from stocktide.streams.contract.documents import Status
from stocktide.streams.kafka.long_polls import limit_long_polls
from stocktide.streams.kafka.topic_ids import read_topic_id
from stocktide.streams.topics import CHANNEL_STOCK, RESERVATIONS
from stocktide.wait_for_servers import START_SECONDS_MAX

log = logging.getLogger(__name__)


class Feeds(Struct, frozen=True):
    """The parts of the feeds of stock, and of those of orders."""

    hub: Hub
    source: ChannelStockConsumer
    orders: OrderHub
    tail: OrderTail
    history: OrderHistory
    # All that are open: `open_feeds.end` ends those of a key.
    open_feeds: OpenFeeds

    def notify(self, status: Status) -> None:
        """Report a status to all subscribers."""
        for hub in (self.hub, self.orders):
            hub.notify("status", status)

    def close(self) -> None:
        """End every feed."""
        for hub in (self.hub, self.orders):
            hub.close()


def make_consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A client without a group, not started."""
    return AIOKafkaConsumer(**settings.kafka_client(), enable_auto_commit=False, fetch_max_wait_ms=100, **options)


async def make_feeds(
    settings: Settings,
    stack: AsyncExitStack,
    producer: AIOKafkaProducer,
    consumer: AIOKafkaConsumer,
    offsets: AIOKafkaConsumer,
) -> Feeds:
    """The feeds, of which `consumer` reads those of stock, and `offsets` asks for the ends. Raises StartError."""
    limit_long_polls(consumer._fetcher)
    topic, order_topic = (each.full_name(settings.app_id) for each in (CHANNEL_STOCK, RESERVATIONS))
    read_epoch = partial(_read_epoch, producer, settings.feed_generation)
    hub = Hub(await _count_partitions(producer, topic), await _first_epoch(partial(read_epoch, topic)))
    orders = OrderHub(await _count_partitions(producer, order_topic))
    tail = OrderTail(
        partial(make_consumer, settings, auto_offset_reset="none"),
        order_topic,
        orders,
        partial(read_epoch, order_topic),
    )
    stack.push_async_callback(tail.close)
    make_reader = partial(
        make_consumer,
        settings,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=HISTORY_FETCH_BYTES_MAX,
    )
    source = ChannelStockConsumer(consumer, topic, hub, partial(read_epoch, topic), offsets)
    return Feeds(hub, source, orders, tail, OrderHistory(make_reader, order_topic), OpenFeeds())


async def _read_epoch(producer: AIOKafkaProducer, generation: str, topic: str) -> str:
    """The epoch of a topic as it is now. Raises KafkaError."""
    return make_epoch(await read_topic_id(producer.client, topic), generation)


async def _first_epoch(read: Callable[[], Awaitable[str]]) -> str:
    """The epoch of a topic that exists. Raises StartError after START_SECONDS_MAX."""
    found = ""

    async def is_read() -> bool:
        nonlocal found
        with contextlib.suppress(KafkaError):
            found = await read()
        return bool(found)

    if not await poll_until(is_read, START_SECONDS_MAX):
        raise StartError("Kafka does not tell the id of channel-stock")
    return found


async def _count_partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """The partitions of a topic, once a worker has created it. Raises StartError after START_SECONDS_MAX."""
    waiting = WaitReporter(log.warning, f"the topic {topic}")
    partitions = 0

    async def exists() -> bool:
        nonlocal partitions
        with contextlib.suppress(KafkaError):
            partitions = len(await producer.partitions_for(topic))
            return True
        waiting("it is not there yet: a worker makes it")
        return False

    if not await poll_until(exists, START_SECONDS_MAX):
        raise StartError(f"the topic {topic} is not there: run `stocktide topics --create` or a worker first")
    return partitions
