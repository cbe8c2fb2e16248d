"""Stocktide's commands of operation, as a person runs them, measured: `audit` and `rebuild`.

In: a shop. Out: seconds and what they print. Also the pass that writes every row anew, which a worker spreads over half
a day and here is driven as fast as it goes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

from bench.size.outage import wait_until_blessed
from bench.size.report import SizeReport
from bench.size.stage import APP_ID, SizeServers
from stocktide.tables.audit.digest import digest_of_redis
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.listener import SettlementListener

# As many as the worker takes where there are most.
PAGE_KEYS = 500
PAGE_SECONDS_MAX = 30.0
DAY_MS = 86_400_000

_RATE = re.compile(r"([\d,]+) keys in ([\d.]+) s, ([\d,]+) a second")
_DIGEST = re.compile(r"^(log|Redis) +(\d+)  ([0-9a-f]+)$", re.MULTILINE)


async def run(stage: SizeServers, *arguments: str) -> tuple[int, str, float]:
    """Run `stocktide …`: exit status, standard output, seconds. What it says beside goes to a log."""
    began = time.monotonic()
    with (stage.folder / "commands.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stocktide", *arguments),
            env=stage.environ(),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        output, _ = await child.communicate()
    return child.returncode or 0, output.decode(), time.monotonic() - began


async def audit(stage: SizeServers, notes: SizeReport, what: str) -> dict[str, Any]:
    """Figures of an audit; a drift is a broken promise."""
    status, output, seconds = await run(stage, "audit", "--json")
    notes.check(status == 0, f"{what}: the audit ended with status {status}: {output[:500] or 'see commands.log'}")
    if not output:
        return {"status": status, "total_seconds": seconds}
    report = json.loads(output)
    keys = report["looked_at"]["redis_keys"]
    return {
        "status": status,
        "from_the_beginning": report["from_the_beginning"],
        "total_seconds": seconds,
        "keys": keys,
        "keys_a_second": keys / seconds,
        "memory_bytes": report["memory_bytes"],
        "bytes_a_key": report["memory_bytes"] / max(keys, 1),
        "seconds": report["seconds"],
        "looked_at": report["looked_at"],
    }


async def rebuild(stage: SizeServers, notes: SizeReport, what: str) -> dict[str, Any]:
    """`FLUSHALL`, then `stocktide rebuild`, while no worker runs. Figures; unequal digests are a broken promise."""
    redis = connect(stage.valkey.url)
    try:
        before = await digest_of_redis(redis, APP_ID)
        notes.say(f"{what}: FLUSHALL of {before.keys:,} keys, then `stocktide rebuild`")
        await redis.flushall(asynchronous=True)
        status, output, seconds = await run(stage, "rebuild")
        after = await digest_of_redis(redis, APP_ID)
    finally:
        await redis.aclose()
    digests = {name: digest for name, _, digest in _DIGEST.findall(output)}
    equal = status == 0 and len(digests) == 2 and len(set(digests.values())) == 1 and before == after
    notes.check(equal, f"{what}: status {status}, {before.hex()} before and {after.hex()} after:\n{output}")
    found = _RATE.search(output)
    if found is None:
        return {"status": status, "total_seconds": seconds}
    keys, took, rate = (float(each.replace(",", "")) for each in found.groups())
    return {"status": status, "keys": keys, "rebuild_seconds": took, "keys_a_second": rate,
            "with_digests_seconds": seconds, "equal": equal}  # fmt: skip


async def rebuilt_by_worker(stage: SizeServers, notes: SizeReport, what: str) -> dict[str, Any]:
    """`FLUSHALL` under a worker, which notices and brings everything back. Figures."""
    redis = connect(stage.valkey.url)
    try:
        before, keys = await digest_of_redis(redis, APP_ID), await redis.dbsize()
        notes.say(f"{what}: FLUSHALL of {keys:,} keys under a worker")
        began = time.monotonic()
        await redis.flushall(asynchronous=True)
        await wait_until_blessed(redis)
        seconds = time.monotonic() - began
        after = await digest_of_redis(redis, APP_ID)
    finally:
        await redis.aclose()
    notes.check(before == after, f"{what}: {before.hex()} before and {after.hex()} after")
    return {"keys": keys, "seconds": seconds, "keys_a_second": keys / seconds, "equal": before == after}


async def write_all_anew(stage: SizeServers, notes: SizeReport) -> dict[str, Any]:
    """A whole pass, as the caller that the worker is to the ledger. Figures."""
    redis = connect(stage.valkey.url)
    settlements = SettlementListener(redis, APP_ID)
    settlements.start()
    submitter = Submitter(Ledger(redis, APP_ID, LedgerLimits()), settlements)
    began, pages = time.monotonic(), 0
    try:
        while True:
            command = Restate(keys_max=PAGE_KEYS, every_ms=DAY_MS)
            deadline = asyncio.get_running_loop().time() + PAGE_SECONDS_MAX
            result = (await submitter.answer((command,), deadline)).results[0]
            pages += 1
            if result.outcome != Outcome.RESTATED or (result.detail or "").startswith(("ended", "whole")):
                break
            notes.say_sometimes(f"writing every row anew: {pages:,} pages of {PAGE_KEYS} keys")
    finally:
        await settlements.stop()
        await redis.aclose()
    return {"pages": pages, "seconds": time.monotonic() - began}
