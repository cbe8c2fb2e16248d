"""Submits commands until their decision is settled: apply, wait for the token, retry if it was lost.

In: commands and a deadline. Out: a decision that was read back from the journal, so that an answer to a client, or a
commit to Kafka, is never lost and never contradicted (rule R7).
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
from stocktide.streams.backoff import doubling_pauses
from stocktide.tables.ledger.client import AppliedBatch, LedgerError
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.raw_decision import RawDecision, decode_decision_head, decode_raw_decision
from stocktide.tables.ledger.records import DecisionHead, Result
from stocktide.tables.settlement.listener import Settlement, SettlementListener
from stocktide.tables.settlement.stalls import describe_error

# A token has 16 random hex digits, or 48 where it carries the context of a span; no two attempts share one.
_TOKEN_BYTES = 8
# How long an attempt waits to be settled. A settle takes a few ms and a takeover a second or two; an early retry only
# adds a batch of repeats to a slow journal.
ATTEMPT_SECONDS = 2.0
# Back-off after `unblessed`, `busy` or a lost connection.
PAUSE_SECONDS_FIRST = 0.005
PAUSE_SECONDS_MAX = 0.25
# Concurrent Lua calls of one process. Redis runs one at a time and finds the second ready; a third would only delay
# other processes.
APPLIES_MAX = 2
# A call that blocked Redis longer than this is long. After it, calls go one at a time with a pause after each long one,
# so that Redis decides and settles the requests of other processes in between.
LONG_CALL_SECONDS = 0.1
# The pause is as long as the call, up to this. An order needs Redis three times (decide, relay, settle): with a shorter
# pause each of them can wait for another long call, and together they exceed the order's deadline.
REST_SECONDS_MAX = 2.0
# Part of the message of an error inside a script, as opposed to the script's own refusals.
_SCRIPT_FAILED = "user_script"
_Decided = TypeVar("_Decided", RawDecision, DecisionHead)


class Unsettled(StocktideError):
    """The commands were not settled in time and may have been decided or not: submit them again with the same ids."""


class Undecidable(StocktideError):
    """The ledger always fails on these commands: a bug, not an outage. Do not submit them again."""


class SupportsApply(Protocol):
    """The ledger's method for decisions."""

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch: ...


