"""The commands `audit` and `rebuild`, measured from outside.

In: a shop. Out: their duration and figures; also those of a complete restate pass, which a worker spreads over
half a day and which runs here without pauses.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time

from bench.report import Report
from bench.servers import BenchServers
from bench.size.outage import wait_until_blessed
from bench.size.seeding import APP_ID
from stocktide.tables.audit.redis_keys import digest_of_redis
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.listener import SettlementListener

# The largest page of the worker.
PAGE_KEYS = 500
PAGE_SECONDS_MAX = 30.0
DAY_MS = 86_400_000

_RATE = re.compile(r"([\d,]+) keys in ([\d.]+) s, ([\d,]+) a second")
_DIGEST = re.compile(r"^(log|Redis) +(\d+)  ([0-9a-f]+)$", re.MULTILINE)


async def run(servers: BenchServers, *arguments: str) -> tuple[int, str, float]:
    """Run `stocktide …`: exit status, standard output, seconds. Standard error goes to a log."""
    began = time.monotonic()
    with (servers.folder / "commands.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stocktide", *arguments),
            env={**os.environ, **servers.settings(APP_ID).as_environment()},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        output, _ = await child.communicate()
    return child.returncode or 0, output.decode(), time.monotonic() - began


async def audit(servers: BenchServers, report: Report, name: str) -> None:
    """Run an audit, and add its row; drift is a broken promise."""
    report.log(f"{name} …")
    status, output, seconds = await run(servers, "audit", "--json")
    report.check(status == 0, f"{name}: the audit ended with status {status}: {output[:500] or 'see commands.log'}")
    if not output:
        return
    found = json.loads(output)
    keys, memory = found["looked_at"]["redis_keys"], found["memory_bytes"]
    figures = {each: found[each] for each in ("from_the_beginning", "memory_bytes", "seconds", "looked_at")}
    report.add(
        name,
        f"{keys:,} keys in {seconds:.1f} s ({keys / seconds:,.0f}/s), "
        f"{memory / 1e6:,.0f} MB ({memory / max(keys, 1):,.0f} a key)",
        figures={**figures, "status": status, "total_seconds": seconds, "keys": keys},
    )


async def rebuild(servers: BenchServers, report: Report, name: str) -> None:
    """`FLUSHALL`, then `stocktide rebuild`, without a worker; adds its row. Unequal digests are a broken promise."""
    async with connect(servers.valkey.url) as redis:
        before = await digest_of_redis(redis, APP_ID)
        report.log(f"{name}: FLUSHALL of {before.keys:,} keys, then `stocktide rebuild`")
        await redis.flushall(asynchronous=True)
        status, output, seconds = await run(servers, "rebuild")
        after = await digest_of_redis(redis, APP_ID)
    digests = {side: digest for side, _, digest in _DIGEST.findall(output)}
    equal = status == 0 and len(digests) == 2 and len(set(digests.values())) == 1 and before == after
    report.check(equal, f"{name}: status {status}, {before.hex()} before and {after.hex()} after:\n{output}")
    found = _RATE.search(output)
    if found is None:
        return
    keys, took, rate = (float(each.replace(",", "")) for each in found.groups())
    report.add(
        name,
        f"{keys:,.0f} keys in {took:.1f} s ({rate:,.0f}/s), with both digests {seconds:.1f} s; "
        f"digests {'equal' if equal else 'DIFFERENT'}",
        figures={
            "status": status,
            "keys": keys,
            "rebuild_seconds": took,
            "keys_a_second": rate,
            "with_digests_seconds": seconds,
            "equal": equal,
        },
    )


async def rebuild_by_worker(servers: BenchServers, report: Report, name: str) -> None:
    """`FLUSHALL` under a worker, which detects it and rebuilds. Adds its row."""
    async with connect(servers.valkey.url) as redis:
        before, keys = await digest_of_redis(redis, APP_ID), await redis.dbsize()
        report.log(f"{name}: FLUSHALL of {keys:,} keys under a worker")
        began = time.monotonic()
        await redis.flushall(asynchronous=True)
        await wait_until_blessed(redis)
        seconds = time.monotonic() - began
        after = await digest_of_redis(redis, APP_ID)
    report.check(before == after, f"{name}: {before.hex()} before and {after.hex()} after")
    report.add(
        name,
        f"{keys:,} keys in {seconds:.1f} s ({keys / seconds:,.0f}/s)",
        figures={"keys": keys, "seconds": seconds, "equal": before == after},
    )


async def restate_all(servers: BenchServers, report: Report) -> None:
    """Submit the commands of one complete pass. Adds its row."""
    began, pages = time.monotonic(), 0
    async with connect(servers.valkey.url) as redis:
        settlements = SettlementListener(redis, APP_ID)
        settlements.start()
        submitter = Submitter(Ledger(redis, APP_ID, LedgerLimits()), settlements)
        try:
            while True:
                command = Restate(keys_max=PAGE_KEYS, every_ms=DAY_MS)
                deadline = asyncio.get_running_loop().time() + PAGE_SECONDS_MAX
                result = (await submitter.answer((command,), deadline)).results[0]
                pages += 1
                if result.outcome != Outcome.RESTATED or (result.detail or "").startswith(("ended", "whole")):
                    break
                report.log_progress(f"writing every row anew: {pages:,} pages of {PAGE_KEYS} keys")
        finally:
            await settlements.stop()
    seconds = time.monotonic() - began
    report.add(
        "every row written anew, as fast as it goes",
        f"{seconds:.0f} s, {pages:,} pages",
        figures={"pages": pages, "seconds": seconds},
    )
