"""The takeover of a shard by a new owner, up to a blessed Redis.

In: a journal and a Redis in any state. Out: a `Lease`, with which the relay may read and settle, or an exception. Every
recovery uses a term of its own (rule R2).

The steps: read the journal to its end; append a marker of the next term and read up to it, which fixes the last valid
batch `m`; stop Redis from deciding (rule R3); compare its newest batch `r` with `m`; redo or rebuild what Redis lost
(`tables.recovery.rebuild`); bless (rule R5).
"""

from __future__ import annotations

import logging

from msgspec import Struct

from stocktide.streams import failpoints
from stocktide.streams.journal.log import JournalLog
from stocktide.streams.journal.record import Position, encode_record, marker
from stocktide.tables.derived_rows import RebuildSource
from stocktide.tables.ledger.control import LedgerControl, Refusal, ServerState, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.recovery.journal_scan import Fork, JournalScan, LostTail, Superseded, TakeoverError, start_scan
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery

__all__ = ["Fork", "Lease", "LostTail", "Superseded", "TakeoverError", "take_over"]

_LOG = logging.getLogger(__name__)
# A race needs one try more than there are owners; more tries indicate an error.
_TRIES_MAX = 8


class Lease(Struct, frozen=True):
    """The right to relay and settle until a higher term appears. `position` is the reader's, after the own marker;
    `unsettled` are the positions, in order, that Redis has not settled yet: the relay begins with them."""

    term: int
    owner: str
    position: Position
    unsettled: tuple[Position, ...]


async def take_over(
    log: JournalLog,
    control: LedgerControl,
    owner: str,
    source: RebuildSource,
    limits: LedgerLimits | None = None,
    report: ProgressReporter | None = None,
    anew: bool = False,
) -> Lease:
    """Take the shard over. `owner` must be unique to this process. `anew` flushes and rebuilds Redis in any case.

    Raises Superseded if another owner is faster; LostTail or Fork if this Redis must not decide and cannot be
    recovered; and the errors of log, source and Redis.
    """
    report = report or ProgressReporter()
    try:
        for _ in range(_TRIES_MAX):
            scan = await _scan_to_own_marker(log, control, owner, source)
            if scan is None:
                continue  # another marker of that term came before ours
            term = scan.reader.position.term
            seen = await control.unbless(term)
            if isinstance(seen, StepRefused):
                raise Superseded(f"term {term} was overtaken by term {seen.term}")
            failpoints.hit("in_takeover")
            if scan.starts_at_settled and (seen.settled is None or seen.settled.batch < scan.start.batch):
                continue  # Redis was replaced since its settled position was read
            recovery = Recovery(log, control, term, seen, limits or LedgerLimits(), report)
            if anew:
                last = scan.reader.position
                await _rebuild(control, recovery, term, seen, last, source, "asked to")
                settled = scan.position_of(last.batch, last.token)
            else:
                settled = await _bring_up(control, recovery, term, seen, scan, source)
            return Lease(term, owner, scan.reader.position, scan.unsettled_after(settled))
    finally:
        report.clear()
    raise Superseded(f"another owner was faster {_TRIES_MAX} times in a row")


async def _scan_to_own_marker(
    log: JournalLog, control: LedgerControl, owner: str, source: RebuildSource
) -> JournalScan | None:
    """Append a marker of the next term and read up to it. None if the marker is void."""
    scan = await start_scan(log, control, source)
    term = max(scan.reader.position.term, await control.term()) + 1
    offset = await (await log.append([encode_record(marker(term, owner))]))
    await scan.read_up_to(offset + 1)
    now = scan.reader.position
    return scan if (now.term, now.owner, now.offset) == (term, owner, offset + 1) else None


async def _bring_up(
    control: LedgerControl, recovery: Recovery, term: int, seen: ServerState, scan: JournalScan, source: RebuildSource
) -> Position | None:
    """Bring the unblessed Redis to the journal's state and bless it. Gives Redis's settled position."""
    last = scan.reader.position
    settled = seen.settled
    rebuild_reason: str | None = None
    # Batches that Redis has not settled aged out of the journal: they cannot be read back and settled one by one.
    gap = scan.start.batch > (settled.batch if settled else 0)
    if 0 < seen.batch < last.batch or (gap and seen.batch == last.batch):
        position = scan.position_of(seen.batch, seen.token)
        if position is None:
            rebuild_reason = f"batch {seen.batch}, the newest one in Redis, is not the journal's"
        else:
            _LOG.warning("Redis came back with batch %d, the journal holds %d: redo", seen.batch, last.batch)
            await recovery.redo(position, last, scan.tokens_between(settled, seen.batch))
            settled = scan.position_of(last.batch, last.token)
    elif seen.batch == 0 < last.batch:
        rebuild_reason = "Redis is empty"
    elif seen.batch == last.batch and seen.token != last.token:
        rebuild_reason = f"batch {seen.batch} has one token in Redis and another one in the journal"
    elif gap:
        rebuild_reason = (
            f"Redis is settled below batch {scan.start.batch}, and the journal no longer holds what follows"
        )
    if rebuild_reason is None:
        refused = await control.bless(term, seen, last.batch, last.token)
        if refused is None:
            _LOG.info("blessed: term %d, journal at batch %d, Redis came with batch %d", term, last.batch, seen.batch)
            return settled
        if refused.reason is not Refusal.BROKEN:
            raise Superseded(f"while term {term} took over, Redis changed: {refused.reason}")
        rebuild_reason = f"Redis's outbox does not lead from batch {last.batch} to its newest one, {seen.batch}"
    await _rebuild(control, recovery, term, seen, last, source, rebuild_reason)
    return scan.position_of(last.batch, last.token)


async def _rebuild(
    control: LedgerControl,
    recovery: Recovery,
    term: int,
    seen: ServerState,
    last: Position,
    source: RebuildSource,
    why: str,
) -> None:
    """Flush, rebuild and bless: no decision of a fork was ever settled."""
    if last.batch == 0:
        raise Fork(
            f"{why}, and the journal is empty: it is not the one that this Redis belongs to. Point Stocktide at the "
            f"right Kafka; or, to begin with nothing, remove the keys of this app from Redis. Until then nothing is "
            f"decided"
        )
    _LOG.warning("%s: rebuilding it from the journal up to batch %d", why, last.batch)
    await recovery.rebuild(last, source)
    refused = await control.bless(term, seen, last.batch, last.token)
    if refused is not None:
        raise Superseded(f"while term {term} rebuilt Redis, it changed: {refused.reason}")
    _LOG.info("blessed: term %d, rebuilt up to batch %d", term, last.batch)
