"""An owner in the model: it takes over, relays, reads back and settles, as `agents.relay` does.

In: the outbox of a blessed server. Out: records in flight to the journal, and settled tokens. `_send` and `_read_back`
run concurrently: each step draws which of them goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from stocktide.streams.journal.record import KIND_BATCH, JournalRecord, Position, RecordVerdict
from stocktide.tables.ledger.control import Refusal
from tests.protocol.model_journal import ModelProducer, SentRecord, reader_from
from tests.protocol.model_redis import ModelServer
from tests.protocol.model_takeover import ModelLease, ModelTakeover, TakeoverFailed

if TYPE_CHECKING:
    from tests.protocol.model import World

ENTRIES_MAX = 3
APPENDS_MAX = 4
READ_MAX = 3


class Owner:
    """One process that takes the shard for its own. Its `name` is unique."""

    def __init__(self, world: World, number: int) -> None:
        self.name = f"owner-{number}"
        self.server: ModelServer = world.current
        self.producer = ModelProducer()
        self.paused = False
        self.closed = False
        self.blessed = False
        self.trouble = ""
        self._world = world
        self._rules = world.rules
        self._takeover = ModelTakeover(world, self)
        self._settled = Position.beginning()
        self._steps = self._run()

    def step(self) -> None:
        next(self._steps)

    def close(self) -> None:
        """End the process. Its records in flight remain."""
        self._steps.close()
        self.closed = True

    def send(self, record: JournalRecord) -> SentRecord:
        """Hand a record to the producer."""
        return self._world.send(self.producer, record)

    def _run(self) -> Iterator[None]:
        while True:
            try:
                lease = yield from self._takeover.run()
                yield from self._serve(lease)
            except TakeoverFailed as trouble:
                self.trouble = str(trouble)
            self.blessed = False
            if self._world.chance(0.5):  # a failed producer is replaced; its records may still arrive
                self.producer = ModelProducer()
            yield

    def _serve(self, lease: ModelLease) -> Generator[None, None, None]:
        self._term = lease.term
        self._reader = reader_from(lease.position, self._rules)
        self._in_flight: list[SentRecord] = []
        self._unanswered: list[SentRecord] = []
        self.blessed, self.trouble = True, ""
        yield
        if lease.unsettled:
            self._settle(lease.unsettled)
        self._sent = self._settled.batch
        send, read_back = self._send(), self._read_back()
        while True:
            yield
            part = self._world.draw(8)
            if part < 3:
                next(send)
            elif part < 7:
                next(read_back)
            else:
                self._check_appends()

    def _send(self) -> Iterator[None]:
        while True:
            while len(self._in_flight) >= APPENDS_MAX:
                yield
            sent = self._sent
            entries = self.server.outbox(self._term, sent + 1, ENTRIES_MAX)
            if isinstance(entries, Refusal):
                raise TakeoverFailed(entries)
            yield
            if not entries or self._sent != sent:
                continue
            self._sent = entries[-1].batch
            for entry in entries:
                record = JournalRecord(
                    KIND_BATCH, self._term, self.name, entry.batch, entry.token, entry.previous, entry.payload
                )
                self._in_flight.append(self.send(record))
            if not self._rules.answer_waits_for_read_back:
                self._unanswered += self._in_flight[-len(entries) :]
            yield

    def _check_appends(self) -> None:
        """Take acknowledgements and failures, and resend by rule R8."""
        if any(sent.failed for sent in self._in_flight):
            if self._world.chance(0.5):
                raise TakeoverFailed("an append failed")
            self._in_flight = [sent for sent in self._in_flight if not sent.failed]
        self._in_flight = [sent for sent in self._in_flight if sent.offset is None]
        lag = self._sent > self._settled.batch
        if lag and self._rules.relay_sends_again and self._world.chance(0.15):
            self._sent = self._settled.batch

    def _read_back(self) -> Iterator[None]:
        journal = self._world.journal
        while True:
            positions: list[Position] = []
            if not self._rules.answer_waits_for_read_back:
                positions = self._acknowledged()
            if self._reader.next_offset < journal.first:
                raise TakeoverFailed("the journal was trimmed")
            end = min(journal.end, self._reader.next_offset + 1 + self._world.draw(READ_MAX))
            for offset in range(self._reader.next_offset, end):
                verdict = self._reader.feed(offset, journal.records[offset])
                if verdict is RecordVerdict.MARKER and self._rules.higher_marker_ends_a_term:
                    raise TakeoverFailed("a higher marker")
                if verdict is RecordVerdict.BATCH and self._rules.answer_waits_for_read_back:
                    positions.append(self._reader.position)
            yield
            if positions:
                self._settle(positions)
                yield

    def _acknowledged(self) -> list[Position]:
        """The positions to settle if Kafka's acknowledgement were enough."""
        positions = []
        while self._unanswered and self._unanswered[0].offset is not None:
            sent = self._unanswered.pop(0)
            record = sent.record
            positions.append(Position((sent.offset or 0) + 1, self._term, self.name, record.batch, record.token))
        return positions

    def _settle(self, positions: Sequence[Position]) -> None:
        refused = self.server.settle(self._term, positions)
        if refused is not None:
            raise TakeoverFailed(refused)
        self._settled = positions[-1]
