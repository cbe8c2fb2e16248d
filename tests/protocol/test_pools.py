"""Pools in the log: an audit understands them, a rebuild brings them back, and `explain` describes them."""

from __future__ import annotations

from stocktide.ops.explain.describe import describe_change
from stocktide.streams.contract.times import now_ms
from stocktide.streams.topics import HOUR_MS
from stocktide.tables.history.sku_history import changes_of
from stocktide.tables.ledger.commands import Release, Reserve, Tick
from tests.protocol.audits import audit, cancel, differences_by_key, is_clean, place, spoil_sku
from tests.protocol.rig import ProtocolRig

POOL = {"warehouse": "SH1", "at": 1_000, "purpose": "vip"}


def reserve(units: int, id: str = "in", **more: object) -> Reserve:
    return Reserve(id=id, fingerprint=id, lines=(("A", units),), **{**POOL, **more})  # type: ignore[arg-type]


def release(units: int, id: str = "out") -> Release:
    return Release(id=id, fingerprint=id, lines=(("A", units),), **POOL)  # type: ignore[arg-type]


async def test_a_movement_into_a_pool_is_described(shop: ProtocolRig) -> None:
    there = await shop.submit(reserve(5))
    back = await shop.submit(release(2))
    (into,), (out) = changes_of(there, "A"), changes_of(back, "A")
    assert describe_change(into) == "5 set aside for vip at SH1 (in)"
    assert describe_change(out[0]) == "2 of vip back on the shelf at SH1 (out)"
    assert (into.view.reserved, out[0].view.reserved) == (5, 3)


async def test_an_audit_of_pools_finds_nothing_and_a_rebuild_brings_them_back(shop: ProtocolRig) -> None:
    await shop.submit(reserve(5))
    await shop.submit(release(2))
    await shop.rebuild("second")
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    found = (await shop.ledger.read_sku("A")).value
    assert found is not None and found[0].counters["reserved#vip@SH1"] == 3


async def test_orders_that_draw_from_a_pool_are_described_and_come_back_in_a_rebuild(shop: ProtocolRig) -> None:
    await shop.submit(reserve(5))
    drawn = await shop.submit(place("p1", ("A", 7), purpose="vip"), place("p2", ("A", 1)))
    await shop.rebuild("second")
    order = (await shop.ledger.read_order("p1")).value
    assert order is not None and order.lines[0].pools == {"vip@SH1": 5}
    back = await shop.submit(cancel("p1"))
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    found = (await shop.ledger.read_sku("A")).value
    assert found is not None and found[0].counters["reserved#vip@SH1"] == 5
    assert describe_change(changes_of(drawn, "A")[0]) == "order p1 (jd) took 7: held, 5 of them from the pool vip"
    assert describe_change(changes_of(back, "A")[0]) == "order p1 cancelled: 7 back, 5 of them to the pool vip"


async def test_the_times_of_a_pool_come_back_in_a_rebuild_and_in_a_redo(shop: ProtocolRig) -> None:
    ends = now_ms() + HOUR_MS
    await shop.submit(reserve(5, until_at=ends), reserve(5, id="soon", purpose="sale", from_at=ends - 1))
    await shop.rebuild("second")
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    found = (await shop.ledger.read_sku("A")).value
    assert found is not None and found[0].pool_times == {"vip@SH1": (0, ends), "sale@SH1": (ends - 1, 0)}
    assert await shop.redis.zscore(f"{shop.prefix}dwells", "A") == ends - 1
    ended = (await shop.ledger.apply([Tick(orders_max=9)], token="t", now_ms=ends)).decision
    assert not ended.effects, "the server's own time has not come"


async def test_an_audit_finds_a_pool_that_was_changed(shop: ProtocolRig) -> None:
    await shop.submit(reserve(5))
    await spoil_sku(shop, "A", {"reserved#vip@SH1": 7})
    findings = await audit(shop)
    assert differences_by_key(findings) == {"sku A": {("redis", "counter reserved#vip@SH1")}}
