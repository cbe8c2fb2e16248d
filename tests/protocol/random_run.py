"""A seeded random run over the real code: callers, relays and owners that come, race, stall and end.

All answers are recorded and judged at the end by the journal alone: the answers are those of the log, the log is dense,
and no order was placed twice. Redis loses nothing here; in `fault_run` it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from stocktide.agents.relay import Relay
from stocktide.streams.journal.record import JournalRecord
from stocktide.streams.shutdown import end
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.ledger.records import Decision, Result
from tests.harness.memory_log import MemoryLog
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, valid_records, wait_until

CALLERS = 6
ORDERS = 25  # few, so that callers collide: most answers repeat another caller's
UNITS = 40
SETTLE_SECONDS_MAX = 30.0


class RandomRun:
    """One run. `run` raises AssertionError if a promise was broken."""

    orders = ORDERS
    units = UNITS
    attempt_seconds = 0.1

    def __init__(self, rig: ProtocolRig, seed: int, steps: int, rest_seconds: float = SETTLE_SECONDS_MAX) -> None:
        self._rest_seconds = rest_seconds
        self._rig = rig
        self._random = random.Random(seed)
        self._steps = steps
        # The batch of each answer, the order, and its result.
        self._answers: list[tuple[int, str, Result]] = []
        self._relays: list[tuple[Relay, MemoryLog]] = []
        self._owners = 0
        self._over = False

    async def run(self) -> None:
        await self._new_owner()
        await self._submit(receive("opening", units=self.units), SETTLE_SECONDS_MAX)
        callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]
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
        await self._submit(place("closing", units=3), self._rest_seconds)
        last = self._relays[-1][0]
        head = int(await self._rig.field("head", "batch") or 0)
        await wait_until(lambda: last.position.batch == head, self._rest_seconds)
        await self._judge()

    async def _submit(self, command: Command, seconds: float) -> None:
        await self._rig.submitter().submit([command], deadline_in(seconds))

    async def _call(self) -> None:
        submitter = self._rig.submitter(attempt_seconds=self.attempt_seconds)
        draw = random.Random(self._random.random())
        while not self._over:
            orders = [f"o-{draw.randrange(self.orders)}" for _ in range(draw.randint(1, 3))]
            decision = await submitter.submit([place(order, units=3) for order in orders], None)
            answers = zip(orders, decision.results, strict=True)
            self._answers += [(decision.batch, order, result) for order, result in answers]
            await asyncio.sleep(draw.uniform(0, 0.01))

    def _next_event(self) -> Callable[[], Awaitable[None]]:
        return self._random.choice(
            [
                self._new_owner,
                self._add_owner,
                self._hold_appends,
                self._release_appends,
                self._end_relay,
                self._forget_blessing,
                self._cut_subscription,
                self._wait,
            ]
        )

    async def _new_owner(self) -> None:
        for relay, _ in self._relays:
            await relay.stop()
        await self._add_owner()

    async def _add_owner(self) -> None:
        self._owners += 1
        self._relays.append(self._begin_relay(f"owner-{self._owners}"))

    def _begin_relay(self, owner: str) -> tuple[Relay, MemoryLog]:
        log = self._rig.log()
        return self._rig.relay(owner, log), log

    async def _hold_appends(self) -> None:
        self._random.choice(self._relays)[1].gate.clear()

    async def _release_appends(self) -> None:
        self._random.choice(self._relays)[1].gate.set()

    async def _end_relay(self) -> None:
        await self._random.choice(self._relays)[0].stop()

    async def _forget_blessing(self) -> None:
        await self._rig.redis.delete(self._rig.prefix + "blessed")

    async def _cut_subscription(self) -> None:
        await self._rig.redis.client_kill_filter(_type="pubsub")

    async def _wait(self) -> None:
        await asyncio.sleep(0.05)

    async def _come_to_rest(self) -> None:
        for _, log in self._relays:
            log.gate.set()
        await self._new_owner()

    def _values(self) -> list[bytes]:
        return self._rig.journal.values

    def _valid(self) -> list[JournalRecord]:
        return valid_records(self._values())

    async def _judge(self) -> None:
        valid = self._valid()
        assert [record.batch for record in valid] == list(range(1, len(valid) + 1)), "the log is not dense"
        previous = ["", *(record.token for record in valid)]
        assert [record.previous for record in valid] == previous[:-1], "the log does not chain"
        decisions: dict[int, Decision] = {record.batch: decode_decision(record.payload) for record in valid}
        outcomes: dict[str, str] = {}
        for batch, order, result in self._answers:
            logged = [each for each in decisions[batch].results if each.order_id == order]
            assert result.outcome in {each.outcome for each in logged}, f"the log has another answer: {order}"
            assert outcomes.setdefault(order, result.outcome) == result.outcome, f"contradicted: {order}"
        self._judge_firsts(decisions)
        assert await self._rig.outbox_size() == 0
        assert len(self._answers) > CALLERS, "too few answers: the run shows nothing"

    def _judge_firsts(self, decisions: dict[int, Decision]) -> None:
        self._judge_stock(decisions)
        first = [order for _, order, result in self._answers if not result.replayed]
        assert len(first) == len(set(first)), "two callers were answered as the first"

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
