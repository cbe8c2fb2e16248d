"""The journal of the model: one partition, the records in flight to it, and the table that is derived from it.

The reader that judges records is the real one (`streams.journal.record`); a mutation replaces it by a weaker one.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, structs

from stocktide.streams.journal.record import KIND_BATCH, JournalReader, JournalRecord, Position, RecordVerdict
from tests.protocol.model_ledger import RowValue
from tests.protocol.model_rules import Rules


class SentRecord:
    """A record in flight: it gets an `offset` on arrival, or has `failed`."""

    __slots__ = ("failed", "offset", "record")

    def __init__(self, record: JournalRecord) -> None:
        self.record = record
        self.offset: int | None = None
        self.failed = False


class ModelProducer:
    """Records of one producer arrive in order or not at all, perhaps long after its owner was replaced."""

    __slots__ = ("in_flight",)

    def __init__(self) -> None:
        self.in_flight: deque[SentRecord] = deque()

    def send(self, record: JournalRecord) -> SentRecord:
        """Hand over a record."""
        sent = SentRecord(record)
        self.in_flight.append(sent)
        return sent


class ModelJournal:
    """`records` are all that arrived; those before `first` have aged out, and only the checker reads them."""

    def __init__(self) -> None:
        self.records: list[JournalRecord] = []
        self.first = 0

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return len(self.records)

    def holds(self, position: Position) -> bool:
        """`tables.recovery.journal_scan.is_in`: whether a reader can go on from that position in this journal."""
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
    """A reader under the rules that are kept."""
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
    """The derived topics: the newest row of each key, the checkpoints, and the epoch of the newest assignment."""

    def __init__(self) -> None:
        self.rows: dict[str, DerivedRow] = {}
        self.derived: Position | None = None
        self.begun: Position | None = None
        self.whole: Position | None = None
        self.milestones: tuple[Position, ...] = ()
        self.epoch = 0
        # Rows sent before the end of an assignment and still in flight: on arrival they overwrite newer ones.
        self.late: list[dict[str, DerivedRow]] = []

    def checkpoints(self) -> list[Position]:
        """All positions, ascending."""
        known = {at.offset: at for at in (*self.milestones, self.whole, self.derived) if at}
        return [known[offset] for offset in sorted(known)]
