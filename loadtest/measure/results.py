"""What a load test found out, as it travels: from the run to the report, the comparison and whoever reads the JSON.

In: nothing. Out: frozen records, written as JSON by `encode` and read by `decode`. Times are s since the start of the
load unless a name says otherwise; latencies are ms from the scheduled time.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

# Raised when a field changes its meaning; `compare` refuses to mix.
FORMAT = 1


class Latencies(Struct, frozen=True):
    """A distribution: `count` values, and its percentiles in ms. All 0 where nothing was counted."""

    count: int = 0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class SecondSummary(Struct, frozen=True):
    """One second of the run, by the second in which a request was scheduled.

    `accepted` are orders held (201), `refused` a decision against them (409), `failed` everything else: 503, time-outs,
    lost connections. `lag` is event → update as subscribers saw it. `late_sends` were sent by the tester itself more
    than `RunVerdict` allows after their time.
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
    """What a channel could sell of a hot SKU at a time."""

    at: float
    quantity: int
    mode: str
    version: int


class HotSku(Struct, frozen=True):
    """A hot SKU: its units at the start, and by channel what was published, in order."""

    sku: str
    units: int
    channels: dict[str, tuple[StockPoint, ...]] = {}


class ResourceSample(Struct, frozen=True):
    """What a process used at a time: CPU in percent of one core, resident memory in bytes."""

    at: float
    cpu_percent: float
    memory_bytes: int


class ProcessUsage(Struct, frozen=True):
    """A process over the run; `name` says what it is: worker, api, kafka, redis, tester-1."""

    name: str
    pid: int
    points: tuple[ResourceSample, ...] = ()


class ReportedViolation(Struct, frozen=True):
    """A promise that was broken: the checker's name, and its evidence, a line each."""

    checker: str
    promise: int
    what: str
    evidence: tuple[str, ...] = ()


class RunVerdict(Struct, frozen=True):
    """`kept`: no promise was broken, by those checkers. `valid`: the run says what it seems to say; else `why_invalid`.

    `limit` is `system`, `tester` or `none`: what kept the rate from being higher. `notes` are plain sentences.
    """

    kept: bool
    valid: bool
    limit: str
    checked: dict[str, int] = {}
    violations: tuple[ReportedViolation, ...] = ()
    why_invalid: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class LoadTestResults(Struct, frozen=True):
    """A run, whole. `settings` are the options as given, `seed` among them; `machine` what it ran on.

    `ladder` is filled by the search for the highest rate: each step's rate, whether it kept the goal, its latencies.
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
    """As JSON, indented, for people too."""
    return msgspec.json.format(msgspec.json.encode(results), indent=1)


def decode(raw: bytes) -> LoadTestResults:
    """Read what `encode` wrote. Raises msgspec.ValidationError, whose text names the path."""
    return msgspec.json.decode(raw, type=LoadTestResults)
