"""The Lua steps of relay and takeover: outbox, settlement, blessing and recovery.

In: terms, and positions of the journal. Out: typed answers of the Lua steps `outbox`, `settle`, `unbless` and `bless`.
A refused step is a value (`StepRefused`), not an exception: it is how a recovery begins. `redo`, `flush` and `load`
are the steps of a recovery between `unbless` and `bless`.
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
    """The reason of a refused step, as `lua/` returns it."""

    UNBLESSED = "unblessed"  # this server was never blessed, or is another one, or restarted: take over
    HIGHER_TERM = "higher_term"  # a newer owner took over
    FORK = "fork"  # outbox and journal differ: take over
    MOVED = "moved"  # the server is not the one that the recovery began with
    SUPERSEDED = "superseded"  # `blessed` was written or flushed since the recovery began
    BROKEN = "broken"  # the outbox does not chain from the journal's last batch to the newest one
    OUT_OF_ORDER = "out_of_order"  # the server's newest batch is not the one before the step


class OutboxEntry(Struct, frozen=True, array_like=True):
    """A decided batch that the relay publishes; `payload` stays encoded."""

    batch: int
    token: str
    previous: str
    payload: bytes


class ServerState(Struct, frozen=True):
    """The server at the start of a recovery: its ids, its newest batch (0 and "" if none), and its settled position
    (None if it has none)."""

    run_id: str
    replid: str
    batch: int
    token: str
    settled: Position | None


class SettledUpTo(Struct, frozen=True):
    """The newest settled batch of this server."""

    batch: int


class StepRefused(Struct, frozen=True):
    """A refused step. `batch` is the offending one, `term` the higher one, if any."""

    reason: Refusal
    batch: int = 0
    term: int = 0


class RedoStep(Struct, frozen=True):
    """A step of redo: consecutive batches of the journal, and their writes.

    `batch` and `token` are those before the first one; `position` is the journal's after the last one, `at` its time
    (ms); `unannounced` are the (batch, token) whose settlement was not published yet; `writes` as
    `tables.recovery.redo` packs them.
    """

    batch: int
    token: str
    position: Position
    at: int
    unannounced: tuple[tuple[int, str], ...]
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
        self._redo = Script(redis, self._prefix, "redo")
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
        Redis stores the last one and publishes the tokens of the new ones."""
        last = positions[-1]
        read = msgspec.msgpack.encode(list({at.batch: at.token for at in positions if at.batch}.items()))
        answer = await self._settle(term, read, last.offset, last.term, last.owner, last.batch, last.token)
        return SettledUpTo(answer[1]) if answer[0] == b"settled" else _refused(answer)

    async def settled(self) -> Position | None:
        """The settled position of this server; None if it has none. It is valid even on an unblessed server: only
        positions that were read back from the journal are written there."""
        names = ["offset", "term", "owner", "batch", "token"]
        found: Sequence[Any] = await self._redis.hmget(self._prefix + "settled", names)
        return None if found[0] is None else _position(found)

    async def term(self) -> int:
        """The term of the newest recovery of this server; 0 if none."""
        return int(await self._redis.hget(self._prefix + "blessed", "term") or 0)

    async def unbless(self, term: int) -> ServerState | StepRefused:
        """Begin a recovery: this server decides and settles nothing until `bless` with this term."""
        answer = await self._unbless(term)
        if answer[0] != b"ok":
            return _refused(answer)
        _, run_id, replid, batch, token, *settled = answer
        position = _position(settled) if settled[0] else None
        return ServerState(run_id.decode(), replid.decode(), batch, token.decode(), position)

    async def bless(self, term: int, seen: ServerState, batch: int, token: str) -> StepRefused | None:
        """End a recovery: `batch` and `token` are the journal's last valid ones. None: this server decides again."""
        answer = await self._bless(term, seen.run_id, seen.replid, batch, token)
        return None if answer[0] == b"blessed" else _refused(answer)

    async def redo(self, term: int, seen: ServerState, step: RedoStep) -> StepRefused | None:
        """Apply a step of redo to this unblessed server (rule R4). None: done."""
        at = step.position
        answer = await self._redo(
            term,
            seen.run_id,
            seen.replid,
            step.batch,
            step.token,
            step.at,
            *(at.offset, at.term, at.owner, at.batch, at.token),
            msgspec.msgpack.encode(step.unannounced),
            *step.writes,
        )
        return None if answer[0] == b"redone" else _refused(answer)

    async def flush(self, term: int, seen: ServerState, cursor: int, keys: int) -> int | StepRefused:
        """Delete about `keys` keys of the shard, except `blessed`. Gives the next cursor; 0 at the end."""
        answer = await self._flush(term, seen.run_id, seen.replid, cursor, keys)
        return int(answer[1]) if answer[0] == b"flushed" else _refused(answer)

    async def load(
        self, term: int, seen: ServerState, writes: tuple[bytes, ...], position: Position | None
    ) -> StepRefused | None:
        """Write whole states into a flushed server; the last call also sets the position at which the redo of the
        journal begins. None: done."""
        at: tuple[int | str, ...] = ("", "", "", "", "")
        if position is not None:
            at = (position.offset, position.term, position.owner, position.batch, position.token)
        answer = await self._load(term, seen.run_id, seen.replid, *at, *writes)
        return None if answer[0] == b"loaded" else _refused(answer)

    async def wait_for_outbox(self, batch: int, wait_ms: int) -> None:
        """Return when the outbox holds an entry after `batch`, or after `wait_ms`. Only a wake-up: `outbox` checks what
        may be read. Holds a connection of the pool meanwhile."""
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
