"""The faults of the model, in the order of one of its runs, on the real code: relays, takeovers, Lua on a server.

In: a rig and a seed. The model's run of that seed gives the order of the faults; each is replaced by its nearest
equivalent on one server. An earlier copy of the shard's keys is put back in one step and looks like another process (a
lost tail, a lagging replica, an old primary with unpublished decisions), or all keys are removed. A copy that comes
back after later decisions is a fork. Owners stall before a step of Redis, lose appends, race and end; the journal's
head ages out up to the last whole pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError

from stocktide.agents.relay import Relay
from stocktide.tables.audit.digest import canonical
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.ledger.records import Decision
from stocktide.tables.ledger.submission import Unsettled
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.protocol.model import run
from tests.protocol.random_run import CALLERS, SETTLE_SECONDS_MAX, RandomRun
from tests.protocol.rig import DecisionSubmitter, ProtocolRig, deadline_in
from tests.protocol.shard_copy import OWN, ShardCopy, age_out, forget_everything, state_of

# Faults of one run: the model's run has up to a hundred, and each costs a takeover of a real server.
FAULTS_MAX = 40
COPIES_MAX = 5
OWNERS_MAX = 3
# How long a fork waits for later decisions; under load they take longer, and the fork is shorter.
FORK_SECONDS_MAX = 1.0
# A pass must not delay the faults: without Redis, the next one tries it again.
PASS_SECONDS_MAX = 0.5
PASS_PAGES_MAX = 50


class StallingControl(LedgerControl):
    """A control that stops before each step until `gate` is set, as under SIGSTOP."""

    def __init__(self, rig: ProtocolRig) -> None:
        super().__init__(rig.redis, rig.app_id)
        self.gate = asyncio.Event()
        self.gate.set()
        for step in ("outbox", "settle", "unbless", "bless", "redo", "flush", "load"):
            setattr(self, step, self._stalled(getattr(self, step)))

    def _stalled(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stalled(*arguments: Any) -> Any:
            await self.gate.wait()
            return await step(*arguments)

        return stalled


class LosingLog(MemoryLog):
    """A journal client that loses its next append once `loses` is set."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.loses = False

    async def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """See JournalLog. The awaitable raises KafkaError if the values were lost."""
        if not self.loses:
            return await super().append(values)
        self.loses = False
        lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lost.set_exception(KafkaError("lost in flight"))
        return lost


