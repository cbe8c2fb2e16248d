"""The words, figures and tables of a load test's page, as plain values for its template.

In: `LoadTestResults`. Out: values that the template escapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stocktide.loadtest.measure.results import Latencies, LoadTestResults, ReportedViolation, RunVerdict, SecondSummary
from stocktide.loadtest.report.formatting import clock, milliseconds, size_text, value_text
from stocktide.loadtest.report.plots import step_p99, step_rate
from stocktide.loadtest.report.verdict_text import checks, limit_of, requirement_of

# A broken run may have one violation for each order; the JSON report has more.
VIOLATIONS_SHOWN_MAX = 20
# Of long evidence, its beginning and its end, where the violation is.
EVIDENCE_FIRST_MAX = 4
EVIDENCE_LAST_MAX = 8
# A record may hold every SKU of a channel.
EVIDENCE_CHARACTERS_MAX = 360
# A row for each second of ten minutes; a longer run shows every second, third, ... row.
SECOND_ROWS_MAX = 600
REASONS_SHOWN_MAX = 50

PROMISES = {
    1: "No oversell",
    2: "An answer stands",
    3: "Once",
    4: "Every hold ends",
    5: "Channels converge",
    6: "Bad input gets a reason",
    7: "The log explains",
}
STATES = {"kept": ("✓", "Promises kept"), "broken": ("✗", "Promise broken"), "not-valid": ("?", "Not valid")}


class PageTable(NamedTuple):
    """A table; the columns `numbers` are aligned to the right. The first cell of a row is its head."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()


class FigureCard(NamedTuple):
    """One headline figure; `kind` is a CSS class."""

    kind: str
    name: str
    value: str
    aside: str


def verdict_text(verdict: RunVerdict) -> dict[str, Any]:
    """The verdict in words, with the violations that are shown."""
    # A broken promise stays one, also in a run that is otherwise not valid.
    state = "broken" if not verdict.kept else "kept" if verdict.valid else "not-valid"
    symbol, word = STATES[state]
    shown = verdict.violations[:VIOLATIONS_SHOWN_MAX]
    return {
        "state": state,
        "symbol": symbol,
        "word": word,
        "sentence": _sentence(verdict, state),
        "why_invalid": () if verdict.valid else verdict.why_invalid or ("no reason was given",),
        "violations": [_violation_text(violation) for violation in shown],
        "violations_left_out": len(verdict.violations) - len(shown),
        "limit": limit_of(verdict),
        "notes": verdict.notes,
    }


def cards(results: LoadTestResults) -> list[FigureCard]:
    """The headline figures: rates, latencies, violations."""
    return [*_rate_cards(results), *_latency_cards(results), *_violation_cards(results.verdict)]


def tables(results: LoadTestResults) -> list[PageTable]:
    """Checkers, errors, steps of the search, totals; the template skips those without rows."""
    checked = [
        (what, f"{count:,}", f"✗ {found:,}" if found else "✓ none" if count else "? not checked")
        for what, count, found in checks(results.verdict)
    ]
    by_count = sorted(results.errors.items(), key=lambda item: -item[1])
    errors = [(reason, f"{count:,}") for reason, count in by_count[:REASONS_SHOWN_MAX]]
    if rest := by_count[REASONS_SHOWN_MAX:]:
        errors.append((f"{len(rest):,} more reasons", f"{sum(count for _, count in rest):,}"))
    steps = [
        (
            f"{step_rate(step):,.0f}",
            milliseconds(step_p99(step)),
            f"{step.get('failed', 0):,}",
            "✓ kept" if step.get("kept") else "✗ missed",
        )
        for step in results.ladder
    ]
    sums = [(name.replace("_", " "), f"{count:,}") for name, count in results.totals.items()]
    return [
        PageTable("What was checked", ("what has to hold", "checked", "violations"), checked, frozenset({1})),
        PageTable("Errors by reason", ("reason", "count"), errors, frozenset({1})),
        PageTable("Steps of the search", ("orders/s", "p99", "failed", "goal"), steps, frozenset({0, 1, 2})),
        PageTable("Sums", ("what", "count"), sums, frozenset({1})),
    ]


