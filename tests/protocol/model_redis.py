"""A Redis of the model: its state is a value, and each script of `tables/ledger/lua` one atomic step on it.

In: the arguments of the scripts. Out: their answers; a refusal is a `Refusal`, as in `tables.ledger.control`. The last
few states are kept: a server that comes back older, and a replica that lags, is one of them, since AOF and replication
give prefixes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.control import OutboxEntry, Refusal, ServerState
from tests.protocol.model_ledger import RESTATE, ModelCommand, ModelDecision, ModelResult, Rows, decide, restate
from tests.protocol.model_rules import Rules

# Steps that a server may lose: not yet in the AOF, or not yet on the replica.
LOST_STEPS_MAX = 14
# Small, so that callers meet `busy`.
OUTBOX_MAX = 6

UNSET = "none"


class Blessed(NamedTuple):
    """The server that may decide, and the term that blessed it."""

    run_id: str
    replid: str
    term: int


class RestatePass(NamedTuple):
    """The progress of a pass over all rows: `cursor` is '' between two passes, `first` the batch that began it."""

    run_id: str
    cursor: str
    first: int


class RedisState(NamedTuple):
    """All that a server holds. `batch` 0: no head."""

    batch: int = 0
    token: str = ""
    settled: Position | None = None
    blessed: Blessed | None = None
    outbox: tuple[OutboxEntry, ...] = ()
    rows: Rows = {}  # noqa: RUF012  # never changed in place
    restate_pass: RestatePass | None = None


class RedoStep(NamedTuple):
    """A step of redo: the batch before it, the position after it, the tokens to publish, the rows written."""

    batch: int
    token: str
    position: Position
    settled: tuple[tuple[int, str], ...]
    changed: Rows


Tokens = Sequence[tuple[int, str]]


class ModelServer:
    """One process. It calls `publish` with settled tokens, and `watch` before every decision."""

    def __init__(
        self,
        number: int,
        rules: Rules,
        state: RedisState,
        publish: Callable[[ModelServer, Tokens], None],
        watch: Callable[[ModelServer, str, ModelDecision], None],
    ) -> None:
        self.name = f"redis-{number}"
        self.run_id = f"run-{number}"
        self.replid = f"repl-{number}"
        self.state = state
        self.follows: ModelServer | None = None
        self.before: deque[RedisState] = deque(maxlen=LOST_STEPS_MAX)
        self._rules = rules
        self._publish = publish
        self._watch = watch

    def put(self, **changed: object) -> None:
        """Write."""
        self.before.append(self.state)
        self.state = self.state._replace(**changed)

    def is_blessed(self, term: int | None = None) -> bool:
        """`includes/server.lua`."""
        blessed, rules = self.state.blessed, self._rules
        if blessed is None or blessed.run_id == UNSET:
            return False
        if rules.blessing_names_the_process and blessed.run_id != self.run_id:
            return False
        if rules.blessing_names_the_replication and blessed.replid != self.replid:
            return False
        return term is None or blessed.term == term or not rules.relay_needs_its_own_term

    def apply(self, commands: tuple[ModelCommand, ...], token: str) -> tuple[int, ModelDecision | None] | None:
        """`apply.lua`: (batch, decision), with batch 0 if nothing was due; None if unblessed or busy."""
        state, batch = self.state, self.state.batch + 1
        if self._rules.apply_needs_a_blessing and not self.is_blessed():
            return None
        if len(state.outbox) >= OUTBOX_MAX:
            return None
        restate_pass = state.restate_pass
        if commands[0].kind == RESTATE:
            page = self._restate(commands[0], batch)
            if page is None:
                return 0, None
            results, changed, restate_pass = page
        else:
            results, changed = decide(state.rows, commands)
        decision = ModelDecision(batch, commands, results, changed)
        self._watch(self, token, decision)
        entry = OutboxEntry(batch, token, state.token, decision)  # type: ignore[arg-type]
        rows = {**state.rows, **changed} if changed else state.rows
        self.put(batch=batch, token=token, outbox=(*state.outbox, entry), rows=rows, restate_pass=restate_pass)
        return batch, decision

    def _restate(self, command: ModelCommand, batch: int) -> tuple[tuple[ModelResult, ...], Rows, RestatePass] | None:
        """`includes/restate.lua`. The key of the command says whether the next pass is due."""
        restate_pass, how = self.state.restate_pass, "going"
        if restate_pass is not None and restate_pass.cursor == "" and command.key != "due":
            return None
        known = restate_pass is not None and (
            restate_pass.run_id == self.run_id or not self._rules.pass_ends_on_the_server_where_it_began
        )
        if restate_pass is None or restate_pass.cursor == "" or not known:
            how, cursor, first = "begun", "", batch
        else:
            cursor, first = restate_pass.cursor, restate_pass.first
        written, cursor = restate(self.state.rows, cursor)
        if cursor == "":
            how = "whole" if how == "begun" else "ended"
        return (ModelResult(f"{how} {first}"),), written, RestatePass(self.run_id, cursor, first)

    def outbox(self, term: int, batch_next: int, entries_max: int) -> tuple[OutboxEntry, ...] | Refusal:
        if self._rules.outbox_needs_a_blessing and not self.is_blessed(term):
            return self._refusal(term)
        return tuple(entry for entry in self.state.outbox if entry.batch >= batch_next)[:entries_max]

    def settle(self, term: int, positions: Sequence[Position]) -> Refusal | None:
        """`settle.lua`, and what `Handover.settle` makes of positions."""
        if self._rules.settle_needs_a_blessing and not self.is_blessed(term):
            return self._refusal(term)
        state, compares, last = self.state, self._rules.settle_compares_the_token, positions[-1]
        noted = state.settled or Position.beginning()
        read = {at.batch: at.token for at in positions if at.batch}
        if compares and read.get(noted.batch, noted.token) != noted.token:
            return Refusal.FORK
        fresh = [(batch, token) for batch, token in read.items() if batch > noted.batch]
        found = [entry for entry in state.outbox if entry.batch > noted.batch]
        for at, (batch, token) in enumerate(fresh):
            if not compares:
                continue
            if (
                batch != noted.batch + at + 1
                or at >= len(found)
                or (found[at].batch, found[at].token) != (batch, token)
            ):
                return Refusal.FORK
        if compares and (last.batch > noted.batch + len(fresh) or (fresh and last.offset <= noted.offset)):
            return Refusal.FORK
        if last.batch < noted.batch or last.offset <= noted.offset:
            return None
        self.put(settled=last, outbox=tuple(entry for entry in state.outbox if entry.batch > last.batch))
        if fresh:
            self._publish(self, fresh)
        return None

    def _refusal(self, term: int) -> Refusal:
        blessed = self.state.blessed
        return Refusal.HIGHER_TERM if blessed is not None and blessed.term > term else Refusal.UNBLESSED

    def unbless(self, term: int) -> ServerState | Refusal:
        state = self.state
        higher = state.blessed is not None and state.blessed.term > term
        if higher and self._rules.unbless_yields_to_a_higher_term:
            return Refusal.HIGHER_TERM
        self.put(blessed=Blessed(UNSET, UNSET, term))
        return ServerState(self.run_id, self.replid, state.batch, state.token, state.settled)

    def _not_in_recovery(self, term: int, seen: ServerState) -> Refusal | None:
        """`includes/recovery.lua`."""
        rules, blessed = self._rules, self.state.blessed
        if rules.recovery_needs_its_own_term and self._refusal(term) is Refusal.HIGHER_TERM:
            return Refusal.HIGHER_TERM
        if rules.recovery_needs_the_same_server and (self.run_id, self.replid) != (seen.run_id, seen.replid):
            return Refusal.MOVED
        if rules.recovery_needs_its_own_term and blessed != Blessed(UNSET, UNSET, term):
            return Refusal.SUPERSEDED
        return None

    def redo(self, term: int, seen: ServerState, step: RedoStep) -> Refusal | None:
        if (refused := self._not_in_recovery(term, seen)) is not None:
            return refused
        state, at = self.state, step.position
        if self._rules.redo_begins_where_redis_stands and (state.batch, state.token) != (step.batch, step.token):
            return Refusal.OUT_OF_ORDER
        outbox = tuple(entry for entry in state.outbox if entry.batch > at.batch)
        rows = {**state.rows, **step.changed}
        self.put(batch=at.batch, token=at.token, settled=at, outbox=outbox, rows=rows)
        self._publish(self, step.settled)
        return None

    def flush(self, term: int, seen: ServerState, first: bool) -> Refusal | None:
        """`flush.lua` in two pages: the head goes with the first one."""
        if (refused := self._not_in_recovery(term, seen)) is not None:
            return refused
        state = self.state
        if not first:
            self.put(outbox=(), rows={}, restate_pass=None)
        else:
            kept = {name: row for at, (name, row) in enumerate(state.rows.items()) if at % 2}
            blessed = state.blessed if self._rules.flush_keeps_blessed else None
            self.put(batch=0, token="", settled=None, rows=kept, blessed=blessed)
        return None

    def load(self, term: int, seen: ServerState, rows: Rows, position: Position | None) -> Refusal | None:
        if (refused := self._not_in_recovery(term, seen)) is not None:
            return refused
        if self.state.batch:
            return Refusal.OUT_OF_ORDER
        rows = {**self.state.rows, **rows}
        if position is None:
            self.put(rows=rows)
        else:
            self.put(rows=rows, batch=position.batch, token=position.token, settled=position)
        return None

    def bless(self, term: int, seen: ServerState, batch: int, token: str) -> Refusal | None:
        if (refused := self._not_in_recovery(term, seen)) is not None:
            return refused
        state = self.state
        if self._rules.bless_checks_the_chain:
            for entry in state.outbox:
                if entry.batch <= batch:
                    continue
                if (entry.batch, entry.previous) != (batch + 1, token):
                    return Refusal.BROKEN
                batch, token = entry.batch, entry.token
            if (batch, token) != (state.batch, state.token):
                return Refusal.BROKEN
        self.put(blessed=Blessed(seen.run_id, seen.replid, term))
        return None
