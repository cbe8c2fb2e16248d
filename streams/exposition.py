"""What the metrics of every process have in common, for `agents.metrics` and `api.metrics`.

In: names and functions. Out: a registry that Prometheus may scrape, with the conventions of its names: `_total` for
counters, base units, `_info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


def make_registry() -> CollectorRegistry:
    """A registry with the version and the process's memory, CPU time and files. One per process of a system, so that
    tests can have several."""
    # As many rows again, which nothing of ours reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    info = Gauge("stocktide_build_info", "1, with the version", ["version"], registry=registry)
    info.labels(version("stocktide")).set(1)
    return registry


class FunctionCounter(Collector):
    """A counter that something else counts. `name` has no `_total`: the exposition adds it."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, number: Callable[[], float]) -> None:
        self._name = name
        self._text = text
        self._number = number
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The family with its one value."""
        yield CounterMetricFamily(self._name, self._text, value=self._number())
