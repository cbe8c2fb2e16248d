"""The faults of the model, in the order of the model's own run, on the real code: relays, takeovers, Lua on a server.

In: a stage and a seed. The model's run of that seed says what fails, and when; here each of its faults is what comes
nearest to it on one server: a copy of the shard's keys, taken earlier, is put back in one step and looks like another
process (a lost tail, a lagging replica, an old primary whose decisions nobody read), or all keys are gone. Copies are
taken all along, also of what was never sent, so that one that comes back after others decided is a fork. Owners stall
before any step of Redis, lose what they append, race and die; the journal's head ages out up to the last whole pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from stocktide.agents.relay import Relay
from stocktide.streams.journal.log import MemoryJournal, MemoryLog
from stocktide.tables.ledger.commands import Restate
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.records import Decision
from stocktide.tables.ledger.submission import Unsettled
from tests.protocol.model import run
from tests.protocol.random_run import CALLERS, SETTLE_SECONDS_MAX, RandomRun
from tests.protocol.rig import DecisionSubmitter, ProtocolRig, deadline_in
from tests.protocol.shard_copy import OWN, ShardCopy, age_out, forget_everything, state_of

# Faults of one walk: a model's run has up to a hundred, and each costs a takeover of a real server.
FAULTS_MAX = 40
COPIES_MAX = 5
OWNERS_MAX = 3
# How long an old primary waits for the others to decide; under load they need longer, and the fork is a shorter one.
FORK_SECONDS_MAX = 1.0
# A pass must not hold up the faults: where Redis is away, it is tried again with the next cut.
PASS_SECONDS_MAX = 0.5
PASS_PAGES_MAX = 50


class StallingControl(LedgerControl):
    """Whoever holds it stops before its next step, as under SIGSTOP, until `gate` is set again."""

    def __init__(self, stage: ProtocolRig) -> None:
        super().__init__(stage.redis, stage.app_id)
        self.gate = asyncio.Event()
        self.gate.set()
        for step in ("outbox", "settle", "unbless", "bless", "replay", "flush", "load"):
            setattr(self, step, self._stalled(getattr(self, step)))

    def _stalled(self, step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def stalled(*arguments: Any) -> Any:
            await self.gate.wait()
            return await step(*arguments)

        return stalled


class LosingLog(MemoryLog):
    """A client of the journal whose next append is lost, once `loses` was set."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.loses = False

    async def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """See JournalLog. The awaitable raises KafkaError where the values were lost."""
        if not self.loses:
            return await super().append(values)
        self.loses = False
        lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        lost.set_exception(KafkaError("lost on its way"))
        return lost


def plan_of(seed: int) -> list[str]:
    """The names of what failed in the model's run of that seed, in order."""
    return run(seed).failed[:FAULTS_MAX]


