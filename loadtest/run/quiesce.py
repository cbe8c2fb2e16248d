"""The end of a load: wait until the system is quiet, then read everything that the run has touched.

In: the backlog of the input topics, a count of the run's rows, the names that the run used. Out: records of the final
state; or the reason why the system did not become quiet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.client.client import PAGE_ITEMS_MAX, Page, policy_path
from stocktide.client.http import path_of
from stocktide.loadtest.client.contract import ChannelUpdateView, MovementView, OrderView, PolicyView, StockView
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    ReadChannel,
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
)

# The system is quiet when no row of the run has come for so long and all input is consumed.
QUIET_SECONDS = 2.0
WAIT_SECONDS_MAX = 120.0
POLL_SECONDS = 0.25
# Concurrent reads.
READS_MAX = 48
INPUT_TOPICS = ("orders", "movements")


class InputBacklog:
    """The records of topics that a consumer group, by default the one that decides, has not committed."""

    def __init__(
        self,
        kafka: str,
        app_id: str,
        topics: Sequence[str] = INPUT_TOPICS,
        group: str | None = None,
        **security: Any,
    ) -> None:
        # It joins no group, because it subscribes to nothing.
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka, group_id=group or app_id, enable_auto_commit=False, **security
        )
        self._topics = [f"{app_id}-{name}" for name in topics]
        self._partitions: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        for topic in self._topics:
            numbers = self._consumer.partitions_for_topic(topic)
            if not numbers:
                await self._consumer.topics()
                numbers = self._consumer.partitions_for_topic(topic) or set()
            self._partitions += [TopicPartition(topic, number) for number in numbers]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def count(self) -> int:
        """How many records are not committed yet. Raises KafkaError."""
        ends = await self._consumer.end_offsets(self._partitions)
        return sum([ends[part] - (await self._consumer.committed(part) or 0) for part in self._partitions])


class Backlog(Protocol):
    """Records that are not consumed."""

    async def count(self) -> int: ...


async def wait_until_quiet(
    backlog: Backlog,
    rows: Callable[[], int],
    held: Callable[[], int] = lambda: 0,
    holds_end_at: float = 0.0,
    quiet_seconds: float = QUIET_SECONDS,
    seconds_max: float = WAIT_SECONDS_MAX,
) -> str:
    """Wait until `rows` has been the same for `quiet_seconds`, no hold is open, and all input is consumed; empty, or
    why it is not.

    `held` counts open holds. After `holds_end_at` (s, monotonic) they are not awaited: the judge decides about them.
    """
    started = quiet_since = time.monotonic()
    last_rows, uncommitted = rows(), 0
    while time.monotonic() < started + seconds_max:
        await asyncio.sleep(POLL_SECONDS)
        if rows() != last_rows:
            last_rows, quiet_since = rows(), time.monotonic()
        awaits_holds = held() and time.monotonic() < holds_end_at
        if time.monotonic() - quiet_since < quiet_seconds or awaits_holds:
            continue
        try:
            uncommitted = await backlog.count()
        except KafkaError:
            uncommitted = -1
        if not uncommitted:
            return ""
    moving = "rows of this run still come" if time.monotonic() - quiet_since < quiet_seconds else ""
    unread = f"{uncommitted} records of its input are not read"
    return f"the system did not come to rest within {seconds_max:.0f} s: {moving or unread}"


class FinalStateReader:
    """Reads the final state and records every response. Every read raises ApiError.

    `sku_prefix`: other SKUs of a channel are not recorded.
    """

    def __init__(
        self, client: StocktideClient, clock: HistoryClock, add: Callable[[HistoryRecord], None], sku_prefix: str = ""
    ) -> None:
        self._client = client
        self._clock = clock
        self._add = add
        self._sku_prefix = sku_prefix

    async def read(
        self,
        channels: Iterable[str],
        skus: Iterable[str],
        orders: Iterable[str],
        movements: Iterable[tuple[str, str]] = (),
        policies: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        """Read all of these."""
        for channel in channels:
            await self._read_channel(channel)
        read = self._read
        await _run_some_at_a_time(read(ReadStock, StockView, path_of("stock", sku), sku) for sku in skus)
        await _run_some_at_a_time(read(ReadOrder, OrderView, path_of("orders", each), each) for each in orders)
        await _run_some_at_a_time(
            read(
                ReadMovement, MovementView, path_of("warehouses", warehouse, "movements", movement), warehouse, movement
            )
            for warehouse, movement in movements
        )
        await _run_some_at_a_time(read(_own_policy, PolicyView, policy_path(*level), *level) for level in policies)

    async def _read(self, record: Callable[..., HistoryRecord], kind: type[Any], path: str, *key: str | None) -> None:
        requested_at = self._clock.now()
        found = await self._client.read(path, kind)
        self._add(record(self._clock.now(), requested_at, *key, found))

    async def _read_channel(self, channel: str) -> None:
        """Read every page."""
        cursor = ""
        while True:
            requested_at = self._clock.now()
            path = path_of("channels", channel, "stock", limit=PAGE_ITEMS_MAX, cursor=cursor)
            page = await self._client.read(path, Page[ChannelUpdateView]) or Page[ChannelUpdateView](())
            items = tuple(item for item in page.items if item.sku.startswith(self._sku_prefix))
            self._add(ReadChannel(self._clock.now(), requested_at, channel, items, page.next))
            if page.next is None:
                return
            cursor = page.next


def _own_policy(at: int, requested_at: int, channel: str, sku: str | None, found: PolicyView | None) -> ReadPolicy:
    return ReadPolicy(at, requested_at, channel, sku, found.own if found is not None else None)


async def _run_some_at_a_time(reads: Iterator[Awaitable[None]]) -> None:
    async def work() -> None:
        for read in reads:
            await read

    await asyncio.gather(*(work() for _ in range(READS_MAX)))
