"""From commands to a decision that stands: apply, wait for the own token, submit again where it was lost.

In: commands, and until when. Out: a decision that was read back from the journal, so that what a caller tells its
client, or commits to Kafka, is never lost and never contradicted (rule R7).
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol, TypeVar

from msgspec import structs
from redis.exceptions import RedisError, ResponseError

from stocktide.errors import StocktideError
from stocktide.streams import failpoints
from stocktide.tables.ledger.client import AppliedBatch, LedgerError
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.raw_decision import RawDecision, decode_raw_decision
from stocktide.tables.ledger.records import DecisionHead, Result, decode_decision_head
from stocktide.tables.settlement.listener import Settlement, SettlementListener

# A fresh token for each attempt, 16 hex digits: two attempts with the same one do not happen.
_TOKEN_BYTES = 8
# How long one attempt may wait to be settled. A settle takes a few ms and a takeover a second or two; an attempt that
# is repeated too early only adds a batch of repeats to a log that is slow already.
ATTEMPT_SECONDS = 2.0
# Pauses after `unblessed`, `busy` or a lost connection: doubled from the first to the last.
PAUSE_SECONDS_FIRST = 0.005
PAUSE_SECONDS_MAX = 0.25
# Calls of Lua under way from one process. Redis runs one at a time: a second lies ready when it is done, a third would
# only make a shopper of another process wait longer.
APPLIES_MAX = 2
# A call that held Redis longer than this is a wide one. After it calls go one at a time, with a rest after each wide
# one: what other processes sent meanwhile is decided, and settled, before the next one.
LONG_CALL_SECONDS = 0.1
# The rest is as long as the call was, up to this. An order needs Redis three times (decide, relay, settle): with a
# shorter rest each of the three can wait for another wide call, and together they take longer than the order may.
REST_SECONDS_MAX = 2.0
# What Redis says in the message of an error that was raised while a script ran, by none of its own refusals.
_SCRIPT_FAILED = "user_script"
_Reply = TypeVar("_Reply", RawDecision, DecisionHead)


class Unsettled(StocktideError):
    """The commands were not settled in time. They may have been decided or not: submit them again, with the same
    ids."""


class Undecidable(StocktideError):
    """The ledger fails on these commands, whenever it is asked: a bug, not an outage. Do not submit them again."""


class SupportsApply(Protocol):
    """The one method of the ledger that is needed here."""

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch: ...


class Submitter:
    """Submits batches of commands. Any number of calls may be under way at once.

    Those that share a `turn` ask the ledger one at a time, in the order in which they were called, so that a caller may
    have several pieces of a partition under way and still have them decided in their order. Only where one has to be
    submitted again, those behind it may have been decided before it: who cannot bear that waits for each.
    """

    def __init__(
        self, ledger: SupportsApply, settlements: SettlementListener, *, attempt_seconds: float = ATTEMPT_SECONDS
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._attempt_seconds = attempt_seconds
        self._places = asyncio.Semaphore(APPLIES_MAX)
        self._alone = asyncio.Lock()
        self._is_wide = False
        self._rest_until = 0.0
        self.resubmitted = 0
        # Why the newest attempt of anybody was not decided, None where it was.
        self.trouble: str | None = None

    async def decide(self, commands: Sequence[Command], deadline: float | None) -> RawDecision:
        """Have `commands` decided, once, and the decision settled. `deadline` is a time of the running loop's clock
        (s), None: as long as it takes. Raises Unsettled; and Undecidable or TooLarge, at once."""
        return await self._submit(commands, deadline, decode_raw_decision)

    async def answer(
        self, commands: Sequence[Command], deadline: float | None, turn: asyncio.Lock | None = None
    ) -> DecisionHead:
        """The same for a caller who needs no records, only what became of its commands. Callers that share a `turn`
        ask the ledger one after the other, in the order in which they called."""
        return await self._submit(commands, deadline, decode_decision_head, turn)

    async def _submit(
        self,
        commands: Sequence[Command],
        deadline: float | None,
        decode: Callable[[bytes], _Reply],
        turn: asyncio.Lock | None = None,
    ) -> _Reply:
        attempts = _Attempts(len(commands), deadline)
        pause = PAUSE_SECONDS_FIRST
        while True:
            applied = await self._attempt(commands, attempts, turn)
            if applied is None:
                await asyncio.sleep(attempts.seconds_left(pause * random.uniform(0.5, 1)))
                attempts.raise_if_over()
                pause = min(2 * pause, PAUSE_SECONDS_MAX)
                continue
            decision = decode(applied.payload)
            if applied.batch == 0:
                return decision
            wait = attempts.seconds_left(self._attempt_seconds)
            outcome = await self._settlements.settled(applied.batch, applied.token, wait)
            if outcome is Settlement.SETTLED:
                failpoints.hit("before_answer")
                return attempts.as_first(decision)
            attempts.decided(applied.batch, outcome, decision)
            attempts.raise_if_over()
            self.resubmitted += 1

    async def _apply(self, commands: Sequence[Command]) -> AppliedBatch:
        async with self._alone if self._is_wide else nullcontext():
            loop = asyncio.get_running_loop()
            if (rest := self._rest_until - loop.time()) > 0:
                await asyncio.sleep(rest)
            applied = await self._ledger.apply(commands, token=secrets.token_hex(_TOKEN_BYTES))
            self._is_wide = applied.seconds > LONG_CALL_SECONDS
            if self._is_wide:
                self._rest_until = loop.time() + min(REST_SECONDS_MAX, applied.seconds)
            return applied

    async def _attempt(
        self, commands: Sequence[Command], attempts: _Attempts, turn: asyncio.Lock | None
    ) -> AppliedBatch | None:
        """Ask the ledger under a fresh token; None where it cannot decide now."""
        try:
            async with asyncio.timeout_at(attempts.deadline), turn or nullcontext(), self._places:
                applied = await self._apply(commands)
        except LedgerError as error:
            attempts.reason = self.trouble = str(error)
        except (RedisError, OSError, TimeoutError) as error:
            if type(error) is ResponseError and _SCRIPT_FAILED in str(error):
                raise Undecidable(f"the ledger failed on these commands: {error}") from error
            attempts.maybe_decided(error)
            self.trouble = attempts.reason
        else:
            self.trouble = None
            failpoints.hit("after_apply")
            return applied
        return None


class _Attempts:
    """What earlier attempts of one submit may have left behind. A repeat that only they explain is no repeat."""

    def __init__(self, commands: int, deadline: float | None) -> None:
        self._ours = [False] * commands
        # A removal has no id to be known by: only who did it knows why nothing is left to remove.
        self._removed: list[Result | None] = [None] * commands
        self.deadline = deadline
        self.reason = "the ledger was not asked"

    def seconds_left(self, at_most: float) -> float:
        """`at_most`, cut at the deadline."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - asyncio.get_running_loop().time()))

    def raise_if_over(self) -> None:
        """Raises Unsettled where the deadline has passed."""
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            raise Unsettled(self.reason)

    def decided(self, batch: int, outcome: Settlement, decision: RawDecision | DecisionHead) -> None:
        """An attempt got an answer: what it did first, a later attempt finds done."""
        self.reason = f"batch {batch} was decided and its settlement is: {outcome}"
        for index, result in enumerate(decision.results):
            self._ours[index] = self._ours[index] or not result.replayed
            if result.outcome == Outcome.POLICY_DELETED:
                self._removed[index] = result

    def maybe_decided(self, error: Exception) -> None:
        """An attempt got no answer. A repeat found by the next one is far more likely ours than another caller's."""
        self.reason = f"Redis does not answer: {error}"
        self._ours = [True] * len(self._ours)

    def as_first(self, decision: _Reply) -> _Reply:
        """The decision with those repeats told as first answers."""
        if not any(self._ours):
            return decision
        return structs.replace(decision, results=tuple(map(self._first, self._ours, self._removed, decision.results)))

    @staticmethod
    def _first(ours: bool, removed: Result | None, result: Result) -> Result:
        if removed is not None and result.outcome == Outcome.UNKNOWN_POLICY:
            return removed
        return structs.replace(result, replayed=False) if ours and result.replayed else result
