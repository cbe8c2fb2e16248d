"""The relay: outbox → journal → read back → settle, while this process owns the shard.

In: the outbox of a blessed Redis. Out: records of the journal, and settled tokens after the records are read back as
valid. The relay begins with a takeover, and takes over again with a new term when Redis refuses it or has changed
(rules R1, R2). It does not decode payloads.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn, Protocol

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from stocktide.errors import StocktideError
from stocktide.streams import failpoints
from stocktide.streams.backoff import doubling_pauses
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
from stocktide.tables.ledger.control import LedgerControl, OutboxEntry, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.recovery.rebuild import ProgressReporter, RecoveryProgress
from stocktide.tables.recovery.takeover import Fork, Lease, LostTail, TakeoverError, take_over

logger = logging.getLogger(__name__)
# One read of the outbox: what one produce request can hold.
ENTRIES_MAX = 500
ENTRIES_BYTES_MAX = 1024 * 1024
# Pending produce requests. Kafka processes one at a time per partition; the others are ready when it ends.
APPENDS_MAX = 4
# Records per settle call: Redis blocks during it.
SETTLE_MAX = 500
# How often an empty outbox is read, which also checks that Redis is still blessed.
IDLE_MS = 250
# How long one read of the journal waits for records.
READ_SECONDS = 1.0
# Entries sent and not read back for this long are sent again from the oldest (rule R8). Longer than a usual pause of a
# broker; a duplicate record is invalid and costs only its bytes.
STALL_SECONDS = 3.0
# Pauses between takeovers, doubled each time. The longest delays the recovery after an operator's repair.
PAUSE_SECONDS_FIRST = 0.05
PAUSE_SECONDS_MAX = 2.0
# The pause if only an operator can help: each takeover appends a marker to the journal.
UNPUBLISHABLE_SECONDS = 10.0
# After a term that lasted this long, the pauses start again from the first.
GOOD_TERM_SECONDS = 1.0


class _Unpublishable(StocktideError):
    """The journal refuses a batch of the outbox permanently; the message tells an operator what to do."""


class _RelayRefused(StocktideError):
    """Redis refused this relay: it is not blessed, or its term is over."""


class _Superseded(StocktideError):
    """A marker of a higher term was read."""


class BatchTraces(Protocol):
    """Hears of the batches on their way through the journal (`agents.traced`)."""

    def sent(self, entries: Sequence[OutboxEntry]) -> None: ...
    def settled(self, positions: Sequence[Position]) -> None: ...


_EXPECTED = (TakeoverError, _Unpublishable, _RelayRefused, _Superseded, OutOfRange, RedisError, KafkaError, OSError)


class Relay:
    """One shard's relay. It owns `log` and closes it.

    `assigned` returns whether this process owns the shard; `run` ends when it returns false. `source` is read by a
    rebuild. For readiness and metrics: `blessed`, `term`, `position` (settled up to), `sent` (the newest batch sent to
    Kafka), `error` (the newest error as a sentence, or None), `takeovers`, `resent`.
    """

    def __init__(
        self,
        log: JournalLog,
        control: LedgerControl,
        owner: str,
        *,
        source: RebuildSource,
        limits: LedgerLimits | None = None,
        assigned: Callable[[], bool] = lambda: True,
        stall_seconds: float = STALL_SECONDS,
        traces: BatchTraces | None = None,
    ) -> None:
        self._log = log
        self._control = control
        self._owner = owner
        self._source = source
        self._limits = limits or LedgerLimits()
        self._progress = ProgressReporter()
        self._assigned = assigned
        self._stall_seconds = stall_seconds
        self._traces = traces
        self._reader = JournalReader()
        self._pending_appends: asyncio.Queue[asyncio.Future[int]] = asyncio.Queue(APPENDS_MAX)
        self._running: asyncio.Task[None] | None = None
        self.blessed = False
        self.term = 0
        self.position = Position.beginning()
        self.sent = 0
        self.error: str | None = None
        self.takeovers = 0
        self.resent = 0
        # Why nothing is settled until an operator acts, or None.
        self.stuck: str | None = None

    @property
    def recovery(self) -> RecoveryProgress | None:
        """The progress of a recovery of Redis, or None."""
        return self._progress.now

    @property
    def lag(self) -> int:
        """Batches sent to Kafka and not settled yet."""
        return max(0, self.sent - self.position.batch)

    @property
    def next_offset(self) -> int:
        """The journal offset up to which batches are settled."""
        return self.position.offset

    @property
    def reading(self) -> int | None:
        """The journal offset that the first takeover has read up to; None afterwards: a repeat reads the same again."""
        return None if self.blessed or self.error else self._log.next_offset

    def start(self) -> None:
        """Start `run` as a task."""
        self._running = asyncio.create_task(self.run())

    async def stop(self) -> None:
        """Stop the task and close the log. The next owner's takeover ends the term."""
        if self._running is not None:
            await end(self._running)
        await self._log.close()

    async def run(self) -> None:
        """Take over and serve, repeatedly, while the shard is assigned to this process."""
        pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
        loop = asyncio.get_running_loop()
        while self._assigned():
            began = loop.time()
            try:
                lease = await take_over(
                    self._log, self._control, self._owner, self._source, self._limits, self._progress
                )
                await self._serve(lease)
            except _EXPECTED as error:
                self._report(error)
            except Exception as error:  # a bug; without a relay no request would be answered
                logger.exception("the relay failed and takes over again")
                self.error = f"the relay failed: {error!r}"
            finally:
                self.blessed = False
            if loop.time() - began > GOOD_TERM_SECONDS and self.term:
                pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
            pause = UNPUBLISHABLE_SECONDS if self.stuck else next(pauses)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    def _report(self, error: Exception) -> None:
        sentence = str(error) or type(error).__name__
        if isinstance(error, _Unpublishable):
            self.stuck = sentence
        if sentence != self.error:
            level = logging.ERROR if isinstance(error, Fork | LostTail | _Unpublishable) else logging.WARNING
            logger.log(level, "the relay takes over again: %s", sentence)
        self.error = sentence

    async def _serve(self, lease: Lease) -> NoReturn:
        self.takeovers += 1
        self.term = lease.term
        self._reader = JournalReader(lease.position)
        self._pending_appends = asyncio.Queue(APPENDS_MAX)
        self.blessed, self.error = True, None
        await self._settle(lease.unsettled)
        self.sent = self.position.batch
        await _first_to_fail(self._send(), self._acknowledge(), self._read_back(), self._resend_if_stalled())

    async def _send(self) -> NoReturn:
        """Copy the outbox to the journal, in order, with up to APPENDS_MAX pending appends."""
        while True:
            sent = self.sent
            entries = await self._control.outbox(self.term, sent + 1, ENTRIES_MAX, ENTRIES_BYTES_MAX)
            if isinstance(entries, StepRefused):
                raise _RelayRefused(f"Redis refuses the relay of term {self.term}: {entries.reason}")
            if not entries and not self.lag:
                self.stuck = None
            if entries and self.sent == sent:  # else _resend_if_stalled has moved `sent` back meanwhile
                await self._append(entries)
            if len(entries) < 2:  # after several entries there are probably more
                await self._control.wait_for_outbox(self.sent, IDLE_MS)

    async def _append(self, entries: Sequence[OutboxEntry]) -> None:
        failpoints.hit("before_send")
        self.sent = entries[-1].batch
        if self._traces is not None:
            self._traces.sent(entries)
        values = [encode_record(self._record(entry)) for entry in entries]
        for entry, value in zip(entries, values, strict=True):
            if len(value) > JOURNAL_RECORD_BYTES_MAX:
                raise _Unpublishable(_unpublishable_text(entry.batch, len(value)))
        acknowledged = asyncio.ensure_future(await self._log.append(values))
        acknowledged.add_done_callback(_retrieve_exception)
        failpoints.hit("after_send")
        await self._pending_appends.put(acknowledged)

    async def _acknowledge(self) -> NoReturn:
        """Await the pending appends. A failed one leaves a gap, which a takeover closes."""
        while True:
            acknowledged = await self._pending_appends.get()
            try:
                await asyncio.shield(acknowledged)  # a sent record cannot be cancelled
            except PERMANENT_ERRORS as error:
                raise _Unpublishable(_unpublishable_text(self.position.batch + 1, None)) from error

    def _record(self, entry: OutboxEntry) -> JournalRecord:
        return JournalRecord(
            KIND_BATCH, self.term, self._owner, entry.batch, entry.token, entry.previous, entry.payload
        )

    def _describe(self, owner: str) -> str:
        """The owner of a newer term, which begins with the name of its worker. Two workers of one name take over from
        each other without end."""
        same = owner.rsplit("-", 2)[0] == self._owner.rsplit("-", 2)[0]
        return f"{owner} (another process has our STOCKTIDE_WORKER_NAME)" if same else owner

    async def _read_back(self) -> NoReturn:
        """Read the partition back and settle valid batches: a batch counts when it is read, not when it is sent."""
        while True:
            records = await self._log.read(self._reader.next_offset, READ_SECONDS)
            positions = []
            for record in records:
                verdict = self._reader.feed(record.offset, decode_record(record.value))
                if verdict is RecordVerdict.MARKER:
                    newer = self._reader.position
                    raise _Superseded(
                        f"term {self.term} is over: {self._describe(newer.owner)} opened term {newer.term}"
                    )
                if verdict is RecordVerdict.BATCH:
                    positions.append(self._reader.position)
            if positions:
                failpoints.hit("between_read_and_settle")
                await self._settle(positions)
                failpoints.hit("after_settle")

    async def _settle(self, positions: Sequence[Position]) -> None:
        for start in range(0, len(positions), SETTLE_MAX):
            chunk = positions[start : start + SETTLE_MAX]
            settled = await self._control.settle(self.term, chunk)
            if isinstance(settled, StepRefused):
                raise _RelayRefused(f"Redis refuses to settle batch {chunk[-1].batch}: {settled.reason}")
            if chunk[-1].batch > self.position.batch:
                self.stuck = None
            self.position = chunk[-1]
            self.error = None
            if self._traces is not None:
                self._traces.settled(chunk)

    async def _resend_if_stalled(self) -> NoReturn:
        """Send again from the oldest unsettled entry if no batch was settled for `stall_seconds` (rule R8)."""
        before = self.position.batch
        while True:
            await asyncio.sleep(self._stall_seconds)
            if self.lag and self.position.batch == before:
                logger.warning("batch %d was sent and not read back: resending from there", before + 1)
                self.resent += 1
                self.sent = before
            before = self.position.batch


def _unpublishable_text(batch: int, size: int | None) -> str:
    known = f"has {size} bytes and is" if size is not None else "or one soon after it is"
    return (
        f"batch {batch} {known} larger than the topic journal takes ({JOURNAL_RECORD_BYTES_MAX} bytes, unless its "
        f"max.message.bytes says otherwise): nothing is settled any more. `stocktide rebuild --force` brings Redis "
        f"back to the last settled batch; no answer was given for what came after it, and it is decided anew"
    )


def _retrieve_exception(acknowledged: asyncio.Future[int]) -> None:
    """Retrieve the exception of an append that is no longer awaited, so that asyncio does not log it."""
    if not acknowledged.cancelled():
        acknowledged.exception()


async def _first_to_fail(*parts: Coroutine[Any, Any, NoReturn]) -> NoReturn:
    """Run `parts` concurrently until one raises; cancel the others and raise its exception."""
    tasks = [asyncio.create_task(part) for part in parts]
    outcomes: list[Any] = []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        outcomes = await end(*tasks)
    raise next(outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError))
