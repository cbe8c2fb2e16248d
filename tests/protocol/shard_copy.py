"""A shard's Redis as it was: copies that come back older, an empty one, and what it all has to hold in the end.

In: a stage. Out: its keys, decoded or as they were; a journal whose head aged out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stocktide.streams.journal.log import MemoryJournal
from stocktide.tables.ledger.commands import Restate
from tests.protocol.rig import DecisionSubmitter, ProtocolRig, deadline_in

# A pass walks all keys of the server, five a page, and other tests have left theirs there.
PAGES_MAX = 10_000
# What the server notes of itself, and no batch does.
OWN = {"blessed", "settled", "restate", "outbox", "moves-from", "waiting_bytes"}


# KEYS[1] prefix. Returns key, time to live (ms, 0: none), value, key, …
_TAKE = """
local kept = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  kept[#kept + 1] = key
  kept[#kept + 1] = math.max(0, redis.call('PTTL', key))
  kept[#kept + 1] = redis.call('DUMP', key)
end
return kept
"""
# KEYS[1] prefix, ARGV what `_TAKE` returned. Whatever recovery was under way began on another server.
_PUT_BACK = """
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do redis.call('DEL', key) end
for at = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
local blessed = KEYS[1] .. 'blessed'
if redis.call('EXISTS', blessed) == 1 then redis.call('HSET', blessed, 'run_id', 'another', 'replid', 'another') end
"""


async def state_of(stage: ProtocolRig) -> dict[str, Any]:
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


class ShardCopy:
    """All keys of a shard as they were at one moment: what a Redis that comes back older holds."""

    def __init__(self, stage: ProtocolRig) -> None:
        self._stage = stage
        self._kept: list[bytes | int] = []

    async def take(self) -> ShardCopy:
        """Copy them, in one step."""
        self._kept = await self._stage.redis.eval(_TAKE, 1, self._stage.prefix)
        return self

    async def put_back(self) -> None:
        """Nothing but them is there, in one step, as in another process: not in the one that was blessed."""
        await self._stage.redis.eval(_PUT_BACK, 1, self._stage.prefix, *self._kept)


async def forget_everything(stage: ProtocolRig) -> None:
    """All keys are gone, in one step."""
    await stage.redis.eval(_PUT_BACK, 1, stage.prefix)


async def restate_all(stage: ProtocolRig) -> None:
    """A whole pass, page by page."""
    submitter: DecisionSubmitter = stage.submitter()
    for page in range(PAGES_MAX):
        told = await submitter.submit([Restate(keys_max=5, every_ms=3_600_000)], deadline_in())
        detail = told.results[0].detail or ""
        if detail.startswith(("ended", "whole")):
            return
        assert detail.startswith("begun" if page == 0 else "going")
    raise AssertionError(f"the pass does not end within {PAGES_MAX} pages")


def age_out(journal: MemoryJournal, offset: int) -> None:
    """What lies before `offset` is gone."""
    del journal.values[: offset - journal.first]
    journal.first = offset
