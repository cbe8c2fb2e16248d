"""Group commit: which commands share a call, and how long each waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from stocktide.api.batching import LINES_PER_CALL_MAX, CommandBatcher, SettledResult
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, Pay, Place
from stocktide.tables.ledger.raw_decision import RawDecision, decode_raw_decision
from stocktide.tables.ledger.records import Decision, OrderRecord, OrderRow, Result
from stocktide.tables.ledger.submission import Unsettled

SOON = 5.0


class FakeDecider:
    """Decides while `open` is set."""

    def __init__(self) -> None:
        self.calls: list[Sequence[Command]] = []
        self.deadlines: list[float | None] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None
        self.commands_max: int | None = None

    async def decide(self, commands: Sequence[Command], deadline: float | None) -> RawDecision:
        self.calls.append(commands)
        self.deadlines.append(deadline)
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        if self.commands_max is not None and len(commands) > self.commands_max:
            raise TooLarge("the payload has too many bytes")
        ids = [command.order_id for command in commands if isinstance(command, (Pay, Place))]
        results = tuple(Result("paid", order_id=order_id) for order_id in ids)
        rows = tuple(OrderRow(order_id, OrderRecord(state="paid"), True) for order_id in ids)
        decision = Decision(1, len(self.calls), 0, results, rows, (), (), (), (), None, (), ())
        return decode_raw_decision(msgspec.msgpack.encode(decision))


def pay(order_id: str) -> Pay:
    return Pay(id="e", order_id=order_id, at=0, fingerprint="f")


def basket(order_id: str, lines: int) -> Place:
    return Place(
        id="placed",
        order_id=order_id,
        at=0,
        fingerprint="f",
        channel="tmall",
        lines=tuple((f"S{number}", 1) for number in range(lines)),
    )


async def turns() -> None:
    """Run the event loop until every task waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def soon() -> float:
    return asyncio.get_running_loop().time() + SOON


async def submitted(batcher: CommandBatcher, *commands: Command) -> list[asyncio.Task[SettledResult]]:
    """The tasks of callers that wait."""
    tasks = [asyncio.create_task(batcher.submit(command, soon())) for command in commands]
    await turns()
    return tasks


@pytest.fixture
def decider() -> FakeDecider:
    return FakeDecider()


async def test_a_lone_command_goes_at_once(decider: FakeDecider) -> None:
    decider.open.set()
    decided = await CommandBatcher(decider).submit(pay("a"), soon())
    assert decided.result.order_id == "a"
    assert decided.order is not None and decided.order.state == "paid"


async def test_what_arrives_while_calls_are_in_flight_goes_together(decider: FakeDecider) -> None:
    batcher = CommandBatcher(decider, calls_in_flight_max=1)
    (first,) = await submitted(batcher, pay("a"))
    waiting = await submitted(batcher, *map(pay, "bcde"))
    assert [len(call) for call in decider.calls] == [1]
    decider.open.set()
    answers = await asyncio.gather(first, *waiting)
    assert [len(call) for call in decider.calls] == [1, 4]
    assert [answer.result.order_id for answer in answers] == list("abcde")


async def test_what_arrives_in_one_turn_of_the_loop_goes_together(decider: FakeDecider) -> None:
    decider.open.set()
    batcher = CommandBatcher(decider)
    await asyncio.gather(*(batcher.submit(pay(name), soon()) for name in "abc"))
    assert [len(call) for call in decider.calls] == [3]


async def test_as_many_calls_are_in_flight_as_may_be_and_no_more(decider: FakeDecider) -> None:
    batcher = CommandBatcher(decider, calls_in_flight_max=2, commands_per_call_max=2)
    waiting = await submitted(batcher, *map(pay, "abcdef"))
    assert len(decider.calls) == 2
    decider.open.set()
    await asyncio.gather(*waiting)
    assert max(len(call) for call in decider.calls) == 2


async def test_large_baskets_share_a_call_only_within_its_bound_of_lines(decider: FakeDecider) -> None:
    batcher = CommandBatcher(decider, calls_in_flight_max=1)
    lines = LINES_PER_CALL_MAX // 2
    (first,) = await submitted(batcher, basket("a", 1))
    waiting = await submitted(batcher, *(basket(name, lines) for name in "bcd"))
    decider.open.set()
    await asyncio.gather(first, *waiting)
    assert [len(call) for call in decider.calls] == [1, 2, 1]


async def test_an_answer_that_is_late_is_a_timeout_and_affects_no_other(decider: FakeDecider) -> None:
    batcher = CommandBatcher(decider, calls_in_flight_max=1)
    (first,) = await submitted(batcher, pay("a"))
    hasty = asyncio.create_task(batcher.submit(pay("b"), asyncio.get_running_loop().time() + 0.01))
    patient = asyncio.create_task(batcher.submit(pay("c"), soon()))
    with pytest.raises(TimeoutError):
        await hasty
    # The timer goes on to the next deadline.
    hasty = asyncio.create_task(batcher.submit(pay("d"), asyncio.get_running_loop().time() + 0.01))
    with pytest.raises(TimeoutError):
        await hasty
    decider.open.set()
    assert (await first).result.order_id == "a"
    assert (await patient).result.order_id == "c"
    # A command without a waiter is not submitted.
    assert [len(call) for call in decider.calls] == [1, 1]


async def test_a_call_lasts_as_long_as_its_most_patient_command(decider: FakeDecider) -> None:
    batcher = CommandBatcher(decider, calls_in_flight_max=1)
    (first,) = await submitted(batcher, pay("a"))
    early, late = soon() - 1, soon() + 1
    rest = [asyncio.create_task(batcher.submit(pay(name), at)) for name, at in (("b", late), ("c", early))]
    await turns()
    decider.open.set()
    await asyncio.gather(first, *rest)
    assert decider.deadlines[1] == late


async def test_a_call_that_fails_fails_for_all_of_its_commands_and_the_next_one_goes_on(decider: FakeDecider) -> None:
    decider.failure = Unsettled("no worker")
    decider.open.set()
    batcher = CommandBatcher(decider)
    with pytest.raises(Unsettled):
        await batcher.submit(pay("a"), soon())
    decider.failure = None
    assert (await batcher.submit(pay("b"), soon())).result.outcome == "paid"


async def test_a_call_that_is_too_large_is_divided_and_every_caller_gets_its_own_answer(decider: FakeDecider) -> None:
    decider.commands_max = 3
    batcher = CommandBatcher(decider)
    asked = await submitted(batcher, *(pay(f"o{number}") for number in range(20)))
    decider.open.set()
    answers = await asyncio.gather(*asked)
    assert [answer.result.order_id for answer in answers] == [f"o{number}" for number in range(20)]
    assert {len(call) for call in decider.calls if len(call) <= 3}


async def test_one_command_that_is_too_large_fails_alone(decider: FakeDecider) -> None:
    decider.open.set()
    decider.commands_max = 0
    with pytest.raises(TooLarge):
        await CommandBatcher(decider).submit(pay("a"), soon())
