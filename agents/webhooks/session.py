"""Reads the partitions that this worker owns, during one epoch of the membership, and runs the endpoints.

In: rows of `channel-stock`, `reservations` and `webhook-acks`; definitions. Out: filled queues, endpoints that run.

A change of definitions makes new endpoints of those that changed and reads `channel-stock` once more from its
beginning: nothing is kept in memory of what no endpoint lacks. Until that pass is over, the new endpoints send nothing:
a compacted topic still has old rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.agents.webhooks.endpoint import Endpoint, EndpointParts
from stocktide.agents.webhooks.queues import (
    Acknowledged,
    Kind,
    OrderQueue,
    Progress,
    Queue,
    StockQueue,
    kind_of,
    progress_key,
)
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.read_topic import open_consumer, read_topic, topic_consumer
from stocktide.streams.shutdown import end
from stocktide.streams.topics import join_key, split_key
from stocktide.streams.webhooks.definition import PartitionHealth, Webhook

logger = logging.getLogger(__name__)

# Rows per poll: some ms of the loop.
ROWS_MAX = 500
# An empty poll; bounds how late a change of definitions is seen.
POLL_MS = 200
RETRY_SECONDS = 1.0
# How often health is written.
HEALTH_SECONDS = 1.0

_decode_acknowledged = msgspec.json.Decoder(Acknowledged).decode
_decode_progress = msgspec.json.Decoder(Progress).decode


class Acks:
    """The rows of `webhook-acks` of one partition, by webhook and the second part of the key."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, bytes]] = defaultdict(dict)

    def add(self, key: bytes, value: bytes | None) -> None:
        """The next row."""
        name, second = split_key(key.decode())
        if value is None:
            self._rows[name].pop(second, None)
        else:
            self._rows[name][second] = value

    def progress(self, name: str, kind: Kind) -> Progress | None:
        """The progress of a queue."""
        row = self._rows.get(name, {}).get(progress_key(kind))
        return None if row is None else _decode_progress(row)

    def acknowledged(self, name: str) -> Iterable[tuple[str, Acknowledged]]:
        """The acknowledged state by SKU."""
        rows = self._rows.get(name, {}).items()
        return ((sku, _decode_acknowledged(row)) for sku, row in rows if kind_of(sku) is None)

    def forget(self, webhooks: Mapping[str, Webhook | None]) -> list[OutputRow]:
        """Take out what belongs to no webhook, or to events that it does not take any more; gives the tombstones. None
        is a webhook that cannot be read."""
        stale = [
            (name, second)
            for name, rows in self._rows.items()
            for second in rows
            if name not in webhooks or _is_unused(second, webhooks[name])
        ]
        for name, second in stale:
            del self._rows[name][second]
        return [(join_key(name, second).encode(), None) for name, second in stale]


def _is_unused(second: str, webhook: Webhook | None) -> bool:
    return webhook is not None and (kind_of(second) or "stock") not in webhook.events


class SessionParts(msgspec.Struct, frozen=True):
    """What a session needs. Topics are full names. `webhooks` and `health` give what is defined and known now; None is
    a webhook that a newer version has written, which this one does not send."""

    kafka: str
    security: Mapping[str, Any]
    stock_topic: str
    orders_topic: str
    acks_topic: str
    webhooks: Callable[[], dict[str, Webhook | None]]
    health: Callable[[str], list[PartitionHealth]]
    # Called with the rows read, and whether they are orders.
    trace_rows: Callable[[Sequence[Any], bool], None] | None = None


