"""A shard's Redis as it was: copies that come back older, an empty one, and what it all has to hold in the end.

In: a stage. Out: its keys, decoded or as they were; a journal whose head aged out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.log import MemoryJournal
from tables.commands import Restate
from tables.submission import Submitter
from tests.protocol.stage import Stage, soon

# A pass walks all keys of the server, five a page, and other tests have left theirs there.
PAGES_MAX = 10_000
# What the server notes of itself, and no batch does.
OWN = {"blessed", "settled", "restate", "outbox"}


async def state_of(stage: Stage) -> dict[str, Any]:
    """Every key of the shard but what the server notes of itself, decoded."""
    state: dict[str, Any] = {}
    async for key in stage.redis.scan_iter(match=stage.prefix + "*"):
        name = key.decode().removeprefix(stage.prefix)
        if name in OWN:
            continue
        kind = await stage.redis.type(key)
        if kind == b"string":
            state[name] = msgspec.msgpack.decode(await stage.redis.get(key))
            if (left := await stage.redis.pttl(key)) > 0:
                state[name, "kept"] = round(left / 60_000)
        elif kind == b"zset":
            state[name] = await stage.redis.zrange(key, 0, -1, withscores=True)
        else:
            state[name] = await stage.redis.hgetall(key)
    return state


class Copy:
    """All keys of a shard as they were: what a Redis that comes back older holds."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._kept: dict[bytes, tuple[bytes, int]] = {}

    async def take(self) -> Copy:
        redis = self._stage.redis
        async for key in redis.scan_iter(match=self._stage.prefix + "*"):
            self._kept[key] = (await redis.dump(key), max(0, await redis.pttl(key)))
        return self

    async def put_back(self) -> None:
        await forget_everything(self._stage)
        for key, (value, left) in self._kept.items():
            await self._stage.redis.restore(key, left, value)
        # Another process, or the same one after a restart: not the one that was blessed.
        await self._stage.redis.hset(self._stage.prefix + "blessed", "run_id", "another")


async def forget_everything(stage: Stage) -> None:
    keys = [key async for key in stage.redis.scan_iter(match=stage.prefix + "*")]
    if keys:
        await stage.redis.delete(*keys)


async def restate_all(stage: Stage) -> None:
    """A whole pass, page by page."""
    submitter: Submitter = stage.submitter()
    for page in range(PAGES_MAX):
        told = await submitter.submit([Restate(keys_max=5, every_ms=3_600_000)], soon())
        detail = told.results[0].detail or ""
        if detail.startswith(("ended", "whole")):
            return
        assert detail.startswith("begun" if page == 0 else "going")
    raise AssertionError(f"the pass does not end within {PAGES_MAX} pages")


def age_out(journal: MemoryJournal, offset: int) -> None:
    """What lies before `offset` is gone."""
    del journal.values[: offset - journal.first]
    journal.first = offset
