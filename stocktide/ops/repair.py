"""`stocktide repair --plan | --apply`: from an audit to the smallest set of corrections.

In: settings. Out: each correction, and with --apply what became of it; then what a second audit says. Exit status 0
where nothing is left that differs, 1 where something is, 2 where it could not be finished.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from stocktide.ops.audit import AUDIT_FAILURES, DRIFT, UNFINISHED, ProgressBars, exit_status, open_auditor
from stocktide.ops.audit_report import INCOMPLETE, format_key, format_value, report_of, result_lines
from stocktide.ops.stalled import StallWatchdog
from stocktide.settings import Settings
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.plan import Correction, RedisChange, RepairPlanner
from stocktide.tables.audit.repair import CorrectionResult, apply_corrections
from stocktide.tables.ledger.client import Ledger, LedgerLimits
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.submission import Submitter, Undecidable, Unsettled
from stocktide.tables.settlement.listener import SettlementListener

# A batch is settled within ms while a worker runs; without one there is no use in waiting.
_ATTEMPT_SECONDS = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """`apply`: carry the plan out, on behalf of `actor`; else only show it. `skus`: only those and their orders."""

    apply: bool
    actor: str
    as_json: bool = False
    skus: tuple[str, ...] = ()


def run(settings: Settings, options: RepairOptions) -> int:
    """Plan or repair, and tell it on standard output; the exit status."""
    report: dict[str, Any] = {"applied": options.apply, "actor": options.actor, "corrections": []}
    say: Say = (lambda _: None) if options.as_json else (lambda line: print(line, flush=True))  # noqa: T201
    try:
        status = asyncio.run(_repair(settings, options, say, report))
    except (*AUDIT_FAILURES, Unsettled, Undecidable) as error:
        report["error"] = str(error)
        sys.stderr.write(f"stocktide: the repair could not be finished, what was done stays: {error}\n")
        status = UNFINISHED
    if options.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return status


async def _repair(settings: Settings, options: RepairOptions, say: Say, report: dict[str, Any]) -> int:
    with ProgressBars(hidden=options.as_json, command="repair") as bars:
        patience = bars.patience
        async with open_auditor(settings, options.skus, bars.tell) as auditor:
            findings = await patience.of("the audit", auditor.run())
            report["batch"] = findings.batch
            if not findings.drifts:
                say(f"as of batch {findings.batch:,} nothing differs: there is nothing to repair")
                if not findings.complete:
                    say(INCOMPLETE)
                return exit_status(findings)
            planner = RepairPlanner(auditor, findings, options.actor)
            if not options.apply:
                return await patience.of("the plan", _show(planner, findings, say, report))
            work = _carry_out(settings, planner, findings, say, report, patience)
            await patience.of("a correction to be decided and settled", work)
        async with open_auditor(settings, options.skus, bars.tell) as auditor:
            after = await patience.of("the second audit", auditor.run())
    report["after"] = report_of(after)
    say(f"audited again, as of batch {after.batch:,}:")
    for line in result_lines(after):
        say(line)
    return exit_status(after)


async def _show(planner: RepairPlanner, findings: Findings, say: Say, report: dict[str, Any]) -> int:
    say(f"as of batch {findings.batch:,} {_keys(findings)}; a repair would change:")
    async for correction in planner.plan():
        report["corrections"].append(_view(correction, None))
        for line in _lines(correction, None):
            say(line)
    say("nothing was changed: --apply does it")
    return DRIFT


async def _carry_out(
    settings: Settings,
    planner: RepairPlanner,
    findings: Findings,
    say: Say,
    report: dict[str, Any],
    patience: StallWatchdog,
) -> None:
    say(f"as of batch {findings.batch:,} {_keys(findings)}")
    async with _submitter(settings) as submitter:
        async for correction, fate in apply_corrections(planner, submitter):
            report["corrections"].append(_view(correction, fate))
            patience.moved("corrections", len(report["corrections"]), 0)
            for line in _lines(correction, fate):
                say(line)


@asynccontextmanager
async def _submitter(settings: Settings) -> AsyncIterator[Submitter]:
    redis = connect(settings.redis, **settings.redis_access())
    settlements = SettlementListener(redis, settings.app_id)
    settlements.start()
    limits = LedgerLimits(
        outbox_max=settings.outbox_max,
        park_ms=settings.park_seconds * 1000,
        future_ms=settings.future_seconds_max * 1000,
    )
    try:
        yield Submitter(Ledger(redis, settings.app_id, limits), settlements, attempt_seconds=_ATTEMPT_SECONDS)
    finally:
        await settlements.stop()
        await redis.aclose()


def _keys(findings: Findings) -> str:
    return "1 key differs" if len(findings.drifts) == 1 else f"{len(findings.drifts):,} keys differ"


_FATES = {
    CorrectionResult.REPAIRED: "repaired",
    CorrectionResult.MOVED_ON: "NOT REPAIRED, it moves on all the time: try again",
    CorrectionResult.NOT_NEEDED: "right again by itself",
    CorrectionResult.BY_HAND: "NOT REPAIRED",
}


def _lines(correction: Correction, fate: CorrectionResult | None) -> list[str]:
    name = f"{correction.subject} {format_key(correction.key)}".strip()
    lines = [f"  {name}" + ("" if fate is None else f": {_FATES[fate]}")]
    if correction.by_hand:
        return [*lines, f"    by hand: {correction.by_hand}"]
    lines += [f"    {_line(change)}" for change in correction.changes]
    if any(each.side == "table" for each in correction.differences):
        lines.append("    the table's row is written anew from the log")
    elif not correction.changes:
        lines.append("    nothing changes: what does not add up in the log is taken as it is from here on")
    return lines


def _line(change: RedisChange) -> str:
    return f"{change.what}: {format_value(change.before)} → {format_value(change.after)}"


def _view(correction: Correction, fate: CorrectionResult | None) -> dict[str, Any]:
    return {
        "subject": correction.subject,
        "key": format_key(correction.key),
        "id": correction.command.id if correction.command else None,
        "by_hand": correction.by_hand or None,
        "changes": [msgspec.to_builtins(change) for change in correction.changes],
        "differences": [msgspec.to_builtins(each) for each in correction.differences],
        "outcome": None if fate is None else fate.value,
    }