class FaultRun(RandomRun):
    """A walk over a Redis that loses what it knew. `run` raises AssertionError where a promise was broken."""

    # So many that some are new to the end, and more than the shelf holds.
    orders = 400
    units = 600
    # Long enough to learn of a takeover what became of an attempt.
    attempt_seconds = 1.0

    def __init__(self, stage: ProtocolRig, seed: int, rest_seconds: float = SETTLE_SECONDS_MAX) -> None:
        self.plan = plan_of(seed)
        super().__init__(stage, seed, len(self.plan), rest_seconds)
        self._copies: list[ShardCopy] = []
        self._handovers: list[StallingControl] = []
        self._aged: list[bytes] = []
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            "redis_restarts": self._lose_the_tail,
            "replica_is_promoted": self._promote,
            "old_server_returns": self._bring_back_any_copy,
            "old_server_becomes_a_replica": self._take_a_copy,
            "replica_is_promoted_and_the_old_primary_comes_back_as_a_replica_and_is_promoted_again": self._fork,
            "redis_is_flushed": self._forget_everything,
            "redis_is_empty": self._forget_everything,
            "client_reconnects": self._cut_the_subscription,
            "owner_appears": self._new_owner_while_the_old_one_goes_on,
            "owner_dies": self._kill_a_relay,
            "process_is_stopped": self._stop_an_owner,
            "process_goes_on": self._let_owners_go_on,
            "append_fails": self._lose_an_append,
            "deriver_is_assigned_anew": self._derive,
            "journal_is_cut": self._cut_the_journal,
        }

    def _next_event(self) -> Callable[[], Awaitable[None]]:
        name, self.plan = self.plan[0], self.plan[1:]
        return self._faults[name]

    def _begin_relay(self, owner: str) -> tuple[Relay, MemoryLog]:
        stage, log = self._stage, LosingLog(self._stage.journal)
        self._handovers.append(StallingControl(stage))
        relay = Relay(log, self._handovers[-1], owner, source=stage.rows, stall_seconds=0.3)
        relay.start()
        stage.logs.append(log)
        stage.relays.append(relay)
        return relay, log

    async def _new_owner_while_the_old_one_goes_on(self) -> None:
        if len(self._relays) >= OWNERS_MAX:
            await self._relays[0][0].stop()
        await super()._new_owner_while_the_old_one_goes_on()

    async def _kill_a_relay(self) -> None:
        await super()._kill_a_relay()
        await self._new_owner_while_the_old_one_goes_on()

    async def _stop_an_owner(self) -> None:
        self._random.choice(self._handovers[-OWNERS_MAX:]).gate.clear()
        await self._hold_back_what_a_relay_sends()

    async def _let_owners_go_on(self) -> None:
        for handover in self._handovers:
            handover.gate.set()
        for _, log in self._relays:
            log.gate.set()

    async def _lose_an_append(self) -> None:
        log = self._relays[-1][1]
        assert isinstance(log, LosingLog)
        log.loses = True

    async def _take_a_copy(self) -> None:
        self._copies = [*self._copies, await ShardCopy(self._stage).take()][-COPIES_MAX:]

    async def _lose_the_tail(self) -> None:
        await self._take_a_copy()
        await asyncio.sleep(self._random.uniform(0, 0.05))
        await self._copies[-1].put_back()

    async def _bring_back_any_copy(self) -> None:
        await self._take_a_copy()
        await self._random.choice(self._copies).put_back()

    async def _promote(self) -> None:
        """What is decided while nothing is sent stays on the old primary, which may come back later."""
        before = await ShardCopy(self._stage).take()
        for _, log in self._relays:
            log.gate.clear()
        await asyncio.sleep(0.05)
        await self._take_a_copy()
        await before.put_back()

    async def _fork(self) -> None:
        """The old primary comes back once others have decided in its place, and more than it did."""
        await self._promote()
        there = int(await self._stage.field("head", "batch") or 0)
        await self._let_owners_go_on()
        await self._new_owner_while_the_old_one_goes_on()
        with suppress(TimeoutError):
            async with asyncio.timeout(FORK_SECONDS_MAX):
                while int(await self._stage.field("settled", "batch") or 0) <= there + CALLERS:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await self._copies[-1].put_back()

    async def _forget_everything(self) -> None:
        await self._take_a_copy()
        await forget_everything(self._stage)

    async def _derive(self) -> None:
        self._stage.rows.keep()

    async def _cut_the_journal(self) -> None:
        """A whole pass, if Redis answers; then the journal's head goes, up to where the newest whole pass began."""
        submitter = self._stage.submitter(attempt_seconds=0.1)
        try:
            await self._pass_over_all_rows(submitter)
        except Unsettled:
            return
        self._stage.rows.keep()
        journal, whole = self._stage.journal, self._stage.rows.whole
        if whole is not None and whole.offset > journal.first:
            self._aged += journal.values[: whole.offset - journal.first]
            age_out(journal, whole.offset)

    @staticmethod
    async def _pass_over_all_rows(submitter: DecisionSubmitter) -> None:
        deadline = deadline_in(PASS_SECONDS_MAX)
        for _ in range(PASS_PAGES_MAX):
            page = await submitter.submit([Restate(keys_max=1_000, every_ms=1)], deadline)
            if page.results and (page.results[0].detail or "").startswith(("ended", "whole")):
                return

    async def _come_to_rest(self) -> None:
        await self._let_owners_go_on()
        await super()._come_to_rest()

    def _values(self) -> list[bytes]:
        return [*self._aged, *self._stage.journal.values]

    async def _judge(self) -> None:
        await super()._judge()
        state = await state_of(self._stage)
        whole = {name: state[name] for name in state if isinstance(name, str) and name.startswith(_WHOLE)}
        assert whole == self._folded(), "Redis holds what the journal does not tell"
        last = self._valid()[-1]
        head = state["head"]
        assert (head[b"batch"], head[b"token"]) == (b"%d" % last.batch, last.token.encode()), "Redis is elsewhere"
        await self._judge_a_rebuild(state)

    def _folded(self) -> dict[str, Any]:
        """The newest state of every key, by the journal alone."""
        folded: dict[str, Any] = {}
        for record in self._valid():
            payload = msgspec.msgpack.decode(record.payload)
            _, _, _, _, orders, movements, skus, *_ = payload
            folded |= {f"order:{key}": row for key, row, changed in orders if changed}
            folded |= {f"movement:{place}\n{key}": row for place, key, row, changed in movements if changed}
            folded |= {f"sku:{key}": row for key, row, _ in skus}
        return folded

    async def _judge_a_rebuild(self, wanted: dict[Any, Any]) -> None:
        """What was told comes back from the log, once more, with every index."""
        for relay, _ in self._relays:
            await relay.stop()
        self._stage.rows.keep()
        await forget_everything(self._stage)
        await self._stage.take_over("judge")
        found, wanted = _without_times(await state_of(self._stage)), _without_times(wanted)
        assert found == wanted, f"a rebuild brings back something else: {_names_that_differ(found, wanted)}"

    def _judge_firsts(self, decisions: dict[int, Decision]) -> None:
        """Who was told to be the first is not judged: an attempt that got lost may have been so, and says it was."""
        self._judge_stock(decisions)


_WHOLE = ("order:", "movement:", "sku:")


def _without_times(state: dict[Any, Any]) -> dict[Any, Any]:
    """With whether a key will end, and not when: that is rounded, and the two states are of two moments."""
    return {name: value if isinstance(name, str) else "kept" for name, value in state.items()}


def _names_that_differ(found: dict[Any, Any], wanted: dict[Any, Any]) -> list[Any]:
    return [name for name in {**found, **wanted} if found.get(name) != wanted.get(name) and name not in OWN]
