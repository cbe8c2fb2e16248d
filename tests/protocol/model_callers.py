"""A caller in the model: apply under a new token, wait until that token is settled, or submit again (rule R7).

It follows `tables.ledger.submission` and `tables.settlement.listener`: messages of the subscription may be lost, so the
hash is polled now and then; an answer of Redis may be lost; and a caller that waits too long submits again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from tests.protocol.model_ledger import ORDERS, RECEIPTS, RESTATE, SKUS, ModelCommand
from tests.protocol.model_redis import ModelServer, Tokens

if TYPE_CHECKING:
    from tests.protocol.model import World

COMMANDS_MAX = 2
KINDS = ("place", "place", "place", "place", "pay", "pay", "cancel", "receive")


class ModelCaller:
    """One process that submits commands. Its only answers are those of its own token's batch."""

    def __init__(self, world: World, number: int, keeper: bool = False) -> None:
        self.name = f"caller-{number}"
        self.server: ModelServer = world.current
        self.paused = False
        self.closed = False
        self.idle = True
        self.commands: tuple[ModelCommand, ...] = ()
        self._world = world
        self._keeper = keeper
        self._recent: dict[int, str] = {}
        self._newest = 0
        self._lost_below = 0
        self._polled_before = 0
        self._token = ""
        self._steps = self._run()

    def step(self) -> None:
        next(self._steps)

    def note(self, settled: Tokens) -> None:
        """A message of the subscription (`Settlements.note`)."""
        self._recent.update(settled)
        if settled:
            self._newest = max(self._newest, settled[-1][0])
            self._lost_below = max(self._lost_below, settled[0][0])

    def _run(self) -> Iterator[None]:
        while True:
            while self._world.over and not (self._keeper and self._world.keeps_on):
                yield
            self.idle, self.commands, self._token = False, self._draw(), ""
            yield from self._submit()
            self.idle = True
            yield

    def _draw(self) -> tuple[ModelCommand, ...]:
        draw = self._world.draw
        if self._keeper:
            return (ModelCommand(RESTATE, "due" if self._world.over or self._world.chance(0.5) else "early"),)
        commands = []
        for _ in range(1 + draw(COMMANDS_MAX)):
            kind = KINDS[draw(len(KINDS))]
            key = f"movement:{draw(RECEIPTS * len(SKUS))}" if kind == "receive" else f"order:{draw(ORDERS)}"
            commands.append(ModelCommand(kind, key))
        return tuple(commands)

    def _submit(self) -> Generator[None, None, None]:
        world = self._world
        while True:
            yield
            if not self._token or world.rules.attempt_has_a_fresh_token:
                self._token = world.fresh_token()
            applied = self.server.apply(self.commands, self._token)
            if applied is None or world.chance(0.04):
                continue  # unblessed, busy, or the answer was lost and the batch may be decided
            batch, decision = applied
            if decision is None:
                return
            if (yield from self._is_settled(batch)):
                world.checker.answered(self.name, batch, self._token, decision.commands, decision.results)
                return

    def _is_settled(self, batch: int) -> Generator[None, None, bool]:
        world = self._world
        while True:
            yield
            if (known := self._recent.get(batch)) is not None:
                return known == self._token or not world.rules.caller_compares_the_token
            if batch < max(self._lost_below, self._newest):
                return False
            if world.chance(0.15):
                self._poll(batch)
            elif world.chance(0.02):
                return False

    def _poll(self, batch: int) -> None:
        """`Settlements._poll`: a batch below what the hash showed an interval ago was missed."""
        settled = self.server.state.settled
        if settled is None:
            return
        if self._polled_before > self._newest:
            self._lost_below = max(self._lost_below, self._polled_before)
        if settled.batch == batch:
            self._recent[batch] = settled.token
        self._polled_before = settled.batch
