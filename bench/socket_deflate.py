"""Per-message deflate of the socket's messages: bytes and CPU time with and without it.

In: updates of a shop, as many as are written together. Out: a table (`python -m bench.socket_deflate`). `shared` is
what the API does: updates that are written together are deflated together, once for all sockets. `each socket` is what
a WebSocket library does: a window for each socket, and each message deflated for each of them.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.table import Table

from bench.feed_clients import FLUSHED
from bench.report import make_console, write_json
from stocktide.api.feeds.frames import DEFLATED_WEBSOCKET, WEBSOCKET, FrameFormat
from stocktide.streams.contract.documents import encode

UPDATES = 6_000
# A change alone, those of one tick at a quiet and at a busy time, a write of a snapshot.
TOGETHER = (1, 2, 3, 20, 300)
TABLE_WIDTH = 160
_SEED = 1


@dataclass(frozen=True, slots=True)
class DeflateRow:
    """Bytes and µs of a message, by the number of updates that are written together. `_us` of what is shared is spent
    once for all sockets, that of `each_socket` for each of them, and `inflate_us` by each client."""

    together: int
    plain_bytes: float
    plain_us: float
    shared_bytes: float
    shared_us: float
    each_socket_bytes: float
    each_socket_us: float
    inflate_us: float


def updates() -> Iterator[tuple[bytes, bytes, str]]:
    """What `FrameFormat.stock` takes: updates of a channel, in the order in which they come from four partitions."""
    draw = random.Random(_SEED)
    offsets = [draw.randrange(100_000) for _ in range(4)]
    for _ in range(UPDATES):
        offsets[draw.randrange(4)] += draw.randrange(1, 6)
        sku = f"{draw.randrange(20_000, 90_000)}{draw.choice(('', 'A', 'B', 'C'))}"
        as_of = f"2026-11-29T10:{draw.randrange(60):02}:{draw.randrange(60):02}.{draw.randrange(1000):03}Z"
        row = {
            "sku": sku,
            "quantity": draw.randrange(500),
            "mode": draw.choice(("in_stock", "in_stock", "in_stock", "sell_through")),
            "preorder_remaining": 0,
            "version": draw.randrange(1, 4_000),
            "as_of": as_of,
        }
        yield b'{"channel":"tmall","sku":', encode(row).removeprefix(b'{"sku":'), f"3f0a61c2b97e.{_joined(offsets)}"


def measure(together: int) -> DeflateRow:
    """One row."""
    rows = list(updates())
    groups = [rows[start : start + together] for start in range(0, len(rows), together)]
    plain, plain_us = _timed(lambda: _write(WEBSOCKET, groups))
    shared, shared_us = _timed(lambda: _write(DEFLATED_WEBSOCKET, groups))
    messages = [row_frame for group in groups for row_frame in (DEFLATED_WEBSOCKET.stock(*row) for row in group)]
    deflated, each_socket_us = _timed(lambda: _deflate_for_a_socket(messages))
    inflate = zlib.decompressobj(-zlib.MAX_WBITS).decompress
    inflated, inflate_us = _timed(lambda: [inflate(message + FLUSHED) for message in deflated])
    assert inflated == messages
    each_socket = sum(map(len, deflated)) / len(rows) + 2  # a frame has two bytes more
    return DeflateRow(
        together,
        sum(map(len, plain)) / len(rows),
        plain_us,
        sum(map(len, shared)) / len(rows),
        shared_us,
        each_socket,
        each_socket_us,
        inflate_us,
    )


def main() -> None:
    """Measure, print, write."""
    rows = [measure(together) for together in TOGETHER]
    table = Table("written together", "plain", "shared", "each socket", "inflated by a client")
    for row in rows:
        table.add_row(
            f"{row.together}",
            f"{row.plain_bytes:.0f} bytes, {row.plain_us:.1f} µs",
            f"{row.shared_bytes:.0f} bytes, {row.shared_us:.1f} µs",
            f"{row.each_socket_bytes:.0f} bytes, {row.each_socket_us:.1f} µs",
            f"{row.inflate_us:.1f} µs",
        )
    make_console(TABLE_WIDTH).print(table)
    write_json("socket-deflate", rows)


def _write(frames: FrameFormat, groups: list[list[tuple[bytes, bytes, str]]]) -> list[bytes]:
    return [frames.join([frames.stock(*row) for row in group]) for group in groups]


def _deflate_for_a_socket(messages: list[bytes]) -> list[bytes]:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return [
        (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(FLUSHED) for message in messages
    ]


def _timed(work: Callable[[], list[bytes]]) -> tuple[list[bytes], float]:
    """Its result, and µs of CPU time of each update."""
    began = time.process_time()
    result = work()
    return result, (time.process_time() - began) / UPDATES * 1e6


def _joined(offsets: list[int]) -> str:
    return "-".join(map(str, offsets))


if __name__ == "__main__":
    main()
