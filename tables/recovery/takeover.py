"""A new owner's way from the journal's head to a blessed Redis.

In: a journal and a Redis in whatever state they are. Out: a `Lease`, with which the relay may read and settle; or an
exception that says what was found. Every recovery uses a term of its own (rule R2).

The way: read the journal up to its end; append a marker of the next term and read up to it, so that the last valid
batch `m` is known for ever; stop Redis from deciding (rule R3); compare its newest batch `r` with `m`; bring it up
where it lost something (`tables.recovery.rebuild`); bless (rule R5).
"""

from __future__ import annotations

import logging

from msgspec import Struct

from stocktide.streams import failpoints
from stocktide.streams.journal.log import JournalLog
from stocktide.streams.journal.record import Position, encode_record, marker
from stocktide.tables.derived_rows import RebuildSource
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.control import LedgerControl, Refusal, ServerState, StepRefused
from stocktide.tables.recovery.journal_scan import Fork, JournalScan, LostTail, Superseded, TakeoverError, start_scan
from stocktide.tables.recovery.rebuild import ProgressReporter, Recovery

__all__ = ["Fork", "Lease", "LostTail", "Superseded", "TakeoverError", "take_over"]

_LOG = logging.getLogger(__name__)
# Two owners that race need one try more than there are owners; this many in a row means that something is wrong.
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
    handover: LedgerControl,
    owner: str,
    source: RebuildSource,
    limits: LedgerLimits | None = None,
    report: ProgressReporter | None = None,
    anew: bool = False,
) -> Lease:
    """Take the shard over. `owner` must be unique to this process. `anew` flushes and rebuilds Redis whatever it holds.

    Raises Superseded where another owner is faster; LostTail or Fork where this Redis must not decide and cannot be
    brought back; and what log, source and Redis raise.
    """
    report = report or ProgressReporter()
    try:
        for _ in range(_TRIES_MAX):
            walk = await _walk_to_own_marker(log, handover, owner, source)
            if walk is None:
                continue  # another marker of that term lay before ours
            term = walk.reader.position.term
            seen = await handover.unbless(term)
            if isinstance(seen, StepRefused):
                raise Superseded(f"term {term} was overtaken by term {seen.term}")
            failpoints.hit("in_takeover")
            if walk.starts_at_settled and (seen.settled is None or seen.settled.batch < walk.start.batch):
                continue  # Redis itself was exchanged since we asked it where to begin
            recovery = Recovery(log, handover, term, seen, limits or LedgerLimits(), report)
            if anew:
                last = walk.reader.position
                await _build_anew(handover, recovery, term, seen, last, source, "asked to")
                settled = walk.position_of(last.batch, last.token)
            else:
                settled = await _bring_up(handover, recovery, term, seen, walk, source)
            return Lease(term, owner, walk.reader.position, walk.unsettled_after(settled))
    finally:
        report.clear()
    raise Superseded(f"another owner was faster {_TRIES_MAX} times in a row")


async def _walk_to_own_marker(
    log: JournalLog, handover: LedgerControl, owner: str, source: RebuildSource
) -> JournalScan | None:
    """Append a marker of the next term and read up to it. None if it turned out void."""
    walk = await start_scan(log, handover, source)
    term = max(walk.reader.position.term, await handover.term()) + 1
    offset = await (await log.append([encode_record(marker(term, owner))]))
    await walk.read_up_to(offset + 1)
    now = walk.reader.position
    return walk if (now.term, now.owner, now.offset) == (term, owner, offset + 1) else None


async def _bring_up(
    handover: LedgerControl, recovery: Recovery, term: int, seen: ServerState, walk: JournalScan, source: RebuildSource
) -> Position | None:
    """Make the unblessed Redis hold what the journal holds, and bless it. How far Redis is settled then."""
    last = walk.reader.position
    settled = seen.settled
    fork: str | None = None
    # What Redis has yet to settle aged out: nobody can read it back and settle it there, one batch after the other.
    gap = walk.start.batch > (settled.batch if settled else 0)
    if 0 < seen.batch < last.batch or (gap and seen.batch == last.batch):
        stand = walk.position_of(seen.batch, seen.token)
        if stand is None:
            fork = f"batch {seen.batch}, the newest one in Redis, is not the journal's"
        else:
            _LOG.warning("Redis came back with batch %d, the journal holds %d: redo", seen.batch, last.batch)
            await recovery.redo(stand, last, walk.tokens_between(settled, seen.batch))
            settled = walk.position_of(last.batch, last.token)
    elif seen.batch == 0 < last.batch:
        fork = "Redis is empty"
    elif seen.batch == last.batch and seen.token != last.token:
        fork = f"batch {seen.batch} has one token in Redis and another one in the journal"
    elif gap:
        fork = f"Redis is settled below batch {walk.start.batch}, and the journal no longer holds what follows"
    if fork is None:
        refused = await handover.bless(term, seen, last.batch, last.token)
        if refused is None:
            _LOG.info("blessed: term %d, journal at batch %d, Redis came with batch %d", term, last.batch, seen.batch)
            return settled
        if refused.reason is not Refusal.BROKEN:
            raise Superseded(f"while term {term} took over, Redis changed: {refused.reason}")
        fork = f"Redis's outbox does not lead from batch {last.batch} to its newest one, {seen.batch}"
    await _build_anew(handover, recovery, term, seen, last, source, fork)
    return walk.position_of(last.batch, last.token)


async def _build_anew(
    handover: LedgerControl,
    recovery: Recovery,
    term: int,
    seen: ServerState,
    last: Position,
    source: RebuildSource,
    why: str,
) -> None:
    """Flush and rebuild: what a fork decided was told to nobody."""
    if last.batch == 0:
        raise Fork(
            f"{why}, and the journal is empty: it is not the one that this Redis belongs to. Point Stocktide at the "
            f"right Kafka; or, to begin with nothing, remove the keys of this app from Redis. Until then nothing is "
            f"decided"
        )
    _LOG.warning("%s: rebuilding it from the journal up to batch %d", why, last.batch)
    await recovery.rebuild(last, source)
    refused = await handover.bless(term, seen, last.batch, last.token)
    if refused is not None:
        raise Superseded(f"while term {term} rebuilt Redis, it changed: {refused.reason}")
    _LOG.info("blessed: term %d, rebuilt up to batch %d", term, last.batch)