def seconds_table(moments: Sequence[SecondSummary]) -> PageTable:
    """The plots as numbers."""
    step = max(1, -(-len(moments) // SECOND_ROWS_MAX))
    heads = ("second", "scheduled", "accepted", "refused", "failed", "p50 ms", "p99 ms", "max ms", "lag p99 ms")
    rows = [
        (
            *(f"{value:,}" for value in (one.at, one.scheduled, one.accepted, one.refused, one.failed)),
            *(_ms_cell(one.accepted_ms, value) for value in (one.accepted_ms.p50, one.accepted_ms.p99)),
            _ms_cell(one.accepted_ms, one.accepted_ms.max),
            _ms_cell(one.lag_ms, one.lag_ms.p99),
        )
        for one in moments[::step]
    ]
    title = "Every second" if step == 1 else f"One second of every {step}"
    return PageTable(title, heads, rows, frozenset(range(len(heads))))


def facts_table(title: str, facts: Mapping[str, Any]) -> PageTable:
    """Names and values: settings or machine."""
    rows = [
        (
            name.removesuffix("_bytes").replace("_", " "),
            size_text(value) if name.endswith("_bytes") else value_text(value),
        )
        for name, value in facts.items()
    ]
    return PageTable(title, ("name", "value"), rows)


def _sentence(verdict: RunVerdict, state: str) -> str:
    count = len(verdict.violations)
    if state == "broken":
        return "A promise was broken." if count <= 1 else f"Promises were broken: {count:,} violations are on record."
    if state == "kept":
        checked = sum(verdict.checked.values())
        return f"No promise was broken: {len(verdict.checked)} checkers made {checked:,} checks, with no violation."
    return "No violation was found, but this run proves nothing."


def _violation_text(violation: ReportedViolation) -> dict[str, str]:
    name = PROMISES.get(violation.promise, "")
    promise = f"Promise {violation.promise}, {name}" if name else f"Promise {violation.promise}"
    return {
        "what": violation.what,
        "promise": f"{promise}; what has to hold: {requirement_of(violation.checker)}",
        "evidence": "\n".join(_evidence(violation.evidence)),
    }


def _evidence(lines: Sequence[str]) -> list[str]:
    """The lines that are shown, and the count of the others."""
    shown = [
        line
        if len(line) <= EVIDENCE_CHARACTERS_MAX
        else f"{line[:EVIDENCE_CHARACTERS_MAX]}… ({len(line):,} characters)"
        for line in lines
    ]
    if (rest := len(shown) - EVIDENCE_FIRST_MAX - EVIDENCE_LAST_MAX) <= 0:
        return shown
    left_out = f"… {rest:,} more lines are in the JSON report …"
    return [*shown[:EVIDENCE_FIRST_MAX], left_out, *shown[-EVIDENCE_LAST_MAX:]]


def _rate_cards(results: LoadTestResults) -> Iterator[FigureCard]:
    moments = results.moments
    best = max(moments, key=lambda moment: moment.accepted, default=SecondSummary(0))
    accepted, refused, failed = (
        sum(getattr(moment, name) for moment in moments) for name in ("accepted", "refused", "failed")
    )
    total = accepted + refused + failed
    mean = accepted / results.load_seconds if results.load_seconds > 0 else 0.0
    share = f"{failed / total:.2%} of all that were asked" if total else "nothing was asked"
    of_refused = results.refused_ms
    refused_ms = f"p50 {milliseconds(of_refused.p50)}, p99 {milliseconds(of_refused.p99)}"
    peak = f"at {clock(best.at)}; {mean:,.0f}/s over the whole load"
    scheduled = f"of {sum(moment.scheduled for moment in moments):,} orders scheduled"
    yield FigureCard("", "Accepted, peak", f"{best.accepted:,}/s", peak)
    yield FigureCard("", "Accepted", f"{accepted:,}", scheduled)
    yield FigureCard("", "Refused", f"{refused:,}", refused_ms if of_refused.count else "none")
    yield FigureCard("warn" if failed else "", "Failed", f"{failed:,}", share)


def _latency_cards(results: LoadTestResults) -> Iterator[FigureCard]:
    accepted, lag = results.accepted_ms, results.lag_ms
    of = f"accepted orders, of {accepted.count:,}"

    def shown(latencies: Latencies, value: float) -> str:
        return milliseconds(value) if latencies.count else "none"

    yield FigureCard("", "Latency p50", shown(accepted, accepted.p50), of)
    yield FigureCard("", "Latency p99", shown(accepted, accepted.p99), of)
    yield FigureCard("", "Latency p99.9", shown(accepted, accepted.p999), f"at most {shown(accepted, accepted.max)}")
    yield FigureCard("", "Publication lag p99", shown(lag, lag.p99), f"{lag.count:,} updates measured")


def _violation_cards(verdict: RunVerdict) -> Iterator[FigureCard]:
    """The counts of the gravest violations; "not checked" where no checker ran."""
    for name, checkers, promise in (
        ("Oversold", ("oversold",), 1),
        ("Answers lost or contradicted", ("answer_lost", "answer_contradicted"), 2),
        ("Updates lost or out of order", ("channel_not_converged", "version_went_back"), 5),
    ):
        found = sum(one.promise == promise or one.checker in checkers for one in verdict.violations)
        checked = sum(verdict.checked.get(checker, 0) for checker in checkers)
        if found:
            yield FigureCard("bad", name, f"{found:,}", "on record; see the verdict")
        elif checked:
            yield FigureCard("good", name, "0", f"{checked:,} checked")
        else:
            yield FigureCard("unknown", name, "not checked", "no checker ran")


def _ms_cell(latencies: Latencies, value: float) -> str:
    return f"{value:,.1f}" if latencies.count else ""
