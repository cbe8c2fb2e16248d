"""The ledger's side of relay and takeover: what is in the outbox, what is settled, who may decide.

In: terms, and positions of the journal. Out: typed answers of the Lua steps `outbox`, `settle`, `unbless` and `bless`.
That this server, or this term, may not do it is a value (`Refusal`), not an exception: it is how a recovery begins.
`replay`, `flush` and `load` are the steps of a recovery between `unbless` and `bless`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from stocktide.streams.journal.record import Position
from stocktide.tables.ledger.scripts import Script, key_prefix


class Refusal(StrEnum):
    """Why a step was not done. The words are those of `lua/`."""

    UNBLESSED = "unblessed"  # this server was never blessed, or is another one, or came back: take over
    HIGHER_TERM = "higher_term"  # a newer owner was here
    FORK = "fork"  # the outbox does not hold what the journal holds: take over
    MOVED = "moved"  # the server is not the one that the recovery began with
    SUPERSEDED = "superseded"  # somebody wrote or flushed `blessed` since the recovery began
    BROKEN = "broken"  # the outbox does not lead from the journal's last batch to the newest one
    OUT_OF_ORDER = "out_of_order"  # the server does not stand where the step begins: somebody else was here


class OutboxEntry(Struct, frozen=True, array_like=True):
    """A batch that the ledger decided and the relay has to publish. `payload` is carried unopened."""

    batch: int
    token: str
    previous: str
    payload: bytes


class ServerState(Struct, frozen=True):
    """What a recovery found when it began: the server's ids, its newest batch (0 and "" if none), how far it settled
    (None if nothing was ever noted there)."""

    run_id: str
    replid: str
    batch: int
    token: str
    settled: Position | None


class SettledUpTo(Struct, frozen=True):
    """How far this server is settled."""

    batch: int


class StepRefused(Struct, frozen=True):
    """A step that was not done. `batch` is the one it stumbled over, `term` the higher one, where there is one."""

    reason: Refusal
    batch: int = 0
    term: int = 0


class RedoStep(Struct, frozen=True):
    """A step of redo: batches that lie one after the other in the journal, and what they wrote.

    `batch` and `token` are those before the first one; `position` is the journal's after the last one, `at` its time
    (ms); `told` are (batch, token) of all that nobody was told to be settled; `writes` as `tables.recovery.redo` packs
    them.
    """

    batch: int
    token: str
    position: Position
    at: int
    told: tuple[tuple[int, str], ...]
    writes: tuple[bytes, ...]


class LedgerControl:
    """The Lua steps of relay and takeover on one shard. Every method raises `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, app_id: str, shard: int = 0) -> None:
        self._redis = redis
        self._prefix = key_prefix(app_id, shard)
        self._outbox = Script(redis, self._prefix, "outbox")
        self._settle = Script(redis, self._prefix, "settle")
        self._unbless = Script(redis, self._prefix, "unbless")
        self._bless = Script(redis, self._prefix, "bless")
        self._replay = Script(redis, self._prefix, "replay")
        self._flush = Script(redis, self._prefix, "flush")
        self._load = Script(redis, self._prefix, "load")

    async def outbox(
        self, term: int, batch_next: int, entries_max: int, bytes_max: int
    ) -> tuple[OutboxEntry, ...] | StepRefused:
        """The entries from `batch_next` on: at most `entries_max`, and none after `bytes_max` of payload."""
        answer = await self._outbox(term, batch_next, entries_max, bytes_max)
        if answer[0] != b"ok":
            return _refused(answer)
        return tuple(
            OutboxEntry(batch, token.decode(), previous.decode(), payload)
            for batch, token, previous, payload in answer[1:]
        )

    async def settle(self, term: int, positions: Sequence[Position]) -> SettledUpTo | StepRefused:
        """Settle valid records: `positions` are the reader's, one after each (a marker's repeats the batch before it).
        The last one is noted; the tokens of those that were new are published."""
        last = positions[-1]
        read = msgspec.msgpack.encode(list({at.batch: at.token for at in positions if at.batch}.items()))
        answer = await self._settle(term, read, last.offset, last.term, last.owner, last.batch, last.token)
        return SettledUpTo(answer[1]) if answer[0] == b"settled" else _refused(answer)

    async def settled(self) -> Position | None:
        """How far this server noted to be settled; None if nothing was ever noted. Blessed or not, it is true: only
        what was read back from the journal was ever written there."""
        names = ["offset", "term", "owner", "batch", "token"]
        found: Sequence[Any] = await self._redis.hmget(self._prefix + "settled", names)
        return None if found[0] is None else _position(found)

    async def term(self) -> int:
        """The term of the newest recovery that this server saw; 0 if none."""
        return int(await self._redis.hget(self._prefix + "blessed", "term") or 0)

    async def unbless(self, term: int) -> ServerState | StepRefused:
        """Begin a recovery: from here on this server decides and settles nothing, until `bless` with this term."""
        answer = await self._unbless(term)
        if answer[0] != b"ok":
            return _refused(answer)
        _, run_id, replid, batch, token, *settled = answer
        noted = _position(settled) if settled[0] else None
        return ServerState(run_id.decode(), replid.decode(), batch, token.decode(), noted)

    async def bless(self, term: int, seen: ServerState, batch: int, token: str) -> StepRefused | None:
        """End a recovery: `batch` and `token` are the journal's last valid ones. None: this server decides again."""
        answer = await self._bless(term, seen.run_id, seen.replid, batch, token)
        return None if answer[0] == b"blessed" else _refused(answer)

    async def replay(self, term: int, seen: ServerState, step: RedoStep) -> StepRefused | None:
        """Bring this server, unblessed, a step nearer to the journal's end (rule R4). None: done."""
        at = step.position
        answer = await self._replay(
            term,
            seen.run_id,
            seen.replid,
            step.batch,
            step.token,
            step.at,
            *(at.offset, at.term, at.owner, at.batch, at.token),
            msgspec.msgpack.encode(step.told),
            *step.writes,
        )
        return None if answer[0] == b"replayed" else _refused(answer)

    async def flush(self, term: int, seen: ServerState, cursor: int, keys: int) -> int | StepRefused:
        """Forget about `keys` keys of the shard, but for who may decide. The cursor to go on with; 0 at the end."""
        answer = await self._flush(term, seen.run_id, seen.replid, cursor, keys)
        return int(answer[1]) if answer[0] == b"flushed" else _refused(answer)

    async def load(
        self, term: int, seen: ServerState, writes: tuple[bytes, ...], position: Position | None
    ) -> StepRefused | None:
        """Put whole states into a flushed server; with the last of them the position from which the journal follows.
        None: done."""
        at: tuple[int | str, ...] = ("", "", "", "", "")
        if position is not None:
            at = (position.offset, position.term, position.owner, position.batch, position.token)
        answer = await self._load(term, seen.run_id, seen.replid, *at, *writes)
        return None if answer[0] == b"loaded" else _refused(answer)

    async def wait_for_outbox(self, batch: int, wait_ms: int) -> None:
        """Return as soon as the outbox holds an entry after `batch`, or after `wait_ms`. A wake-up and no more: what
        may be read is for `outbox` to say. Holds a connection of the pool for as long."""
        await self._redis.xread({self._prefix + "outbox": f"{batch}-0"}, count=1, block=wait_ms)


def _position(found: Sequence[Any]) -> Position:
    offset, term, owner, batch, token = found
    return Position(int(offset), int(term), owner.decode(), int(batch), token.decode())


def _refused(answer: Sequence[Any]) -> StepRefused:
    reason = Refusal(answer[0].decode())
    number = int(answer[1]) if len(answer) > 1 else 0
    if reason is Refusal.HIGHER_TERM:
        return StepRefused(reason, term=number)
    return StepRefused(reason, batch=number)
