"""A small random model of the protocol (docs/rules.md, R1 to R10): callers, owners, relays, servers that come and go.

In: a seed, and which rules are kept. Out: nothing, or `ProtocolViolation`. Every step is atomic and drawn at random.
After a few hundred steps the faults end, everything must come to rest, and `model_checker` judges the whole run. The
steps are those of the real code, in its order: `tables/ledger/lua`, `tables/recovery/takeover.py`, `agents/relay.py`,
`tables/ledger/submission.py`.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Protocol

from stocktide.streams.journal.record import JournalRecord
from tests.protocol.model_callers import ModelCaller
from tests.protocol.model_checker import ProtocolChecker, ProtocolViolation
from tests.protocol.model_derivation import Deriver
from tests.protocol.model_faults import FAULTS
from tests.protocol.model_journal import DerivedTable, ModelJournal, ModelProducer, SentRecord
from tests.protocol.model_owner import Owner
from tests.protocol.model_redis import ModelServer, RedisState, Tokens
from tests.protocol.model_rules import ALL, Rules

STEPS = 1_000
CALLERS = 3
# After the last fault, a run comes to rest within some hundred steps.
REST_STEPS_MAX = 6_000
# How many faults a violation names.
FAULTS_NAMED = 10
# Faults per thousand steps; a run draws one of these.
FAULTS_PER_1000 = (5, 10, 20, 40, 80)
# The share of the kinds of faults that a run draws: with all kinds, one fault often heals the last one.
KINDS_OF_ONE = (0.15, 0.4, 1.0)
# The chance per arrival that late rows arrive too: long after others have written them again.
LATE_ROWS_ARRIVE = 0.02


class Actor(Protocol):
    """A process that takes steps."""

    paused: bool
    closed: bool

    def step(self) -> None: ...


class World:
    """One run. A new connection reaches the server `current`; others may still serve their old connections."""

    def __init__(self, seed: int, rules: Rules = ALL, kinds: Collection[str] = ()) -> None:
        self.seed = seed
        self.rules = rules
        self.random = random.Random(seed)
        self._lateness = random.Random(seed)
        self.checker = ProtocolChecker()
        self.journal = ModelJournal()
        self.table = DerivedTable()
        self.producers: list[ModelProducer] = []
        self.servers: list[ModelServer] = []
        self.failed: list[str] = []  # the names of the faults
        self.steps = 0
        self.over = False
        self.keeps_on = False
        # Whether rows that were sent before the end of an assignment may arrive after it, and whether some did.
        self.leaks = self.chance(0.25)
        self.leaked = False
        self._serial = 0
        self.current = self.new_server(RedisState())
        self.callers = [ModelCaller(self, number, keeper=number == CALLERS) for number in range(CALLERS + 1)]
        self.owners: list[Owner] = []
        self.derivers: list[Deriver] = []
        self.new_owner()
        self.new_deriver()
        self._faults = FAULTS_PER_1000[self.draw(len(FAULTS_PER_1000))] / 1000
        kept = KINDS_OF_ONE[self.draw(len(KINDS_OF_ONE))]
        drawn = {fault.__name__ for fault in dict.fromkeys(FAULTS) if self.chance(kept)}
        self._kinds = [fault for fault in FAULTS if fault.__name__ in (kinds or drawn)]

    def draw(self, below: int) -> int:
        """A random number from 0 to below `below`."""
        return int(self.random.random() * below)

    def chance(self, of_one: float) -> bool:
        """True with that probability."""
        return self.random.random() < of_one

    def serial(self) -> int:
        """A number that was not used before."""
        self._serial += 1
        return self._serial

    def fresh_token(self) -> str:
        return f"t{self.serial()}"

    def new_server(self, state: RedisState) -> ModelServer:
        """Start another server process."""
        server = ModelServer(self.serial(), self.rules, state, self._publish, self.checker.decided)
        self.servers.append(server)
        return server

    def send(self, producer: ModelProducer, record: JournalRecord) -> SentRecord:
        """Hand a record to a producer, where it is in flight."""
        if not producer.in_flight:
            self.producers.append(producer)
        return producer.send(record)

    def take_from_a_producer(self) -> SentRecord | None:
        """The oldest record in flight of a random producer."""
        if not self.producers:
            return None
        producer = self.producers[self.draw(len(self.producers))]
        sent = producer.in_flight.popleft()
        if not producer.in_flight:
            self.producers.remove(producer)
        return sent

    def new_owner(self) -> None:
        """Another process takes the shard for its own."""
        self.owners.append(Owner(self, self.serial()))
        self._list_actors()

    def new_deriver(self) -> None:
        """The journal agent is assigned again."""
        self.derivers.append(Deriver(self))
        self._list_actors()

    def drop_closed(self) -> None:
        """Forget closed processes."""
        self.owners = [owner for owner in self.owners if not owner.closed]
        self.derivers = [deriver for deriver in self.derivers if not deriver.closed]
        self._list_actors()

    def _list_actors(self) -> None:
        owners = getattr(self, "owners", [])
        derivers = getattr(self, "derivers", [])
        self._actors: list[Actor] = [*self.callers, *owners, *owners, *derivers]

    def _publish(self, server: ModelServer, tokens: Tokens) -> None:
        """Send a message of a subscription, which may be lost."""
        for caller in self.callers:
            if caller.server is server and self.random.random() < 0.9:
                caller.note(tokens)

    def arrive(self) -> None:
        """A record in flight reaches the journal, or late rows reach their topics."""
        if self.table.late and self._lateness.random() < LATE_ROWS_ARRIVE:
            self.table.rows |= self.table.late.pop(0)
        if (sent := self.take_from_a_producer()) is not None:
            sent.offset = self.journal.end
            self.journal.records.append(sent.record)

    def step(self, faults: float = 0.0) -> None:
        """One step of a random actor, a fault, or an arrival."""
        self.steps += 1
        drawn = self.random.random()
        if drawn < faults and self._kinds:
            fault = self.random.choice(self._kinds)
            self.failed.append(fault.__name__)
            fault(self)
        elif drawn > 0.85:
            self.arrive()
        else:
            actor = self._actors[self.draw(len(self._actors))]
            if not actor.paused and not actor.closed:
                actor.step()
                if actor.closed:
                    self.drop_closed()

    def run(self) -> None:
        """Run, come to rest, judge; then lose Redis once more, and write all rows again. Raises ProtocolViolation."""
        for _ in range(STEPS):
            self.step(self._faults)
        self.end_of_faults()
        self.rest()
        rows = self.checker.judge(self)
        self.lose_redis()
        self.rest()
        self.checker.judge_redis(self, rows)
        self.pass_over_all_rows()
        self.rest()
        self.checker.judge_rows(self, rows)

    def end_of_faults(self) -> None:
        """End the faults: one owner, one journal agent, one server, and everything in flight arrives."""
        self.over = True
        while self.table.late:
            self.table.rows |= self.table.late.pop(0)
        self.random.shuffle(self.owners)
        for stale in self.owners[1:]:
            stale.close()
        self.drop_closed()
        if not self.owners:
            self.new_owner()
        if all(deriver.is_stale for deriver in self.derivers):
            self.new_deriver()
        self.connect()

    def connect(self) -> None:
        """Let every process go on and reach the current server."""
        for each in (*self.callers, *self.owners, *self.derivers):
            each.paused = False
        for client in (*self.callers, *self.owners):
            client.server = self.current

    def lose_redis(self) -> None:
        """Replace the current server by an empty one, whose state must come back from the log."""
        self.current = self.new_server(RedisState())
        self.connect()

    def pass_over_all_rows(self) -> None:
        """Take the next pass, which brings back what late rows overwrote."""
        self.keeps_on = True
        before = self.table.whole
        for _ in range(REST_STEPS_MAX):
            self.step()
            if self.table.whole != before:
                self.keeps_on = False
                return
        raise ProtocolViolation("no-rest: a pass over all rows does not end")

    def rest(self) -> None:
        """Step until every caller is answered and nothing is in flight. Raises ProtocolViolation if that fails."""
        for _ in range(REST_STEPS_MAX):
            self.step()
            if self.steps % 16 == 0 and self._rests():
                return
        waiting = [caller.name for caller in self.callers if not caller.idle]
        owner = self.owners[0]
        raise ProtocolViolation(
            f"no-rest: {', '.join(waiting) or 'no caller'} waits; {owner.name} is "
            f"{'blessed' if owner.blessed else 'not blessed: ' + owner.trouble}; {self.current.name} holds batch "
            f"{self.current.state.batch} with {len(self.current.state.outbox)} in its outbox"
        )

    def _rests(self) -> bool:
        state = self.current.state
        return (
            all(caller.idle for caller in self.callers)
            and not state.outbox
            and self.owners[0].blessed
            and not self.producers
            and len(self.derivers) == 1
            and self.derivers[0].derived_up_to == self.journal.end
            and (self.table.derived.batch if self.table.derived else 0) == state.batch
        )


def run(seed: int, rules: Rules = ALL, kinds: Collection[str] = ()) -> World:
    """A whole run, with only the faults in `kinds` if it names some. Raises ProtocolViolation, which names the seed."""
    world = World(seed, rules, kinds)
    try:
        world.run()
    except ProtocolViolation as violation:
        last = ", ".join(world.failed[-FAULTS_NAMED:])
        raise ProtocolViolation(f"seed {seed}, step {world.steps}: {violation}; the last faults: {last}") from violation
    return world
