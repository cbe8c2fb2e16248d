"""The Lua on a real server and the model take the same random batches, and must say and keep the same.

`STOCKTIDE_TEST_SEED` repeats a run; `STOCKTIDE_TEST_EXAMPLES` makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings

from stocktide.tables.ledger.commands import (
    Cancel,
    Command,
    DeletePolicy,
    Extend,
    KnowChannel,
    Pay,
    Place,
    Receive,
    SetPolicy,
    Tick,
)
from stocktide.tables.ledger.records import Alert, OrderRecord
from tests.ledger.drivers import CommandReply, ModelDriver, RedisDriver, order_record
from tests.ledger.ledgers import LOW_LIMITS, low_limits, open_ledger
from tests.ledger.shop_client import OPENING_MS
from tests.ledger.strategies import CHANNELS, SKUS, WAREHOUSES, TimedBatch, runs

SEED = int(os.environ.get("STOCKTIDE_TEST_SEED", random.randrange(2**32)))
# About 0.2 s each on two busy cores, on each server: the default stays within a developer's patience.
EXAMPLES = int(os.environ.get("STOCKTIDE_TEST_EXAMPLES", 50))
# No command of these makes a unit vanish that was promised: available may not fall below zero by them.
PROMISES = (Place, Pay, Cancel, Extend, Receive, Tick, SetPolicy, DeletePolicy, KnowChannel)
ALERTS = {
    "paid_after_expiry",
    "shipped_beyond_order",
    "shortfall",
    "on_hand_negative",
    "damaged_negative",
    "already_counted",
    "waiting_for_order",
    "wait_failed",
}


@seed(SEED)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@given(run=runs())
def _agree(server: str, run: list[TimedBatch]) -> None:
    loop = asyncio.new_event_loop()  # not asyncio.run: that would take the loop of the session's fixtures away
    try:
        loop.run_until_complete(_compare(server, run))
    finally:
        loop.close()


def test_the_lua_and_the_model_agree_on_random_batches(server: str) -> None:
    print(f"STOCKTIDE_TEST_SEED={SEED}")  # noqa: T201
    _agree(server)


async def _compare(url: str, run: list[TimedBatch]) -> None:
    async with open_ledger(url, limits=LOW_LIMITS) as ledger:
        lua, model = RedisDriver(ledger, steps_counts=True), ModelDriver(low_limits())
        now = OPENING_MS
        for passing, drafts in run:
            now += passing
            batch, begun = [draft.dated(now) for draft in drafts], len(lua.decisions)
            free = _free(lua)
            told, expected = await lua.apply(batch, now), await model.apply(batch, now)
            _compare_answers(batch, told, expected)
            _compare_records(lua, model)
            _check_promises(batch, lua, free, begun)
        for sku in SKUS:
            kept = (await ledger.read_sku(sku)).value
            counters = {name: value for name, value in kept[0].counters.items() if value} if kept else {}
            assert counters == lua.stock(sku).counters, "Redis keeps what the log says"


def _compare_answers(batch: Sequence[Command], told: list[CommandReply], expected: list[CommandReply]) -> None:
    for command, lua, model in zip(batch, told, expected, strict=True):
        if isinstance(command, Tick) and model.outcome == "nothing_due":
            continue  # the ledger may have looked at a dwell whose stock had gone again
        assert (lua.outcome, lua.replayed) == (model.outcome, model.replayed), command
    assert Counter(told[0].refused) == Counter(reason for answer in expected for reason in answer.refused)
    raised = Counter(_subject(alert) for alert in told[0].alerts if alert.type in ALERTS)
    assert raised == Counter(_subject(alert) for answer in expected for alert in answer.alerts)


def _subject(alert: Alert) -> tuple[str, str]:
    return alert.type, alert.sku or alert.order_id or ""


def _compare_records(lua: RedisDriver, model: ModelDriver) -> None:
    for order_id, order in model.state.orders.items():
        if order.state != "parked":
            assert _kept_by_both(lua.order(order_id)) == order_record(order), order_id
    for sku in SKUS:
        assert lua.stock(sku) == model.stock(sku), sku
        for channel in model.state.channels if sku in model.state.skus else ():
            assert lua.current_offer(sku, channel) == model.current_offer(sku, channel), (sku, channel)


def _kept_by_both(record: OrderRecord | None) -> OrderRecord:
    assert record is not None
    return OrderRecord(
        state=record.state,
        channel=record.channel,
        sequence=record.sequence,
        placed_at=record.placed_at,
        expires_at=record.expires_at,
        outcome=record.outcome,
        lines=record.lines,
    )


def _free(till: RedisDriver) -> dict[tuple[str, str], int]:
    return {(sku, warehouse): till.stock(sku).free(warehouse) for sku in SKUS for warehouse in WAREHOUSES}


def _check_promises(
    batch: Sequence[Command], till: RedisDriver, before: dict[tuple[str, str], int], begun: int
) -> None:
    """What must hold whatever the model says: no oversell, and every claim belongs to an open order."""
    causes = {effect.cause[0] for decision in till.decisions[begun:] for effect in decision.effects}
    shipped = "ship" in causes  # parked until its order came
    if all(isinstance(command, PROMISES) for command in batch) and not shipped:
        for place, free in _free(till).items():
            assert free >= min(0, before[place]), f"{place} was oversold"
    claims: dict[str, Counter[str]] = {sku: Counter() for sku in SKUS}
    for order in till.orders.values():
        kind = "locked" if order.state == "reserved" else "committed"
        for line in order.lines:
            for warehouse, units in line.warehouses.items():
                claims[line.sku][f"{kind}@{warehouse}"] += units
            if line.preordered:
                claims[line.sku][f"preordered@{order.channel}"] += line.preordered
    for sku in SKUS:
        kinds = ("locked", "committed", "preordered")
        kept = {name: value for name, value in till.stock(sku).counters.items() if name.split("@")[0] in kinds}
        assert kept == dict(claims[sku]), sku
        assert set(till.offers(sku)) <= set(CHANNELS)
