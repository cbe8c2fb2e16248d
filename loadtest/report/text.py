"""The words and tables of a load test's page, as HTML.

In: `LoadTestResults`. Out: pieces of HTML. Whatever came from the run goes through `text`, and stays text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from stocktide.loadtest.measure.results import Latencies, LoadTestResults, ReportedViolation, RunVerdict, SecondSummary
from stocktide.loadtest.report.formatting import clock, milliseconds, size_text, value_text
from stocktide.loadtest.report.plots import step_p99, step_rate
from stocktide.loadtest.report.verdict_text import checks, holds, limit_of

# A broken run may have one violation for each order; the JSON has those that were kept.
VIOLATIONS_SHOWN_MAX = 20
# Of long evidence its beginning and its end, where what broke is seen.
EVIDENCE_FIRST_MAX = 4
EVIDENCE_LAST_MAX = 8
# A record may hold what a channel has of every SKU.
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


def text(value: object) -> str:
    """Any value as text in HTML."""
    return escape(str(value))


def state_of(verdict: RunVerdict) -> str:
    """`kept`, `broken` or `not-valid`. A broken promise stays one, also in a run that is otherwise not valid."""
    if not verdict.kept:
        return "broken"
    return "kept" if verdict.valid else "not-valid"


def verdict_section(verdict: RunVerdict) -> str:
    """The verdict in words, a colour and a symbol; then the first violation, the limit, the notes."""
    state = state_of(verdict)
    symbol, word = STATES[state]
    parts = [
        f'<p class="verdict-word"><span aria-hidden="true" class="symbol">{symbol}</span> <strong>{word}</strong></p>',
        f'<p class="verdict-told">{text(_told(verdict, state))}</p>',
    ]
    if not verdict.valid:
        reasons = verdict.why_invalid or ("no reason was given",)
        parts.append(f'<p class="why">This run is not valid:</p>{_list(reasons)}')
    if verdict.violations:
        parts.append(_first_violation(verdict.violations[0]))
        parts.append(_more_violations(verdict.violations[1:]))
    parts.append(f'<p class="limit">{text(limit_of(verdict))}</p>')
    parts.append(_list(verdict.notes, "notes"))
    return f'<section class="verdict {state}" aria-label="Verdict">{"".join(parts)}</section>'


def figures_section(results: LoadTestResults) -> str:
    """The headline figures: what was accepted, what was refused, how late updates were, what was broken."""
    cards = [*_rate_cards(results), *_latency_cards(results), *_proof_cards(results.verdict)]
    made = "".join(
        f'<div class="{kind}"><dt>{text(name)}</dt><dd>{text(value)}</dd><dd class="aside">{text(aside)}</dd></div>'
        for kind, name, value, aside in cards
    )
    return f'<dl class="figures">{made}</dl>'


def checked_table(verdict: RunVerdict) -> str:
    """For each checker what has to hold, how many things it checked, and what it found."""
    rows = [
        (what, f"{checked:,}", f"✗ {found:,}" if found else "✓ none" if checked else "? not checked")
        for what, checked, found in checks(verdict)
    ]
    return table("What was checked", ("what has to hold", "checked", "violations"), rows, numbers={1})


def errors_table(results: LoadTestResults) -> str:
    """Errors by reason, the most frequent first."""
    ordered = sorted(results.errors.items(), key=lambda item: -item[1])
    rows = [(reason, f"{count:,}") for reason, count in ordered[:REASONS_SHOWN_MAX]]
    if rest := ordered[REASONS_SHOWN_MAX:]:
        rows.append((f"{len(rest):,} more reasons", f"{sum(count for _, count in rest):,}"))
    if not rows:
        return '<p class="none">There were no errors.</p>'
    return table("Errors by reason", ("reason", "count"), rows, numbers={1})


def ladder_table(results: LoadTestResults) -> str:
    """The steps of the search, in the order in which they were tried; nothing where there was no search."""
    rows = [
        (
            f"{step_rate(step):,.0f}",
            milliseconds(step_p99(step)),
            f"{step.get('failed', 0):,}",
            "✓ kept" if step.get("kept") else "✗ missed",
        )
        for step in results.ladder
    ]
    return table("Steps of the search", ("orders/s", "p99", "failed", "goal"), rows, numbers={0, 1, 2}) if rows else ""


def seconds_table(moments: Sequence[SecondSummary]) -> str:
    """The plots as numbers, for who cannot see them or wants to copy them."""
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
    return table(title, heads, rows, numbers=set(range(len(heads))))


def facts_table(title: str, facts: Mapping[str, Any]) -> str:
    """Names and values: settings, machine, sums."""
    rows = [
        (
            name.removesuffix("_bytes").replace("_", " "),
            size_text(value) if name.endswith("_bytes") else value_text(value),
        )
        for name, value in facts.items()
    ]
    return table(title, ("name", "value"), rows)


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> str:
    """A table whose columns `numbers` stand to the right. The first cell of a row is its head."""
    right = set(numbers)
    sides = [' class="number"' if place in right else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{side}>{text(name)}</th>' for name, side in zip(heads, sides, strict=True))
    body = "".join(
        f'<tr><th scope="row"{sides[0]}>{text(row[0])}</th>'
        + "".join(f"<td{side}>{text(cell)}</td>" for cell, side in zip(row[1:], sides[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    # Wide tables scroll by themselves; who has no mouse needs to reach them too.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(title)}"><table>'
        f"<caption>{text(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _told(verdict: RunVerdict, state: str) -> str:
    count = len(verdict.violations)
    if state == "broken":
        return "A promise was broken." if count <= 1 else f"Promises were broken: {count:,} violations are on record."
    if state == "kept":
        checked = sum(verdict.checked.values())
        return f"No promise was broken: {len(verdict.checked)} checkers made {checked:,} checks, with no violation."
    return "No violation was found, but this run proves nothing."


def _first_violation(violation: ReportedViolation) -> str:
    return f'<div class="first"><h2>The first violation</h2>{_violation(violation)}</div>'


def _more_violations(violations: Sequence[ReportedViolation]) -> str:
    if not violations:
        return ""
    shown = violations[: VIOLATIONS_SHOWN_MAX - 1]
    rest = len(violations) - len(shown)
    items = "".join(f"<li>{_violation(violation)}</li>" for violation in shown)
    more = f"<p>{rest:,} more are in the JSON report.</p>" if rest else ""
    return f"<details><summary>{len(violations):,} more</summary><ol>{items}</ol>{more}</details>"


def _violation(violation: ReportedViolation) -> str:
    name = PROMISES.get(violation.promise, "")
    promise = f"Promise {violation.promise}, {name}" if name else f"Promise {violation.promise}"
    by = f"{promise}; what has to hold: {holds(violation.checker)}"
    head = f'<p class="what">{text(violation.what)}</p><p class="by">{text(by)}</p>'
    lines = _evidence(violation.evidence)
    evidence = "\n".join(lines)
    return head + (f'<pre tabindex="0" aria-label="Evidence">{text(evidence)}</pre>' if lines else "")


def _evidence(lines: Sequence[str]) -> list[str]:
    """What is shown of it; what is not is counted."""
    shown = [
        line
        if len(line) <= EVIDENCE_CHARACTERS_MAX
        else f"{line[:EVIDENCE_CHARACTERS_MAX]}… ({len(line):,} characters)"
        for line in lines
    ]
    if (rest := len(shown) - EVIDENCE_FIRST_MAX - EVIDENCE_LAST_MAX) <= 0:
        return shown
    told = f"… {rest:,} more lines are in the JSON report …"
    return [*shown[:EVIDENCE_FIRST_MAX], told, *shown[-EVIDENCE_LAST_MAX:]]


Card = tuple[str, str, str, str]


def _rate_cards(results: LoadTestResults) -> list[Card]:
    moments = results.moments
    best = max(moments, key=lambda moment: moment.accepted, default=SecondSummary(0))
    accepted, refused, failed = (
        sum(getattr(moment, name) for moment in moments) for name in ("accepted", "refused", "failed")
    )
    asked = accepted + refused + failed
    mean = accepted / results.load_seconds if results.load_seconds > 0 else 0.0
    share = f"{failed / asked:.2%} of all that were asked" if asked else "nothing was asked"
    refused_ms = results.refused_ms
    apart = f"p50 {milliseconds(refused_ms.p50)}, p99 {milliseconds(refused_ms.p99)}" if refused_ms.count else "none"
    return [
        ("", "Accepted, peak", f"{best.accepted:,}/s", f"at {clock(best.at)}; {mean:,.0f}/s over the whole load"),
        ("", "Accepted", f"{accepted:,}", f"of {sum(moment.scheduled for moment in moments):,} orders scheduled"),
        ("", "Refused", f"{refused:,}", apart),
        ("warn" if failed else "", "Failed", f"{failed:,}", share),
    ]


def _latency_cards(results: LoadTestResults) -> list[Card]:
    accepted, lag = results.accepted_ms, results.lag_ms
    of = f"accepted orders, of {accepted.count:,}"

    def shown(latencies: Latencies, value: float) -> str:
        return milliseconds(value) if latencies.count else "none"

    return [
        ("", "Latency p50", shown(accepted, accepted.p50), of),
        ("", "Latency p99", shown(accepted, accepted.p99), of),
        ("", "Latency p99.9", shown(accepted, accepted.p999), f"at most {shown(accepted, accepted.max)}"),
        ("", "Publication lag p99", shown(lag, lag.p99), f"{lag.count:,} updates measured"),
    ]


def _proof_cards(verdict: RunVerdict) -> list[Card]:
    """What was oversold, lost or missed; "not checked" where nobody looked."""
    asked = (
        ("Oversold", ("oversold",), 1),
        ("Answers lost or contradicted", ("answer_lost", "answer_contradicted"), 2),
        ("Updates lost or out of order", ("channel_not_converged", "version_went_back"), 5),
    )
    cards: list[Card] = []
    for name, checkers, promise in asked:
        found = sum(one.promise == promise or one.checker in checkers for one in verdict.violations)
        looked = sum(verdict.checked.get(checker, 0) for checker in checkers)
        if found:
            cards.append(("bad", name, f"{found:,}", "on record; see the verdict"))
        elif looked:
            cards.append(("good", name, "0", f"{looked:,} checked"))
        else:
            cards.append(("unknown", name, "not checked", "no checker ran"))
    return cards


def _list(items: Sequence[str], kind: str = "") -> str:
    made = "".join(f"<li>{text(item)}</li>" for item in items)
    return f'<ul class="{kind}">{made}</ul>' if made else ""


def _ms_cell(latencies: Latencies, value: float) -> str:
    return f"{value:,.1f}" if latencies.count else ""
