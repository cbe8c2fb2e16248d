"""Many subscribers on one API process: they get their snapshot, then every change, and end with the same numbers.

In: an API's port, SKUs and channels. Out: how many converged, and how long it took. Run as a process of its own
(`python -m bench.subscribers PORT SUBSCRIBERS CHANNELS SKUS`), which prints a line once all are synced and one at the
end as JSON; between the two the caller changes the stock.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import orjson

# A connection whose snapshot is cut into segments is read in such pieces.
READ_BYTES = 256 * 1024
SYNCED_SECONDS_MAX = 120.0
# Connections that are being opened at once: a listening socket has so many places in its queue.
OPENING_MAX = 100


class BenchSubscriber:
    """One connection. Of each SKU it holds the newest version and the bytes of the update."""

    def __init__(self, port: int, channel: str) -> None:
        self._port = port
        self.channel = channel
        self.seen: dict[str, bytes] = {}
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
                rest = self._take(rest + chunk)
        finally:
            writer.close()

    def _take(self, text: bytes) -> bytes:
        """Take whole lines; what is left of the last one. Chunk sizes of HTTP stand on lines of their own."""
        *lines, rest = text.split(b"\n")
        for line in lines:
            if line == b"event: synced":
                self.synced.set()
            elif line.startswith(b"data: {"):
                body = line[6:]
                sku = _text_after(body, b'"sku":"')
                if sku is not None:
                    self.seen[sku] = body
        return rest


def _text_after(body: bytes, name: bytes) -> str | None:
    start = body.find(name)
    if start < 0:
        return None
    start += len(name)
    return body[start : body.index(b'"', start)].decode()


async def follow(port: int, subscribers: int, channels: Sequence[str], skus: int, updated: int) -> None:
    """Connect, say when all are synced, then wait until all have seen `updated` SKUs change to quantity 7."""
    opening = asyncio.Semaphore(OPENING_MAX)
    all_of_them = [BenchSubscriber(port, channels[number % len(channels)]) for number in range(subscribers)]
    began = time.monotonic()
    tasks = [asyncio.create_task(subscriber.run(opening)) for subscriber in all_of_them]
    async with asyncio.timeout(SYNCED_SECONDS_MAX):
        await asyncio.gather(*(subscriber.synced.wait() for subscriber in all_of_them))
    whole = sum(len(subscriber.seen) >= skus for subscriber in all_of_them)
    _say({"synced_seconds": time.monotonic() - began, "whole": whole})
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    deadline = began + SYNCED_SECONDS_MAX
    while time.monotonic() < deadline:
        ended = sum(_ended(subscriber, updated) for subscriber in all_of_them)
        if ended == subscribers:
            break
        await asyncio.sleep(0.1)
    same = _same(all_of_them)
    _say({"converged_seconds": time.monotonic() - began, "converged": ended, "same": same})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ended(subscriber: BenchSubscriber, updated: int) -> bool:
    """Whether it has the last change of each SKU that was changed."""
    return all(b'"quantity":7,' in subscriber.seen.get(f"S{number}", b"") for number in range(updated))


def _same(subscribers: Sequence[BenchSubscriber]) -> bool:
    """Whether those of one channel hold the same bytes."""
    first: dict[str, dict[str, bytes]] = {}
    return all(first.setdefault(subscriber.channel, subscriber.seen) == subscriber.seen for subscriber in subscribers)


def _say(figures: dict[str, object]) -> None:
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        follow(int(arguments[0]), int(arguments[1]), arguments[2].split(","), int(arguments[3]), int(arguments[4]))
    )
