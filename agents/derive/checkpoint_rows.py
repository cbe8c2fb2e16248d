"""What the journal agent keeps for readers that start in the middle of the journal (`tables.recovery.checkpoints`).

In: batches as they are read, with the position before each. Out: rows of `journal-positions` beside that of how far the
journal was derived: milestones, and where the last pass over all SKUs and orders began that has ended (rule R9).
"""

from __future__ import annotations

from stocktide.streams.journal.record import Position, encode_position
from stocktide.streams.kafka.publish import OutputRow
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.raw_decision import RawDecision
from stocktide.tables.recovery.checkpoints import begun_key, milestone_key, whole_key

# Who looks for one SKU reads the journal backwards, a stretch between two milestones at a time.
MILESTONE_BYTES = 16 * 1024 * 1024


class CheckpointWriter:
    """Of one shard, since the last call of `rows`. `begun` is where the pass under way began, if that is known."""

    def __init__(self, shard: int, begun: Position | None = None, bytes_since: int = 0) -> None:
        self._shard = shard
        self._begun = begun
        self._rows: dict[bytes, bytes] = {}
        self._bytes_since = bytes_since

    @property
    def begun(self) -> Position | None:
        """Where the pass under way began."""
        return self._begun

    @property
    def bytes_since(self) -> int:
        """How much was read since the last milestone."""
        return self._bytes_since

    def see(self, decision: RawDecision, payload_bytes: int, before: Position, after: Position) -> None:
        """Take in a valid batch, and the reader's positions around it."""
        self._bytes_since += payload_bytes
        if self._bytes_since >= MILESTONE_BYTES:
            self._bytes_since = 0
            self._rows[milestone_key(self._shard, after)] = encode_position(after)
        for result in decision.results:
            if result.outcome == Outcome.RESTATED:
                self._see_page(result.detail or "", before)

    def _see_page(self, detail: str, before: Position) -> None:
        how, _, first = detail.partition(" ")
        if how in ("begun", "whole"):
            self._begun = before
            self._rows[begun_key(self._shard)] = encode_position(before)
        if how in ("ended", "whole") and self._begun is not None and self._begun.batch + 1 == int(first):
            self._rows[whole_key(self._shard)] = encode_position(self._begun)

    def rows(self) -> list[OutputRow]:
        """What is to be written."""
        return list(self._rows.items())
