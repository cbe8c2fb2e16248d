"""Subscribers of a feed that cost little: thousands of them share the cores with the API that they measure.

In: a port, a channel and a transport. Out: the bytes of the newest update of each SKU, and whether a version ever
failed to grow. Begin with `BenchSubscriber`.
"""

from __future__ import annotations

import asyncio
import zlib
from abc import ABC, abstractmethod

from stocktide.client.http import key_headers

READ_BYTES = 256 * 1024
_SOCKET_HEADERS = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# FIN and the opcode (RFC 6455, section 5.2); with RSV1 text is deflated.
_TEXT, _DEFLATED, _CLOSE, _PING = 0x81, 0xC1, 0x88, 0x89
# What ends a deflated message, and is not sent.
FLUSHED = b"\x00\x00\xff\xff"
# A pong of one byte, masked with zeros.
_PONG_HEAD = b"\x8a\x81\x00\x00\x00\x00"
_SYNCED = b'{"event":"synced"'


class BenchSubscriber(ABC):
    """One connection."""

    path: str
    headers = ""

    def __init__(self, port: int, channel: str) -> None:
        self._port = port
        self.channel = channel
        self.updates: dict[bytes, bytes] = {}
        self.synced = asyncio.Event()
        # Updates whose version was not above the one before of the same SKU.
        self.went_back = 0
        # Why the server closed it.
        self.closed = ""
        self.bytes_received = 0

    async def run(self, opening: asyncio.Semaphore) -> None:
        """Read until cancelled."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with opening:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=READ_BYTES)
                path = f"/v1/channels/{self.channel}/{self.path}"
                keys = "".join(f"{name}: {value}\r\n" for name, value in key_headers().items())
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{keys}{self.headers}\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
            if head[9:12] not in (b"101", b"200"):
                raise ConnectionRefusedError(head[9:12].decode())
            rest = b""
            while chunk := await reader.read(READ_BYTES):
                self.bytes_received += len(chunk)
                rest = self._parse(rest + chunk, writer)
            self.closed = self.closed or "the connection was closed"
        except (OSError, EOFError) as error:
            self.closed = repr(error)
        finally:
            if writer is not None:
                writer.close()

    def has_everywhere(self, skus: tuple[bytes, ...], quantity: int) -> bool:
        """Whether it has this quantity of each SKU."""
        part = b'"quantity":%d,' % quantity
        return all(part in self.updates.get(sku, b"") for sku in skus)

    @abstractmethod
    def _parse(self, received: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Take whole frames and return the incomplete one."""

    def _take(self, update: bytes) -> None:
        _, found, rest = update.partition(b'"sku":"')
        if not found:
            return
        sku = rest[: rest.index(b'"')]
        before = self.updates.get(sku)
        if before is not None and _version(update) <= _version(before):
            self.went_back += 1
        self.updates[sku] = update


class EventStreamSubscriber(BenchSubscriber):
    """By Server-Sent Events."""

    path = "feed"

    def _parse(self, received: bytes, writer: asyncio.StreamWriter) -> bytes:
        """The chunk sizes of HTTP are on lines of their own."""
        *lines, rest = received.split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                self._take(line[6:])
            elif line == b"event: synced":
                self.synced.set()
            elif line == b"event: error":
                self.closed = "an error"
        return rest


class SocketSubscriber(BenchSubscriber):
    """Over a WebSocket, without extensions."""

    path = "socket"
    headers = _SOCKET_HEADERS

    def _parse(self, received: bytes, writer: asyncio.StreamWriter) -> bytes:
        at, end = 0, len(received)
        while at + 2 <= end:
            length, begin = received[at + 1], at + 2
            if length >= 126:
                size = 2 if length == 126 else 8
                begin += size
                if begin > end:
                    break
                length = int.from_bytes(received[begin - size : begin], "big")
            if begin + length > end:
                break
            self._take_frame(received[at], received[begin : begin + length], writer)
            at = begin + length
        return received[at:]

    def _take_frame(self, opcode: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if opcode == _TEXT:
            if payload.startswith(_SYNCED):
                self.synced.set()
            elif payload.startswith(b'{"event":"stock"'):
                self._take(payload[payload.index(b'"data":') + len(b'"data":') : -1])
        elif opcode == _PING:
            writer.write(_PONG_HEAD + payload[:1])
        elif opcode == _CLOSE:
            self.closed = f"{int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}"
        else:
            raise OSError(f"a frame with the first byte {opcode:#x}")


class DeflatedSocketSubscriber(SocketSubscriber):
    """Over a WebSocket with per-message deflate, as a browser."""

    headers = _SOCKET_HEADERS + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

    def __init__(self, port: int, channel: str) -> None:
        super().__init__(port, channel)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS).decompress

    def _take_frame(self, opcode: int, payload: bytes, writer: asyncio.StreamWriter) -> None:
        if opcode == _DEFLATED:
            opcode, payload = _TEXT, self._inflate(payload + FLUSHED)
        super()._take_frame(opcode, payload, writer)


def _version(update: bytes) -> int:
    start = update.rindex(b'"version":') + len(b'"version":')
    return int(update[start : update.index(b",", start)])
