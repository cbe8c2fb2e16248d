"""Group commit: concurrent requests share a call of the ledger.

In: single commands from request handlers. Out: each one's result and order record, once the batch that holds it is
settled. There is no timer: a lone command goes at once. While as many calls are in flight as may be, what arrives
gathers, and goes together as soon as one of them ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from stocktide.errors import StocktideError
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, Place
from stocktide.tables.ledger.raw_decision import RawDecision, unpack_order
from stocktide.tables.ledger.records import OrderRecord, Result
from stocktide.tables.ledger.submission import Undecidable
from stocktide.tables.settlement.stalls import describe_error

# A call holds Redis at 10 to 20 µs an order: no longer than a few ms, because a shopper waits behind it.
COMMANDS_PER_CALL_MAX = 256
# The same bound for baskets: one order of the largest size, or many small ones.
LINES_PER_CALL_MAX = 2_000
# A call is in flight until its batch is settled, a round trip through Kafka. Two overlap, so that the next one is
# decided while the last one settles; more would only make the batches smaller.
CALLS_IN_FLIGHT_MAX = 2
# Commands that wait their turn: about what settles within a request's deadline; more would wait in vain.
COMMANDS_WAITING_MAX = 20_000


class BatchSubmitter(Protocol):
    """What the batcher needs of `tables.ledger.submission.Submitter`."""

    async def decide(self, commands: Sequence[Command], deadline: float) -> RawDecision:
        """Decide `commands` as one batch and wait until it is settled. Raises Unsettled after `deadline`."""
        ...


class Overloaded(StocktideError):
    """More commands wait for the ledger than can be answered in time, or the process stops."""


class SettledResult(Struct, frozen=True):
    """The settled answer to one command: its result, and its order as it is after the batch."""

    result: Result
    order: OrderRecord | None


class _Waiting(Struct, eq=False):
    command: Command
    deadline: float
    lines: int
    answer: asyncio.Future[SettledResult]


class CommandBatcher:
    """Gathers commands into calls; lives in one event loop."""

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
        self._calls: set[asyncio.Task[None]] = set()
        # Commands that a call of the ledger has now, those that were answered so far, and why the newest call failed.
        self._asked = 0
        self.answered = 0
        self.trouble = ""

    @property
    def open(self) -> int:
        """How many commands are not answered yet."""
        return self._asked + len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many commands wait for a call."""
        return len(self._waiting)

    async def submit(self, command: Command, deadline: float) -> SettledResult:
        """Decide one command, settled before `deadline` (seconds of the loop's clock).

        Raises TimeoutError, what the submitter raises, and Overloaded. A caller that is cancelled leaves its
        command where it is: ids make sending it again safe.
        """
        if len(self._waiting) >= COMMANDS_WAITING_MAX:
            raise Overloaded
        answer: asyncio.Future[SettledResult] = asyncio.get_running_loop().create_future()
        lines = len(command.lines) if isinstance(command, Place) else 1
        self._waiting.append(_Waiting(command, deadline, lines, answer))
        self._dispatch()
        async with asyncio.timeout_at(deadline):
            return await answer

    async def close(self) -> None:
        """Wait for the calls in flight; what still waits for one is refused."""
        while self._waiting:
            if not (answer := self._waiting.popleft().answer).done():
                answer.set_exception(Overloaded())
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _dispatch(self) -> None:
        if self._waiting and len(self._calls) < self._calls_in_flight_max:
            # The call gathers when it runs: what arrives in this very turn of the loop goes with it.
            call = asyncio.create_task(self._call())
            self._calls.add(call)
            call.add_done_callback(self._called)

    def _called(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._dispatch()

    def _gather(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        lines = 0
        while self._waiting and len(batch) < self._commands_per_call_max:
            if batch and lines + self._waiting[0].lines > LINES_PER_CALL_MAX:
                break
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # its caller is gone
                continue
            batch.append(waiting)
            lines += waiting.lines
        return batch

    async def _call(self) -> None:
        batch = self._gather()
        if not batch:
            return
        await self._decide(batch)

    async def _decide(self, batch: Sequence[_Waiting]) -> None:
        deadline = max(waiting.deadline for waiting in batch)
        self._asked += len(batch)
        try:
            decision = await self._submitter.decide([waiting.command for waiting in batch], deadline)
        except (TooLarge, Undecidable) as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            # The halves are decided one after the other: a caller's place in the order stays.
            middle = len(batch) // 2
            await self._decide(batch[:middle])
            await self._decide(batch[middle:])
            return
        except Exception as error:
            self.trouble = describe_error(error)
            _fail(batch, error)
            return
        finally:
            self._asked -= len(batch)
        self.answered, self.trouble = self.answered + len(batch), ""
        # Each caller wants one record of a batch that holds many, of SKUs too: only that one is read.
        orders = {row.order_id: row.record for row in decision.orders}
        for waiting, result in zip(batch, decision.results, strict=True):
            if not waiting.answer.done():
                record = orders.get(result.order_id) if result.order_id is not None else None
                waiting.answer.set_result(SettledResult(result, None if record is None else unpack_order(record)))


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
