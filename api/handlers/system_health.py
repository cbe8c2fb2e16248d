"""How all parts of the system are, and what this process did lately, over HTTP.

In: an observer, and the series of this process. Out: their documents.
"""

from __future__ import annotations

from aiohttp import web

from stocktide.api import problems
from stocktide.api.health.observer import SystemObserver
from stocktide.api.health.series import ProcessSeries


class SystemHealthHandlers:
    """The handlers of `/v1/health`."""

    def __init__(self, observer: SystemObserver, series: ProcessSeries) -> None:
        self._observer = observer
        self._series = series

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/health`."""
        return problems.json_response(await self._observer.health())

    async def series(self, request: web.Request) -> web.Response:
        """`GET /v1/health/series`."""
        return problems.json_response(self._series.shown())
