"""The worker's own endpoint: `/healthz`, `/readyz`, `/metrics`. No data is served here."""

from __future__ import annotations

import json
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# A probe that waits to be accepted; there are two or three.
_BACKLOG = 16


class WorkerEndpoint:
    """`troubles` says why the worker is not ready, nothing where it is; `refresh` brings the gauges up to date."""

    def __init__(
        self, registry: CollectorRegistry, troubles: Callable[[], list[str]], refresh: Callable[[], None]
    ) -> None:
        self._registry = registry
        self._troubles = troubles
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port. Raises OSError."""
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
