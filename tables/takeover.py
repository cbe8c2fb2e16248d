"""A new owner's way from the journal's head to a blessed Redis.

In: a journal and a Redis in whatever state they are. Out: a `Lease`, with which the relay may read and settle; or an
exception that says what was found. Every recovery uses a term of its own (rule R2).

The way: read the journal from where Redis noted to be settled; append a marker of the next term and read up to it, so
that the last valid batch `m` is known for ever; stop Redis from deciding (rule R3); compare its newest batch `r` with
`m`; bless (rule R5).
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque

from msgspec import Struct

from streams import failpoints
from streams.journal import (
    KIND_MARKER,
    JournalReader,
    JournalRecord,
    Position,
    Verdict,
    decode_record,
    encode_record,
    marker,
)
from streams.log import JournalLog, OutOfRange
from tables.handover import Handover, Refusal, Refused, Seen

_LOG = logging.getLogger(__name__)
# Two owners that race need one try more than there are owners; this many in a row means that something is wrong.
_TRIES_MAX = 8
# The broker gives what is there at once; this long with nothing, before the end is reached, is an outage.
_SILENCE_SECONDS = 10.0
# Tokens of batches after the settled one that are kept to be compared: far more than an outbox may hold.
_TOKENS_MAX = 100_000


class TakeoverError(Exception):
    """The takeover did not end blessed. Its text says what was found; Redis stays unblessed."""


class Superseded(TakeoverError):
    """Somebody else takes over, or something moved meanwhile: begin anew, if the shard is still ours."""


class LostTail(TakeoverError):
    """Redis came back without the end of what the journal holds."""


class Fork(TakeoverError):
    """Redis and the journal tell two different stories."""


class Lease(Struct, frozen=True):
    """The right to relay and settle until a higher term appears. `position` is the reader's, after the own marker;
    `unsettled` are the positions, in order, that Redis has not settled yet: the relay begins with them."""

    term: int
    owner: str
    position: Position
    unsettled: tuple[Position, ...]


async def take_over(log: JournalLog, handover: Handover, owner: str) -> Lease:
    """Take the shard over. `owner` must be unique to this process.

    Raises Superseded where another owner is faster; LostTail or Fork where this Redis must not decide; and what log
    and Redis raise.
    """
    for _ in range(_TRIES_MAX):
        walk = await _walk_to_own_marker(log, handover, owner)
        if walk is None:
            continue  # another marker of that term lay before ours
        term = walk.reader.position.term
        seen = await handover.unbless(term)
        if isinstance(seen, Refused):
            raise Superseded(f"term {term} was overtaken by term {seen.term}")
        failpoints.hit("in_takeover")
        if seen.settled is not None and seen.settled.batch < walk.start.batch:
            continue  # Redis itself was exchanged since we asked it where to begin
        await _bring_up(handover, term, seen, walk)
        return Lease(term, owner, walk.reader.position, walk.unsettled_after(seen.settled))
    raise Superseded(f"another owner was faster {_TRIES_MAX} times in a row")


async def _bring_up(handover: Handover, term: int, seen: Seen, walk: _Walk) -> None:
    """Make the unblessed Redis hold what the journal holds, and bless it."""
    last = walk.reader.position
    if seen.batch < last.batch:
        # Here redo comes: `replay.lua` for r+1 … m (rule R4), or rebuild where Redis is empty. Then bless as below.
        raise _refuse_behind(seen, walk)
    if seen.batch == last.batch and seen.token != last.token:
        raise _fork(f"batch {seen.batch} has one token in Redis and another one in the journal")
    refused = await handover.bless(term, seen, last.batch, last.token)
    if refused is None:
        _LOG.info("blessed: term %d, journal at batch %d, Redis at batch %d", term, last.batch, seen.batch)
        return
    if refused.reason is Refusal.BROKEN:
        raise _fork(
            f"the journal ends with batch {last.batch} and Redis with batch {seen.batch}, but Redis's outbox does not "
            f"lead from the one to the other: it breaks at batch {refused.batch}"
        )
    raise Superseded(f"while term {term} took over, Redis changed: {refused.reason}")


def _refuse_behind(seen: Seen, walk: _Walk) -> TakeoverError:
    last = walk.reader.position
    if seen.batch == 0:
        return LostTail(
            f"Redis is empty, but the journal holds batches up to {last.batch}. This version cannot rebuild Redis from "
            f"the journal yet: start Redis again with its data (AOF or RDB), or begin with an empty journal. Until "
            f"then nothing is decided"
        )
    token = walk.tokens.get(seen.batch)
    if token != seen.token:
        known = "is another one in the journal" if token is not None else "is not in the journal"
        return _fork(f"batch {seen.batch}, the newest one in Redis, {known}, which ends with batch {last.batch}")
    missing = last.batch - seen.batch
    return LostTail(
        f"Redis came back with batch {seen.batch}, but the journal holds batches up to {last.batch}: Redis lost the "
        f"last {missing}. This version cannot bring them back from the journal yet: start Redis again with its newest "
        f"data, or make the server that has batch {last.batch} the primary. Until then nothing is decided"
    )


def _fork(found: str) -> Fork:
    return Fork(
        f"this Redis is a fork: {found}. It must not decide: make the server that holds the journal's last batch the "
        f"primary, or point Stocktide at the journal that belongs to this Redis. Until then nothing is decided"
    )


async def _walk_to_own_marker(log: JournalLog, handover: Handover, owner: str) -> _Walk | None:
    """Append a marker of the next term and read up to it. None if it turned out void."""
    walk = _Walk(log, await handover.settled() or Position.beginning())
    await walk.read_up_to(await walk.read_first())
    term = max(walk.reader.position.term, await handover.term()) + 1
    offset = await (await log.append([encode_record(marker(term, owner))]))
    await walk.read_up_to(offset + 1)
    now = walk.reader.position
    return walk if (now.term, now.owner, now.offset) == (term, owner, offset + 1) else None


def _is_before(start: Position, record: JournalRecord | None) -> bool:
    """Whether `record` is the batch or the marker after which a reader stands at `start`."""
    if record is None or (record.term, record.owner) != (start.term, start.owner):
        return False
    return record.kind == KIND_MARKER or (record.batch, record.token) == (start.batch, start.token)


class _Walk:
    """Reads the journal from where Redis is settled, and keeps what the comparison needs."""

    def __init__(self, log: JournalLog, start: Position) -> None:
        self._log = log
        self.start = start
        self.reader = JournalReader(start)
        self.positions: deque[Position] = deque(maxlen=_TOKENS_MAX)
        self.tokens: OrderedDict[int, str] = OrderedDict({start.batch: start.token})

    async def read_first(self) -> int:
        """Check that this is the journal in which Redis settled, and that nothing of it aged out since. Gives the
        offset at which it ends."""
        start = self.start
        beginning, end = await self._log.bounds()
        if end < start.offset:
            raise _fork(
                f"Redis settled batch {start.batch} below offset {start.offset} of the journal, which ends at {end}"
            )
        if beginning > start.offset:
            where = f"is settled up to offset {start.offset} only" if start.offset else "is empty"
            raise LostTail(
                f"the journal begins at offset {beginning}, but Redis {where}: what lay before has aged out. Start "
                f"Redis again with its newest data (AOF or RDB). Until then nothing is decided"
            )
        if start.offset > beginning:
            records = await self._log.read(start.offset - 1, _SILENCE_SECONDS)
            if not records or not _is_before(start, decode_record(records[0].value)):
                raise _fork(f"the journal holds at offset {start.offset - 1} something else than Redis settled there")
            for record in records[1:]:
                self._take(record.offset, record.value)
        return end

    async def read_up_to(self, end: int) -> None:
        """Read every record below `end`. Raises TakeoverError where the journal stops giving."""
        while self.reader.next_offset < end:
            try:
                records = await self._log.read(self.reader.next_offset, _SILENCE_SECONDS)
            except OutOfRange as error:
                raise Superseded(f"the journal changed while it was read: {error}") from error
            if not records:
                at = self.reader.next_offset
                raise TakeoverError(f"the journal gives nothing at offset {at}, though it goes on to {end}")
            for record in records:
                if record.offset >= end:
                    return
                self._take(record.offset, record.value)
            await asyncio.sleep(0)  # a long journal must not starve the loop

    def _take(self, offset: int, value: bytes | None) -> None:
        verdict = self.reader.feed(offset, decode_record(value))
        if verdict is Verdict.VOID:
            return
        position = self.reader.position
        self.positions.append(position)
        self.tokens[position.batch] = position.token
        if len(self.tokens) > _TOKENS_MAX:
            self.tokens.popitem(last=False)

    def unsettled_after(self, settled: Position | None) -> tuple[Position, ...]:
        """The positions that Redis, settled up to `settled`, has yet to note."""
        offset = settled.offset if settled else 0
        return tuple(position for position in self.positions if position.offset > offset)
