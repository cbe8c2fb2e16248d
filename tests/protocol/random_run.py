"""A seeded random walk: callers, relays and owners that come, race, stall and go, over one real Redis and one journal.

Every caller's answers are kept, and judged at the end by the journal alone: what was told is what the log says, the
log is dense, and no order was placed twice. Redis loses nothing here; in `walk_faults` it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stocktide.agents.relay import Relay
from stocktide.streams.journal.log import MemoryLog
from stocktide.streams.journal.record import JournalRecord
from stocktide.streams.shutdown import end
from stocktide.tables.ledger.records import Decision, Result, decode_decision
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, valid_records, wait_until

CALLERS = 6
ORDERS = 25  # few, so that callers meet: most answers are repeats of another caller's
UNITS = 40
SETTLE_SECONDS_MAX = 30.0


@dataclass(slots=True)
class AnswerLog:
    """What callers were told: the batch, and the outcome of each order in it."""

    answers: list[tuple[int, str, Result]] = field(default_factory=list)


class RandomRun:
    """One walk. `run` raises AssertionError where a promise was broken."""

    orders = ORDERS
    units = UNITS
    attempt_seconds = 0.1

    def __init__(self, stage: ProtocolRig, seed: int, steps: int, rest_seconds: float = SETTLE_SECONDS_MAX) -> None:
        self._rest_seconds = rest_seconds
        self._stage = stage
        self._random = random.Random(seed)
        self._steps = steps
        self._told = AnswerLog()
        self._relays: list[tuple[Relay, MemoryLog]] = []
        self._owners = 0
        self._over = False

    async def run(self) -> None:
        """Walk, let everything come to rest, and judge."""
        await self._new_owner()
        await self._stage.submitter().submit([receive("opening", units=self.units)], deadline_in(SETTLE_SECONDS_MAX))
        callers = [asyncio.create_task(self._call(number)) for number in range(CALLERS)]
        try:
            for _ in range(self._steps):
                await self._next_event()()
                await asyncio.sleep(self._random.uniform(0, 0.03))
            self._over = True
            await self._come_to_rest()
            async with asyncio.timeout(self._rest_seconds):
                await asyncio.gather(*callers)
        finally:
            await end(*callers)
        await self._stage.submitter().submit([place("closing", units=3)], deadline_in(self._rest_seconds))
        last = self._relays[-1][0]
        head = int(await self._stage.field("head", "batch") or 0)
        await wait_until(lambda: last.position.batch == head, self._rest_seconds)
        await self._judge()

    async def _call(self, number: int) -> None:
        submitter = self._stage.submitter(attempt_seconds=self.attempt_seconds)
        draw = random.Random(self._random.random())
        while not self._over:
            orders = [f"o-{draw.randrange(self.orders)}" for _ in range(draw.randint(1, 3))]
            decision = await submitter.submit([place(order, units=3) for order in orders], None)
            told = zip(orders, decision.results, strict=True)
            self._told.answers += [(decision.batch, order, result) for order, result in told]
            await asyncio.sleep(draw.uniform(0, 0.01))

    def _next_event(self) -> Callable[[], Awaitable[None]]:
        return self._random.choice(self._events())

    def _events(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self._new_owner,
            self._new_owner_while_the_old_one_goes_on,
            self._hold_back_what_a_relay_sends,
            self._let_arrive_what_was_held_back,
            self._kill_a_relay,
            self._forget_the_blessing,
            self._cut_the_subscription,
            self._nothing,
        ]

    async def _new_owner(self) -> None:
        for relay, _ in self._relays:
            await relay.stop()
        await self._new_owner_while_the_old_one_goes_on()

    async def _new_owner_while_the_old_one_goes_on(self) -> None:
        self._owners += 1
        self._relays.append(self._begin_relay(f"owner-{self._owners}"))

    def _begin_relay(self, owner: str) -> tuple[Relay, MemoryLog]:
        log = self._stage.log()
        return self._stage.relay(owner, log), log

    async def _hold_back_what_a_relay_sends(self) -> None:
        self._random.choice(self._relays)[1].gate.clear()

    async def _let_arrive_what_was_held_back(self) -> None:
        self._random.choice(self._relays)[1].gate.set()

    async def _kill_a_relay(self) -> None:
        await self._random.choice(self._relays)[0].stop()

    async def _forget_the_blessing(self) -> None:
        await self._stage.redis.delete(self._stage.prefix + "blessed")

    async def _cut_the_subscription(self) -> None:
        await self._stage.redis.client_kill_filter(_type="pubsub")

    async def _nothing(self) -> None:
        await asyncio.sleep(0.05)

    async def _come_to_rest(self) -> None:
        for _, log in self._relays:
            log.gate.set()
        await self._new_owner()

    def _values(self) -> list[bytes]:
        return self._stage.journal.values

    def _valid(self) -> list[JournalRecord]:
        return valid_records(self._values())

    async def _judge(self) -> None:
        valid = self._valid()
        assert [record.batch for record in valid] == list(range(1, len(valid) + 1)), "the log is not dense"
        previous = ["", *(record.token for record in valid)]
        assert [record.previous for record in valid] == previous[:-1], "the log does not chain"
        decisions: dict[int, Decision] = {record.batch: decode_decision(record.payload) for record in valid}
        outcomes: dict[str, str] = {}
        for batch, order, result in self._told.answers:
            logged = [each for each in decisions[batch].results if each.order_id == order]
            assert result.outcome in {each.outcome for each in logged}, f"told what the log does not say: {order}"
            assert outcomes.setdefault(order, result.outcome) == result.outcome, f"contradicted: {order}"
        self._judge_firsts(decisions)
        assert await self._stage.outbox_size() == 0
        assert len(self._told.answers) > CALLERS, "nothing was answered: the walk shows nothing"

    def _judge_firsts(self, decisions: dict[int, Decision]) -> None:
        self._judge_stock(decisions)
        first = [order for _, order, result in self._told.answers if not result.replayed]
        assert len(first) == len(set(first)), "two callers were told that they were the first"

    def _judge_stock(self, decisions: dict[int, Decision]) -> None:
        results = [result for each in decisions.values() for result in each.results if result.order_id]
        logged = [result.order_id for result in results if not result.replayed]
        assert len(logged) == len(set(logged)), "an order was decided twice"
        held = sum(
            line.reserved
            for row in {row.order_id: row for each in decisions.values() for row in each.orders}.values()
            for line in row.record.lines
        )
        assert held <= self.units, "oversold"
