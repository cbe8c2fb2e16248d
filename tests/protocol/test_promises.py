"""Promised dates through a redo, a rebuild, a restate pass, an audit and a repair; and how `explain` describes them."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from stocktide.ops.explain.describe import describe_change
from stocktide.streams.contract.times import now_ms
from stocktide.streams.topics import DAY_MS
from stocktide.tables.audit.repair import CorrectionResult
from stocktide.tables.history.sku_history import changes_of
from stocktide.tables.ledger.commands import Command, SetPolicy, Tick
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.packed import unpack_order
from stocktide.tables.ledger.records import Decision
from tests.protocol.audits import audit, cancel, differences_by_key, is_clean, place
from tests.protocol.rig import ProtocolRig
from tests.protocol.shard_copy import (
    ShardCopy,
    age_out_to_whole_pass,
    forget_everything,
    recover,
    restate_all,
    state_of,
)
from tests.protocol.test_expected import expect
from tests.protocol.test_repair import repair

# More orders than one call goes through.
ORDERS, ORDERS_PER_BATCH = 300, 100
TICKS_MAX = 50
SOON, LATER = now_ms() + DAY_MS, now_ms() + 2 * DAY_MS


@pytest.fixture
async def rig(rig: ProtocolRig) -> ProtocolRig:
    """A rig with a long queue for A, whose pass goes on, and a short one for B."""
    await rig.blessed_relay()
    await rig.submit(
        SetPolicy(channel="jd", policy={"below_threshold": "preorder", "preorder_cap": 1_000, "slip_days_max": 0})
    )
    await rig.submit(expect("first", ("A", 10), ("B", 2), eta=SOON))
    for first in range(0, ORDERS, ORDERS_PER_BATCH):
        await rig.submit(*(_preorder(number) for number in range(first, first + ORDERS_PER_BATCH)))
    await rig.submit(*(place(f"b{number}", ("B", 1)) for number in range(4)))
    await rig.submit(
        expect("second", ("B", 1), ("A", ORDERS), eta=LATER), expect("first", ("B", 2), ("A", 10), at=2, eta=LATER)
    )
    return rig


def _preorder(number: int) -> Command:
    return place(f"o{number}", ("A", 1))


async def _end_passes(rig: ProtocolRig) -> list[Decision]:
    """Tick until no pass is left."""
    made: list[Decision] = []
    while (decision := await rig.submit(Tick(orders_max=9))).results[0].outcome != Outcome.NOTHING_DUE:
        made.append(decision)
        assert len(made) < TICKS_MAX
    return made


async def test_promises_and_the_pass_that_goes_on_come_back_by_a_redo_and_by_a_rebuild(rig: ProtocolRig) -> None:
    wanted = await state_of(rig)
    assert dict(wanted["promises"]) == {b"A": 0} and wanted["sku:A"].promise_pass is not None
    assert wanted["sku:B"].announced == {"SH1\nfirst": (LATER, 2, 0), "SH1\nsecond": (LATER, 1, 0)}
    assert wanted["order:b0"].choice_due and wanted["order:b0"].lines[0].slips == 1
    assert is_clean(await audit(rig))
    for relay in rig.relays:
        await relay.stop()
    await forget_everything(rig)
    await rig.take_over("second")
    assert await state_of(rig) == wanted
    rig.rows.keep()
    await rig.rebuild("third")
    assert await state_of(rig) == wanted


async def test_a_refused_order_that_was_to_supersede_another_changes_nothing_of_a_pass(rig: ProtocolRig) -> None:
    refused = await rig.submit(place("new", ("A", 1), ("unknown", 1), supersedes="o5"))
    assert refused.results[0].outcome == Outcome.UNKNOWN_SKU
    assert is_clean(await audit(rig)), "each change of the SKU is in the log"
    await _end_passes(rig)
    assert is_clean(await audit(rig))


async def test_a_redis_that_lost_a_pass_goes_on_with_it(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    await _end_passes(rig)
    await rig.submit(cancel("o0"))
    wanted = await state_of(rig)
    assert "promises" in wanted, "a pass follows the cancellation"
    assert await recover(rig, older) == wanted


async def test_a_pass_restates_promises_without_changing_an_order(rig: ProtocolRig) -> None:
    await _end_passes(rig)
    wanted = await state_of(rig)
    await restate_all(rig)
    assert is_clean(await audit(rig))
    age_out_to_whole_pass(rig)
    for relay in rig.relays:
        await relay.stop()
    await rig.rebuild("second")
    assert {key: value for key, value in (await state_of(rig)).items() if key != "head"} == {
        key: value for key, value in wanted.items() if key != "head"
    }


async def test_an_audit_finds_what_is_wrong_with_promises_and_a_repair_puts_it_right(rig: ProtocolRig) -> None:
    await _end_passes(rig)
    wanted = await state_of(rig)
    order = unpack_order(await rig.redis.get(f"{rig.prefix}order:b0"))
    lines = (structs.replace(order.lines[0], promised_at=1),)
    await rig.redis.set(f"{rig.prefix}order:b0", msgspec.msgpack.encode(structs.replace(order, lines=lines)))
    await rig.redis.zadd(rig.prefix + "promises", {"B": 7})
    found = differences_by_key(await audit(rig))
    assert found == {"order b0": {("redis", "lines")}, "sku B": {("redis", "entry in promises")}}
    assert await repair(rig) == {"order b0": CorrectionResult.REPAIRED, "sku B": CorrectionResult.REPAIRED}
    assert is_clean(await audit(rig))
    now = await state_of(rig)
    assert "promises" not in now
    assert now["order:b0"].lines == wanted["order:b0"].lines


async def test_a_pass_is_described(rig: ProtocolRig) -> None:
    changes = [change for decision in await _end_passes(rig) for change in changes_of(decision, "A")]
    assert {describe_change(change) for change in changes} == {"promised dates of waiting orders were set anew"}
