"""Announcements through a redo, a rebuild, a restate pass and an audit."""

from __future__ import annotations

import pytest

from stocktide.tables.audit.repair import CorrectionResult
from stocktide.tables.ledger.commands import Expect, Receive, Tick
from stocktide.tables.ledger.make_commands import fingerprint
from tests.protocol.audits import audit, differences_by_key, is_clean, spoil_sku
from tests.protocol.rig import ProtocolRig
from tests.protocol.shard_copy import (
    ShardCopy,
    age_out_to_whole_pass,
    forget_everything,
    recover,
    restate_all,
    state_of,
)
from tests.protocol.test_repair import repair


def expect(id_: str, *lines: tuple[str, int], at: int = 1, eta: int = 4_102_444_800_000) -> Expect:
    mark = fingerprint("expect", lines, eta)
    return Expect(id=id_, warehouse="SH1", at=at, lines=lines, eta=eta, fingerprint=mark)


@pytest.fixture
async def rig(rig: ProtocolRig) -> ProtocolRig:
    """A rig with announcements in every state."""
    await rig.blessed_relay()
    await announce(rig)
    return rig


async def announce(rig: ProtocolRig) -> None:
    """Announce, receive, amend, withdraw, and be late."""
    await rig.submit(expect("open", ("cup", 20), ("lid", 5)), expect("late", ("cup", 7), eta=1_000))
    await rig.submit(expect("done", ("cup", 4)), expect("gone", ("lid", 4)), expect("amended", ("cup", 9), ("jar", 1)))
    for id_, units in (("open", 3), ("done", 5)):
        lines, mark = (("cup", units),), fingerprint(id_)
        await rig.submit(Receive(id=f"r-{id_}", warehouse="SH1", at=5, lines=lines, expected_id=id_, fingerprint=mark))
    await rig.submit(expect("gone", ("lid", 0), at=2), expect("amended", ("cup", 2), at=2, eta=2_000))
    assert [alert.event_id for alert in (await rig.submit(Tick(orders_max=9))).alerts] == ["late", "amended"]


async def test_announcements_come_back_by_a_redo_and_by_a_rebuild(rig: ProtocolRig) -> None:
    wanted = await state_of(rig)
    assert dict(wanted["incoming:cup"]).keys() == {b"SH1\nopen", b"SH1\nlate", b"SH1\namended"}
    assert dict(wanted["overdue"]).keys() == {b"SH1\nlate", b"SH1\namended"}
    assert ("movement:SH1\nopen", "kept") not in wanted and ("movement:SH1\ngone", "kept") in wanted
    for relay in rig.relays:
        await relay.stop()
    await forget_everything(rig)
    await rig.take_over("second")
    assert await state_of(rig) == wanted
    rig.rows.keep()
    await rig.rebuild("third")
    assert await state_of(rig) == wanted


async def test_a_redis_that_lost_amendments_and_receipts_gets_them_back(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    await rig.submit(
        expect("open", ("lid", 6), at=3), expect("late", ("cup", 0), at=3), expect("gone", ("jar", 1), at=3)
    )
    mark = fingerprint("more")
    await rig.submit(
        Receive(id="more", warehouse="SH1", at=5, lines=(("jar", 2),), expected_id="gone", fingerprint=mark)
    )
    wanted = await state_of(rig)
    assert await recover(rig, older) == wanted


async def test_a_pass_restates_announcements_so_that_the_journal_before_may_go(rig: ProtocolRig) -> None:
    await restate_all(rig)
    wanted = await state_of(rig)
    age_out_to_whole_pass(rig)
    for key in [key for kind, key in rig.rows.known if kind == "movement" and not key.startswith("SH1\nr-")]:
        del rig.rows.known["movement", key]  # a late writer set it back
    for relay in rig.relays:
        await relay.stop()
    await rig.rebuild("second")
    assert await state_of(rig) == wanted


async def test_an_audit_finds_a_counter_that_is_not_what_the_announcements_still_bring(rig: ProtocolRig) -> None:
    assert is_clean(await audit(rig))
    await spoil_sku(rig, "cup", {"incoming#open": 99})
    assert differences_by_key(await audit(rig)) == {"sku cup": {("redis", "counter incoming#open")}}


async def test_a_repair_puts_back_an_announcement_with_its_index_entries_and_removes_an_unknown_one(
    rig: ProtocolRig,
) -> None:
    wanted = await state_of(rig)
    packed = await rig.redis.get(f"{rig.prefix}movement:SH1\nlate")
    await rig.redis.delete(f"{rig.prefix}movement:SH1\nopen")
    await rig.redis.zrem(rig.prefix + "etas", "SH1\ndone")
    await rig.redis.zadd(rig.prefix + "overdue", {"SH1\ngone": 0})
    await rig.redis.zadd(rig.prefix + "expected", {"SH1\nr-open": 0})
    for name in ("expected", "etas", "incoming:cup", "expected:lid"):
        await rig.redis.zrem(rig.prefix + name, "SH1\nopen")
    await rig.redis.set(f"{rig.prefix}movement:SH1\nghost", packed)
    for name in ("expected", "etas", "overdue"):
        await rig.redis.zadd(rig.prefix + name, {"SH1\nghost": 0})
    fates = await repair(rig)
    assert set(fates) == {f"movement SH1\n{id_}" for id_ in ("open", "done", "ghost", "gone", "r-open")}
    assert set(fates.values()) == {CorrectionResult.REPAIRED}
    found = await state_of(rig)
    assert found | {"head": wanted["head"]} == wanted
    assert is_clean(await audit(rig))
