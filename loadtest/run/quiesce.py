"""The end of a load: the system comes to rest, and is asked for everything that the run has touched.

In: how the input is consumed, which rows of the run come, what was asked. Out: records of what is final; or why it did
not come to rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.loadtest.client.contract import ChannelUpdateView, MovementView, OrderView, StockView
from stocktide.loadtest.client.http import ApiError, StocktideClient
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    ReadChannel,
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
)
from stocktide.loadtest.workload.scenarios import Goods

# No row of the run for so long, and all input consumed: it rests.
QUIET_SECONDS = 2.0
REST_SECONDS_MAX = 120.0
LOOK_SECONDS = 0.25
# Reads under way at once.
READS_MAX = 48
PAGE_MAX = 500
INPUTS = ("orders", "movements")


class _Page(msgspec.Struct, frozen=True):
    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


class _PolicyLevel(msgspec.Struct, frozen=True):
    own: dict[str, Any] | None = None


class InputBacklog:
    """How much of the input topics the worker's group, named as the app, has not committed."""

    def __init__(self, kafka: str, app_id: str, **security: Any) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka, group_id=app_id, enable_auto_commit=False, **security
        )
        self._topics = [f"{app_id}-{name}" for name in INPUTS]
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> InputBacklog:
        """Connect; it joins no group, because it subscribes to nothing."""
        await self._consumer.start()
        for topic in self._topics:
            numbers = self._consumer.partitions_for_topic(topic) or await self._found(topic)
            self._partitions += [TopicPartition(topic, number) for number in numbers]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def uncommitted(self) -> int:
        """Records that are not committed yet. Raises KafkaError."""
        ends = await self._consumer.end_offsets(self._partitions)
        return sum([ends[part] - (await self._consumer.committed(part) or 0) for part in self._partitions])

    async def _found(self, topic: str) -> set[int]:
        await self._consumer.topics()
        return self._consumer.partitions_for_topic(topic) or set()


async def wait_until_quiet(
    inputs: InputBacklog, moved: Callable[[], int], held: Callable[[], int], holds_end_at: float
) -> str:
    """Wait until nothing moves any more: `moved` counts what does, `held` the holds that are open.

    A hold that outlives `holds_end_at` (s, monotonic) is not waited for: whether it may is for the judge to say. Gives
    nothing, or why it does not rest.
    """
    began = quiet_since = time.monotonic()
    seen, left = moved(), 0
    while time.monotonic() < began + REST_SECONDS_MAX:
        await asyncio.sleep(LOOK_SECONDS)
        if moved() != seen:
            seen, quiet_since = moved(), time.monotonic()
        waits = held() and time.monotonic() < holds_end_at
        if time.monotonic() - quiet_since < QUIET_SECONDS or waits:
            continue
        try:
            left = await inputs.uncommitted()
        except KafkaError:
            left = -1
        if not left:
            return ""
    moving = "rows of this run still come" if time.monotonic() - quiet_since < QUIET_SECONDS else ""
    unread = f"{left} records of its input are not read"
    return f"the system did not come to rest within {REST_SECONDS_MAX:.0f} s: {moving or unread}"


class FinalStateReader:
    """Reads everything, and gives each answer as a record."""

    def __init__(
        self, client: StocktideClient, goods: Goods, clock: HistoryClock, add: Callable[[HistoryRecord], None]
    ) -> None:
        self._client = client
        self._goods = goods
        self._clock = clock
        self._add = add

    async def read(
        self,
        orders: Iterable[str],
        movements: Iterable[tuple[str, str]],
        policies: Iterable[tuple[str, str]],
    ) -> None:
        """Read all. Raises ApiError."""
        for channel in self._goods.channels:
            await self._channel(channel)
        await _some_at_a_time(self._stock(sku) for sku in self._goods.all_skus)
        await _some_at_a_time(self._order(order_id) for order_id in orders)
        await _some_at_a_time(self._movement(warehouse, id_) for warehouse, id_ in movements)
        await _some_at_a_time(self._policy(channel, sku) for channel, sku in policies)

    async def _order(self, order_id: str) -> None:
        asked_at, order = await self._get(f"/v1/orders/{quote(order_id, safe='')}", OrderView)
        self._add(ReadOrder(self._clock.now(), asked_at, order_id, order))

    async def _stock(self, sku: str) -> None:
        asked_at, stock = await self._get(f"/v1/stock/{quote(sku, safe='')}", StockView)
        self._add(ReadStock(self._clock.now(), asked_at, sku, stock))

    async def _movement(self, warehouse: str, id_: str) -> None:
        path = f"/v1/warehouses/{quote(warehouse, safe='')}/movements/{quote(id_, safe='')}"
        asked_at, movement = await self._get(path, MovementView)
        self._add(ReadMovement(self._clock.now(), asked_at, warehouse, id_, movement))

    async def _policy(self, channel: str, sku: str) -> None:
        asked_at, level = await self._get(f"/v1/policies/{quote(channel, safe='')}/{quote(sku, safe='')}", _PolicyLevel)
        self._add(ReadPolicy(self._clock.now(), asked_at, channel, sku, level.own if level else None))

    async def _channel(self, channel: str) -> None:
        """Every page; of what it shows, this run's SKUs."""
        prefix, cursor = f"{self._goods.mark}-", ""
        while True:
            path = f"/v1/channels/{quote(channel, safe='')}/stock?limit={PAGE_MAX}"
            asked_at, page = await self._get(path + (f"&cursor={quote(cursor, safe='')}" if cursor else ""), _Page)
            page = page or _Page(())
            items = tuple(item for item in page.items if item.sku.startswith(prefix))
            self._add(ReadChannel(self._clock.now(), asked_at, channel, items, page.next))
            if page.next is None:
                return
            cursor = page.next

    async def _get(self, path: str, kind: Any) -> tuple[int, Any]:
        """When it was asked, and the answer; None for 404."""
        asked_at = self._clock.now()
        answer = await self._client.call("GET", path)
        if answer.status not in (200, 404):
            raise ApiError(f"GET {path} was answered {answer.said()}")
        try:
            return asked_at, msgspec.json.decode(answer.body, type=kind) if answer.status == 200 else None
        except msgspec.DecodeError as error:
            raise ApiError(f"GET {path} is not what the contract says: {error}") from error


async def _some_at_a_time(reads: Iterator[Awaitable[None]]) -> None:
    async def work() -> None:
        for read in reads:
            await read

    await asyncio.gather(*(work() for _ in range(READS_MAX)))
