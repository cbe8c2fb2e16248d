"""The steps, one after the other, on one shop: fill and audit, watch, lose a tail, restart, rebuild.

In: a plan and a folder. Out: notes.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis

from bench.orders import send_all
from bench.rates import measure_rate
from bench.size import channel_reads, commands, outage
from bench.size.figures import RESTART_SECONDS_MAX, tell_audit, tell_filling, tell_redos, tell_worker_memory
from bench.size.report import SizeReport
from bench.size.seeding import SeedDurations, Seeder, held_orders, receipts
from bench.size.stage import APP_ID, SizeServers, StocktideProcess, servers
from bench.size.traffic import OrderTraffic
from stocktide.tables.ledger.connection import connect

# How much of the shop there is when an audit is run: three points tell whether its time grows with the size.
SHARES = (0.1, 0.5, 1.0)
# One sample of an outage says little: it depends on what was under way.
REDOS = 3
# A worker compares all rows after it became ready, in a quarter of its time.
COMPARED = re.compile(r"compared (\d+) rows of")
COMPARE_SECONDS_MAX = 1_800.0
# A backlog of some seconds, and the few SKUs that its rate is compared with.
RATE_ORDERS, FEW_SKUS = 60_000, 1_000


class SizePlan(Struct, frozen=True):
    """What is asked for. `rate`: orders a second while things fail."""

    skus: int
    orders: int
    rate: int


class SizeBenchmark:
    """One shop, and what is done with it."""

    def __init__(self, plan: SizePlan, stage: SizeServers, redis: Redis, notes: SizeReport) -> None:
        self._plan = plan
        self._stage = stage
        self._redis = redis
        self._notes = notes
        self._worker = StocktideProcess(stage, "worker")
        self._seeding = Seeder(stage, self._worker, redis, notes)
        self._progress = stage.folder / "size.json"
        self._empty = 0  # bytes of a worker of an empty shop

    async def close(self) -> None:
        """End what runs."""
        await self._worker.stop()

    # 1 and 5: fill, and audit on the way

    async def fill(self) -> None:
        """Open the shop up to its size; what an earlier run filled is there already."""
        seconds = await self._worker.start()
        self._notes.say(f"a worker was ready after {seconds:.1f} s")
        there = json.loads(self._progress.read_text()) if self._progress.exists() else {"skus": 0, "orders": 0}
        if not there["skus"]:
            await self._seeding.know_channels()
            there["empty"] = self._worker.memory()[0]
        self._empty = there["empty"]
        grown = {"skus": 0, "orders": 0}
        took = {"skus": SeedDurations(), "orders": SeedDurations()}
        for share in SHARES:
            skus, orders = int(share * self._plan.skus), int(share * self._plan.orders)
            filled = False
            for what, last in (("skus", skus), ("orders", orders)):
                if there[what] >= last:
                    continue
                before = await self._used_memory()
                took[what] += await self._add(what, there[what], last, skus)
                grown[what] += await self._used_memory() - before
                there[what] = last
                self._progress.write_text(json.dumps(there))
                filled = True
            if filled:
                await self._audit(f"audit at {share:.0%}")
        if grown["skus"]:
            tell_filling(self._notes, {"skus": self._plan.skus, "orders": self._plan.orders}, took, grown)
            self._tell_worker_memory("after filling")

    async def _add(self, what: str, first: int, last: int, skus: int) -> SeedDurations:
        line = f"{last:,} {what}"
        if what == "skus":
            return await self._seeding.send("movements", receipts(first, last), line)
        return await self._seeding.send("orders", held_orders(first, last, skus), line)

    def _tell_worker_memory(self, when: str) -> None:
        tell_worker_memory(self._notes, self._worker, self._plan.skus, self._empty, when)

    async def _audit(self, name: str) -> None:
        self._notes.say(f"{name} …")
        tell_audit(self._notes, name, await commands.audit(self._stage, self._notes, name))

    # 6: subscribe and page

    async def watch(self, api: StocktideProcess) -> None:
        """A subscriber's snapshot, and pages."""
        ready = await api.start()
        now, peak = api.memory()
        self._notes.measured(
            "API, start to ready",
            f"{ready:.1f} s, {now / 1e6:,.0f} MB ({now / self._plan.skus:,.0f} bytes a SKU)",
            figures={"seconds": ready, "bytes": now, "peak_bytes": peak},
        )
        first = await channel_reads.snapshot(api.url)
        self._notes.check(first["frames"] == self._plan.skus, f"the snapshot held {first['frames']:,} updates")
        self._notes.measured(
            "SSE snapshot of one channel",
            f"{first['frames']:,} updates, {first['bytes'] / 1e6:,.0f} MB in {first['seconds']:.2f} s "
            f"({first['frames_a_second']:,.0f}/s); others waited {first['others_longest_ms']:.0f} ms at the most "
            f"(p50 {first['others_p50_ms']:.1f} ms)",
            figures=first,
        )
        found = await channel_reads.pages(api.url, self._plan.skus)
        self._notes.measured(
            f"page of {found['limit']} SKUs, the last : the first",
            f"p50 {found['last_p50_ms']:.1f} ms : {found['first_p50_ms']:.1f} ms "
            f"(p99 {found['last_p99_ms']:.1f} : {found['first_p99_ms']:.1f})",
            figures=found,
        )

    # 7: the rate of a large shop

    async def rate(self) -> None:
        """Orders a second of a backlog, over all SKUs and over a thousand of the same shop."""
        rates: dict[int, float] = {}
        for skus in (self._plan.skus, FEW_SKUS):
            await self._worker.stop()
            orders = held_orders(0, RATE_ORDERS, skus, f"rate{skus}-{secrets.token_hex(3)}")
            await send_all(self._stage.kafka.address, f"{APP_ID}-orders", self._stage.settings().partitions, orders)
            await self._worker.start()
            rates[skus] = await measure_rate(self._seeding.decided, RATE_ORDERS)
            await self._seeding.rest(f"a backlog over {skus:,} SKUs")
        many, few = rates[self._plan.skus], rates[FEW_SKUS]
        self._notes.measured(
            f"orders over {self._plan.skus:,} SKUs : over {FEW_SKUS:,} of them",
            f"{many / few:.2f}  ({many:,.0f}/s : {few:,.0f}/s)",
            goal=">= 0.80",
            met=many >= 0.8 * few,
            figures={"many_a_second": many, "few_a_second": few},
        )

    # 2: redo

    async def lose_tail(self, api: StocktideProcess) -> None:
        """Redis dies and comes back without its tail, under orders of both doors; some times in a row."""
        tell_redos(self._notes, [await self._lose_tail_once(api, number) for number in range(REDOS)])

    async def _lose_tail_once(self, api: StocktideProcess, number: int) -> dict[str, Any]:
        notes, what = self._notes, f"redo {number + 1} of {REDOS}"
        traffic = self._traffic(f"redo{number}", api)
        async with traffic.going():
            found = await outage.lose_tail(self._stage, self._worker, traffic, notes)
        await self._redis.connection_pool.disconnect()  # those of a server that is gone
        await self._seeding.rest(what)
        lost = await traffic.lost(lambda order_id: _order(api, order_id))
        notes.check(not lost, f"{what}: {len(lost)} orders are lost or changed: {', '.join(lost[:5])}")
        notes.check(not traffic.strange, f"{what}: strange answers: {'; '.join(traffic.strange[:5])}")
        return {
            **found,
            "told": len(traffic.told),
            "by_kafka": len(traffic.taken),
            "lost": len(lost),
            "longest_answer_seconds": traffic.longest_seconds,
        }

    def _traffic(self, what: str, api: StocktideProcess | None) -> OrderTraffic:
        # A name of its own: on a shop that is used again the same orders would be repeats.
        prefix = f"{what}-{secrets.token_hex(3)}"
        return OrderTraffic(
            self._stage.kafka.address, api.url if api else None, self._plan.rate, self._plan.skus, prefix
        )

    # 3: restarts

    async def restart(self) -> None:
        """The worker is told to stop, killed, and started with nothing; the first two under orders from Kafka."""
        for how in ("SIGTERM", "SIGKILL"):
            async with self._traffic(how.lower(), None).going():
                end = {"SIGTERM": self._worker.stop, "SIGKILL": self._worker.kill}[how]
                stopped = await end()
                await self._tell_restart(f"worker restart after {how}, under orders", {"stop_seconds": stopped})
            await self._seeding.rest(how)
        self._notes.say("the worker compares what it finds with what was published …")
        compared = await self._worker.logged(COMPARED, COMPARE_SECONDS_MAX)
        self._tell_worker_memory(f"after a restart and {int(compared.group(1)):,} rows compared")
        await self._worker.stop()
        shutil.rmtree(self._stage.folder / "data" / "tables")
        await self._tell_restart("worker start with empty tables", {})
        await self._seeding.rest("empty tables")

    async def _tell_restart(self, name: str, figures: dict[str, Any]) -> None:
        seconds = await self._worker.start()
        self._notes.measured(
            name,
            f"{seconds:.1f} s to ready",
            goal="<= 60 s",
            met=seconds <= RESTART_SECONDS_MAX,
            figures={"seconds": seconds, **figures},
        )

    # 4: rebuild

    async def rebuild(self) -> None:
        """By command, from the whole journal and from the rows; by a worker."""
        await self._rebuild_by_command("rebuild from the whole journal")
        await self._worker.start()
        passed = await commands.write_all_anew(self._stage, self._notes)
        await self._seeding.rest("writing every row anew")
        self._notes.measured(
            "every row written anew, as fast as it goes",
            f"{passed['seconds']:.0f} s, {passed['pages']:,} pages",
            figures=passed,
        )
        await self._rebuild_by_command("rebuild from the rows")
        await self._worker.start()
        name = "rebuild by a worker, from FLUSHALL to blessed"
        found = await commands.rebuilt_by_worker(self._stage, self._notes, name)
        self._notes.measured(
            name, f"{found['keys']:,} keys in {found['seconds']:.1f} s ({found['keys_a_second']:,.0f}/s)", figures=found
        )
        await self._seeding.rest(name)
        self._tell_worker_memory("after a rebuild")
        await self._audit("audit after all that")

    async def _rebuild_by_command(self, name: str) -> None:
        await self._worker.stop()
        found = await commands.rebuild(self._stage, self._notes, name)
        if "keys" in found:
            self._notes.measured(
                name,
                f"{found['keys']:,.0f} keys in {found['rebuild_seconds']:.1f} s ({found['keys_a_second']:,.0f}/s), "
                f"with both digests {found['with_digests_seconds']:.1f} s; "
                f"digests {'equal' if found['equal'] else 'DIFFERENT'}",
                figures=found,
            )

    async def _used_memory(self) -> int:
        return int((await self._redis.info("memory"))["used_memory"])


