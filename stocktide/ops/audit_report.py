"""Renders an audit's findings, as lines and as JSON.

In: `Findings`. Out: lines, or plain values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from stocktide.tables.audit.compare import Difference, Drift
from stocktide.tables.audit.findings import TABLE_KINDS, Findings, SideDigests

# The JSON has more.
_DRIFTS_SHOWN_MAX = 50
# Bounds the report of a corrupted shard.
_DRIFTS_JSON_MAX = 10_000
_VALUE_CHARACTERS_MAX = 60
INCOMPLETE = "not all could be checked, see above; stocktide doctor says what stands still"
_SIDES = {"log": "the log itself", "redis": "Redis", "table": "the table"}


def report_of(findings: Findings) -> dict[str, Any]:
    """For `--json`."""
    counts = findings.counts
    return {
        "batch": findings.batch,
        "from_the_beginning": findings.whole,
        "drifts": len(findings.drifts),
        "drift": [drift_view(drift) for drift in findings.drifts[:_DRIFTS_JSON_MAX]],
        "unsettled": list(findings.unsettled[:_DRIFTS_JSON_MAX]),
        "unchecked": list(findings.unchecked),
        "digests": None if findings.sides is None else _digests(findings.sides),
        "looked_at": {
            "batches": counts.batches,
            "journal_bytes": counts.journal_bytes,
            "redis_keys": counts.redis_keys,
            "rows": counts.rows,
        },
        "settled": {"redis": counts.settled_redis, "tables": counts.settled_tables},
        "seconds": counts.seconds,
    }


def drift_view(drift: Drift) -> dict[str, Any]:
    """One drift as plain values."""
    return {
        "subject": drift.subject,
        "key": format_key(drift.key),
        "sides": list(drift.sides),
        "since_batch": drift.since,
        "differences": [msgspec.to_builtins(each) for each in drift.differences],
    }


def report_lines(findings: Findings) -> Iterator[str]:
    """The report in lines."""
    counts, seconds = findings.counts, findings.counts.seconds
    log_from = "its beginning" if findings.whole else "where it holds everything whole"
    yield f"as of      batch {findings.batch:,}, the log read from {log_from}"
    journal_mb = counts.journal_bytes / 1e6
    yield f"looked at  {counts.batches:,} batches ({journal_mb:,.1f} MB) in {_rate(counts.batches, seconds, 'journal')}"
    yield f"           {counts.redis_keys:,} keys of Redis in {_rate(counts.redis_keys, seconds, 'redis')}"
    yield f"           {counts.rows:,} rows of tables in {_rate(counts.rows, seconds, 'tables')}"
    yield f"in flight  {counts.settled_redis:,} keys and {counts.settled_tables:,} rows, all settled"
    for what in findings.unchecked:
        yield f"UNCHECKED  {what}"
    if findings.unsettled:
        some = ", ".join(findings.unsettled[:5])
        yield f"UNSETTLED  {len(findings.unsettled):,} rows are still to be derived: {some}"
    if findings.sides is not None:
        yield from _digest_lines(findings.sides)
    yield from result_lines(findings)


def result_lines(findings: Findings) -> Iterator[str]:
    """The drifts; "no drift" only where everything could be checked."""
    if findings.drifts or findings.complete:
        yield from drift_lines(findings.drifts)
    if not findings.complete:
        yield INCOMPLETE


def _digest_lines(sides: SideDigests) -> Iterator[str]:
    yield f"digests    log     {sides.log.keys:>10,} keys  {sides.log.hex()}"
    yield f"           Redis   {sides.redis.keys:>10,} keys  {sides.redis.hex()}  {_equal(sides.log == sides.redis)}"
    log, tables = sides.log.hex(*TABLE_KINDS), sides.tables.hex(*TABLE_KINDS)
    if log == sides.log.hex():
        yield f"           tables  {sides.tables.keys:>10,} keys  {tables}  {_equal(log == tables)}"
        return
    yield "           without registry and parked events, which no table shows:"
    yield f"           log     {'':>15}  {log}"
    yield f"           tables  {sides.tables.keys:>10,} keys  {tables}  {_equal(log == tables)}"


def drift_lines(drifts: tuple[Drift, ...]) -> Iterator[str]:
    """The drifts in lines."""
    if not drifts:
        yield "no drift"
        return
    yield f"DRIFT      {len(drifts):,} {'key differs' if len(drifts) == 1 else 'keys differ'}"
    for drift in drifts[:_DRIFTS_SHOWN_MAX]:
        since = "" if drift.since is None else f", since batch {drift.since:,}"
        places = " and ".join(_SIDES[side] for side in drift.sides)
        yield f"  {f'{drift.subject} {format_key(drift.key)}'.strip()}: in {places}{since}"
        for difference in drift.differences:
            yield f"    {_format_difference(difference)}"
    if len(drifts) > _DRIFTS_SHOWN_MAX:
        yield f"  and {len(drifts) - _DRIFTS_SHOWN_MAX:,} more: --json tells them all"
    yield "stocktide repair --plan shows what would mend it"


def _format_difference(each: Difference) -> str:
    should, is_ = format_value(each.expected), format_value(each.found)
    if each.side == "log":
        is_sum = each.what.startswith(("counter locked@", "counter committed@", "counter preordered@"))
        basis = "open orders hold" if is_sum else "its effects make"
        return f"{each.what}: {basis} {should}, the row says {is_}"
    return f"{each.what}: the log says {should}, {_SIDES[each.side]} {is_}"


def format_key(key: str) -> str:
    """A key on one line."""
    return key.replace("\n", "/")


def format_value(value: Any) -> str:
    """A value, shortened where it is long."""
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else _json(value)
    return text if len(text) <= _VALUE_CHARACTERS_MAX else text[: _VALUE_CHARACTERS_MAX - 1] + "…"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _digests(sides: SideDigests) -> dict[str, Any]:
    named = {"log": sides.log, "redis": sides.redis, "tables": sides.tables}
    shown = {name: {"digest": each.hex(), "keys": each.keys, "kinds": each.by_kind()} for name, each in named.items()}
    return {**shown, "equal": sides.agree}


def _equal(same: bool) -> str:
    return "equal" if same else "DIFFERENT"


def _rate(count: int, seconds: dict[str, float], phase: str) -> str:
    took = seconds.get(phase, 0.0)
    return f"{took:.1f} s, {count / max(took, 0.001):,.0f}/s"
