"""`stocktide repair --plan | --apply`: makes the smallest set of corrections from an audit.

In: settings. Out: each correction, with --apply its result, then a second audit. Exit status 0 where nothing differs
any more, 1 where something does, 2 where the repair could not be finished.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from stocktide.ops.audit import AUDIT_FAILURES, DRIFT, UNFINISHED, exit_status, open_auditor
from stocktide.ops.audit_report import INCOMPLETE, format_key, format_value, report_of, result_lines
from stocktide.ops.progress_bars import ProgressBars
from stocktide.ops.stalled import StallWatchdog
from stocktide.progress import Echo
from stocktide.settings import Settings
from stocktide.tables.audit.findings import Findings
from stocktide.tables.audit.plan import Correction, RedisChange, RepairPlanner
from stocktide.tables.audit.repair import CorrectionResult, apply_corrections
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.submission import Submitter, Undecidable, Unsettled
from stocktide.tables.settlement.listener import SettlementListener

# A worker settles a batch within ms; without a worker waiting is useless.
_ATTEMPT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """`apply`: apply the plan in the name of `actor`, else only show it. `skus`: only those and their orders."""

    apply: bool
    actor: str
    as_json: bool = False
    skus: tuple[str, ...] = ()


def run(settings: Settings, options: RepairOptions) -> int:
    """Plan or repair, and print the result on standard output; the exit status."""
    report: dict[str, Any] = {"applied": options.apply, "actor": options.actor, "corrections": []}
    echo: Echo = (lambda _: None) if options.as_json else (lambda line: print(line, flush=True))  # noqa: T201
    try:
        status = asyncio.run(_repair(settings, options, echo, report))
    except (*AUDIT_FAILURES, Unsettled, Undecidable) as error:
        report["error"] = str(error)
        sys.stderr.write(f"stocktide: the repair could not be finished, what was done stays: {error}\n")
        status = UNFINISHED
    if options.as_json:
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    return status


async def _repair(settings: Settings, options: RepairOptions, echo: Echo, report: dict[str, Any]) -> int:
    with ProgressBars("repair", hidden=options.as_json) as bars:
        watchdog = bars.watchdog
        async with open_auditor(settings, options.skus, bars.report) as auditor:
            findings = await watchdog.run("the audit", auditor.run())
            report["batch"] = findings.batch
            if not findings.drifts:
                echo(f"as of batch {findings.batch:,} nothing differs: there is nothing to repair")
                if not findings.complete:
                    echo(INCOMPLETE)
                return exit_status(findings)
            planner = RepairPlanner(auditor, findings, options.actor)
            if not options.apply:
                return await watchdog.run("the plan", _show(planner, findings, echo, report))
            work = _carry_out(settings, planner, findings, echo, report, watchdog)
            await watchdog.run("a correction to be decided and settled", work)
        async with open_auditor(settings, options.skus, bars.report) as auditor:
            after = await watchdog.run("the second audit", auditor.run())
    report["after"] = report_of(after)
    echo(f"audited again, as of batch {after.batch:,}:")
    for line in result_lines(after):
        echo(line)
    return exit_status(after)


async def _show(planner: RepairPlanner, findings: Findings, echo: Echo, report: dict[str, Any]) -> int:
    echo(f"as of batch {findings.batch:,} {_keys(findings)}; a repair would change:")
    async for correction in planner.plan():
        report["corrections"].append(_view(correction, None))
        for line in _lines(correction, None):
            echo(line)
    echo("nothing was changed: --apply does it")
    return DRIFT


async def _carry_out(
    settings: Settings,
    planner: RepairPlanner,
    findings: Findings,
    echo: Echo,
    report: dict[str, Any],
    watchdog: StallWatchdog,
) -> None:
    echo(f"as of batch {findings.batch:,} {_keys(findings)}")
    async with _submitter(settings) as submitter:
        async for correction, result in apply_corrections(planner, submitter):
            report["corrections"].append(_view(correction, result))
            watchdog.report("corrections", len(report["corrections"]), 0)
            for line in _lines(correction, result):
                echo(line)


@asynccontextmanager
async def _submitter(settings: Settings) -> AsyncIterator[Submitter]:
    redis = connect(settings.redis, **settings.redis_access())
    settlements = SettlementListener(redis, settings.app_id)
    settlements.start()
    try:
        yield Submitter(
            Ledger(redis, settings.app_id, settings.ledger_limits()), settlements, attempt_seconds=_ATTEMPT_SECONDS
        )
    finally:
        await settlements.stop()
        await redis.aclose()


def _keys(findings: Findings) -> str:
    return "1 key differs" if len(findings.drifts) == 1 else f"{len(findings.drifts):,} keys differ"


_RESULT_TEXTS = {
    CorrectionResult.REPAIRED: "repaired",
    CorrectionResult.MOVED_ON: "NOT REPAIRED, it moves on all the time: try again",
    CorrectionResult.NOT_NEEDED: "right again by itself",
    CorrectionResult.BY_HAND: "NOT REPAIRED",
}


def _lines(correction: Correction, result: CorrectionResult | None) -> list[str]:
    name = f"{correction.subject} {format_key(correction.key)}".strip()
    lines = [f"  {name}" + ("" if result is None else f": {_RESULT_TEXTS[result]}")]
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


def _view(correction: Correction, result: CorrectionResult | None) -> dict[str, Any]:
    return {
        "subject": correction.subject,
        "key": format_key(correction.key),
        "id": correction.command.id if correction.command else None,
        "by_hand": correction.by_hand or None,
        "changes": [msgspec.to_builtins(change) for change in correction.changes],
        "differences": [msgspec.to_builtins(each) for each in correction.differences],
        "outcome": None if result is None else result.value,
    }
