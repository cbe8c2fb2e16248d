"""The journal of the model: one partition, what is on its way to it, and the table that is derived from it.

The reader that judges records is the real one (`streams.journal.record`); a mutation puts a weaker one in its place.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, structs

from stocktide.streams.journal.record import KIND_BATCH, JournalReader, JournalRecord, Position, RecordVerdict
from tests.protocol.model_ledger import RowValue
from tests.protocol.model_rules import Rules


class SentRecord:
    """A record on its way: `offset` once it arrived, or `failed`."""

    __slots__ = ("failed", "offset", "record")

    def __init__(self, record: JournalRecord) -> None:
        self.record = record
        self.offset: int | None = None
        self.failed = False


class ModelProducer:
    """What one producer sends arrives in order, or not at all; it may arrive long after its owner was replaced."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way: deque[SentRecord] = deque()

    def send(self, record: JournalRecord) -> SentRecord:
        """Hand over a record."""
        sent = SentRecord(record)
        self.under_way.append(sent)
        return sent


class ModelJournal:
    """`records` are all that ever arrived; those before `first` have aged out, and only the checker reads them."""

    def __init__(self) -> None:
        self.records: list[JournalRecord] = []
        self.first = 0

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return len(self.records)

    def holds(self, position: Position) -> bool:
        """`tables.recovery.journal_scan.is_in`: whether a reader that stands there can go on in this journal."""
        if not self.first <= position.offset <= self.end:
            return False
        if position.offset == self.first:
            return position.offset > 0 or position == Position.beginning()
        record = self.records[position.offset - 1]
        if (record.term, record.owner) != (position.term, position.owner):
            return False
        return record.kind != KIND_BATCH or (record.batch, record.token) == (position.batch, position.token)


class _Trusting(JournalReader):
    """A reader that compares less."""

    def __init__(self, position: Position | None, rules: Rules) -> None:
        super().__init__(position)
        self._rules = rules

    def feed(self, offset: int, record: JournalRecord | None) -> RecordVerdict:
        if record is not None and record.kind == KIND_BATCH:
            now = self.position
            if not self._rules.record_names_the_previous_token:
                record = structs.replace(record, previous=now.token)
            if not self._rules.reader_compares_terms:
                record = structs.replace(record, term=now.term, owner=now.owner)
        return super().feed(offset, record)


def reader_from(position: Position | None, rules: Rules) -> JournalReader:
    """A reader as the rules want it."""
    if position is not None and not rules.position_names_term_and_owner:
        position = structs.replace(position, term=0, owner="")
    if rules.record_names_the_previous_token and rules.reader_compares_terms:
        return JournalReader(position)
    return _Trusting(position, rules)


class DerivedRow(Struct, frozen=True):
    """A row of a derived topic."""

    batch: int
    row: RowValue


class DerivedTable:
    """The derived topics: of each key the row that was written last, whoever wrote it; and the checkpoints.

    `epoch` is that of the newest assignment of the journal's agent.
    """

    def __init__(self) -> None:
        self.rows: dict[str, DerivedRow] = {}
        self.derived: Position | None = None
        self.begun: Position | None = None
        self.whole: Position | None = None
        self.milestones: tuple[Position, ...] = ()
        self.epoch = 0
        # What was sent before the end of an assignment and is under way: it arrives over whatever was written since.
        self.late: list[dict[str, DerivedRow]] = []

    def checkpoints(self) -> list[Position]:
        """Every position, ascending."""
        known = {at.offset: at for at in (*self.milestones, self.whole, self.derived) if at}
        return [known[offset] for offset in sorted(known)]
