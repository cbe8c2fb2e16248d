"""Many subscribers of one API process, of both transports, in a flash sale: each gets its snapshot, then every change,
and all end with the same numbers.

In: servers. Out: rows: how many converged, and after how long; memory and CPU of the API. The subscribers are a
process of their own (`python -m bench.subscribers PORT SSE SOCKETS DEFLATED`). It prints a JSON line when all are
synced, and one for each quantity that it reads from standard input, when each subscriber has that quantity of each
changed SKU.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import orjson

from bench.feed_clients import (
    BenchSubscriber,
    DeflatedSocketSubscriber,
    EventStreamSubscriber,
    SocketSubscriber,
)
from bench.http_load import HttpReserveClient
from bench.load import BenchOrder, ReserveOutcome
from bench.orders import CHANNELS, WAREHOUSES, KeyValue, encode_order, movement_event, send_all, sku_name
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, receive_opening_stock, running
from stocktide.main_loop import run_main
from stocktide.retry import poll_until

APP_ID = "crowd"
# Half of the sockets take per-message deflate, as browsers do.
SSE, SOCKETS = 2_000, 2_000
SKUS = [sku_name(number) for number in range(1_000)]
# SKUs that change while all subscribers are connected, and how often; the last change leaves 7 units.
CHANGED, CHANGES = SKUS[:50], 20
LAST_UNITS = 7
# The sale: so many orders of one unit of each of them, by so many callers, to the API that has the subscribers.
ORDERS_EACH, CALLERS = 10, 16
CONVERGED_SECONDS_MAX = 180.0
# Connections that are opened at the same time: fewer than the backlog of a listening socket.
OPENING_MAX = 100
# What is written to a client at once, and what waits in its transport, have 64 KiB each at most.
BYTES_EACH_MAX = 128 * 1024


class Converged(msgspec.Struct, frozen=True):
    """What the process of the subscribers found: how many have what is awaited, and the seconds until then; whether
    all of a channel have the same bytes; versions that did not grow; why the server closed some; bytes that one of each
    kind has received."""

    count: int
    seconds: float
    same: bool
    went_back: int
    closed: dict[str, int]
    received: dict[str, int]

    def is_whole(self, subscribers: int) -> bool:
        """Whether every promise was kept."""
        return self.count == subscribers and self.same and not self.went_back and not self.closed


@dataclass(frozen=True, slots=True)
class CrowdResult:
    """The snapshot, the changes and the sale; the API's resident bytes without subscribers, and their peak; its CPU
    seconds from the first change to the last convergence, and the seconds of that time."""

    subscribers: int
    synced: Converged
    changed: Converged
    sold: Converged
    outcomes: Counter[ReserveOutcome]
    bytes_before: int
    bytes_peak: int
    cpu_seconds: float
    seconds: float

    @property
    def is_memory_bounded(self) -> bool:
        """Whether no subscriber took more than may wait for it."""
        return self.bytes_peak - self.bytes_before <= self.subscribers * BYTES_EACH_MAX


async def measure_subscribers(servers: BenchServers, report: Report) -> None:
    """Adds the rows."""
    report.log(f"{SSE:,} subscribers by SSE and {SOCKETS:,} by WebSocket …")
    found = await run_crowd(servers, SSE, SOCKETS // 2, SOCKETS // 2)
    whole = all(each.is_whole(found.subscribers) for each in (found.synced, found.changed, found.sold))
    name = f"{SSE:,} SSE and {SOCKETS:,} WebSocket subscribers on one API process"
    report.add(
        name,
        f"{found.changed.count:,} converged {found.changed.seconds:.1f} s after {len(CHANGED) * CHANGES:,} changes; "
        f"{found.synced.count:,} snapshots of {len(SKUS):,} SKUs in {found.synced.seconds:.1f} s; "
        f"{found.sold.count:,} converged {found.sold.seconds:.1f} s after the last of {found.outcomes.total():,} "
        f"orders that sell out; {found.changed.went_back + found.sold.went_back} versions went back",
        goal="every one converges, versions only grow",
        met=whole,
    )
    grown = found.bytes_peak - found.bytes_before
    report.add(
        "the same: memory and CPU of the API",
        f"{found.bytes_before / 2**20:.0f} MiB, at most {grown / 2**20:.0f} MiB more "
        f"({grown / found.subscribers / 1024:.0f} KiB each); {found.cpu_seconds:.1f} s of CPU in {found.seconds:.1f} s",
        goal=f"<= {BYTES_EACH_MAX // 1024} KiB each",
        met=found.is_memory_bounded,
    )


async def run_crowd(servers: BenchServers, sse: int, sockets: int, deflated: int = 0) -> CrowdResult:
    """Subscribe (`deflated`: sockets that take per-message deflate, beside the others), change, sell."""
    await receive_opening_stock(servers, APP_ID, SKUS)
    kafka, partitions = servers.kafka.address, servers.settings(APP_ID).partitions
    worker, api = (BenchedProcess(servers, APP_ID, kind) for kind in ("worker", "api"))
    async with running(worker), running(api):
        before = await worker.count_settled_events()
        await send_all(kafka, f"{APP_ID}-orders", partitions, first_orders())
        await worker.wait_until_settled(before + len(CHANNELS))
        await asyncio.sleep(3.0)  # until the first updates of the channels are published
        bytes_before, _ = api.memory()
        async with _crowd(api.port, sse, sockets, deflated) as crowd:
            synced = await crowd.found()
            cpu, began = api.cpu_seconds(), time.monotonic()
            await send_all(kafka, f"{APP_ID}-movements", partitions, counts())
            changed = await crowd.wait_for(LAST_UNITS)
            outcomes = await sell(api.port)
            sold = await crowd.wait_for(0)
            seconds = time.monotonic() - began
            cpu_seconds = api.cpu_seconds() - cpu
        _, peak = api.memory()
    return CrowdResult(
        sse + sockets + deflated, synced, changed, sold, outcomes, bytes_before, peak, cpu_seconds, seconds
    )


def first_orders() -> Iterator[KeyValue]:
    """One order of each channel, of a SKU that does not change, so that the channels are known."""
    for channel in CHANNELS:
        yield channel.encode(), encode_order(f"known-{channel}", channel, SKUS[-1])


def counts() -> Iterator[KeyValue]:
    """Counts of one warehouse that decrease step by step; the other warehouses are counted empty first."""
    first, *others = WAREHOUSES
    left = [(first, f"count-{number}", LAST_UNITS + CHANGES - 1 - number) for number in range(CHANGES)]
    for warehouse, event_id, units in [*((warehouse, "count-0", 0) for warehouse in others), *left]:
        occurred_at = datetime.now(UTC).isoformat()
        event = movement_event("stock.counted", event_id, warehouse, dict.fromkeys(CHANGED, units), occurred_at)
        yield warehouse.encode(), orjson.dumps(event)


async def sell(port: int) -> Counter[ReserveOutcome]:
    """Order more of each changed SKU than there is; the outcomes."""
    orders = itertools.product(range(ORDERS_EACH), CHANGED)
    outcomes: Counter[ReserveOutcome] = Counter()

    async def call(client: HttpReserveClient) -> None:
        for nth, sku in orders:
            order = BenchOrder(f"sale-{sku}-{nth}", sku, 1, CHANNELS[nth % len(CHANNELS)])
            outcomes[await client.reserve(order)] += 1

    clients = [HttpReserveClient(port) for _ in range(CALLERS)]
    try:
        await asyncio.gather(*map(call, clients))
    finally:
        for client in clients:
            client.close()
    return outcomes


class _Crowd:
    """The process of the subscribers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def found(self) -> Converged:
        """Its next finding."""
        assert self._process.stdout is not None
        return msgspec.json.decode(await self._process.stdout.readline(), type=Converged)

    async def wait_for(self, quantity: int) -> Converged:
        """What it found when each subscriber had this quantity of each changed SKU, or too late."""
        assert self._process.stdin is not None
        began = time.monotonic()
        self._process.stdin.write(b"%d\n" % quantity)
        # By this clock: a busy process of subscribers reads its input late.
        found = await self.found()
        return msgspec.structs.replace(found, seconds=time.monotonic() - began)


