"""Orders by HTTP: clients with a keep-alive connection each, and a load from a process of its own.

In: a port. Out: a `LoadResult`. `python -m bench.http_load PORT PATH PREFIX SECONDS CONNECTIONS RATE [NAME=PID …]`
loads an endpoint and prints one JSON line, with the CPU time per order of the named processes and of itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import uvloop

from bench.cpu import LOAD, CpuMeter
from bench.load import RESPONSE_SECONDS_MAX, BenchOrder, LoadResult, ReserveClient, ReserveOutcome, send_orders
from bench.orders import CHANNELS, sku_name
from stocktide.client.http import key_headers

ORDERS_PATH = "/v1/orders"
HTTP_SECONDS = 8.0

# 500: a service that did not catch an exception of its driver when the store died; retried like 503.
_OUTCOME_OF_STATUS = {
    200: ReserveOutcome.HELD,
    201: ReserveOutcome.HELD,
    409: ReserveOutcome.REFUSED,
    500: ReserveOutcome.NONE,
    503: ReserveOutcome.NONE,
}


class HttpReserveClient(asyncio.Protocol):
    """One keep-alive connection to `POST /v1/orders`; bare, because it shares the cores with what it measures."""

    def __init__(self, port: int, path: str = ORDERS_PATH) -> None:
        self._port = port
        headers = {"Host": "127.0.0.1", "Content-Type": "application/json", **key_headers()}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._head = "".join(f"{line}\r\n" for line in lines).encode()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._status: asyncio.Future[int] | None = None

    async def reserve(self, order: BenchOrder) -> ReserveOutcome:
        """Send an order once. After a timeout the connection is closed. Raises RuntimeError for an unexpected
        status."""
        try:
            async with asyncio.timeout(RESPONSE_SECONDS_MAX):
                status = await self._post(order)
        except (OSError, TimeoutError):
            self.close()
            return ReserveOutcome.NONE
        if status not in _OUTCOME_OF_STATUS:
            raise RuntimeError(f"{order.order_id}: status {status}")
        return _OUTCOME_OF_STATUS[status]

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._transport = None

    async def _post(self, order: BenchOrder) -> int:
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        lines = [{"sku": order.sku, "quantity": order.units}]
        body = orjson.dumps({"order_id": order.order_id, "channel": order.channel, "lines": lines})
        self._received, self._status = b"", loop.create_future()
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body))
        return await self._status

    def data_received(self, data: bytes) -> None:
        """Take a part of a response."""
        self._received += data
        head, whole, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if whole and len(body) >= int(length or 0) and self._status is not None and not self._status.done():
            self._status.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """The server closed the connection."""
        self._transport = None
        if self._status is not None and not self._status.done():
            self._status.set_exception(error or ConnectionResetError())


@asynccontextmanager
async def http_clients(port: int, count: int, path: str = ORDERS_PATH) -> AsyncIterator[list[ReserveClient]]:
    """`count` clients with a connection each."""
    clients = [HttpReserveClient(port, path) for _ in range(count)]
    try:
        yield list(clients)
    finally:
        for client in clients:
            client.close()


async def load_http(
    port: int,
    prefix: str,
    connections: int,
    *,
    rate: float = 0,
    path: str = ORDERS_PATH,
    seconds: float = HTTP_SECONDS,
    pids: Mapping[str, int | None] | None = None,
) -> LoadResult:
    """Load an endpoint from a process of its own, in a closed loop unless a `rate` is given."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.http_load", str(port), path, prefix, str(seconds), str(connections), str(rate)),
        *(f"{name}={pid}" for name, pid in (pids or {}).items()),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return LoadResult(**orjson.loads(output))


async def _load(
    port: int, path: str, prefix: str, seconds: float, connections: int, rate: float, pids: dict[str, int]
) -> LoadResult:
    orders = (
        BenchOrder(f"{prefix}-{number}", sku_name(random.randrange(1_000)), 1, random.choice(CHANNELS))
        for number in itertools.count()
    )
    cpu = CpuMeter({**pids, LOAD: os.getpid()})
    async with http_clients(port, connections, path) as clients:
        cpu.begin()
        began = time.perf_counter()
        result = await send_orders(clients, orders, seconds, rate)
        cpu.end(round(result.rate * (time.perf_counter() - began)))
    return replace(result, cpu_us=cpu.us_each)


def main(port: str, path: str, prefix: str, seconds: str, connections: str, rate: str, *processes: str) -> None:
    """Load, and print the result."""
    pids = {name: int(pid) for name, _, pid in (process.partition("=") for process in processes)}
    result = uvloop.run(_load(int(port), path, prefix, float(seconds), int(connections), float(rate), pids))
    sys.stdout.write(orjson.dumps(result).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