async def _order(api: StocktideProcess, order_id: str) -> bytes | None:
    found = await api.ask(f"/v1/orders/{order_id}")
    return None if found is None else found.encode()


async def measure(plan: SizePlan, folder: Path, notes: SizeReport) -> None:
    """All steps."""
    notes.say(f"{plan.skus:,} SKUs in 3 warehouses for 5 channels, {plan.orders:,} open orders, in {folder}")
    async with servers(folder) as stage:
        notes.say("Kafka and Valkey serve")
        redis = connect(stage.valkey.url)
        shop, api = SizeBenchmark(plan, stage, redis, notes), StocktideProcess(stage, "api")
        try:
            await shop.fill()
            await shop.watch(api)
            await shop.lose_tail(api)
            await api.stop()
            await shop.rate()
            await shop.restart()
            await shop.rebuild()
            _tell_disk(folder, plan, notes)
        finally:
            await redis.aclose()
            await api.stop()
            await shop.close()


def _tell_disk(folder: Path, plan: SizePlan, notes: SizeReport) -> None:
    sizes = {
        name: sum(file.stat().st_size for file in (folder / path).rglob("*") if file.is_file())
        for name, path in (("kafka", "kafka"), ("redis", "valkey"), ("tables", "data"))
    }
    notes.measured(
        "on the disk",
        ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in sizes.items()),
        figures={name: size / plan.skus for name, size in sizes.items()},
    )
