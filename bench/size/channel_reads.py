"""A snapshot and pages of one channel in a large shop.

In: a ready API. Out: seconds, frames and bytes of a snapshot; the latency of other requests meanwhile; the latency of
pages at the beginning and at the end of the list.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
import urllib.parse

import aiohttp

from bench.load import percentile
from bench.orders import CHANNELS, sku_name
from bench.report import Report
from stocktide.client.http import key_headers
from stocktide.loadtest.client.http import StocktideClient

CHANNEL = CHANNELS[0]
SNAPSHOT_SECONDS_MAX = 600.0
LIMIT = 500
PAGES = 50
# The interval of the other requests during a snapshot.
REQUEST_SECONDS = 0.005
# They start before the snapshot, so that one is pending when it starts.
BEFORE_SECONDS = 0.5
_FRAME, _END = b"event: stock", b"event: synced"
_READ_BYTES = 1024 * 1024


async def measure_snapshot(api: str, skus: int, report: Report) -> None:
    """Subscribe as a new client, until `synced`; adds a row."""
    done = threading.Event()
    # In a thread: the reader keeps this loop busy.
    requesting = asyncio.create_task(asyncio.to_thread(_request_until, done, api))
    timeout = aiohttp.ClientTimeout(total=SNAPSHOT_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, headers=key_headers()) as session:
        await asyncio.sleep(BEFORE_SECONDS)
        try:
            frames, size, seconds = await _read_snapshot(session, api)
        finally:
            done.set()
            latencies = await requesting
    longest_ms, p50_ms = max(latencies) * 1000, percentile(latencies, 0.5) * 1000
    report.check(frames == skus, f"the snapshot held {frames:,} updates")
    report.add(
        "SSE snapshot of one channel",
        f"{frames:,} updates, {size / 1e6:,.0f} MB in {seconds:.2f} s ({frames / seconds:,.0f}/s); "
        f"other requests took {longest_ms:.0f} ms at most (p50 {p50_ms:.1f} ms)",
        figures={
            "frames": frames,
            "bytes": size,
            "seconds": seconds,
            "others": len(latencies),
            "others_longest_ms": longest_ms,
            "others_p50_ms": p50_ms,
        },
    )


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
            # The name of a frame may be split over two chunks.
            tail = text[-(len(_END) - 1) :]
            frames -= tail.count(_FRAME)
    raise RuntimeError("the feed ended before it was synced")


def _request_until(done: threading.Event, api: str) -> list[float]:
    """The latency (s) of each of a series of requests."""
    seconds: list[float] = []
    address = urllib.parse.urlsplit(api)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SNAPSHOT_SECONDS_MAX)
    try:
        while not done.is_set() or not seconds:
            began = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            seconds.append(time.monotonic() - began)
            time.sleep(REQUEST_SECONDS)
    finally:
        connection.close()
    return seconds


async def measure_pages(api: str, skus: int, report: Report) -> None:
    """Pages of one channel's stock, at the beginning of the list and at its end; adds a row."""
    names = sorted(sku_name(number) for number in range(skus))
    last = names[-LIMIT - 1] if skus > LIMIT else ""
    found: dict[str, float] = {}
    async with StocktideClient(api, 1) as client:
        for place, cursor in (("first", ""), ("last", last)):
            times: list[float] = []
            for _ in range(PAGES):
                began = time.monotonic()
                page = await client.channel_stock_page(CHANNEL, cursor, LIMIT)
                times.append(time.monotonic() - began)
            if place == "last" and page.items[-1].sku != names[-1]:
                raise RuntimeError(f"the last page ends with {page.items[-1].sku}, and the list with {names[-1]}")
            found |= {
                f"{place}_p50_ms": percentile(times, 0.5) * 1000,
                f"{place}_p99_ms": percentile(times, 0.99) * 1000,
            }
    report.add(
        f"page of {LIMIT} SKUs, the last : the first",
        f"p50 {found['last_p50_ms']:.1f} ms : {found['first_p50_ms']:.1f} ms "
        f"(p99 {found['last_p99_ms']:.1f} : {found['first_p99_ms']:.1f})",
        figures=found,
    )
