"""Liveness and readiness.

In: named checks, each of which says what is wrong, or nothing. Out: `/healthz` (this process answers), `/readyz` (it
can do its work, else 503 with reasons), and word to the feeds when that changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.api import problems
from stocktide.api.feeds.consumer import ChannelStockConsumer
from stocktide.api.settled_reads import SettledReads
from stocktide.tables.ledger.client import Ledger, LedgerError
from stocktide.tables.ledger.connection import check_eviction_policy
from stocktide.tables.settlement.stalls import StallMonitor

# The cheapest read there is; every read goes through the same checks.
NO_ORDER = "-"

Check = Callable[[], Awaitable[str | None]]

# How often the feeds' subscribers may learn of a change.
WATCH_SECONDS = 1.0
# A check that takes longer is as good as failed: whoever balances load asks every few seconds.
CHECK_SECONDS_MAX = 2.0


class Readiness:
    """Runs the checks; `changed` is told the new status whenever readiness flips."""

    def __init__(self, checks: Mapping[str, Check], changed: Callable[[dict[str, Any]], None]) -> None:
        self._checks = checks
        self._changed = changed
        self._latest: dict[str, Any] = {"ready": False, "reasons": {"start": "not checked yet"}}

    @property
    def latest(self) -> dict[str, Any]:
        """The newest status: `{"ready", "reasons": {check: what is wrong}}`."""
        return self._latest

    def trouble(self) -> str | None:
        """Why it is not ready, as of the newest look; None where it is."""
        return "; ".join(self._latest["reasons"].values()) or None

    async def check(self) -> dict[str, Any]:
        """Run all checks at once, within CHECK_SECONDS_MAX."""
        found = await asyncio.gather(*(_bounded(check) for check in self._checks.values()))
        reasons = {name: reason for name, reason in zip(self._checks, found, strict=True) if reason is not None}
        before, self._latest = self._latest, {"ready": not reasons, "reasons": reasons}
        if before["ready"] != self._latest["ready"]:
            self._changed(self._latest)
        return self._latest

    async def watch(self) -> None:
        """Check again and again until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(WATCH_SECONDS)

    async def healthz(self, request: web.Request) -> web.Response:
        """`GET /healthz`: 200 for as long as the loop turns."""
        return problems.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """`GET /readyz`: 200, or 503 with reasons."""
        status = await self.check()
        return problems.json_response(status, 200 if status["ready"] else 503)


async def _bounded(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS_MAX:.0f} s"


def kafka_check(producer: AIOKafkaProducer) -> Check:
    """Whether a broker answers."""

    async def check() -> str | None:
        try:
            await producer.client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            return f"Kafka does not answer: {error}"
        return None

    return check


def redis_check(redis: Redis) -> Check:
    """Whether Redis answers, and never evicts: a counter that is dropped is stock that is lost."""

    async def check() -> str | None:
        try:
            return await check_eviction_policy(redis)
        except (RedisError, OSError) as error:
            return f"Redis does not answer: {error}"

    return check


def ledger_check(ledger: Ledger, reads: SettledReads) -> Check:
    """Whether the ledger is blessed, and what it decides is settled."""

    async def check() -> str | None:
        deadline = asyncio.get_running_loop().time() + 0.75 * CHECK_SECONDS_MAX
        try:
            await reads.settled(lambda: ledger.read_order(NO_ORDER), deadline)
        except TimeoutError:
            return "what was decided is not being settled: is a worker running?"
        except LedgerError as error:
            return f"the ledger decides nothing: {error}"
        except (RedisError, OSError) as error:
            return f"Redis does not answer: {error}"
        return None

    return check


def stalls_check(stalls: StallMonitor) -> Check:
    """Whether work has waited for long while nothing moved (rule 48)."""

    async def check() -> str | None:
        return "; ".join(stalls.sentences) or None

    return check


def feeds_check(source: ChannelStockConsumer) -> Check:
    """Whether the feeds hold all that was published before the start."""

    async def check() -> str | None:
        return None if source.complete.is_set() else "the feeds are still being read from channel-stock"

    return check
