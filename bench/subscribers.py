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

from bench.orders import CHANNELS, WAREHOUSES, KeyValue, encode_movement, encode_order, send_all
from bench.report import BenchmarkRow
from bench.rows import SKUS
from bench.servers import BenchServers, receive_opening_stock, run_stocktide
from stocktide.retry import poll_until

SUBSCRIBERS = 2_000
# SKUs that change while all subscribers are connected, and how often; the last change leaves 7 units.
CHANGED, CHANGES = SKUS[:50], 20
LAST_UNITS = 7
KNOWN_SECONDS_MAX = 120.0
READ_BYTES = 256 * 1024
SYNCED_SECONDS_MAX = 120.0
# Connections that are opened at the same time: fewer than the backlog of a listening socket.
OPENING_MAX = 100


async def measure_subscribers(servers: BenchServers, app_id: str) -> BenchmarkRow:
    """The row."""
    await receive_opening_stock(servers, app_id, SKUS)
    kafka, partitions = servers.kafka.address, servers.settings(app_id).partitions
    async with run_stocktide(servers, app_id, "worker") as worker, run_stocktide(servers, app_id, "api") as api:
        before = await worker.count_settled_events()
        await send_all(kafka, f"{app_id}-orders", partitions, first_orders())

        async def known() -> bool:
            return await worker.count_settled_events() >= before + len(CHANNELS)

        await poll_until(known, KNOWN_SECONDS_MAX)
        await asyncio.sleep(3.0)  # until the first updates of the channels are published
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.subscribers", str(api.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None and child.stdout is not None
        synced = orjson.loads(await child.stdout.readline())
        await send_all(kafka, f"{app_id}-movements", partitions, counts())
        child.stdin.write(b"changed\n")
        found = {**synced, **orjson.loads(await child.stdout.readline())}
        await child.wait()
    return BenchmarkRow(
        f"{SUBSCRIBERS:,} subscribers on one API process",
        f"{found['converged']:,} converged {found['converged_seconds']:.1f} s after {len(CHANGED) * CHANGES:,} "
        f"changes; {found['whole']:,} snapshots of {len(SKUS):,} SKUs in {found['synced_seconds']:.1f} s",
        "every one converges",
        found["converged"] == found["whole"] == SUBSCRIBERS and found["same"],
    )


def first_orders() -> Iterator[KeyValue]:
    """One order of each channel, of a SKU that does not change, so that the channels are known."""
    for channel in CHANNELS:
        yield channel.encode(), encode_order(f"known-{channel}", channel, SKUS[-1])


def counts() -> Iterator[KeyValue]:
    """Counts of one warehouse that decrease step by step; the other warehouses are counted empty first."""
    first, *others = WAREHOUSES
    occurred_at = datetime.now(UTC).isoformat()
    for warehouse in others:
        yield encode_movement("stock.counted", "count-0", warehouse, CHANGED, 0, occurred_at)
    for number in range(CHANGES):
        left = LAST_UNITS + CHANGES - 1 - number
        yield encode_movement("stock.counted", f"count-{number}", first, CHANGED, left, datetime.now(UTC).isoformat())


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
            request = f"GET /v1/channels/{self.channel}/feed HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            writer.write(request.encode())
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