class Session:
    """The partitions `partitions` in one epoch. `changed` is set when definitions or health have changed."""

    def __init__(self, partitions: Iterable[int], parts: SessionParts, endpoint_parts: EndpointParts) -> None:
        self._partitions = sorted(partitions)
        self._parts = parts
        self._endpoint_parts = endpoint_parts
        self.changed = asyncio.Event()
        self.changed.set()
        self._endpoints: dict[str, Endpoint] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._by_channel: dict[str, list[Endpoint]] = defaultdict(list)
        # The ends of `channel-stock` that a pass has to reach; None while there is no pass.
        self._pass: dict[TopicPartition, int] | None = None
        # Whether the rows of webhooks that were removed meanwhile were looked for.
        self._forgotten = False

    async def run(self) -> None:
        """Work until cancelled, or until the epoch ends; errors of Kafka are retried."""
        reporting = asyncio.create_task(self._report(), name="webhook health")
        try:
            while True:
                try:
                    await self._run_once()
                except MembershipLost:
                    return
                except (KafkaError, OSError) as error:
                    logger.warning("webhooks cannot read their topics: %r; trying again", error)
                except Exception:
                    logger.exception("reading for webhooks failed; beginning again")
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            await end(reporting)
            await self._end_endpoints()

    async def _run_once(self) -> None:
        """Begin from what is acknowledged, and follow."""
        await self._end_endpoints()
        parts = self._parts
        consumer = await open_consumer(
            parts.kafka, parts.stock_topic, parts.orders_topic, partitions=self._partitions, **parts.security
        )
        try:
            self._forgotten = False
            self.changed.set()
            while True:
                if self.changed.is_set():
                    self.changed.clear()
                    await self._take_definitions(consumer)
                await self._poll(consumer)
        finally:
            await consumer.stop()

    async def _read_acks(self) -> dict[int, Acks]:
        acks = {partition: Acks() for partition in self._partitions}
        parts = self._parts
        async with topic_consumer(
            parts.kafka, parts.acks_topic, partitions=self._partitions, **parts.security
        ) as consumer:
            async for part, records in read_topic(consumer):
                for record in records:
                    acks[part.partition].add(record.key or b"", record.value)
        return acks

    async def _take_definitions(self, consumer: AIOKafkaConsumer) -> None:
        """End what is no longer defined so, begin what is new."""
        webhooks = self._parts.webhooks()
        for name, endpoint in list(self._endpoints.items()):
            if any(row.state == "disabled" for row in self._health_of(endpoint.webhook)):
                endpoint.disabled = True
            if webhooks.get(name) != endpoint.webhook:
                await end(self._tasks.pop(name))
                del self._endpoints[name]
                self._forgotten = self._forgotten and webhooks.get(name) is not None
        new = [webhook for name, webhook in webhooks.items() if webhook is not None and name not in self._endpoints]
        if new or not self._forgotten:
            acks = await self._read_acks()
            for partition, rows in acks.items():
                if stale := rows.forget(webhooks):
                    await self._endpoint_parts.publish_acks(partition, stale)
            self._forgotten = True
            await self._begin_endpoints(new, acks, consumer)
        self._by_channel = defaultdict(list)
        for endpoint in self._endpoints.values():
            self._by_channel[endpoint.webhook.channel].append(endpoint)
        self._pause_unused(consumer)

    async def _begin_endpoints(
        self, webhooks: list[Webhook], acks: dict[int, Acks], consumer: AIOKafkaConsumer
    ) -> None:
        """Begin a pass over `channel-stock`, at whose end the endpoints begin to send."""
        if not webhooks:
            return
        stock = self._topic_partitions(self._parts.stock_topic)
        orders = self._topic_partitions(self._parts.orders_topic)
        ends = await consumer.end_offsets([*stock, *orders])
        order_ends = {part.partition: ends[part] for part in orders}
        for webhook in webhooks:
            begins = await self._order_begins(webhook, consumer)
            queues = self._make_queues(webhook, acks, begins, order_ends)
            endpoint = Endpoint(webhook, queues, self._endpoint_parts, self._parts.health(webhook.name))
            self._endpoints[webhook.name] = endpoint
            self._tasks[webhook.name] = asyncio.create_task(endpoint.run(), name=f"webhook {webhook.name}")
        await consumer.seek_to_beginning(*stock)
        self._pass = {part: ends[part] for part in stock}
        self._seek_orders(consumer, orders)

    def _health_of(self, webhook: Webhook) -> list[PartitionHealth]:
        return [row for row in self._parts.health(webhook.name) if row.revision == webhook.revision]

    async def _order_begins(self, webhook: Webhook, consumer: AIOKafkaConsumer) -> dict[int, int]:
        """The first rows of `reservations` since the webhook takes orders; partitions without one are left out."""
        if "orders" not in webhook.events or not webhook.orders_since_ms:
            return {}
        parts = self._topic_partitions(self._parts.orders_topic)
        found = await consumer.offsets_for_times(dict.fromkeys(parts, webhook.orders_since_ms))
        return {part.partition: at.offset for part, at in found.items() if at is not None}

    def _make_queues(
        self, webhook: Webhook, acks: dict[int, Acks], begins: dict[int, int], ends: dict[int, int]
    ) -> Iterable[Queue]:
        for partition in self._partitions:
            own = acks[partition]
            if "stock" in webhook.events:
                progress = own.progress(webhook.name, StockQueue.kind)
                yield StockQueue(webhook, partition, progress, own.acknowledged(webhook.name))
            if "orders" in webhook.events:
                progress = own.progress(webhook.name, OrderQueue.kind)
                yield OrderQueue(webhook, partition, begins.get(partition, ends[partition]), ends[partition], progress)

    def _topic_partitions(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in self._partitions]

    def _order_queues(self, partition: int) -> list[OrderQueue]:
        queues = (queue for endpoint in self._endpoints.values() for queue in endpoint.queues)
        return [queue for queue in queues if isinstance(queue, OrderQueue) and queue.partition == partition]

    def _seek_orders(self, consumer: AIOKafkaConsumer, orders: Iterable[TopicPartition]) -> None:
        """Read from the first row that a queue lacks; the others pass over what they had."""
        for part in orders:
            if queues := self._order_queues(part.partition):
                consumer.seek(part, min(queue.next for queue in queues))

    def _pause_unused(self, consumer: AIOKafkaConsumer) -> None:
        """Without a webhook nothing is read."""
        events = {kind for endpoint in self._endpoints.values() for kind in endpoint.webhook.events}
        for kind, topic in (("stock", self._parts.stock_topic), ("orders", self._parts.orders_topic)):
            (consumer.resume if kind in events else consumer.pause)(*self._topic_partitions(topic))
        if "stock" not in events:
            self._pass = None
            self._begin_sending()

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
        for part, records in fetched.items():
            if self._parts.trace_rows is not None:
                self._parts.trace_rows(records, part.topic == self._parts.orders_topic)
            for record in records:
                try:
                    self._offer(part, record)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    place = f"{part.topic}-{part.partition} at {record.offset}"
                    logger.error("the row of %s cannot be sent: %s", place, error)
        if self._pass is not None:
            positions = {part: await consumer.position(part) for part in self._pass}
            if all(positions[part] >= at for part, at in self._pass.items()):
                self._pass = None
                self._begin_sending()
        for number in self._partitions:
            again = [queue.read_again() for queue in self._order_queues(number)]
            if any(again):
                self._seek_orders(consumer, [TopicPartition(self._parts.orders_topic, number)])
        await asyncio.sleep(0)

    def _offer(self, part: TopicPartition, record: Any) -> None:
        if part.topic == self._parts.orders_topic:
            for orders in self._order_queues(part.partition):
                orders.offer(record.key.decode(), record.value, record.offset)
            endpoints: Iterable[Endpoint] = self._endpoints.values()
        else:
            channel, sku = split_key(record.key.decode())
            endpoints = self._by_channel.get(channel, ())
            for endpoint in endpoints:
                for queue in endpoint.queues:
                    if isinstance(queue, StockQueue) and queue.partition == part.partition:
                        queue.offer(sku, record.value, record.offset)
        for endpoint in endpoints:
            endpoint.wake()

    def _begin_sending(self) -> None:
        for endpoint in self._endpoints.values():
            for queue in endpoint.queues:
                queue.begin()
            endpoint.wake()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            try:
                for endpoint in list(self._endpoints.values()):
                    await endpoint.report()
            except MembershipLost:
                return

    async def _end_endpoints(self) -> None:
        tasks, self._tasks, self._endpoints = list(self._tasks.values()), {}, {}
        self._by_channel.clear()
        await end(*tasks)
