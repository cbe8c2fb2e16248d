"""A small HTTP/1.1 load generator on bare asyncio protocols, in a process of its own.

`python -m bench.http_load HOST PORT PATH KIND PREFIX SECONDS CONNECTIONS RATE`: KIND is `order` (a fresh order each)
or `empty` (a handler that does nothing); RATE 0 is closed loop, else requests a second on a schedule, and latencies
count from the scheduled time. Prints one JSON line.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections import deque

from bench.orders import CHANNELS
from bench.rates import percentile

_SKUS = 1_000


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect one answer: its head, then as many bytes as its head says."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        status = int(self._buffer[9:12])
        self._buffer = self._buffer[end + 4 + length :]
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send one request; its status."""
        assert self.transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer


def request_bytes(host: str, path: str, kind: str, order_id: str) -> bytes:
    """One POST."""
    body = json.dumps(
        {
            "order_id": order_id if kind == "order" else "x",
            "channel": random.choice(CHANNELS),
            "lines": [{"sku": f"S{random.randrange(_SKUS)}", "quantity": 1}],
        }
    ).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(
    host: str, port: int, path: str, kind: str, prefix: str, seconds: float, connections: int, rate: float
) -> dict[str, float]:
    """Drive it; rates and latencies (ms)."""
    loop = asyncio.get_running_loop()
    pool = [(await loop.create_connection(HttpConnection, host, port))[1] for _ in range(connections)]
    numbers = itertools.count()
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    start = time.perf_counter()
    schedule: deque[float] | None = None
    if rate:
        schedule = deque(start + number / rate for number in range(int(rate * seconds)))

    async def drive(connection: HttpConnection) -> None:
        while time.perf_counter() - start < seconds:
            due = time.perf_counter()
            if schedule is not None:
                if not schedule:
                    return
                due = schedule.popleft()
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
            status = await connection.ask(request_bytes(host, path, kind, f"{prefix}-{next(numbers)}"))
            latencies.append(time.perf_counter() - due)
            statuses[status] = statuses.get(status, 0) + 1

    await asyncio.gather(*(drive(connection) for connection in pool))
    took = time.perf_counter() - start
    expected = 201 if kind == "order" else 200
    return {
        "rate": len(latencies) / took,
        "p50_ms": percentile(latencies, 0.5) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
        "other": sum(count for status, count in statuses.items() if status != expected),
    }


def main() -> None:
    """The command line."""
    host, port, path, kind, prefix, seconds, connections, rate = sys.argv[1:9]
    result = asyncio.run(load(host, int(port), path, kind, prefix, float(seconds), int(connections), float(rate)))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
