"""Unpaid units in the log: a redo and a rebuild bring their counters back, an audit finds wrong entries."""

from __future__ import annotations

import pytest

from stocktide.tables.audit.plan import RepairPlanner
from stocktide.tables.audit.repair import CorrectionResult, apply_corrections
from stocktide.tables.ledger.commands import Cancel, SetPolicy
from stocktide.tables.ledger.make_commands import fingerprint
from tests.protocol.audits import audit, auditor_of, differences_by_key, is_clean, place
from tests.protocol.rig import ProtocolRig


async def hold(shop: ProtocolRig) -> None:
    """mei holds 2 units and ravi 1, of at most 4; one order of theirs was cancelled."""
    await shop.submit(SetPolicy(channel="jd", policy={"held_units_max": 4, "buyer_units_max": 2}))
    await shop.submit(place("m1", ("A", 2), buyer="mei"), place("r1", ("A", 1), buyer="ravi"))
    await shop.submit(place("r2", ("A", 1), buyer="ravi"))
    await shop.submit(Cancel(id="cancel", order_id="r2", fingerprint=fingerprint("cancel")))


@pytest.mark.parametrize("redoes", [True, False])
async def test_the_counters_come_back_in_a_redo_and_in_a_rebuild(shop: ProtocolRig, redoes: bool) -> None:
    await hold(shop)
    if redoes:
        await shop.redis.flushdb()
        await shop.take_over("second")
    else:
        await shop.rebuild("second")
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    assert await shop.redis.hgetall(f"{shop.prefix}unpaid") == {b"jd": b"3", b"jd\nmei": b"2", b"jd\nravi": b"1"}
    decided = await shop.submit(place("m2", ("A", 1), buyer="mei"), place("x1", ("A", 1)), place("x2", ("A", 1)))
    assert [each.outcome for each in decided.results] == ["too_many_held", "reserved", "too_many_held"]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_an_entry_that_is_lost_or_wrong_is_found_and_repaired_with_its_sum(
    shop: ProtocolRig, is_lost: bool
) -> None:
    await hold(shop)
    index = f"{shop.prefix}unpaid:jd\nmei"
    await (shop.redis.zrem(index, "m1") if is_lost else shop.redis.zadd(index, {"m1": 9}))
    await shop.redis.hset(f"{shop.prefix}unpaid", "jd\nmei", 0 if is_lost else 9)
    auditor = auditor_of(shop)
    findings = await auditor.run()
    assert differences_by_key(findings) == {"order m1": {("redis", "entry in unpaid:jd\nmei")}}
    planner = RepairPlanner(auditor, findings, "anna")
    assert [fate async for _, fate in apply_corrections(planner, shop.submitter())] == [CorrectionResult.REPAIRED]
    assert await shop.redis.zrange(index, 0, -1, withscores=True) == [(b"m1", 2.0)]
    assert await shop.redis.hget(f"{shop.prefix}unpaid", "jd\nmei") == b"2"
    assert is_clean(await audit(shop))


async def test_a_wrong_sum_is_found_and_counted_again_once_it_is_deleted(shop: ProtocolRig) -> None:
    await hold(shop)
    await shop.redis.hset(f"{shop.prefix}unpaid", mapping={"jd": 0, "jd\nnobody": 3})
    findings = await audit(shop)
    assert differences_by_key(findings) == {"key unpaid": {("redis", "sum of jd"), ("redis", "sum of jd\nnobody")}}
    await shop.redis.delete(f"{shop.prefix}unpaid")
    assert is_clean(await audit(shop))
    decided = await shop.submit(place("x1", ("A", 1)), place("x2", ("A", 1)))
    assert [each.outcome for each in decided.results] == ["reserved", "too_many_held"]
