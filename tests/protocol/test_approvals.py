"""Forced orders in the log: an audit understands them, a rebuild brings them back, a repair corrects their index."""

from __future__ import annotations

import pytest

from stocktide.ops.explain.describe import describe_change
from stocktide.tables.audit.plan import RepairPlanner
from stocktide.tables.audit.repair import CorrectionResult, apply_corrections
from stocktide.tables.history.sku_history import changes_of
from stocktide.tables.ledger.commands import Approve, Place, Reject
from tests.protocol.audits import audit, auditor_of, differences_by_key, is_clean, place
from tests.protocol.rig import ProtocolRig


def force(order_id: str) -> Place:
    return place(order_id, ("A", 2), force=True, reason="for the press", actor="anna")


@pytest.mark.parametrize("redoes", [True, False])
async def test_requests_and_their_ends_come_back_in_a_redo_and_in_a_rebuild(shop: ProtocolRig, redoes: bool) -> None:
    await shop.submit(*(force(order_id) for order_id in ("waits", "taken", "refused")))
    await shop.submit(Approve(order_id="taken", actor="ben"), Reject(order_id="refused", actor="ben", reason="no"))
    if redoes:
        await shop.redis.flushdb()
        await shop.take_over("second")
    else:
        await shop.rebuild("second")
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    rows = (await shop.ledger.read_approvals("", 10)).value[0]
    assert [(order_id, order.approval.by) for order_id, order in rows if order.approval] == [("waits", "anna")]
    refused = (await shop.ledger.read_order("refused")).value
    assert refused is not None and refused.approval is not None and refused.approval.comment == "no"
    decided = await shop.submit(Approve(order_id="waits", actor="ben"), Approve(order_id="taken", actor="ben"))
    assert [(each.outcome, each.replayed) for each in decided.results] == [("reserved", False), ("reserved", True)]


@pytest.mark.parametrize("is_lost", [True, False])
async def test_an_entry_of_the_index_that_is_lost_or_too_many_is_found_and_repaired(
    shop: ProtocolRig, is_lost: bool
) -> None:
    await shop.submit(force("waits"))
    index = f"{shop.prefix}approvals"
    await (shop.redis.zrem(index, "waits") if is_lost else shop.redis.zadd(index, {"o1": 0}))
    auditor = auditor_of(shop)
    findings = await auditor.run()
    key = "order waits" if is_lost else "order o1"
    assert differences_by_key(findings) == {key: {("redis", "entry in approvals")}}
    planner = RepairPlanner(auditor, findings, "anna")
    assert [fate async for _, fate in apply_corrections(planner, shop.submitter())] == [CorrectionResult.REPAIRED]
    assert await shop.redis.zrange(index, 0, -1) == [b"waits"]
    assert is_clean(await audit(shop))


async def test_an_explanation_of_the_stock_names_who_forced_an_order_and_who_approved_it(shop: ProtocolRig) -> None:
    await shop.submit(force("o9"))
    taken = await shop.submit(Approve(order_id="o9", actor="ben"))
    (change,) = changes_of(taken, "A")
    assert describe_change(change) == "order o9 (jd, forced by anna, approved by ben) took 2: held"


async def test_requests_are_read_by_page(shop: ProtocolRig) -> None:
    await shop.submit(*(force(f"w{number}") for number in range(5)))
    pages, cursor = [], ""
    while cursor is not None:
        rows, cursor = (await shop.ledger.read_approvals(cursor, 2)).value
        pages.append([order_id for order_id, _ in rows])
    assert pages == [["w0", "w1"], ["w2", "w3"], ["w4"]]
