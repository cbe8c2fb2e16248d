"""Reads that fall back: when, how long the ledger is asked, and what its error is when the tables do not help."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from stocktide.api.stale import reads as stale_reads
from stocktide.api.stale.reads import NotInTables, StaleReads
from stocktide.api.stale.topic_copy import CopyTooLarge
from stocktide.tables.ledger.client import TooLarge, Unblessed


class FakeReads:
    """The clock of a request of one second."""

    request_seconds = 1.0

    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + 1.0


class Ledger:
    """A ledger that fails, hangs, or answers; notes how long it was given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.given: list[float] = []

    async def read(self, deadline: float) -> str:
        self.given.append(round(deadline - asyncio.get_running_loop().time(), 1))
        if self.error is not None:
            raise self.error
        return "ledger"


async def tables() -> str:
    return "tables"


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def reads(monkeypatch: pytest.MonkeyPatch) -> StaleReads:
    monkeypatch.setattr(stale_reads, "SUSPECT_FOR_SECONDS", 0.2)
    return StaleReads(FakeReads(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [Unblessed("x"), RedisConnectionError("x"), TimeoutError(), ConnectionResetError()])
async def test_an_outage_is_answered_from_the_tables_and_its_end_by_the_ledger(
    reads: StaleReads, ledger: Ledger, error: Exception
) -> None:
    assert await reads.either(ledger.read, tables) == ("ledger", False)
    ledger.error = error
    assert await reads.either(ledger.read, tables) == ("tables", True)
    ledger.error = None
    assert await reads.either(ledger.read, tables) == ("ledger", False)


async def test_a_ledger_that_failed_is_asked_briefly_for_a_while_and_then_as_before(
    reads: StaleReads, ledger: Ledger
) -> None:
    ledger.error = TimeoutError()
    for _ in range(3):
        await reads.either(ledger.read, tables)
    assert ledger.given == [0.6, 0.3, 0.3]
    await asyncio.sleep(0.25)
    await reads.either(ledger.read, tables)
    assert ledger.given[-1] == 0.6, "a read that takes longer must not be stale for ever"


@pytest.mark.parametrize("why", [NotInTables("x"), CopyTooLarge("x"), OSError("no room")])
async def test_what_the_tables_cannot_answer_is_the_error_of_the_ledger(
    reads: StaleReads, ledger: Ledger, why: Exception
) -> None:
    async def fails() -> str:
        raise why

    ledger.error = Unblessed("no takeover")
    with pytest.raises(Unblessed):
        await reads.either(ledger.read, fails)


async def test_tables_that_are_not_read_in_time_are_the_error_of_the_ledger(reads: StaleReads, ledger: Ledger) -> None:
    async def hangs() -> str:
        await asyncio.sleep(60)
        return "late"

    ledger.error = Unblessed("no takeover")
    with pytest.raises(Unblessed):
        await reads.either(ledger.read, hangs)


async def test_a_refusal_of_the_ledger_is_no_outage(reads: StaleReads, ledger: Ledger) -> None:
    ledger.error = TooLarge("x")
    with pytest.raises(TooLarge):
        await reads.either(ledger.read, tables)
