"""The promises that must hold in the model, judged by the log and by the answers of callers.

The checker has no notion of terms, blessings or fences: it requires that all decisions follow from one log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stocktide.streams.journal.record import JournalRecord, RecordVerdict
from tests.protocol.model_journal import reader_from
from tests.protocol.model_ledger import RESTATE, ModelCommand, ModelDecision, ModelResult, Rows, decide, oversold

if TYPE_CHECKING:
    from tests.protocol.model import World
    from tests.protocol.model_redis import ModelServer


class ProtocolViolation(AssertionError):
    """A promise was broken."""


class ProtocolChecker:
    """Records every decision and every answer, and judges them at rest."""

    def __init__(self) -> None:
        # The state after each decision, by its token: the fold of the history that led to it.
        self._after: dict[str, Rows] = {"": {}}
        self._answers: list[tuple[str, int, str, tuple[ModelCommand, ...], tuple[ModelResult, ...]]] = []

    def decided(self, server: ModelServer, token: str, decision: ModelDecision) -> None:
        """Before a decision: the server must be in the state of its own history, and may not oversell."""
        rows = server.state.rows
        if rows != self._after[server.state.token]:
            raise ProtocolViolation(
                f"not-of-its-history: {server.name} decides batch {decision.batch} from another state"
            )
        after = {**rows, **decision.changed}
        if (sku := oversold(after)) is not None:
            raise ProtocolViolation(f"oversold: {sku} on {server.name} with batch {decision.batch}")
        self._after[token] = after

    def answered(
        self, caller: str, batch: int, token: str, commands: tuple[ModelCommand, ...], results: tuple[ModelResult, ...]
    ) -> None:
        self._answers.append((caller, batch, token, commands, results))

    def judge(self, world: World) -> Rows:
        """Judge the run at rest, and return the fold of the log. Raises ProtocolViolation."""
        valid = self._valid(world)
        rows = self._decide_again(valid)
        self._judge_answers(valid)
        self.judge_redis(world, rows)
        if not world.leaked:
            self.judge_rows(world, rows)
        return rows

    def _valid(self, world: World) -> list[JournalRecord]:
        reader = reader_from(None, world.rules)
        records = enumerate(world.journal.records)
        valid = [record for offset, record in records if reader.feed(offset, record) is RecordVerdict.BATCH]
        previous = ""
        for number, record in enumerate(valid, 1):
            if (record.batch, record.previous) != (number, previous):
                raise ProtocolViolation(f"log-broken: batch {record.batch} does not follow from batch {number - 1}")
            previous = record.token
        return valid

    def _decide_again(self, valid: list[JournalRecord]) -> Rows:
        """Decide everything again in the log's order: every outcome must follow from the batches before it."""
        rows: Rows = {}
        placed: set[str] = set()
        for record in valid:
            decision: ModelDecision = record.payload  # type: ignore[assignment]
            if decision.commands[0].kind == RESTATE:
                results, changed = decision.results, {name: rows.get(name) for name in decision.changed}
            else:
                results, changed = decide(rows, decision.commands)  # type: ignore[assignment]
            for command, result in zip(decision.commands, decision.results, strict=True):
                if command.kind == "place" and not result.replayed:
                    if command.key in placed:
                        raise ProtocolViolation(f"counted-twice: {command.key} is placed again by batch {record.batch}")
                    placed.add(command.key)
            if (results, changed) != (decision.results, decision.changed):
                raise ProtocolViolation(
                    f"log-does-not-explain: batch {record.batch} does not follow from those before it"
                )
            rows = {**rows, **decision.changed}
            if oversold(rows):
                raise ProtocolViolation(f"oversold: {oversold(rows)} in batch {record.batch}")
        return rows

    def _judge_answers(self, valid: list[JournalRecord]) -> None:
        outcomes: dict[str, str] = {}
        for caller, batch, token, commands, results in self._answers:
            record = valid[batch - 1] if batch <= len(valid) else None
            if record is None or record.token != token or record.payload.results != results:  # type: ignore[attr-defined]
                raise ProtocolViolation(
                    f"answer-lost: {caller} was answered {results} in batch {batch}; the log says otherwise"
                )
            for command, result in zip(commands, results, strict=True):
                if command.kind == "place" and outcomes.setdefault(command.key, result.outcome) != result.outcome:
                    raise ProtocolViolation(f"answer-contradicted: {command.key} is {result.outcome} for {caller}")

    def judge_redis(self, world: World, rows: Rows) -> None:
        """At rest, Redis must hold the fold of the log."""
        if world.current.state.rows != rows:
            raise ProtocolViolation(f"redis-differs: {world.current.name} does not hold the fold of the log")

    def judge_rows(self, world: World, rows: Rows) -> None:
        """At rest, the derived topics must hold the fold of the log."""
        stored = {name: row.row for name, row in world.table.rows.items()}
        if stored != rows:
            names = sorted(name for name in {*stored, *rows} if stored.get(name) != rows.get(name))
            raise ProtocolViolation(f"rows-differ: {', '.join(names)}")
