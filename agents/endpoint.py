"""The worker's HTTP endpoint (`/healthz`, `/readyz`, `/metrics`), and the check of Redis's eviction policy for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stocktide.streams.shutdown import end
from stocktide.tables.ledger.connection import check_eviction_policy

# Connections that wait to be accepted: a few probes.
_BACKLOG = 16
# The interval of the check; INFO costs Redis some microseconds.
EVICTION_CHECK_SECONDS = 2.0


class WorkerEndpoint:
    """The HTTP server. `troubles` returns the reasons why the worker is not ready; `refresh` updates the gauges."""

    def __init__(
        self, registry: CollectorRegistry, troubles: Callable[[], list[str]], refresh: Callable[[], None]
    ) -> None:
        self._registry = registry
        self._troubles = troubles
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=_BACKLOG)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        troubles = self._troubles()
        body = json.dumps({"status": "not ready" if troubles else "ready", "reasons": troubles})
        return web.Response(text=body, status=503 if troubles else 200, content_type="application/json")

    async def _metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class EvictionMonitor:
    """Checks that Redis does not evict keys: an evicted counter is lost stock. `trouble` is the error or None."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._task: asyncio.Task[None] | None = None
        self.trouble: str | None = None

    def start(self) -> None:
        """Start to check every EVICTION_CHECK_SECONDS."""
        self._task = asyncio.create_task(self._run(), name="eviction")

    async def stop(self) -> None:
        """Stop checking."""
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):  # the relay reports that Redis does not answer
                self.trouble = await check_eviction_policy(self._redis)
            await asyncio.sleep(EVICTION_CHECK_SECONDS)
