"""The metrics of an API process, for Prometheus.

In: each answered request; functions that are called for each scrape. Out: `GET /metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from stocktide.streams.exposition import FunctionCounter, make_registry
from stocktide.tables.settlement.stalls import StallMonitor, make_stall_gauges

# A durable response takes a few ms; the deadline of a request is some seconds.
SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)

# Clients choose methods, and each label costs memory.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class ApiMetrics:
    """The metrics of one process, in their own registry."""

    def __init__(self) -> None:
        self._registry = make_registry()
        self._requests = Counter(
            "stocktide_api_requests",
            "Answered requests",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "stocktide_api_request_duration_seconds",
            "From a request's head to its answer",
            ("route",),
            buckets=SECONDS_BUCKETS,
            registry=self._registry,
        )
        # A cache: the lookup by labels costs more than counting.
        self._children: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}
        self._refresh: Callable[[], None] = lambda: None
        # Called with each answered request, as it was counted.
        self.listener: Callable[[str, str, int, float | None], None] = lambda *_: None

    def watch(self, numbers: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        """Register numbers: by name, the help text and the function of the value. What ends in `_total` is a counter,
        any other is a gauge."""
        for name, (text, number) in numbers.items():
            if name.endswith("_total"):
                FunctionCounter(self._registry, f"stocktide_api_{name.removesuffix('_total')}", text, number)
            else:
                Gauge(f"stocktide_api_{name}", text, registry=self._registry).set_function(number)

    def register_stall_gauges(self, stalls: StallMonitor) -> None:
        """Register the gauges of stalls, refreshed for each scrape."""
        gauges = make_stall_gauges(self._registry)
        self._refresh = lambda: stalls.show(*gauges)

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count one request; `seconds` is None for a stream, whose duration is no latency."""
        if method not in METHODS:
            method = "other"
        child = self._children.get((method, route, status))
        if child is None:
            child = self._requests.labels(method, route, str(status))
            self._children[method, route, status] = child
        child.inc()
        self.listener(method, route, status, seconds)
        if seconds is None:
            return
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = self._seconds.labels(route)
        timer.observe(seconds)

    async def get(self, request: web.Request) -> web.Response:
        """`GET /metrics`."""
        self._refresh()
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
