"""The table and the JSON: a line for each contender, and the machine that it belongs to."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from bench.compare.rounds import KillResult, SpeedResult


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """What one contender did; `missing` says why there is nothing. `load_before`: the machine's load average of the
    last minute when it began; what others did meanwhile is in its figures."""

    name: str
    title: str
    store_death: str = ""
    missing: str = ""
    load_before: float = 0.0
    speed: SpeedResult | None = None
    process: KillResult | None = None
    store: KillResult | None = None


def table(results: list[ContenderResult]) -> Table:
    """One line for each; units unless it says otherwise."""
    made = Table(
        "way",
        "held/s\n1,000 SKUs",
        "held/s, a fifth\non one hot SKU",
        "p50 / p99 ms\nof those",
        "one caller\np50 ms",
        "its process killed:\noversold / lost / leaked, silent",
        "its store killed:\noversold / lost / leaked, silent",
        "the store",
        title="64 callers in a closed loop",
        show_lines=True,
    )
    for result in results:
        if result.missing:
            made.add_row(result.title, f"ABSENT: {result.missing}")
            continue
        assert result.speed is not None
        even, hot, lone = result.speed.even, result.speed.hot, result.speed.lone
        made.add_row(
            result.title,
            f"{even.rate:,.0f}",
            f"{hot.rate:,.0f}",
            f"{hot.p50_ms:.1f} / {hot.p99_ms:.1f}",
            f"{lone.p50_ms:.1f}",
            _told(result.process),
            _told(result.store),
            result.store_death,
        )
    return made


def _told(death: KillResult | None) -> str:
    if death is None:
        return ""
    verdict = death.verdict
    text = f"{verdict.oversold_units} / {verdict.lost_units} / {verdict.leaked_units}, {_seconds(death)}"
    return text + (f", {verdict.unanswered} unanswered" if verdict.unanswered else "")


def _seconds(death: KillResult) -> str:
    return "for good" if math.isinf(death.silent_seconds) else f"{death.silent_seconds:.1f} s"


def machine() -> dict[str, Any]:
    """What the figures belong to, with the load that was there before."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