class Submitter:
    """Submits batches of commands; calls may run concurrently.

    Calls that share a lock `turn` reach the ledger one at a time, in the order of the calls, so that a caller may have
    several pieces of a partition in flight and have them decided in order. Only a retry may be decided after later
    pieces; a caller that needs strict order waits for each call.
    """

    def __init__(
        self, ledger: SupportsApply, settlements: SettlementListener, *, attempt_seconds: float = ATTEMPT_SECONDS
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._attempt_seconds = attempt_seconds
        self._applies = asyncio.Semaphore(APPLIES_MAX)
        self._long_calls = asyncio.Lock()
        self._was_long = False
        self._rest_until = 0.0
        self.resubmitted = 0
        # Why the newest attempt was not decided; None if it was.
        self.trouble: str | None = None

    async def decide(self, commands: Sequence[Command], deadline: float | None) -> RawDecision:
        """Decide `commands` once and wait until the decision is settled. `deadline` is a time of the running loop's
        clock (s), None: no limit. Raises Unsettled; Undecidable and TooLarge without a retry."""
        return await self._submit(commands, deadline, decode_raw_decision)

    async def answer(
        self, commands: Sequence[Command], deadline: float | None, turn: asyncio.Lock | None = None
    ) -> DecisionHead:
        """`decide` for a caller that needs only the results."""
        return await self._submit(commands, deadline, decode_decision_head, turn)

    async def _submit(
        self,
        commands: Sequence[Command],
        deadline: float | None,
        decode: Callable[[bytes], _Decided],
        turn: asyncio.Lock | None = None,
    ) -> _Decided:
        state = _RetryState(len(commands), deadline)
        pauses = doubling_pauses(PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX)
        while True:
            applied = await self._attempt(commands, state, turn)
            if applied is None:
                await asyncio.sleep(state.seconds_left(next(pauses) * random.uniform(0.5, 1)))
                state.raise_if_over()
                continue
            decision = decode(applied.payload)
            if applied.batch == 0:
                return decision
            wait = state.seconds_left(self._attempt_seconds)
            outcome = await self._settlements.settled(applied.batch, applied.token, wait)
            if outcome is Settlement.SETTLED:
                failpoints.hit("before_answer")
                return state.clear_own_replays(decision)
            state.record_unsettled(applied.batch, outcome, decision)
            state.raise_if_over()
            self.resubmitted += 1

    async def _apply(self, commands: Sequence[Command], token: str | None = None) -> AppliedBatch:
        async with self._long_calls if self._was_long else nullcontext():
            loop = asyncio.get_running_loop()
            if (rest := self._rest_until - loop.time()) > 0:
                await asyncio.sleep(rest)
            applied = await self._ledger.apply(commands, token=token or secrets.token_hex(_TOKEN_BYTES))
            self._was_long = applied.seconds > LONG_CALL_SECONDS
            if self._was_long:
                self._rest_until = loop.time() + min(REST_SECONDS_MAX, applied.seconds)
            return applied

    async def _attempt(
        self, commands: Sequence[Command], state: _RetryState, turn: asyncio.Lock | None
    ) -> AppliedBatch | None:
        """Call the ledger with a new token; None if it cannot decide now."""
        try:
            async with asyncio.timeout_at(state.deadline), turn or nullcontext(), self._applies:
                applied = await self._apply(commands)
        except LedgerError as error:
            state.reason = self.trouble = str(error)
        except (RedisError, OSError, TimeoutError) as error:
            if type(error) is ResponseError and _SCRIPT_FAILED in str(error):
                raise Undecidable(f"the ledger failed on these commands: {error}") from error
            state.record_no_answer(error)
            self.trouble = state.reason
        else:
            self.trouble = None
            failpoints.hit("after_apply")
            return applied
        return None


class _RetryState:
    """The state of one submit across its attempts. Results that are replays only because of an earlier attempt of the
    same submit are returned as first results."""

    def __init__(self, commands: int, deadline: float | None) -> None:
        self._may_be_own = [False] * commands
        # A removal of a policy has no id, so its repeat is `unknown_policy`, not a replay.
        self._removals: list[Result | None] = [None] * commands
        self.deadline = deadline
        self.reason = "the ledger was not asked"

    def seconds_left(self, at_most: float) -> float:
        """`at_most`, limited by the deadline."""
        if self.deadline is None:
            return at_most
        return max(0.0, min(at_most, self.deadline - asyncio.get_running_loop().time()))

    def raise_if_over(self) -> None:
        """Raise Unsettled if the deadline has passed."""
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            raise Unsettled(self.reason)

    def record_unsettled(self, batch: int, outcome: Settlement, decision: RawDecision | DecisionHead) -> None:
        """Record an attempt that was decided and not settled: the next one may find its commands done."""
        self.reason = f"batch {batch} was decided and its settlement is: {outcome}"
        for index, result in enumerate(decision.results):
            self._may_be_own[index] = self._may_be_own[index] or not result.replayed
            if result.outcome == Outcome.POLICY_DELETED:
                self._removals[index] = result

    def record_no_answer(self, error: Exception) -> None:
        """Record an attempt without an answer: a replay in the next one is far more likely our own than another's."""
        self.reason = f"Redis does not answer: {describe_error(error)}"
        self._may_be_own = [True] * len(self._may_be_own)

    def clear_own_replays(self, decision: _Decided) -> _Decided:
        """The decision with its own replays marked as first results."""
        if not any(self._may_be_own):
            return decision
        results = map(self._clear_replay, self._may_be_own, self._removals, decision.results)
        return structs.replace(decision, results=tuple(results))

    @staticmethod
    def _clear_replay(may_be_own: bool, removal: Result | None, result: Result) -> Result:
        if removal is not None and result.outcome == Outcome.UNKNOWN_POLICY:
            return removal
        return structs.replace(result, replayed=False) if may_be_own and result.replayed else result
