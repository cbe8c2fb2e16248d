"""Copies of a shard's Redis: an older state that comes back, an empty one, and the state to compare in the end.

In: a rig. Out: its keys, decoded or as stored; a journal whose head aged out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stocktide.tables.audit.digest import canonical, decode
from stocktide.tables.ledger.commands import Restate
from tests.harness.memory_log import MemoryJournal
from tests.protocol.rig import ProtocolRig

# A pass scans all keys of the server, five a page, and other tests have left some there.
PAGES_MAX = 10_000
# Keys that no batch writes.
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
# KEYS[1] prefix, ARGV what `_TAKE` returned. A recovery in progress fails, as it began on another server.
_PUT_BACK = """
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do redis.call('DEL', key) end
for at = 1, #ARGV, 3 do redis.call('RESTORE', ARGV[at], ARGV[at + 1], ARGV[at + 2]) end
local blessed = KEYS[1] .. 'blessed'
if redis.call('EXISTS', blessed) == 1 then redis.call('HSET', blessed, 'run_id', 'another', 'replid', 'another') end
"""


async def state_of(rig: ProtocolRig) -> dict[str, Any]:
    """Every key of the shard except OWN, decoded."""
    state: dict[str, Any] = {}
    async for key in rig.redis.scan_iter(match=rig.prefix + "*"):
        name = key.decode().removeprefix(rig.prefix)
        if name in OWN:
            continue
        kind = await rig.redis.type(key)
        if kind == b"string":
            state[name] = decoded(name, await rig.redis.get(key))
            if (left := await rig.redis.pttl(key)) > 0:
                state[name, "kept"] = round(left / 60_000)
        elif kind == b"zset":
            state[name] = await rig.redis.zrange(key, 0, -1, withscores=True)
        else:
            state[name] = await rig.redis.hgetall(key)
    return state


def decoded(name: str, packed: bytes) -> Any:
    """The value of a string key, whatever its stored form."""
    kind = name.partition(":")[0]
    if kind in ("sku", "order", "movement", "registry"):
        return canonical(decode(kind, packed))  # type: ignore[arg-type]
    return msgspec.msgpack.decode(packed)


class ShardCopy:
    """All keys of a shard at one moment: the state of a Redis that comes back older."""

    def __init__(self, rig: ProtocolRig) -> None:
        self._rig = rig
        self._stored: list[bytes | int] = []

    async def take(self) -> ShardCopy:
        self._stored = await self._rig.redis.eval(_TAKE, 1, self._rig.prefix)
        return self

    async def put_back(self) -> None:
        """Replace all keys by the copy, in one step, as if on another process than the blessed one."""
        await self._rig.redis.eval(_PUT_BACK, 1, self._rig.prefix, *self._stored)


async def forget_everything(rig: ProtocolRig) -> None:
    """Remove all keys, in one step."""
    await rig.redis.eval(_PUT_BACK, 1, rig.prefix)


async def restate_all(rig: ProtocolRig) -> None:
    """Take a whole pass over all rows, page by page."""
    for page in range(PAGES_MAX):
        detail = (await rig.submit(Restate(keys_max=5, every_ms=3_600_000))).results[0].detail or ""
        if detail.startswith(("ended", "whole")):
            return
        assert detail.startswith("begun" if page == 0 else "going")
    raise AssertionError(f"the pass does not end within {PAGES_MAX} pages")


def age_out(journal: MemoryJournal, offset: int) -> None:
    """Drop the records before `offset`."""
    del journal.values[: offset - journal.first]
    journal.first = offset


def age_out_to_whole_pass(rig: ProtocolRig) -> None:
    """Derive all rows, and drop the journal's head up to the newest whole pass."""
    rig.rows.keep()
    assert rig.rows.whole is not None
    age_out(rig.journal, rig.rows.whole.offset)


async def recover(rig: ProtocolRig, older: ShardCopy | None = None) -> dict[str, Any]:
    """Stop all relays, put an older Redis back or empty it, and let another relay take over; the state after that."""
    for relay in rig.relays:
        await relay.stop()
    await (older.put_back() if older else forget_everything(rig))
    await rig.blessed_relay("second")
    return await state_of(rig)
