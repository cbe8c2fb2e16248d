"""A small HTTP/1.1 load generator on bare asyncio protocols, in a process of its own.

`python -m bench.http_load PORT PATH PREFIX SECONDS CONNECTIONS RATE` posts a new order with each request. RATE 0 is a
closed loop, otherwise requests a second on a schedule (see `bench.rates`). Out: one JSON line.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
from functools import partial

import orjson

from bench.orders import CHANNELS, sku_name
from bench.rates import LoadResult, run_load

ORDERS_PATH = "/v1/orders"
_SKUS = 1_000


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = b""
        self._response: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's callback."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect one response: its head, then as many bytes as the head declares."""
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
        if self._response is not None and not self._response.done():
            self._response.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in progress."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectionError("the server closed the connection"))

    def send(self, request: bytes) -> asyncio.Future[int]:
        """Send one request; its status."""
        assert self.transport is not None
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._response


def order_request(order_id: str, channel: str, sku: str, units: int, path: str = ORDERS_PATH) -> bytes:
    """One POST of an order."""
    body = orjson.dumps({"order_id": order_id, "channel": channel, "lines": [{"sku": sku, "quantity": units}]})
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _load(port: int, path: str, prefix: str, seconds: float, connections: int, rate: float) -> LoadResult:
    loop = asyncio.get_running_loop()
    pool = [(await loop.create_connection(HttpConnection, "127.0.0.1", port))[1] for _ in range(connections)]
    numbers = itertools.count()

    async def place(connection: HttpConnection) -> bool:
        sku = sku_name(random.randrange(_SKUS))
        request = order_request(f"{prefix}-{next(numbers)}", random.choice(CHANNELS), sku, 1, path)
        return await connection.send(request) in (200, 201)

    return await run_load([partial(place, connection) for connection in pool], seconds, rate)


def main() -> None:
    """The command line."""
    port, path, prefix, seconds, connections, rate = sys.argv[1:7]
    result = asyncio.run(_load(int(port), path, prefix, float(seconds), int(connections), float(rate)))
    sys.stdout.write(orjson.dumps(result).decode() + "\n")


if __name__ == "__main__":
    main()
