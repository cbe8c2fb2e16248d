"""Two rows that look from outside: two thousand subscribers on one API process, and a start to ready.

In: the stage. Out: rows of the table.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bench import servers as stages
from bench.orders import CHANNELS, KeyValue, encode_order, send_all
from bench.rows import SKUS, BenchmarkRow
from bench.servers import BenchServers
from stocktide.retry import poll_until

SUBSCRIBERS = 2_000
# SKUs that change while all look on, each so often; the last change leaves 7 units.
CHANGED, CHANGES = 50, 20
LAST_UNITS = 7
READY_SECONDS_MAX = 120.0
START_SECONDS_GOAL = 10.0


async def subscribers(stage: BenchServers, app_id: str) -> BenchmarkRow:
    """Every subscriber gets the whole snapshot, then what changes, and ends with the last number of each SKU."""
    await stages.receive_opening_stock(stage, app_id, SKUS)
    settings = stage.settings(app_id)
    async with stages.worker(stage, app_id) as worker, stages.api(stage, app_id) as port:
        before = await stages.count_settled_events(worker)
        await send_all(stage.kafka, f"{app_id}-orders", settings.partitions, first_orders())

        async def known() -> bool:
            return await stages.count_settled_events(worker) >= before + len(CHANNELS)

        await poll_until(known, READY_SECONDS_MAX)
        await asyncio.sleep(3.0)  # the channels' first updates, published by then
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "bench.subscribers", str(port), str(SUBSCRIBERS), ",".join(CHANNELS), str(len(SKUS)), str(CHANGED)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None and child.stdout is not None
        synced = json.loads(await child.stdout.readline())
        await send_all(stage.kafka, f"{app_id}-movements", settings.partitions, counts())
        child.stdin.write(b"changed\n")
        found = {**synced, **json.loads(await child.stdout.readline())}
        await child.wait()
    met = found["converged"] == found["whole"] == SUBSCRIBERS and found["same"]
    return BenchmarkRow(
        f"{SUBSCRIBERS:,} subscribers on one API process",
        f"{found['converged']:,} converged {found['converged_seconds']:.1f} s after {CHANGED * CHANGES:,} changes; "
        f"{found['whole']:,} snapshots of {len(SKUS):,} SKUs in {found['synced_seconds']:.1f} s",
        "every one converges",
        met,
    )


def first_orders() -> Iterator[KeyValue]:
    """One of each channel, of a SKU that does not change: so the channels are known."""
    for channel in CHANNELS:
        yield channel.encode(), encode_order(f"known-{channel}", channel, SKUS[-1])


def counts() -> Iterator[KeyValue]:
    """Counts of the warehouse that leave less and less; the others are counted empty first."""
    skus = SKUS[:CHANGED]
    for number in range(CHANGES):
        left = LAST_UNITS + CHANGES - 1 - number
        for warehouse, units in (("BJ1", 0), ("GZ1", 0), ("SH1", left)):
            if units or not number:
                yield warehouse.encode(), _count(f"count-{number}", warehouse, skus, units)


def _count(name: str, warehouse: str, skus: list[str], units: int) -> bytes:
    return orjson.dumps(
        {
            "type": "stock.counted",
            "id": name,
            "occurred_at": datetime.now(UTC).isoformat(),
            "warehouse": warehouse,
            "lines": [{"sku": sku, "quantity": units} for sku in skus],
        }
    )


async def start() -> BenchmarkRow:
    """`stocktide up` on an empty folder, until its ready file is there."""
    with tempfile.TemporaryDirectory(prefix="stocktide-start-") as folder:
        ready = Path(folder) / "ready.json"
        arguments = ("stocktide", "up", "--data", f"{folder}/data", "--port", "0", "--ready-file", str(ready))
        began = time.monotonic()
        async with stages.process(*arguments, environ={}, log=Path(folder) / "up.log"):

            async def is_ready() -> bool:
                return ready.exists()

            await poll_until(is_ready, READY_SECONDS_MAX)
            seconds = time.monotonic() - began
    return BenchmarkRow(
        "`stocktide up`, start to ready (jars cached)", f"{seconds:.1f} s", "<= 10 s", seconds <= START_SECONDS_GOAL
    )
