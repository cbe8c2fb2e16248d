"""The journal agent in the model: valid batches → rows, then the position, each a step, in epochs (rule R9)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from stocktide.streams.journal.record import Position, RecordVerdict
from tests.protocol.model_journal import DerivedRow, reader_from
from tests.protocol.model_ledger import RESTATE, ModelDecision

if TYPE_CHECKING:
    from tests.protocol.model import World

CHUNK_MAX = 6


class Fenced(Exception):
    """This assignment is over."""


class Deriver:
    """One assignment of the journal agent. Rows that it sent may arrive after its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        world.table.epoch += 1
        self._epoch = world.table.epoch
        self._late_rows = world.leaks
        self.paused = False
        self.closed = False
        self.derived_up_to = 0  # the offset below which everything is published
        self._steps = self._run()

    @property
    def is_stale(self) -> bool:
        """Whether another assignment has begun."""
        return self._epoch != self._world.table.epoch

    def step(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            self.closed = True

    def close(self) -> None:
        """End it, and drop its rows in flight."""
        self._steps.close()
        self.closed = True

    def _run(self) -> Iterator[None]:
        try:
            yield from self._derive()
        except Fenced:
            return

    def _derive(self) -> Iterator[None]:
        world, table = self._world, self._world.table
        reader, begun = reader_from(table.derived, world.rules), table.begun
        while True:
            yield
            if reader.next_offset < world.journal.first or (self.is_stale and world.chance(0.3)):
                return  # the journal begins later, or the assignment was revoked
            end = min(world.journal.end, reader.next_offset + 1 + world.draw(CHUNK_MAX))
            start, rows, whole = reader.position, {}, None
            while reader.next_offset < end:
                offset, before = reader.next_offset, reader.position
                record = world.journal.records[offset]
                if reader.feed(offset, record) is not RecordVerdict.BATCH:
                    continue
                decision: ModelDecision = record.payload  # type: ignore[assignment]
                rows |= {name: DerivedRow(record.batch, row) for name, row in decision.changed.items()}
                if decision.commands[0].kind == RESTATE:
                    begun, whole = _mark(decision, before, begun, whole, world.rules.end_of_a_pass_names_its_beginning)
            if reader.position != start:
                yield from self._publish(rows, reader.position, begun, whole)
            self.derived_up_to = reader.next_offset

    def _publish(
        self, rows: dict[str, DerivedRow], derived: Position, begun: Position | None, whole: Position | None
    ) -> Iterator[None]:
        """Publish rows, a topic at a time, then the position."""
        table = self._world.table
        if not self._world.rules.position_follows_its_rows:
            yield from self._wait_until_may_produce()
            table.derived, table.begun, table.whole = derived, begun, whole or table.whole
        for topic in ("sku:", "order:", "movement:"):
            some = {name: row for name, row in rows.items() if name.startswith(topic)}
            if some and (yield from self._wait_until_may_produce()):
                table.late.append(some)
            elif some:
                table.rows |= some
        yield from self._wait_until_may_produce()
        table.derived, table.begun, table.whole = derived, begun, whole or table.whole
        if self._world.chance(0.2):
            table.milestones = (*table.milestones, derived)

    def _wait_until_may_produce(self) -> Generator[None, None, bool]:
        """Step before producing. True: rows sent in time stay in flight for longer. Raises Fenced."""
        yield
        if not self.is_stale:
            return False
        if not self._world.rules.rows_are_fenced and self._world.chance(0.7):
            return False
        if not self._late_rows:
            raise Fenced
        self._late_rows = False
        self._world.leaked = True
        return True


def _mark(
    decision: ModelDecision, before: Position, begun: Position | None, whole: Position | None, compares: bool
) -> tuple[Position | None, Position | None]:
    """`tables.recovery.checkpoints.CheckpointWriter`."""
    how, _, first = decision.results[0].outcome.partition(" ")
    if how in ("begun", "whole"):
        begun = before
    if how in ("ended", "whole") and begun is not None and (begun.batch + 1 == int(first) or not compares):
        whole = begun
    return begun, whole
