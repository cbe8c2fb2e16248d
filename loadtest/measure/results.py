"""The results of a load test, for the report, the comparison and programs.

In: nothing. Out: frozen records, written as JSON by `encode` and read by `decode`. Times are s since the start of the
load unless a name says otherwise; latencies are ms from the scheduled time.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

# Incremented when a field changes its meaning; `compare` refuses another format.
FORMAT = 1
# Exit statuses.
KEPT, BROKEN, INVALID = 0, 1, 2


class Latencies(Struct, frozen=True):
    """A distribution: `count` values and percentiles in ms; all 0 where nothing was counted."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class SecondSummary(Struct, frozen=True):
    """One second of the run, by the second in which a request was scheduled.

    `accepted` are orders held (201), `refused` a decision against them (409), `failed` everything else: 503, time-outs,
    lost connections. `lag` is the time from an event to its update at a subscriber. `late_sends` left the load
    generator late.
    """

    at: int
    scheduled: int = 0
    accepted: int = 0
    refused: int = 0
    failed: int = 0
    late_sends: int = 0
    accepted_ms: Latencies = Latencies()
    refused_ms: Latencies = Latencies()
    lag_ms: Latencies = Latencies()
    updates: int = 0
    errors: dict[str, int] = {}


class StockPoint(Struct, frozen=True):
    """The offer of a channel for a hot SKU at a time."""

    at: float
    quantity: int
    mode: str
    version: int


class HotSku(Struct, frozen=True):
    """A hot SKU: its units at the start, and the published offers by channel, in order."""

    sku: str
    units: int
    channels: dict[str, tuple[StockPoint, ...]] = {}


class ResourceSample(Struct, frozen=True):
    """The use of a process at a time: CPU in percent of one core, resident memory in bytes."""

    at: float
    cpu_percent: float
    memory_bytes: int


class ProcessUsage(Struct, frozen=True):
    """A process over the run; `name` is worker, api, kafka, redis, tester-1, …"""

    name: str
    pid: int
    points: tuple[ResourceSample, ...] = ()


class ReportedViolation(Struct, frozen=True):
    """A broken promise: the checker's name, a sentence, and its evidence, a line each."""

    checker: str
    promise: int
    what: str
    evidence: tuple[str, ...] = ()


class RunVerdict(Struct, frozen=True):
    """The verdict. `kept`: no checker found a violation. `valid`: the run supports its figures; else `why_invalid`.

    `limit` is `system`, `tester` (the load generator) or `none`. `notes` are sentences.
    """

    kept: bool
    valid: bool
    limit: str
    checked: dict[str, int] = {}
    violations: tuple[ReportedViolation, ...] = ()
    why_invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The exit status: 1 where a promise was broken, 2 where the run is not valid, else 0."""
        return BROKEN if not self.kept else KEPT if self.valid else INVALID


class LoadTestResults(Struct, frozen=True):
    """A whole run. `settings`: the options, with the `seed`; `machine`: the hardware and its load.

    `ladder`: the steps of a rate search, each with its rate, `kept`, and latencies.
    """

    settings: dict[str, Any]
    machine: dict[str, Any]
    started_at: str
    load_seconds: float
    verdict: RunVerdict
    totals: dict[str, int]
    accepted_ms: Latencies
    refused_ms: Latencies
    lag_ms: Latencies
    moments: tuple[SecondSummary, ...]
    hot: tuple[HotSku, ...] = ()
    processes: tuple[ProcessUsage, ...] = ()
    errors: dict[str, int] = {}
    ladder: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT


def encode(results: LoadTestResults) -> bytes:
    """The results as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1)


def decode(raw: bytes) -> LoadTestResults:
    """Results from JSON. Raises msgspec.ValidationError, whose text names the path."""
    return msgspec.json.decode(raw, type=LoadTestResults)
