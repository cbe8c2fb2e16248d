"""Holds that moved, in the log: an audit knows them, redo and rebuild bring them back, `explain` tells of them."""

from __future__ import annotations

import pytest

from stocktide.ops.explain.describe import describe_change
from stocktide.tables.history.sku_history import changes_of
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Adjust, SetPolicy, Tick
from stocktide.tables.ledger.limits import LedgerLimits
from tests.protocol.audits import audit, differences_by_key, is_clean, place
from tests.protocol.rig import ProtocolRig, receive
from tests.protocol.shard_copy import ShardCopy, age_out_to_whole_pass, recover, restate_all, state_of

LOST = Adjust(id="lost", warehouse="SH1", at=1, fingerprint="lost", reason="lost", lines=(("cup", -50),))


async def _hold(rig: ProtocolRig, orders: int) -> None:
    """Each order holds a unit of the 50 at SH1, the last one as VIP; as many are at BJ1."""
    await rig.submit(SetPolicy(channel="jd", policy={"reroute": True}))
    await rig.submit(receive("in", units=50))
    for number in range(orders):
        priority = "vip" if number == orders - 1 else "standard"
        await rig.submit(place(f"o{number}", ("cup", 1), priority=priority))
    await rig.submit(receive("more", units=50, warehouse="BJ1"))


async def _places(rig: ProtocolRig, orders: int) -> list[dict[str, int]]:
    found = [(await rig.ledger.read_order(f"o{number}")).value for number in range(orders)]
    return [order.lines[0].warehouses for order in found if order is not None]


@pytest.mark.parametrize("rebuilds", [False, True])
async def test_holds_that_moved_and_moves_that_are_left_over_come_back(rig: ProtocolRig, rebuilds: bool) -> None:
    rig.ledger = Ledger(rig.redis, rig.app_id, LedgerLimits(fill_orders_max=4))
    await rig.blessed_relay()
    await _hold(rig, 5)
    older = await ShardCopy(rig).take()
    moved = await rig.submit(LOST)
    assert [alert.order_id for alert in moved.alerts if alert.type == "rerouted"] == ["o4", "o0"]
    if rebuilds:
        await restate_all(rig)
        age_out_to_whole_pass(rig)
    wanted = await state_of(rig)
    assert await recover(rig, None if rebuilds else older) == wanted
    while (await rig.submit(Tick(orders_max=9))).results[0].outcome != "nothing_due":
        pass
    assert await _places(rig, 5) == [{"BJ1": 1}] * 5


async def test_an_audit_of_holds_that_moved_finds_nothing_and_explain_tells_of_them(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    await _hold(rig, 3)
    moved = await rig.submit(LOST)
    lost, rerouted = changes_of(moved, "cup")
    assert describe_change(rerouted) == "3 held moved from SH1 to BJ1"
    assert (lost.view.warehouses["SH1"].available, rerouted.view.warehouses["SH1"].available) == (-3, 0)
    findings = await audit(rig)
    assert is_clean(findings), differences_by_key(findings)


async def test_vip_orders_of_an_older_release_get_their_place_with_the_next_pass(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    await _hold(rig, 2)
    wanted = await rig.redis.zrange(f"{rig.prefix}held:cup", 0, -1, withscores=True)
    order = (await rig.ledger.read_order("o1")).value
    assert order is not None
    await rig.redis.zadd(f"{rig.prefix}held:cup", {"o1": order.placed_at})
    findings = await audit(rig)
    assert is_clean(findings), differences_by_key(findings)
    await restate_all(rig)
    assert await rig.redis.zrange(f"{rig.prefix}held:cup", 0, -1, withscores=True) == wanted
