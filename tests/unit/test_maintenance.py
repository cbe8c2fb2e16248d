"""Background work of the shard's owner: restating of all rows, and trimming of the journal below them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stocktide.agents.maintenance.restate import KEYS_MAX, KEYS_MIN, JournalTrimmer, RestatePass
from stocktide.streams.journal.record import Position, decode_position
from stocktide.streams.kafka.publish import OutputRow
from stocktide.tables.ledger.commands import Command, Restate
from stocktide.tables.ledger.records import DecisionHead, Result
from stocktide.tables.ledger.submission import Unsettled
from stocktide.tables.recovery.checkpoints import (
    MILESTONE_BYTES,
    Checkpoints,
    CheckpointWriter,
    begun_key,
    decode_checkpoints,
    milestone_key,
    whole_key,
)
from tests.unit.fakes import decision_of


class ScriptedLedger:
    """Answers pages in the given order."""

    def __init__(self, *answers: Result | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Restate] = []

    async def answer(self, commands: Sequence[Command], deadline: float | None, turn: object = None) -> DecisionHead:
        command = commands[0]
        assert isinstance(command, Restate)
        self.asked.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return DecisionHead(1, len(self.asked), 0, (answer,))


def restating(ledger: ScriptedLedger, keys: int = 1_000, every_seconds: int = 100) -> RestatePass:
    async def count() -> int:
        return keys

    return RestatePass(ledger, count, lambda: True, every_seconds)  # type: ignore[arg-type]


def page(how: str) -> Result:
    return Result("restated", detail=f"{how} 7")


def at(batch: int) -> Position:
    return Position(batch + 1, 1, "w", batch, f"t{batch}")


def rows_of(writer: CheckpointWriter) -> dict[bytes, bytes]:
    return {key: value for key, value in writer.rows() if value is not None}


def stored(writer: CheckpointWriter) -> Checkpoints:
    return decode_checkpoints(rows_of(writer), 0)


@pytest.mark.parametrize(("how", "more"), [("begun", True), ("going", True), ("ended", False), ("whole", False)])
async def test_pages_follow_one_another_until_the_pass_has_ended(how: str, more: bool) -> None:
    assert await restating(ScriptedLedger(page(how))).page() is more


async def test_between_two_passes_nothing_is_due_and_an_outage_is_waited_out() -> None:
    ledger = ScriptedLedger(Result("nothing_due"), Unsettled("the ledger is being brought back"))
    assert [await restating(ledger).page(), await restating(ledger).page()] == [False, False]


@pytest.mark.parametrize(("keys", "wanted"), [(0, KEYS_MIN), (10_000, 200), (10_000_000, KEYS_MAX)])
async def test_a_page_is_as_large_as_it_takes_to_end_in_half_of_the_period(keys: int, wanted: int) -> None:
    ledger = ScriptedLedger(page("begun"))
    await restating(ledger, keys).page()
    assert ledger.asked[0].keys_max == wanted
    assert ledger.asked[0].every_ms == 100_000


def passes_seen(*details: str, start: int = 6, begun: Position | None = None) -> CheckpointWriter:
    writer = CheckpointWriter(0, begun)
    for number, detail in enumerate(details, start):
        decision = decision_of(Result("restated", detail=detail), batch=number + 1)
        writer.see(decision, 10, at(number), at(number + 1))
    return writer


def test_a_pass_that_ended_is_marked_where_it_began() -> None:
    assert whole_key(0) in rows_of(passes_seen("begun 7", "going 7", "ended 7"))
    assert stored(passes_seen("begun 7", "going 7", "ended 7")).whole == at(6)
    assert stored(passes_seen("whole 7")).whole == at(6)


def test_a_pass_under_way_is_remembered_over_a_restart() -> None:
    before = passes_seen("begun 7")
    assert stored(before).whole is None
    begun = decode_position(rows_of(before)[begun_key(0)])
    assert stored(passes_seen("ended 7", start=9, begun=begun)).whole == at(6)


def test_the_end_of_a_pass_whose_beginning_was_not_seen_marks_nothing() -> None:
    assert passes_seen("going 7", "ended 7").rows() == []
    assert stored(passes_seen("begun 7", "ended 3")).whole is None


def test_every_so_many_bytes_a_milestone_is_kept() -> None:
    writer = CheckpointWriter(0)
    for number in range(5):
        writer.see(decision_of(batch=number + 1), MILESTONE_BYTES // 2, at(number), at(number + 1))
    kept = stored(writer)
    assert kept.milestones == (at(2), at(4))
    assert writer.bytes_since == MILESTONE_BYTES // 2
    assert kept.all() == (at(2), at(4))


class FakeJournal:
    """A journal that can be trimmed up to `old`."""

    def __init__(self, checkpoints: Checkpoints, old: int) -> None:
        self._checkpoints = checkpoints
        self._old = old
        self.cut: list[int] = []
        self.forgotten: list[OutputRow] = []

    async def checkpoints(self) -> Checkpoints:
        return self._checkpoints

    async def trim(self, below: int) -> int:
        self.cut.append(below)
        return min(below, self._old)

    async def forget(self, rows: list[OutputRow]) -> None:
        self.forgotten += rows

    def trimming(self) -> JournalTrimmer:
        return JournalTrimmer(self.checkpoints, self.trim, self.forget, lambda: True)


async def test_nothing_is_cut_before_a_pass_has_ended() -> None:
    broker = FakeJournal(Checkpoints(derived=at(90), milestones=(at(10), at(50))), old=80)
    await broker.trimming().trim_once()
    assert broker.cut == []


async def test_the_journal_is_cut_below_the_last_pass_and_milestones_below_are_forgotten() -> None:
    broker = FakeJournal(Checkpoints(derived=at(90), whole=at(60), milestones=(at(10), at(40), at(70))), old=45)
    await broker.trimming().trim_once()
    assert broker.cut == [61]
    assert broker.forgotten == [(milestone_key(0, at(10)), None), (milestone_key(0, at(40)), None)]
