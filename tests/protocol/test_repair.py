"""A repair on a real Redis and a journal in memory: spoiled state is corrected, and answers still hold."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import msgspec

from stocktide.tables.audit.plan import Correction, RepairPlanner
from stocktide.tables.audit.repair import CorrectionResult, apply_corrections
from stocktide.tables.derived_rows import PolicyLevel, StoredRow
from stocktide.tables.ledger.commands import Repair
from stocktide.tables.ledger.packed import unpack_order, unpack_sku
from stocktide.tables.ledger.records import OrderRecord, SkuRecord
from tests.protocol.audits import (
    MemoryTables,
    audit,
    auditor_of,
    cancel,
    decisions,
    differences_by_key,
    is_clean,
    pay,
    place,
    receive,
    spoil_sku,
)
from tests.protocol.rig import ProtocolRig, wait_until

ACTOR = "anna"
# 600 orders, which take a second or two on a quiet machine.
TRADE_SECONDS_MAX = 90.0


async def planner_of(rig: ProtocolRig, tables: MemoryTables | None = None) -> RepairPlanner:
    auditor = auditor_of(rig, None, tables)
    return RepairPlanner(auditor, await auditor.run(), ACTOR)


async def repair(rig: ProtocolRig, tables: MemoryTables | None = None) -> dict[str, CorrectionResult]:
    planner = await planner_of(rig, tables)
    fates = apply_corrections(planner, rig.submitter())
    return {f"{correction.subject} {correction.key}": fate async for correction, fate in fates}


async def sku(rig: ProtocolRig, name: str) -> SkuRecord:
    read = await rig.ledger.read_sku(name)
    assert read.value is not None
    return read.value[0]


async def test_a_plan_names_what_it_would_change_and_changes_nothing(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7})
    batches = len(shop.valid())
    before = await shop.redis.get(shop.prefix + "sku:A")
    plan = [each async for each in (await planner_of(shop)).plan()]
    (correction,) = plan
    (change,) = correction.changes
    assert (change.what, change.before, change.after) == ("counter on_hand@SH1", 7, 99)
    assert len(shop.valid()) == batches and await shop.redis.get(shop.prefix + "sku:A") == before


async def test_a_counter_is_corrected_and_the_log_names_the_actor(shop: ProtocolRig) -> None:
    right = await sku(shop, "A")
    await spoil_sku(shop, "A", {"on_hand@SH1": 7, "locked@SH1": 9})
    assert await repair(shop) == {"sku A": CorrectionResult.REPAIRED}
    now = await sku(shop, "A")
    assert now.counters == right.counters and now.version == right.version + 1
    (effect,) = decisions(shop)[-1].effects
    assert effect.cause[0] == "repair" and effect.cause[2] == ACTOR and now.repaired == effect.cause[1]
    assert effect.deltas == {"on_hand@SH1": 92, "locked@SH1": right.counters["locked@SH1"] - 9}
    (row,) = decisions(shop)[-1].repairs
    assert row.actor == ACTOR and row.before["counters"]["on_hand@SH1"] == 7
    assert row.after is not None and row.after["counters"]["on_hand@SH1"] == 99
    assert is_clean(await audit(shop))


async def test_later_batches_of_a_spoiled_counter_are_corrected_and_their_orders_stand(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7, "committed@BJ1": 5})
    await shop.submit(place("o6"))
    await shop.submit(place("o7"), pay("o7"))
    assert await repair(shop) == {"sku A": CorrectionResult.REPAIRED}
    record = await sku(shop, "A")
    assert record.counters["on_hand@SH1"] == 99 and record.counters["committed@BJ1"] == 1  # that of o7
    assert is_clean(await audit(shop)), differences_by_key(await audit(shop))
    await shop.submit(cancel("o6"), cancel("o7"))
    assert is_clean(await audit(shop))


async def test_orders_and_their_indexes_come_back(shop: ProtocolRig) -> None:
    redis, prefix = shop.redis, shop.prefix
    held = unpack_order(await redis.get(prefix + "order:o1"))
    await redis.delete(*(f"{prefix}order:o{number}" for number in (1, 2, 4)))
    await redis.zrem(prefix + "deadlines", "o1")
    await redis.zadd(prefix + "deadlines", {"o2": 5, "unknown": 6})
    await redis.zadd(prefix + "held:B", {"o3": 5, "unknown": 1})
    await redis.zadd(prefix + "held:ghost", {"o1": 5})
    await redis.zadd(prefix + "dwells", {"B": 5})
    await redis.zrem(prefix + "skus", "A")
    await redis.zadd(prefix + "skus", {"ghost": 0})
    await redis.expire(prefix + "order:o5", 10_000)
    fates = await repair(shop)
    assert set(fates.values()) == {CorrectionResult.REPAIRED}, fates
    assert unpack_order(await redis.get(prefix + "order:o1")) == held
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    (answer,) = (await shop.submit(place("o1", ("A", 2), ("B", 1)))).results
    assert answer.outcome == "reserved" and answer.replayed


async def test_keys_that_the_log_does_not_know_are_removed(shop: ProtocolRig) -> None:
    redis, prefix = shop.redis, shop.prefix
    ghost = OrderRecord("reserved", "jd", 1, 5, 10**15, lines=())
    await redis.set(prefix + "order:ghost", msgspec.msgpack.encode(ghost))
    await redis.zadd(prefix + "deadlines", {"ghost": 10**15})
    await redis.set(prefix + "sku:ghost", b"\x01junk")
    await redis.set(prefix + "movement:SH1\nx", b"")
    await redis.hset(prefix + "sku:list", "a", "b")
    await redis.hset(prefix + "notes", "a", "b")
    fates = await repair(shop)
    assert fates.pop("key notes") is CorrectionResult.BY_HAND
    assert set(fates.values()) == {CorrectionResult.REPAIRED} and len(fates) == 4
    await redis.delete(prefix + "notes")
    assert is_clean(await audit(shop)), differences_by_key(await audit(shop))


async def test_any_value_in_place_of_a_record_is_overwritten(shop: ProtocolRig) -> None:
    redis, prefix = shop.redis, shop.prefix
    record = msgspec.to_builtins(unpack_sku(await redis.get(prefix + "sku:A")))
    for spoiled in (
        b"\xff\xff",
        msgspec.msgpack.encode([1, 2]),
        msgspec.msgpack.encode({"counters": {"on_hand@SH1": 1.5, b"\xff": 3}, "version": 1e300}),
        msgspec.msgpack.encode({**record, "version": 10**6, "warehouses": ["X"], "policies": {}}),
    ):
        await redis.set(prefix + "sku:A", spoiled)
        await redis.set(prefix + "order:o1", spoiled)
        fates = await repair(shop)
        assert fates == {"sku A": CorrectionResult.REPAIRED, "order o1": CorrectionResult.REPAIRED}, spoiled
        assert is_clean(await audit(shop)), spoiled
    assert (await sku(shop, "A")).version > 10**6


async def test_the_registry_and_the_offers_of_its_channels_are_corrected(shop: ProtocolRig) -> None:
    _, offers = (await shop.ledger.read_sku("A")).value or (None, ())
    key = shop.prefix + "registry"
    registry = msgspec.msgpack.decode(await shop.redis.get(key))
    registry["channels"]["jd"]["policy"]["buffer"] = 90
    await shop.redis.set(key, msgspec.msgpack.encode(registry))
    await shop.submit(place("o6"))  # publishes a wrong offer
    assert await repair(shop) == {"registry ": CorrectionResult.REPAIRED}
    findings = await audit(shop)
    assert is_clean(findings), differences_by_key(findings)
    published = {row.sku: row for decision in decisions(shop) for row in decision.skus}["A"]
    assert published.offers[0].quantity == offers[0].quantity - 1


async def test_rows_that_differ_are_written_again_and_extra_rows_are_removed(shop: ProtocolRig) -> None:
    tables = MemoryTables(shop)
    tables.spoil(
        StoredRow("sku", "A", 14, SkuRecord(9, 9)),
        StoredRow("order", "o1", 5, OrderRecord("paid")),
        StoredRow("order", "o4", 5, OrderRecord("paid")),
        StoredRow("order", "ghost", 5, OrderRecord("paid")),
        StoredRow("policy", "jd", 1, PolicyLevel("jd", None, {"buffer": 2})),
        StoredRow("policy", "jd/A", 1, PolicyLevel("jd", "A", {"buffer": 2})),
    )
    assert len((await audit(shop, tables=tables)).drifts) == 6
    fates = await repair(shop, tables)
    assert set(fates.values()) == {CorrectionResult.REPAIRED} and len(fates) == 6, fates
    findings = await audit(shop, tables=tables)
    assert is_clean(findings), differences_by_key(findings)


async def test_a_repair_beside_live_traffic_loses_no_order_and_sells_no_unit_twice(shop: ProtocolRig) -> None:
    """Spoiled: 500 units too many of a hot SKU with 600, too few of another SKU, and missing orders."""
    await shop.submit(receive("hot", 600), receive("cold", 5_000))
    outcomes_by_order: dict[str, str] = {}
    stop = asyncio.Event()

    async def trade(trader: int) -> None:
        for number in itertools.count():
            order_id = f"t{trader}-{number}"
            lines = (("hot", 1), ("cold", 1))
            placing = (await shop.submit(place(order_id, *lines, accept="all"))).results[0].outcome
            outcomes_by_order[order_id] = placing
            if placing == "reserved":
                after = pay(order_id) if number % 3 else cancel(order_id)
                outcomes_by_order[order_id] = (await shop.submit(after)).results[0].outcome
            if stop.is_set():
                return

    traders = [asyncio.create_task(trade(trader)) for trader in range(6)]
    await wait_until(lambda: list(outcomes_by_order.values()).count("paid") >= 5, TRADE_SECONDS_MAX)
    await spoil_sku(shop, "cold", {"on_hand@SH1": 4_000})
    await spoil_sku(shop, "hot", {"on_hand@SH1": 1_100})
    gone = [order_id for order_id, outcome in outcomes_by_order.items() if outcome == "paid"][:5]
    await shop.redis.delete(*(f"{shop.prefix}order:{order_id}" for order_id in gone))
    await asyncio.sleep(0.1)
    fates = await repair(shop)
    assert {"sku hot", "sku cold", *(f"order {order_id}" for order_id in gone)} <= fates.keys()
    assert set(fates.values()) == {CorrectionResult.REPAIRED}, fates
    assert (await sku(shop, "hot")).counters["on_hand@SH1"] == 600
    assert "insufficient_stock" not in outcomes_by_order.values(), "it was sold out before it was repaired"
    await wait_until(lambda: "insufficient_stock" in outcomes_by_order.values(), TRADE_SECONDS_MAX)  # and sells out now
    stop.set()
    await asyncio.gather(*traders)

    assert is_clean(await audit(shop)), differences_by_key(await audit(shop))
    for order_id, outcome in outcomes_by_order.items():
        record = (await shop.ledger.read_order(order_id)).value
        assert record is not None and record.state == {"insufficient_stock": "rejected"}.get(outcome, outcome)
    sold = Counter(outcomes_by_order.values())
    record = await sku(shop, "hot")
    assert record.counters["committed@SH1"] == sold["paid"], sold
    # All units, except the buffer of one and those of orders cancelled at the very end.
    assert 600 - 1 - len(traders) <= sold["paid"] <= 600 - 1, sold


async def test_a_late_repair_changes_nothing_and_is_planned_again(shop: ProtocolRig) -> None:
    await shop.redis.delete(shop.prefix + "order:o2")
    planner = await planner_of(shop)
    (correction,) = [each async for each in planner.plan()]
    await shop.submit(place("o2"))  # the same order again gets another hold
    assert correction.command is not None
    (result,) = (await shop.submit(correction.command)).results
    assert result.outcome == "moved_on"
    assert await planner.again(correction) is None
    assert await repair(shop) == {"sku A": CorrectionResult.REPAIRED}  # the first hold's units
    assert is_clean(await audit(shop))


async def test_one_of_two_repairs_of_a_sku_comes_too_late(shop: ProtocolRig) -> None:
    await spoil_sku(shop, "A", {"on_hand@SH1": 7})
    plans: list[Correction] = [each for _ in range(2) async for each in (await planner_of(shop)).plan()]
    await shop.submit(place("o6"))
    outcomes = []
    for plan in plans:
        assert isinstance(plan.command, Repair)
        outcomes.append((await shop.submit(plan.command)).results[0].outcome)
    assert outcomes == ["repaired", "moved_on"]
    assert (await sku(shop, "A")).counters["on_hand@SH1"] == 99 and is_clean(await audit(shop))
