"""Many subscribers of one API process: each gets its snapshot, then every change, and all end with the same numbers.

In: servers. Out: a row: how many converged, and after how long. The subscribers are a process of their own
(`python -m bench.subscribers PORT`). It prints one JSON line when all are synced and one at the end; between the two
the parent changes the stock.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson

from bench.orders import CHANNELS, WAREHOUSES, KeyValue, encode_order, movement_event, send_all, sku_name
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, receive_opening_stock, running
from stocktide.loadtest.client.key import key_headers
from stocktide.retry import poll_until

APP_ID = "crowd"
SUBSCRIBERS = 2_000
SKUS = [sku_name(number) for number in range(1_000)]
# SKUs that change while all subscribers are connected, and how often; the last change leaves 7 units.
CHANGED, CHANGES = SKUS[:50], 20
LAST_UNITS = 7
READ_BYTES = 256 * 1024
SYNCED_SECONDS_MAX = 120.0
# Connections that are opened at the same time: fewer than the backlog of a listening socket.
OPENING_MAX = 100


async def measure_subscribers(servers: BenchServers, report: Report) -> None:
    """Adds the row."""
    report.log(f"{SUBSCRIBERS:,} subscribers …")
    await receive_opening_stock(servers, APP_ID, SKUS)
    kafka, partitions = servers.kafka.address, servers.settings(APP_ID).partitions
    worker, api = (BenchedProcess(servers, APP_ID, kind) for kind in ("worker", "api"))
    async with running(worker), running(api):
        before = await worker.count_settled_events()
        await send_all(kafka, f"{APP_ID}-orders", partitions, first_orders())
        await worker.wait_until_settled(before + len(CHANNELS))
        await asyncio.sleep(3.0)  # until the first updates of the channels are published
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.subscribers", str(api.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None and child.stdout is not None
        synced = orjson.loads(await child.stdout.readline())
        await send_all(kafka, f"{APP_ID}-movements", partitions, counts())
        child.stdin.write(b"changed\n")
        found = {**synced, **orjson.loads(await child.stdout.readline())}
        await child.wait()
    report.add(
        f"{SUBSCRIBERS:,} subscribers on one API process",
        f"{found['converged']:,} converged {found['converged_seconds']:.1f} s after {len(CHANGED) * CHANGES:,} "
        f"changes; {found['whole']:,} snapshots of {len(SKUS):,} SKUs in {found['synced_seconds']:.1f} s",
        goal="every one converges",
        met=found["converged"] == found["whole"] == SUBSCRIBERS and found["same"],
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


class BenchSubscriber:
    """One connection. For each SKU it keeps the bytes of the newest update."""

    def __init__(self, port: int, channel: str) -> None:
        self._port = port
        self.channel = channel
        self.updates: dict[str, bytes] = {}
        self.synced = asyncio.Event()

    async def run(self, opening: asyncio.Semaphore) -> None:
        """Read until cancelled."""
        async with opening:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=READ_BYTES)
            lines = [f"GET /v1/channels/{self.channel}/feed HTTP/1.1", "Host: 127.0.0.1"]
            lines += [f"{name}: {value}" for name, value in key_headers().items()]
            writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        try:
            rest = b""
            while chunk := await reader.read(READ_BYTES):
                rest = self._parse(rest + chunk)
        finally:
            writer.close()

    def is_converged(self) -> bool:
        """Whether it has the last change of each changed SKU."""
        last = b'"quantity":%d,' % LAST_UNITS
        return all(last in self.updates.get(sku, b"") for sku in CHANGED)

    def _parse(self, text: bytes) -> bytes:
        """Parse whole lines and return the incomplete one. The chunk sizes of HTTP are on lines of their own."""
        *lines, rest = text.split(b"\n")
        for line in lines:
            if line == b"event: synced":
                self.synced.set()
            elif line.startswith(b"data: {"):
                _, found, sku = line.partition(b'"sku":"')
                if found:
                    self.updates[sku.partition(b'"')[0].decode()] = line[6:]
        return rest


async def _subscribe(port: int) -> None:
    opening = asyncio.Semaphore(OPENING_MAX)
    subscribers = [BenchSubscriber(port, CHANNELS[number % len(CHANNELS)]) for number in range(SUBSCRIBERS)]
    began = time.monotonic()
    tasks = [asyncio.create_task(subscriber.run(opening)) for subscriber in subscribers]
    async with asyncio.timeout(SYNCED_SECONDS_MAX):
        await asyncio.gather(*(subscriber.synced.wait() for subscriber in subscribers))
    whole = sum(len(subscriber.updates) >= len(SKUS) for subscriber in subscribers)
    _print({"synced_seconds": time.monotonic() - began, "whole": whole})
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()

    async def all_converged() -> bool:
        return all(subscriber.is_converged() for subscriber in subscribers)

    await poll_until(all_converged, SYNCED_SECONDS_MAX)
    converged = sum(subscriber.is_converged() for subscriber in subscribers)
    same = _same(subscribers)
    _print({"converged_seconds": time.monotonic() - began, "converged": converged, "same": same})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _same(subscribers: Sequence[BenchSubscriber]) -> bool:
    """Whether the subscribers of each channel have the same bytes."""
    first: dict[str, dict[str, bytes]] = {}
    return all(first.setdefault(each.channel, each.updates) == each.updates for each in subscribers)


def _print(figures: dict[str, object]) -> None:
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_subscribe(int(sys.argv[1])))
