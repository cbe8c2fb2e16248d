"""What a subscriber and a pager of one channel wait for in a large shop.

In: an API that is ready. Out: seconds, frames and bytes of a snapshot; how long others wait meanwhile; pages at the
beginning and at the end of the list.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
import urllib.parse
from typing import Any

import aiohttp
import orjson

from bench.orders import CHANNELS
from bench.rates import percentile
from bench.size.seeding import sku_name

CHANNEL = CHANNELS[0]
SNAPSHOT_SECONDS_MAX = 600.0
LIMIT = 500
PAGES = 50
# Others ask so often while a snapshot is written.
ASK_SECONDS = 0.005
# They ask before it begins, so that one is under way whenever it does.
BEFORE_SECONDS = 0.5
_FRAME, _END = b"event: stock", b"event: synced"
_READ_BYTES = 1024 * 1024


async def snapshot(api: str) -> dict[str, Any]:
    """Subscribe as a new client, until `synced`. Figures."""
    done = threading.Event()
    # In a thread: in this loop, which reads as fast as it can, nobody else would have a turn.
    asking = asyncio.create_task(asyncio.to_thread(_ask_until, done, api))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SNAPSHOT_SECONDS_MAX)) as session:
        await asyncio.sleep(BEFORE_SECONDS)
        try:
            frames, size, seconds = await _read_snapshot(session, api)
        finally:
            done.set()
            others = await asking
    return {
        "frames": frames,
        "bytes": size,
        "seconds": seconds,
        "frames_a_second": frames / seconds,
        "others_asked": len(others),
        "others_longest_ms": max(others) * 1000,
        "others_p50_ms": percentile(others, 0.5) * 1000,
    }


async def _read_snapshot(session: aiohttp.ClientSession, api: str) -> tuple[int, int, float]:
    began, frames, size, tail = time.monotonic(), 0, 0, b""
    async with session.get(f"{api}/v1/channels/{CHANNEL}/feed") as answer:
        answer.raise_for_status()
        while chunk := await answer.content.read(_READ_BYTES):
            text = tail + chunk
            frames += text.count(_FRAME)
            size += len(chunk)
            if _END in text:
                return frames, size, time.monotonic() - began
            # A frame's name may be cut in two; what was counted is not counted again.
            tail = text[-(len(_END) - 1) :]
            frames -= tail.count(_FRAME)
    raise RuntimeError("the feed ended before it was synced")


def _ask_until(done: threading.Event, api: str) -> list[float]:
    """Seconds that each answer took, of a client that asks again and again."""
    seconds: list[float] = []
    address = urllib.parse.urlsplit(api)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SNAPSHOT_SECONDS_MAX)
    try:
        while not done.is_set() or not seconds:
            began = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            seconds.append(time.monotonic() - began)
            time.sleep(ASK_SECONDS)
    finally:
        connection.close()
    return seconds


async def pages(api: str, skus: int) -> dict[str, Any]:
    """Pages of one channel's stock, at the beginning of the list and at its end. Figures, ms."""
    names = sorted(sku_name(number) for number in range(skus))
    last = names[-LIMIT - 1] if skus > LIMIT else ""
    found: dict[str, Any] = {"limit": LIMIT}
    async with aiohttp.ClientSession() as session:
        for place, cursor in (("first", ""), ("last", last)):
            times: list[float] = []
            for _ in range(PAGES):
                began = time.monotonic()
                query = {"limit": str(LIMIT), "cursor": cursor}
                async with session.get(f"{api}/v1/channels/{CHANNEL}/stock", params=query) as answer:
                    answer.raise_for_status()
                    items = orjson.loads(await answer.read())["items"]
                times.append(time.monotonic() - began)
            if place == "last" and items[-1]["sku"] != names[-1]:
                raise RuntimeError(f"the last page ends with {items[-1]['sku']}, and the list with {names[-1]}")
            found |= {
                f"{place}_p50_ms": percentile(times, 0.5) * 1000,
                f"{place}_p99_ms": percentile(times, 0.99) * 1000,
            }
    return found