@asynccontextmanager
async def _crowd(port: int, *subscribers: int) -> AsyncIterator[_Crowd]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.subscribers", str(port), *map(str, subscribers)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield _Crowd(process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _subscribe(port: int, sse: int, sockets: int, deflated: int) -> None:
    opening = asyncio.Semaphore(OPENING_MAX)
    kinds = [EventStreamSubscriber] * sse + [SocketSubscriber] * sockets + [DeflatedSocketSubscriber] * deflated
    subscribers = [kind(port, CHANNELS[nth % len(CHANNELS)]) for nth, kind in enumerate(kinds)]
    began = time.monotonic()
    tasks = [asyncio.create_task(each.run(opening)) for each in subscribers]

    async def find(waiting: Sequence[BenchSubscriber], quantity: int | None) -> None:
        async def none_waits() -> bool:
            nonlocal waiting
            waiting = [each for each in waiting if not _has(each, quantity)]
            return not waiting

        await poll_until(none_waits, CONVERGED_SECONDS_MAX)
        closed = Counter(each.closed for each in subscribers if each.closed)
        went_back = sum(each.went_back for each in subscribers)
        seconds = time.monotonic() - began
        received = {each.__class__.__name__: each.bytes_received for each in subscribers}
        count = len(subscribers) - len(waiting)
        found = Converged(count, seconds, _same(subscribers), went_back, dict(closed), received)
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        sys.stdout.flush()

    await find(subscribers, None)
    while line := await asyncio.to_thread(sys.stdin.readline):
        await find(subscribers, int(line))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_CHANGED = tuple(sku.encode() for sku in CHANGED)


def _has(subscriber: BenchSubscriber, quantity: int | None) -> bool:
    if quantity is None:
        return subscriber.synced.is_set() and len(subscriber.updates) >= len(SKUS)
    return subscriber.has_everywhere(_CHANGED, quantity)


def _same(subscribers: Sequence[BenchSubscriber]) -> bool:
    """Whether the subscribers of each channel have the same bytes, whatever their transport."""
    first: dict[str, dict[bytes, bytes]] = {}
    return all(first.setdefault(each.channel, each.updates) == each.updates for each in subscribers)


if __name__ == "__main__":
    run_main(_subscribe(*map(int, sys.argv[1:])))
