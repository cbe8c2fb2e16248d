"""The table of the comparison: one line per contender."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from bench.compare.rounds import KillResult, SpeedResult


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """The results of one contender; `missing`: the reason why there are none. `load_before`: the load average of the
    machine's last minute before it started."""

    name: str
    title: str
    store_death: str = ""
    missing: str = ""
    load_before: float = 0.0
    speed: SpeedResult | None = None
    process: KillResult | None = None
    store: KillResult | None = None


def table(results: list[ContenderResult]) -> Table:
    """One line each; in units where the head says nothing else."""
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
            _kill_text(result.process),
            _kill_text(result.store),
            result.store_death,
        )
    return made


def _kill_text(kill: KillResult | None) -> str:
    if kill is None:
        return ""
    found = kill.verdict
    silent = "for good" if math.isinf(kill.silent_seconds) else f"{kill.silent_seconds:.1f} s"
    text = f"{found.oversold_units} / {found.lost_units} / {found.leaked_units}, {silent}"
    return text + (f", {found.unanswered} unanswered" if found.unanswered else "")
