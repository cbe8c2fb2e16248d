"""Group commit: concurrent requests share a call of the ledger.

In: single commands from request handlers. Out: the result and order record of each, when its batch is settled. There
is no timer: a single command is submitted immediately. While the maximum of calls is in flight, commands queue, and the
next call submits them together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol

from msgspec import Struct

from stocktide.errors import StocktideError
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, lines_of
from stocktide.tables.ledger.raw_decision import RawDecision, unpack_order
from stocktide.tables.ledger.records import OrderRecord, Result
from stocktide.tables.ledger.submission import Undecidable
from stocktide.tables.settlement.stalls import describe_error

# Redis blocks for 10 to 20 µs per order: a few ms per call.
COMMANDS_PER_CALL_MAX = 256
# The same limit for large orders: one of the largest size, or many small ones.
LINES_PER_CALL_MAX = 2_000
# A call lasts until its batch is settled, a round trip through Kafka. Two overlap, so that one is decided while the
# other settles; more would only make the batches smaller.
CALLS_IN_FLIGHT_MAX = 2
# About as many as settle within the deadline of a request; more would time out.
COMMANDS_WAITING_MAX = 20_000


class BatchSubmitter(Protocol):
    """The part of `tables.ledger.submission.Submitter` that the API needs."""

    async def decide(self, commands: Sequence[Command], deadline: float) -> RawDecision:
        """Decide `commands` as one batch, and wait until it is settled. Raises Unsettled after `deadline`."""
        ...


class Overloaded(StocktideError):
    """The queue is longer than can be answered in time, or the process stops."""


class SettledResult(Struct, frozen=True):
    """The settled result of one command, and its order after the batch."""

    result: Result
    order: OrderRecord | None


class _Waiting(Struct, eq=False):
    command: Command
    deadline: float
    lines: int
    answer: asyncio.Future[SettledResult]


class CommandBatcher:
    """Collects commands into calls of the ledger; bound to one event loop."""

    def __init__(
        self,
        submitter: BatchSubmitter,
        calls_in_flight_max: int = CALLS_IN_FLIGHT_MAX,
        commands_per_call_max: int = COMMANDS_PER_CALL_MAX,
    ) -> None:
        self._submitter = submitter
        self._calls_in_flight_max = calls_in_flight_max
        self._commands_per_call_max = commands_per_call_max
        self._waiting: deque[_Waiting] = deque()
        # A heap of (deadline, number, answer); one timer for the earliest costs less than a timeout for each command.
        self._deadlines: list[tuple[float, int, asyncio.Future[SettledResult]]] = []
        self._submitted = 0
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()
        # Commands in calls now, commands answered so far, and the error of the newest call ("" after a success).
        self._in_calls = 0
        self.answered = 0
        self.trouble = ""

    @property
    def open(self) -> int:
        """The number of commands without an answer."""
        return self._in_calls + len(self._waiting)

    @property
    def waiting(self) -> int:
        """The number of commands that wait for a call."""
        return len(self._waiting)

    async def submit(self, command: Command, deadline: float) -> SettledResult:
        """Decide one command, settled before `deadline` (seconds of the loop's clock).

        Raises Overloaded, TimeoutError and the errors of the submitter. A cancelled caller does not withdraw its
        command: ids make a repetition safe.
        """
        if len(self._waiting) >= COMMANDS_WAITING_MAX:
            raise Overloaded
        answer: asyncio.Future[SettledResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(command, deadline, lines_of(command) or 1, answer))
        self._submitted += 1
        heappush(self._deadlines, (deadline, self._submitted, answer))
        if self._timer is None or deadline < self._timer.when():
            self._set_timer()
        self._dispatch()
        return await answer

    async def close(self) -> None:
        """Refuse the queued commands, and wait for the calls in flight."""
        while self._waiting:
            if not (answer := self._waiting.popleft().answer).done():
                answer.set_exception(Overloaded())
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _expire(self) -> None:
        """End the wait of commands whose deadline has passed."""
        now = asyncio.get_running_loop().time()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, answer = heappop(self._deadlines)
            if not answer.done():
                answer.set_exception(TimeoutError())
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        earliest = self._deadlines[0][0] if self._deadlines else None
        self._timer = None if earliest is None else asyncio.get_running_loop().call_at(earliest, self._expire)

    def _dispatch(self) -> None:
        if self._waiting and len(self._calls) < self._calls_in_flight_max:
            # The call collects its commands when it runs, so it includes those of this turn of the loop.
            call = asyncio.create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._end_call)

    def _end_call(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._dispatch()

    def _take_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        lines = 0
        while self._waiting and len(batch) < self._commands_per_call_max:
            if batch and lines + self._waiting[0].lines > LINES_PER_CALL_MAX:
                break
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # its caller was cancelled
                continue
            batch.append(waiting)
            lines += waiting.lines
        return batch

    async def _call(self) -> None:
        if batch := self._take_batch():
            await self._decide(batch)

    async def _decide(self, batch: Sequence[_Waiting]) -> None:
        deadline = max(waiting.deadline for waiting in batch)
        self._in_calls += len(batch)
        try:
            decision = await self._submitter.decide([waiting.command for waiting in batch], deadline)
        except (TooLarge, Undecidable) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # One half after the other, which keeps the order of the callers.
            middle = len(batch) // 2
            await self._decide(batch[:middle])
            await self._decide(batch[middle:])
            return
        except Exception as error:
            self.trouble = describe_error(error)
            _fail(batch, error)
            return
        finally:
            self._in_calls -= len(batch)
        self.answered, self.trouble = self.answered + len(batch), ""
        # Only the record of each caller is decoded.
        orders = {row.order_id: row.record for row in decision.orders}
        for waiting, result in zip(batch, decision.results, strict=True):
            if not waiting.answer.done():
                record = orders.get(result.order_id) if result.order_id is not None else None
                waiting.answer.set_result(SettledResult(result, None if record is None else unpack_order(record)))
        while self._deadlines and self._deadlines[0][2].done():
            heappop(self._deadlines)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
