"""The relay: outbox → journal → read back → settle, for as long as this process owns the shard.

In: the outbox of a blessed Redis. Out: records of the journal, and, once they have been read back as valid, settled
tokens. The relay takes over first, and takes over anew, with a new term, whenever Redis refuses it or is not the one
it was (rules R1, R2). It opens no payload.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.errors import StocktideError
from stocktide.streams import failpoints
from stocktide.streams.journal.log import JournalLog, OutOfRange
from stocktide.streams.journal.record import (
    KIND_BATCH,
    JournalReader,
    JournalRecord,
    Position,
    RecordVerdict,
    decode_record,
    encode_record,
)
from stocktide.streams.kafka.publish import PERMANENT_ERRORS
from stocktide.streams.shutdown import end
from stocktide.streams.topics import JOURNAL_RECORD_BYTES_MAX
from stocktide.tables.derived_rows import RebuildSource
from stocktide.tables.ledger.client import LedgerLimits
from stocktide.tables.ledger.control import LedgerControl, OutboxEntry, StepRefused
from stocktide.tables.recovery.rebuild import ProgressReporter, RecoveryProgress
from stocktide.tables.recovery.takeover import Fork, Lease, LostTail, TakeoverError, take_over

_LOG = logging.getLogger(__name__)
# One read of the outbox, in batches and in bytes: what one produce request can hold.
ENTRIES_MAX = 500
ENTRIES_BYTES_MAX = 1024 * 1024
# Produce requests under way. Kafka takes one at a time for a partition; a second is ready when the first one ends.
APPENDS_MAX = 4
# Records settled by one call of Lua: shoppers wait behind it.
SETTLE_MAX = 500
# With nothing in the outbox, how often Redis is asked whether it is still the blessed one.
IDLE_MS = 250
# With nothing in the journal, how often the reader looks whether it should still be there.
READ_SECONDS = 1.0
# Entries sent and not read back for this long are sent again from the oldest (rule R8). Above any ordinary hiccup of a
# broker; what was sent twice is void, and costs nothing but its bytes.
STALL_SECONDS = 3.0
# Pauses between takeovers: doubled from the first to the last. The last is what an operator waits after a repair.
PAUSE_SECONDS_FIRST = 0.05
PAUSE_SECONDS_MAX = 2.0
# The pause where only an operator can help: every takeover leaves a marker in the journal.
UNPUBLISHABLE_SECONDS = 10.0
# A term that lasted this long was a good one: the next takeover is not a repeat of the last.
GOOD_TERM_SECONDS = 1.0


class _Unpublishable(StocktideError):
    """The journal will never take a batch of the outbox. Its text tells an operator how to go on."""


class _Refused(StocktideError):
    """Redis no longer takes this relay's word."""


class _Overtaken(StocktideError):
    """A marker of a higher term was read."""


_TROUBLE = (TakeoverError, _Unpublishable, _Refused, _Overtaken, OutOfRange, RedisError, KafkaError, OSError)