class FaultRun(RandomRun):
    """A run over a Redis that loses state. `run` raises AssertionError if a promise was broken."""

    # So many that some are new up to the end, and more than the stock.
    orders = 400
    units = 600
    # Long enough for a takeover to settle an attempt.
    attempt_seconds = 1.0

    def __init__(self, rig: ProtocolRig, seed: int, rest_seconds: float = SETTLE_SECONDS_MAX) -> None:
        # The faults of the model's run of that seed, in order.
        self.plan = run(seed).failed[:FAULTS_MAX]
        super().__init__(rig, seed, len(self.plan), rest_seconds)
        self._copies: list[ShardCopy] = []
        self._controls: list[StallingControl] = []
        self._aged: list[bytes] = []
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "redis_restarts": self._lose_tail,
            "replica_is_promoted": self._promote,
            "old_server_returns": self._put_back_any_copy,
            "old_server_becomes_a_replica": self._take_copy,
            "old_primary_is_promoted_again": self._fork,
            "redis_is_flushed": self._empty_redis,
            "redis_is_empty": self._empty_redis,
            "client_reconnects": self._cut_subscription,
            "owner_appears": self._add_owner,
            "owner_ends": self._end_relay,
            "process_is_stopped": self._stall_owner,
            "process_resumes": self._resume_owners,
            "append_fails": self._lose_append,
            "deriver_is_reassigned": self._derive,
            "journal_is_trimmed": self._age_out_journal,
        }

    def _next_event(self) -> Callable[[], Awaitable[None]]:
        name, self.plan = self.plan[0], self.plan[1:]
        return self._faults[name]

    def _begin_relay(self, owner: str) -> tuple[Relay, MemoryLog]:
        log, control = LosingLog(self._rig.journal), StallingControl(self._rig)
        self._rig.logs.append(log)
        self._controls.append(control)
        return self._rig.relay(owner, log, control), log

    async def _add_owner(self) -> None:
        if len(self._relays) >= OWNERS_MAX:
            await self._relays[0][0].stop()
        await super()._add_owner()

    async def _end_relay(self) -> None:
        await super()._end_relay()
        await self._add_owner()

    async def _stall_owner(self) -> None:
        self._random.choice(self._controls[-OWNERS_MAX:]).gate.clear()
        await self._hold_appends()

    async def _resume_owners(self) -> None:
        for control in self._controls:
            control.gate.set()
        for _, log in self._relays:
            log.gate.set()

    async def _lose_append(self) -> None:
        log = self._relays[-1][1]
        assert isinstance(log, LosingLog)
        log.loses = True

    async def _take_copy(self) -> None:
        self._copies = [*self._copies, await ShardCopy(self._rig).take()][-COPIES_MAX:]

    async def _lose_tail(self) -> None:
        await self._take_copy()
        await asyncio.sleep(self._random.uniform(0, 0.05))
        await self._copies[-1].put_back()

    async def _put_back_any_copy(self) -> None:
        await self._take_copy()
        await self._random.choice(self._copies).put_back()

    async def _promote(self) -> None:
        """Decisions made while no append arrives stay on the old primary, which may come back later."""
        before = await ShardCopy(self._rig).take()
        for _, log in self._relays:
            log.gate.clear()
        await asyncio.sleep(0.05)
        await self._take_copy()
        await before.put_back()

    async def _fork(self) -> None:
        """The old primary comes back after the new one has made more decisions than it did."""
        await self._promote()
        there = int(await self._rig.field("head", "batch") or 0)
        await self._resume_owners()
        await self._add_owner()
        with suppress(TimeoutError):
            async with asyncio.timeout(FORK_SECONDS_MAX):
                while int(await self._rig.field("settled", "batch") or 0) <= there + CALLERS:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await self._copies[-1].put_back()

    async def _empty_redis(self) -> None:
        await self._take_copy()
        await forget_everything(self._rig)

    async def _derive(self) -> None:
        self._rig.rows.keep()

    async def _age_out_journal(self) -> None:
        """Take a whole pass, if Redis answers, and drop the journal's head up to the start of the newest one."""
        submitter = self._rig.submitter(attempt_seconds=0.1)
        try:
            await self._restate_all(submitter)
        except Unsettled:
            return
        self._rig.rows.keep()
        journal, whole = self._rig.journal, self._rig.rows.whole
        if whole is not None and whole.offset > journal.first:
            self._aged += journal.values[: whole.offset - journal.first]
            age_out(journal, whole.offset)

    @staticmethod
    async def _restate_all(submitter: DecisionSubmitter) -> None:
        deadline = deadline_in(PASS_SECONDS_MAX)
        for _ in range(PASS_PAGES_MAX):
            page = await submitter.submit([Restate(keys_max=1_000, every_ms=1)], deadline)
            if page.results and (page.results[0].detail or "").startswith(("ended", "whole")):
                return

    async def _come_to_rest(self) -> None:
        await self._resume_owners()
        await super()._come_to_rest()

    def _values(self) -> list[bytes]:
        return [*self._aged, *self._rig.journal.values]

    async def _judge(self) -> None:
        await super()._judge()
        state = await state_of(self._rig)
        whole = {name: state[name] for name in state if isinstance(name, str) and name.startswith(_WHOLE)}
        assert whole == self._folded(), "Redis does not hold the fold of the journal"
        last = self._valid()[-1]
        head = state["head"]
        assert (head[b"batch"], head[b"token"]) == (b"%d" % last.batch, last.token.encode()), (
            "Redis is at another batch"
        )
        await self._judge_a_rebuild(state)

    def _folded(self) -> dict[str, Any]:
        """The newest state of every key, by the journal alone."""
        folded: dict[str, Any] = {}
        for record in self._valid():
            decision = decode_decision(record.payload)
            folded |= {f"order:{row.order_id}": canonical(row.record) for row in decision.orders if row.changed}
            folded |= {
                f"movement:{row.warehouse}\n{row.id}": canonical(row.record)
                for row in decision.movements
                if row.changed
            }
            folded |= {f"sku:{row.sku}": canonical(row.record) for row in decision.skus}
        return folded

    async def _judge_a_rebuild(self, expected: dict[Any, Any]) -> None:
        """A rebuild from the log must restore the state, with every index."""
        for relay, _ in self._relays:
            await relay.stop()
        self._rig.rows.keep()
        await forget_everything(self._rig)
        await self._rig.take_over("judge")
        found, expected = _without_times(await state_of(self._rig)), _without_times(expected)
        assert found == expected, f"a rebuild restores something else: {_names_that_differ(found, expected)}"

    def _judge_firsts(self, decisions: dict[int, Decision]) -> None:
        """Judge the stock alone: an attempt whose first batch was lost may rightly be answered as the first."""
        self._judge_stock(decisions)


_WHOLE = ("order:", "movement:", "sku:")


def _without_times(state: dict[Any, Any]) -> dict[Any, Any]:
    """Replace the time to live of keys by the fact that they have one: the states are of two moments."""
    return {name: value if isinstance(name, str) else "kept" for name, value in state.items()}


def _names_that_differ(found: dict[Any, Any], expected: dict[Any, Any]) -> list[Any]:
    return [name for name in {**found, **expected} if found.get(name) != expected.get(name) and name not in OWN]
