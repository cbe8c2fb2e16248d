"""Made-up results of load tests, for tests of reports."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

from msgspec import structs

from stocktide.loadtest.measure.results import (
    HotSku,
    Latencies,
    LoadTestResults,
    ProcessUsage,
    ReportedViolation,
    ResourceSample,
    RunVerdict,
    SecondSummary,
    StockPoint,
)

CHANNELS = ("tmall", "jd", "douyin", "shop")
PEAK = 400
# No page, table or plot may interpret this as markup.
NASTY = "<script>alert(1)</script>"
OVERSOLD = ReportedViolation(
    "oversold",
    1,
    "flash-1 at SH1: orders hold 201 units, and 200 were ever received",
    (
        '{"at":1732,"kind":"answer","order_id":"flash-812","status":201,"sku":"flash-1","quantity":1}',
        '{"at":1733,"kind":"stock","sku":"flash-1","available":-1,"version":202}',
    ),
)


def flash_sale(
    seconds: int = 60, seed: int = 7, skus: tuple[str, ...] = ("flash-1", "flash-2", "flash-3")
) -> LoadTestResults:
    """A spike: some quiet seconds, a peak within one second, and a decline; hot SKUs sell out."""
    rng = random.Random(seed)
    moments = tuple(_moment(at, seconds, rng) for at in range(seconds))
    accepted = sum(moment.accepted for moment in moments)
    return LoadTestResults(
        settings={"shape": "spike", "seconds": seconds, "rate": PEAK, "door": "http", "seed": seed, "subscribers": 200},
        machine={"cores": 2, "memory_bytes": 4_000_000_000, "python": "3.11.2", "system": "Linux"},
        started_at="2026-11-11T00:00:00Z",
        load_seconds=float(seconds),
        verdict=RunVerdict(
            kept=True,
            valid=True,
            limit="system",
            checked={"oversold": accepted, "answer_lost": accepted, "answer_contradicted": accepted * 2}
            | {"hold_leaked": accepted, "version_went_back": 48_210, "channel_not_converged": 12},
            notes=("Updates were decoded by 8 of 200 subscribers; the others checked versions only.",),
        ),
        totals={"orders": sum(moment.scheduled for moment in moments), "accepted": accepted, "paid": accepted // 2},
        accepted_ms=Latencies(accepted, 4.2, 11.0, 38.5, 92.1, 140.2),
        refused_ms=Latencies(sum(moment.refused for moment in moments), 3.1, 8.0, 21.4, 44.0, 71.0),
        lag_ms=Latencies(48_210, 6.0, 19.0, 41.0, 80.0, 130.0),
        moments=moments,
        hot=tuple(_hot(sku, number, seconds, rng) for number, sku in enumerate(skus)),
        processes=_processes(seconds, rng),
        errors=dict(sum((Counter(moment.errors) for moment in moments), Counter[str]())),
    )


def with_verdict(results: LoadTestResults, **fields: Any) -> LoadTestResults:
    """The same results with another verdict."""
    return structs.replace(results, verdict=structs.replace(results.verdict, **fields))


def broken(violation: ReportedViolation = OVERSOLD, count: int = 1, **given: Any) -> LoadTestResults:
    """The same sale with a broken promise."""
    return with_verdict(flash_sale(**given), kept=False, violations=(violation,) * count)


def not_valid(**given: Any) -> LoadTestResults:
    """The same sale, not valid."""
    late = "4.2 % of the orders were sent late by the load generator"
    return with_verdict(flash_sale(**given), valid=False, limit="tester", why_invalid=(late,))


def search(goal_ms: float = 50.0) -> LoadTestResults:
    """A search for the highest rate."""
    sale = flash_sale()
    steps = tuple(
        {"rate": rate, "kept": p99 <= goal_ms, "scheduled": rate * 10, "failed": 0, "p50": p99 / 6, "p99": p99}
        for rate, p99 in ((100, 9.0), (200, 12.5), (400, 41.0), (800, 910.0), (600, 120.0), (500, 48.0))
    )
    return structs.replace(sale, settings={**sale.settings, "shape": "search", "goal_ms": goal_ms}, ladder=steps)


def nasty() -> LoadTestResults:
    """A sale in which every name is markup."""
    sale = flash_sale(skus=(NASTY, "<b>bold</b>&amp;$x^2$"))
    evil = ReportedViolation(
        "oversold", 1, f"{NASTY} is oversold", (f'{{"sku":"{NASTY}"}}', "</pre><script>alert(2)</script>")
    )
    moments = tuple(structs.replace(moment, errors={NASTY: 2, "</script>": 1}) for moment in sale.moments)
    channels = {NASTY: sale.hot[0].channels["tmall"], "<i>jd</i>": sale.hot[0].channels["jd"]}
    return structs.replace(
        sale,
        settings={**sale.settings, "shape": NASTY, "sku": NASTY, NASTY: 1},
        machine={"name": NASTY},
        started_at=NASTY,
        verdict=structs.replace(
            sale.verdict, kept=False, valid=False, limit=NASTY, notes=(NASTY,), why_invalid=(NASTY,), violations=(evil,)
        ),
        totals={NASTY: 1},
        moments=moments,
        errors={NASTY: 120, "</script>": 60},
        hot=tuple(structs.replace(hot, channels=channels) for hot in sale.hot),
        processes=(structs.replace(sale.processes[0], name=NASTY), *sale.processes[1:]),
    )


def _moment(at: int, seconds: int, rng: random.Random) -> SecondSummary:
    start = seconds // 6
    shape = 0.1 if at < start else math.exp(-3 * (at - start) / seconds)
    scheduled = int(PEAK * shape + rng.uniform(-8, 8))
    failed = rng.randint(1, 6) if at == start + 1 else 0
    refused = int((scheduled - failed) * (0.05 if at < start + 4 else 0.45))
    accepted = scheduled - refused - failed
    busy = shape * rng.uniform(0.7, 1.6)
    reasons = {"503 unavailable": failed - failed // 3, "connection lost": failed // 3} if failed > 2 else {}
    return SecondSummary(
        at=at,
        scheduled=scheduled,
        accepted=accepted,
        refused=refused,
        failed=failed,
        accepted_ms=_latencies(accepted, 3 + 8 * busy, 1 + 20 * busy),
        refused_ms=_latencies(refused, 2 + 6 * busy, 1 + 9 * busy),
        lag_ms=_latencies(accepted * 4, 5 + 9 * busy, 1 + 8 * busy),
        updates=accepted * 4,
        errors={reason: count for reason, count in reasons.items() if count},
    )


def _latencies(count: int, middle: float, spread: float) -> Latencies:
    if not count:
        return Latencies()
    return Latencies(
        count,
        *(round(value, 2) for value in (middle, middle * 1.8, middle + spread, middle + 2 * spread)),
        max=round(middle + 2.6 * spread, 2),
    )


def _hot(sku: str, number: int, seconds: int, rng: random.Random) -> HotSku:
    units = 200 * (number + 1)
    points: dict[str, list[StockPoint]] = {channel: [StockPoint(0.0, units, "in_stock", 1)] for channel in CHANNELS}
    left, at, version = units, seconds / 6, 1
    while left > 0 and at < seconds - 4:
        at += rng.expovariate(8)
        left = max(0, left - rng.choice((1, 1, 2, 4)))
        version += 1
        _publish(points, at, left, version)
    if number == 1:
        _publish(points, at + 3, 40, version + 1)
    return HotSku(sku, units, {channel: tuple(each) for channel, each in points.items()})


def _publish(points: dict[str, list[StockPoint]], at: float, left: int, version: int) -> None:
    for place, channel in enumerate(CHANNELS):
        buffer = 10 * place
        offered = max(0, left - buffer)
        closed = ("sold_out", "preorder", "suspended", "sold_out")[place]
        points[channel].append(StockPoint(at + place / 100, offered, "in_stock" if offered else closed, version))


def _processes(seconds: int, rng: random.Random) -> tuple[ProcessUsage, ...]:
    sizes = {
        "worker": (95, 210e6),
        "api": (60, 140e6),
        "kafka": (40, 640e6),
        "redis": (18, 40e6),
        "tester-1": (55, 120e6),
    }
    made = []
    for number, (name, (cpu, memory)) in enumerate(sizes.items()):
        points = []
        for at in range(seconds):
            shape = 0.15 if at < seconds // 6 else math.exp(-2 * (at - seconds // 6) / seconds)
            points.append(
                ResourceSample(at + 0.5, cpu * shape * rng.uniform(0.85, 1.1), int(memory * (1 + at / seconds / 8)))
            )
        made.append(ProcessUsage(name, 4100 + number, tuple(points)))
    return tuple(made)
