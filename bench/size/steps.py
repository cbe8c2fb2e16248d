"""The steps of the size benchmark on one shop: fill and audit, read, lose a tail, restart, rebuild.

In: a plan and a folder. Out: rows of the report.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from bench.load import measure_rate
from bench.orders import send_all
from bench.report import Report
from bench.servers import BenchedProcess, BenchServers, run_servers
from bench.size import channel_reads, commands, outage
from bench.size.outage import REQUESTS_MAX, OrderTraffic
from bench.size.seeding import APP_ID, SeedDurations, Seeder, held_orders, receipts, report_filling
from stocktide.loadtest.client.http import StocktideClient
from stocktide.tables.ledger.connection import connect

# The shares of the shop at which an audit runs: three points show how its duration grows.
SHARES = (0.1, 0.5, 1.0)
# The duration of an outage varies with the work in progress.
REDOS = 3
# After a start a worker compares all rows, in a quarter of its time.
COMPARED = re.compile(r"compared (\d+) rows of")
COMPARE_SECONDS_MAX = 1_800.0
# A backlog of some seconds, over all SKUs and over a few of them.
RATE_ORDERS, FEW_SKUS = 60_000, 1_000
RESTART_SECONDS_MAX, WORKER_BYTES_A_SKU_MAX = 60.0, 2048
# For 1,000,000 SKUs in 5 channels.
API_READY_SECONDS_MAX, API_BYTES_A_SKU_MAX = 20.0, 1200


class SizePlan(Struct, frozen=True):
    """The size of the shop. `rate`: orders a second while servers and processes fail."""

    skus: int
    orders: int
    rate: int


class SizeBenchmark:
    """The steps, in the order of their methods."""

    def __init__(self, plan: SizePlan, servers: BenchServers, redis: Redis, report: Report) -> None:
        self._plan = plan
        self._servers = servers
        self._redis = redis
        self._report = report
        self.worker = BenchedProcess(servers, APP_ID, "worker")
        self._seeder = Seeder(servers, self.worker, redis, report)
        self._progress = servers.folder / "size.json"
        self._empty_bytes = 0  # memory of a worker of an empty shop

    async def fill(self) -> None:
        """Fill the shop to its size, from the state of an earlier run; audit at each share."""
        seconds = await self.worker.start()
        self._report.log(f"a worker was ready after {seconds:.1f} s")
        there = json.loads(self._progress.read_text()) if self._progress.exists() else {"skus": 0, "orders": 0}
        if not there["skus"]:
            await self._seeder.register_channels()
            there["empty"] = self.worker.memory()[0]
        self._empty_bytes = there["empty"]
        grown = {"skus": 0, "orders": 0}
        took: dict[str, SeedDurations] = {"skus": (0.0, 0.0), "orders": (0.0, 0.0)}
        for share in SHARES:
            skus, orders = int(share * self._plan.skus), int(share * self._plan.orders)
            filled = False
            for what, last in (("skus", skus), ("orders", orders)):
                if there[what] >= last:
                    continue
                before = await self._used_memory()
                decided, rest = await self._add(what, there[what], last, skus)
                took[what] = took[what][0] + decided, took[what][1] + rest
                grown[what] += await self._used_memory() - before
                there[what] = last
                self._progress.write_text(json.dumps(there))
                filled = True
            if filled:
                await commands.audit(self._servers, self._report, f"audit at {share:.0%}")
        if grown["skus"]:
            report_filling(self._report, {"skus": self._plan.skus, "orders": self._plan.orders}, took, grown)
            self._report_worker_memory("after filling")

    async def _add(self, what: str, first: int, last: int, skus: int) -> SeedDurations:
        line = f"{last:,} {what}"
        if what == "skus":
            return await self._seeder.send("movements", receipts(first, last), line)
        return await self._seeder.send("orders", held_orders(first, last, skus), line)

    def _report_worker_memory(self, when: str) -> None:
        now, peak = self.worker.memory()
        empty = self._empty_bytes
        each = (now - empty) / self._plan.skus
        self._report.add(
            f"worker {when}, memory per SKU",
            f"{each:,.0f} bytes ({now / 1e6:,.0f} MB, {peak / 1e6:,.0f} at the most; {empty / 1e6:,.0f} when empty)",
            goal="<= 2 KB",
            met=each <= WORKER_BYTES_A_SKU_MAX,
            figures={"bytes": now, "peak_bytes": peak, "empty_bytes": empty},
        )

    async def read(self, api: BenchedProcess) -> None:
        """The snapshot of a subscriber, and pages."""
        ready = await api.start()
        now, peak = api.memory()
        each = now / self._plan.skus
        self._report.add(
            "API, start to ready",
            f"{ready:.1f} s, {now / 1e6:,.0f} MB ({each:,.0f} bytes a SKU)",
            goal="<= 20 s, <= 1.2 KB a SKU",
            met=ready <= API_READY_SECONDS_MAX and each <= API_BYTES_A_SKU_MAX,
            figures={"seconds": ready, "bytes": now, "peak_bytes": peak},
        )
        await channel_reads.measure_snapshot(api.url, self._plan.skus, self._report)
        await channel_reads.measure_pages(api.url, self._plan.skus, self._report)

    async def rate(self) -> None:
        """Orders a second of a backlog, over all SKUs and over a thousand of them."""
        rates: dict[int, float] = {}
        for skus in (self._plan.skus, FEW_SKUS):
            await self.worker.stop()
            orders = held_orders(0, RATE_ORDERS, skus, f"rate{skus}-{secrets.token_hex(3)}")
            await send_all(
                self._servers.kafka.address, f"{APP_ID}-orders", self._servers.settings(APP_ID).partitions, orders
            )
            await self.worker.start()
            rates[skus] = await measure_rate(self.worker.count_settled_events, RATE_ORDERS)
            await self._seeder.wait_until_idle(f"a backlog over {skus:,} SKUs")
        many, few = rates[self._plan.skus], rates[FEW_SKUS]
        figures = {"many_a_second": many, "few_a_second": few}
        self._report.ratio(f"orders over {self._plan.skus:,} SKUs : over {FEW_SKUS:,} of them", many, few, 0.8, figures)

    async def lose_tail(self, api: BenchedProcess) -> None:
        """Kill Redis and lose its tail, under orders by HTTP and Kafka; several times."""
        outage.report_redos(self._report, [await self._lose_tail_once(api, number) for number in range(REDOS)])

    async def _lose_tail_once(self, api: BenchedProcess, number: int) -> dict[str, Any]:
        report, what = self._report, f"redo {number + 1} of {REDOS}"
        traffic = self._traffic(f"redo{number}", api)
        async with traffic.run():
            found = await outage.lose_tail(self._servers, self.worker, traffic, report)
        await self._redis.connection_pool.disconnect()  # connections of the killed server
        await self._seeder.wait_until_idle(what)
        async with StocktideClient(api.url, REQUESTS_MAX) as client:
            lost = await traffic.lost(client.order)
        report.check(not lost, f"{what}: {len(lost)} orders are lost or changed: {', '.join(lost[:5])}")
        report.check(not traffic.unexpected, f"{what}: unexpected responses: {'; '.join(traffic.unexpected[:5])}")
        return {
            **found,
            "told": len(traffic.responses),
            "by_kafka": len(traffic.acknowledged_ids),
            "lost": len(lost),
            "longest_answer_seconds": traffic.longest_seconds,
        }

    def _traffic(self, what: str, api: BenchedProcess | None) -> OrderTraffic:
        # A random part: in a reused shop the same orders would be repeats.
        prefix = f"{what}-{secrets.token_hex(3)}"
        return OrderTraffic(
            self._servers.kafka.address, api.url if api else None, self._plan.rate, self._plan.skus, prefix
        )

    async def restart(self) -> None:
        """Stop, kill and restart the worker under orders by Kafka; then start it with empty tables."""
        for how in ("SIGTERM", "SIGKILL"):
            async with self._traffic(how.lower(), None).run():
                began = time.monotonic()
                await {"SIGTERM": self.worker.stop, "SIGKILL": self.worker.end_by_kill}[how]()
                figures = {"stop_seconds": time.monotonic() - began}
                await self._report_restart(f"worker restart after {how}, under orders", figures)
            await self._seeder.wait_until_idle(how)
        self._report.log("the worker compares its rows with the published ones …")
        compared = await self.worker.wait_for_log(COMPARED, COMPARE_SECONDS_MAX)
        self._report_worker_memory(f"after a restart and {int(compared.group(1)):,} rows compared")
        await self.worker.stop()
        shutil.rmtree(self._servers.settings(APP_ID).data / "tables")
        await self._report_restart("worker start with empty tables", {})
        await self._seeder.wait_until_idle("empty tables")

    async def _report_restart(self, name: str, figures: dict[str, Any]) -> None:
        seconds = await self.worker.start()
        self._report.add(
            name,
            f"{seconds:.1f} s to ready",
            goal="<= 60 s",
            met=seconds <= RESTART_SECONDS_MAX,
            figures={"seconds": seconds, **figures},
        )

    async def rebuild(self) -> None:
        """By command, from the whole journal and from the rows; then by a worker."""
        await self._rebuild_by_command("rebuild from the whole journal")
        await self.worker.start()
        await commands.restate_all(self._servers, self._report)
        await self._seeder.wait_until_idle("writing every row anew")
        await self._rebuild_by_command("rebuild from the rows")
        await self.worker.start()
        name = "rebuild by a worker, from FLUSHALL to blessed"
        await commands.rebuild_by_worker(self._servers, self._report, name)
        await self._seeder.wait_until_idle(name)
        self._report_worker_memory("after a rebuild")
        await commands.audit(self._servers, self._report, "audit after the rebuilds")

    async def _rebuild_by_command(self, name: str) -> None:
        await self.worker.stop()
        await commands.rebuild(self._servers, self._report, name)

    async def _used_memory(self) -> int:
        return int((await self._redis.info("memory"))["used_memory"])


async def measure(plan: SizePlan, folder: Path, report: Report) -> None:
    """All steps."""
    report.log(f"{plan.skus:,} SKUs in 3 warehouses for 5 channels, {plan.orders:,} open orders, in {folder}")
    async with run_servers(folder) as servers:
        await servers.create_topics(APP_ID)
        report.log("Kafka and Valkey are ready")
        api = BenchedProcess(servers, APP_ID, "api")
        async with connect(servers.valkey.url) as redis:
            benchmark = SizeBenchmark(plan, servers, redis, report)
            try:
                await benchmark.fill()
                await benchmark.read(api)
                await benchmark.lose_tail(api)
                await api.stop()
                await benchmark.rate()
                await benchmark.restart()
                await benchmark.rebuild()
                _report_disk(folder, plan, report)
            finally:
                await api.stop()
                await benchmark.worker.stop()


def _report_disk(folder: Path, plan: SizePlan, report: Report) -> None:
    sizes = {
        name: sum(file.stat().st_size for file in (folder / path).rglob("*") if file.is_file())
        for name, path in (("kafka", "kafka"), ("redis", "valkey"), ("tables", APP_ID))
    }
    report.add(
        "on the disk",
        ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items()),
        figures={name: size / plan.skus for name, size in sizes.items()},
    )