class Relay:
    """One shard's relay: `start` it, `stop` it. `log` is its own, and closed with it.

    `assigned` says whether the shard is still this process's: once it says no, `run` ends. For readiness and metrics:
    `blessed`, `term`, `position` (how far it is settled), `sent` (the newest batch handed to Kafka), `error` (the
    newest trouble as a sentence, None once it is over), `takeovers`, `resent`. `source` is where a rebuild reads.
    """

    def __init__(
        self,
        log: JournalLog,
        handover: LedgerControl,
        owner: str,
        *,
        source: RebuildSource,
        limits: LedgerLimits | None = None,
        assigned: Callable[[], bool] = lambda: True,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._log = log
        self._handover = handover
        self._owner = owner
        self._source = source
        self._limits = limits or LedgerLimits()
        self._progress = ProgressReporter()
        self._assigned = assigned
        self._stall_seconds = stall_seconds
        self._reader = JournalReader()
        self._under_way: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue(APPENDS_MAX)
        self._running: asyncio.Task[None] | None = None
        self.blessed = False
        self.term = 0
        self.position = Position.beginning()
        self.sent = 0
        self.error: str | None = None
        self.takeovers = 0
        self.resent = 0
        # Why nothing will be settled until an operator acts; None where that is not so.
        self.stuck: str | None = None

    @property
    def recovery(self) -> RecoveryProgress | None:
        """How far Redis was brought back; None where it is not being brought back."""
        return self._progress.now

    @property
    def lag(self) -> int:
        """Batches that were handed to Kafka and are not settled yet."""
        return max(0, self.sent - self.position.batch)

    @property
    def next_offset(self) -> int:
        """The offset of the journal up to which batches are settled."""
        return self.position.offset

    @property
    def reading(self) -> int | None:
        """How far the first takeover has read the journal; None once one has failed: the next one reads all again."""
        return None if self.blessed or self.error else self._log.next_offset

    def start(self) -> None:
        """Run in a task of its own."""
        self._running = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """End at once what `start` began. What is under way belongs to a term that the next owner ends."""
        if self._running is not None:
            await end(self._running)
        await self._log.close()

    async def run(self) -> None:
        """Take over and serve, again and again, while the shard is assigned to this process."""
        pause = PAUSE_SECONDS_FIRST
        loop = asyncio.get_running_loop()
        while self._assigned():
            began = loop.time()
            try:
                lease = await take_over(
                    self._log, self._handover, self._owner, self._source, self._limits, self._progress
                )
                await self._serve(lease)
            except _TROUBLE as error:
                self._report(error)
            except Exception as error:  # a bug: without a relay nobody would be answered again
                _LOG.exception("the relay failed and takes over anew")
                self.error = f"the relay failed: {error!r}"
            finally:
                self.blessed = False
            if self.stuck:
                pause = UNPUBLISHABLE_SECONDS
            elif loop.time() - began > GOOD_TERM_SECONDS and self.term:
                pause = PAUSE_SECONDS_FIRST
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    def _report(self, error: Exception) -> None:
        sentence = str(error) or type(error).__name__
        if isinstance(error, _Unpublishable):
            self.stuck = sentence
        if sentence != self.error:
            level = logging.ERROR if isinstance(error, Fork | LostTail | _Unpublishable) else logging.WARNING
            _LOG.log(level, "the relay takes over anew: %s", sentence)
        self.error = sentence

    async def _serve(self, lease: Lease) -> NoReturn:
        self.takeovers += 1
        self.term = lease.term
        self._reader = JournalReader(lease.position)
        self._under_way = asyncio.Queue(APPENDS_MAX)
        self.blessed, self.error = True, None
        await self._settle(lease.unsettled)
        self.sent = self.position.batch
        await _first_to_fail(self._send(), self._acknowledge(), self._read_back(), self._resend_where_stalled())

    async def _send(self) -> NoReturn:
        """Copy the outbox into the journal, in order, with a few appends under way."""
        while True:
            sent = self.sent
            entries = await self._handover.outbox(self.term, sent + 1, ENTRIES_MAX, ENTRIES_BYTES_MAX)
            if isinstance(entries, StepRefused):
                raise _Refused(f"Redis refuses the relay of term {self.term}: {entries.reason}")
            if not entries and not self.lag:
                self.stuck = None
            if entries and self.sent == sent:  # else told to send again from further back, while this was read
                await self._append(entries)
            if len(entries) < 2:  # where several came at once there are more by now: no need to be woken
                await self._handover.wait_for_outbox(self.sent, IDLE_MS)

    async def _append(self, entries: Sequence[OutboxEntry]) -> None:
        failpoints.hit("before_send")
        self.sent = entries[-1].batch
        values = [encode_record(self._record(entry)) for entry in entries]
        for entry, value in zip(entries, values, strict=True):
            if len(value) > JOURNAL_RECORD_BYTES_MAX:
                raise _Unpublishable(_how_to_go_on(entry.batch, len(value)))
        acknowledged = asyncio.ensure_future(await self._log.append(values))
        acknowledged.add_done_callback(_look_at)
        failpoints.hit("after_send")
        await self._under_way.put(acknowledged)

    async def _acknowledge(self) -> NoReturn:
        """Watch the appends that are under way. One that failed leaves a gap: a takeover closes it."""
        while True:
            acknowledged = await self._under_way.get()
            try:
                await asyncio.shield(acknowledged)  # what was sent cannot be called back
            except PERMANENT_ERRORS as error:
                raise _Unpublishable(_how_to_go_on(self.position.batch + 1, None)) from error

    def _record(self, entry: OutboxEntry) -> JournalRecord:
        return JournalRecord(
            KIND_BATCH, self.term, self._owner, entry.batch, entry.token, entry.previous, entry.payload
        )

    async def _read_back(self) -> NoReturn:
        """Follow the partition and settle what is valid. An own record counts from here on, not from its send."""
        while True:
            records = await self._log.read(self._reader.next_offset, READ_SECONDS)
            positions = []
            for record in records:
                verdict = self._reader.feed(record.offset, decode_record(record.value))
                if verdict is RecordVerdict.MARKER:
                    newer = self._reader.position
                    raise _Overtaken(f"term {self.term} is over: {newer.owner} opened term {newer.term}")
                if verdict is RecordVerdict.BATCH:
                    positions.append(self._reader.position)
            if positions:
                failpoints.hit("between_read_and_settle")
                await self._settle(positions)
                failpoints.hit("after_settle")

    async def _settle(self, positions: Sequence[Position]) -> None:
        for start in range(0, len(positions), SETTLE_MAX):
            chunk = positions[start : start + SETTLE_MAX]
            settled = await self._handover.settle(self.term, chunk)
            if isinstance(settled, StepRefused):
                raise _Refused(f"Redis refuses to settle batch {chunk[-1].batch}: {settled.reason}")
            if chunk[-1].batch > self.position.batch:
                self.stuck = None
            self.position = chunk[-1]
            self.error = None

    async def _resend_where_stalled(self) -> NoReturn:
        """Go back to the oldest entry that is not settled, where nothing moves (rule R8)."""
        before = self.position.batch
        while True:
            await asyncio.sleep(self._stall_seconds)
            if self.lag and self.position.batch == before:
                _LOG.warning("batch %d was sent and not read back: sending again from there", before + 1)
                self.resent += 1
                self.sent = before
            before = self.position.batch


def _how_to_go_on(batch: int, size: int | None) -> str:
    known = f"has {size} bytes and is" if size is not None else "or one soon after it is"
    return (
        f"batch {batch} {known} larger than the topic journal takes ({JOURNAL_RECORD_BYTES_MAX} bytes, unless its "
        f"max.message.bytes says otherwise): nothing is settled any more. `stocktide rebuild --force` brings Redis "
        f"back to the last settled batch; no answer was given for what came after it, and it is decided anew"
    )


def _look_at(acknowledged: asyncio.Future[int]) -> None:
    """Whose relay has stopped is looked at by nobody; asyncio must not complain of that."""
    if not acknowledged.cancelled():
        acknowledged.exception()


async def _first_to_fail(*parts: Coroutine[Any, Any, NoReturn]) -> NoReturn:
    """Run `parts` side by side until one raises; end the others, and raise that."""
    tasks = [asyncio.create_task(part) for part in parts]
    outcomes: list[Any] = []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        outcomes = await end(*tasks)
    raise next(outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError))
