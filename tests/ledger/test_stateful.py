"""The Lua on a real server and the model take the same random batches, and must answer and keep the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from msgspec import structs

from stocktide.tables.ledger import codes
from stocktide.tables.ledger.commands import (
    Adjust,
    Approve,
    Cancel,
    Change,
    Command,
    DeletePolicy,
    Expect,
    Extend,
    KnowChannel,
    Pay,
    Place,
    Receive,
    Reject,
    Release,
    Reserve,
    SetPolicy,
    Tick,
)
from stocktide.tables.ledger.records import Alert
from tests.harness.servers import RedisServer
from tests.ledger.drivers import CommandReply, ModelDriver, RedisDriver, common_record
from tests.ledger.ledgers import LOW_LIMITS, low_limits, many_warehouses
from tests.ledger.model_policy import OfferState
from tests.ledger.shop_client import RedisShopClient, open_shop
from tests.ledger.strategies import (
    CHANNELS,
    EXAMPLES,
    POLICIES,
    POLICY_FIELDS,
    PURPOSES,
    SEED,
    SKUS,
    WAREHOUSES,
    DraftCommand,
    TimedBatch,
    check_random_runs,
)

# None of these commands takes a promised unit away: available may not fall below zero by them.
PROMISES = (
    *(Place, Pay, Cancel, Change, Extend, Receive, Expect, Reserve, Release, Tick),
    *(SetPolicy, DeletePolicy, KnowChannel, Approve, Reject),
)
ALERTS = {
    "paid_after_expiry",
    "shipped_beyond_order",
    "shortfall",
    "on_hand_negative",
    "damaged_negative",
    "already_counted",
    "waiting_for_order",
    "wait_failed",
    "sold_short",
    "preorder_cap_exceeded",
    "receipt_overdue",
    "preorders_unbacked",
    "approval_waiting",
    "approval_expired",
    "rerouted",
    "choice_due",
}

# Walks of one SKU's stock around its thresholds: a second or two.
WALKS, WALK_STEPS = max(2, EXAMPLES // 5), 60
POLICY_SHARE = 0.1
POOL_SHARE = 0.2
# Policies with these are evaluated at every step: only every other walk has them.
EAGER = {"warehouses", "split", "dwell_seconds"}


@pytest.mark.parametrize("many", [codes.MANY_WAREHOUSES, 1], ids=["few warehouses", "many warehouses"])
def test_the_lua_and_the_model_agree_on_random_batches(server: str, many: int) -> None:
    limits = structs.replace(LOW_LIMITS, wide_rows_bytes_max=0)

    async def check(run: list[TimedBatch]) -> None:
        async with open_shop(server, limits, steps_counts=True) as shop:
            lua, model = shop.driver, ModelDriver(low_limits())
            lua.writes_whole = many == 1
            for passing, drafts in run:
                shop.advance(passing / 1000)
                batch, first = [draft.dated(shop.now) for draft in drafts], len(lua.decisions)
                free = _free(lua)
                replies, expected = await lua.apply(batch, shop.now), await model.apply(batch, shop.now)
                _compare_replies(batch, replies, expected)
                _compare_records(lua, model)
                await _compare_reads(shop, model)
                await _compare_unpaid(shop, model)
                _check_promises(batch, lua, free, first)
            for sku in SKUS:
                assert await shop.stored_counters(sku) == lua.stock(sku).counters, "Redis and the log differ"
            await _compare_announcements(shop, model)

    with many_warehouses(many):
        check_random_runs(check, EXAMPLES if many > 1 else max(1, EXAMPLES // 2))


async def test_modes_that_lua_evaluates_lazily_are_those_of_the_model_on_walks_of_the_stock(
    valkey: RedisServer,
) -> None:
    random = Random(SEED)
    for walk in range(WALKS):
        async with open_shop(valkey.url, LOW_LIMITS) as shop:
            model = ModelDriver(low_limits())
            channels, left_out = CHANNELS[: 1 + walk % 3], set() if walk % 2 else EAGER
            for step in range(WALK_STEPS):
                shop.advance(random.choice((0, 0, 1, 5, 20)))
                steps = [_step_of_a_walk(random, channels, left_out) for _ in range(random.choice((1, 1, 1, 3)))]
                batch = [Tick(orders_max=100), *(each.dated(shop.now) for each in steps)]
                await shop.driver.apply(batch, shop.now)
                await model.apply(batch, shop.now)
                try:
                    await _compare_reads(shop, model)
                except AssertionError as error:
                    raise AssertionError(f"walk {walk}, step {step} of STOCKTIDE_TEST_SEED={SEED}: {batch}") from error


def _step_of_a_walk(random: Random, channels: Sequence[str], left_out: set[str]) -> DraftCommand:
    """Mostly a few units of one SKU that come or go; now and then another policy, of the SKU or of a channel."""
    mark = f"{random.random()}"
    if random.random() < POLICY_SHARE:
        names = random.sample(sorted(POLICY_FIELDS), 3)
        policy = random.choice(POLICIES) | {name: random.choice(POLICY_FIELDS[name]) for name in names}
        policy = {name: value for name, value in policy.items() if name not in left_out}
        sku = random.choice((None, None, None, "A"))
        return DraftCommand(SetPolicy, {"channel": random.choice(channels), "sku": sku, "policy": policy})
    fields = {"id": mark, "warehouse": random.choice(WAREHOUSES), "lines": (("A", random.randint(1, 4)),)}
    if random.random() < POOL_SHARE:
        kind = Reserve if random.random() < 0.7 else Release
        return DraftCommand(kind, fields | {"purpose": random.choice(PURPOSES)})
    if random.random() < 0.5:
        return DraftCommand(Receive, fields)
    return DraftCommand(Adjust, fields | {"reason": "lost", "lines": (("A", -random.randint(1, 4)),)})


def _compare_replies(batch: Sequence[Command], replies: list[CommandReply], expected: list[CommandReply]) -> None:
    for command, lua, model in zip(batch, replies, expected, strict=True):
        if isinstance(command, Tick) and model.outcome == "nothing_due":
            continue  # the ledger may have checked a dwell whose stock had gone again
        assert lua.result == model.result, command
    assert Counter(replies[0].refused) == Counter(reason for answer in expected for reason in answer.refused)
    raised = Counter(_subject(alert) for alert in replies[0].alerts if alert.type in ALERTS)
    assert raised == Counter(_subject(alert) for answer in expected for alert in answer.alerts)


def _subject(alert: Alert) -> tuple[str, str]:
    return alert.type, alert.sku or alert.order_id or ""


def _compare_records(lua: RedisDriver, model: ModelDriver) -> None:
    for order_id, order in model.state.orders.items():
        if order.state != "parked":
            assert common_record(lua.orders[order_id]) == common_record(order), order_id
    for sku in SKUS:
        assert lua.stock(sku) == model.stock(sku), sku
        for channel in model.state.channels if sku in model.state.skus else ():
            assert lua.offer(sku, channel) == model.offer(sku, channel), (sku, channel)
            assert lua.available_from(sku, channel) == model.available_from(sku, channel), (sku, channel)
    assert lua.repromised == model.repromised


async def _compare_reads(shop: RedisShopClient, model: ModelDriver) -> None:
    """Compare the offers and sides that are read and enforced, which Lua evaluates only where they may change."""
    for sku, known in model.state.skus.items():
        read = (await shop.ledger.read_sku(sku)).value
        assert read is not None, sku
        record, offers = read
        enforced = {each.channel: OfferState(each.mode, each.quantity, each.preorder_remaining) for each in offers}
        assert enforced == {channel: model.offer(sku, channel) for channel in model.state.channels}, sku
        dates = {each.channel: each.available_from for each in offers}
        assert dates == {channel: model.available_from(sku, channel) for channel in model.state.channels}, sku
        times = {pool: (-1 if each.ended else each.begins, each.ends) for pool, each in known.pool_times.items()}
        assert record.pool_times == times, sku
        left_at = {channel: side.left_at for channel, side in known.sides.items() if side.below}
        assert {channel: side.left_at for channel, side in record.modes.items() if side.below} == left_at, sku


async def _compare_announcements(shop: RedisShopClient, model: ModelDriver) -> None:
    """Compare what is listed, in all, by SKU and where overdue, and the index of the units to come."""
    known = {key: each for key, each in model.state.announcements.items() if not each.is_refused}
    rows = (await shop.ledger.read_expected("", "", None, "", 1_000)).value.rows
    found = {tuple(key.split("\n")): record for key, record in rows}
    assert found.keys() == known.keys()
    for key, each in known.items():
        record = found[key]
        assert (record.at, record.eta, record.outcome) == (each.at, each.eta, model.state.movements[key].outcome), key
        lines = {line.sku: (line.quantity, line.received, line.incoming) for line in record.lines}
        for sku in lines.keys() | each.announced.keys() | each.received.keys():
            units = (each.announced.get(sku, 0), each.received.get(sku, 0), each.incoming(sku))
            assert lines.get(sku, (0, 0, 0)) == units, (key, sku)
    late = {"\n".join(key) for key, each in known.items() if each.overdue and any(map(each.incoming, SKUS))}
    for only, wanted in ((True, late), (False, {"\n".join(key) for key in known} - late)):
        assert {key for key, _ in (await shop.ledger.read_expected("", "", only, "", 1_000)).value.rows} == wanted
    for sku in SKUS:
        named = {"\n".join(key) for key, each in known.items() if sku in each.announced or each.received.get(sku)}
        assert {key for key, _ in (await shop.ledger.read_expected("", sku, None, "", 1_000)).value.rows} == named
        due = {"\n".join(key).encode(): each.eta for key, each in known.items() if each.incoming(sku)}
        assert await shop.index(f"incoming:{sku}") == due


async def _compare_unpaid(shop: RedisShopClient, model: ModelDriver) -> None:
    """Compare the unpaid units that count, by channel and buyer, and their entries by order."""
    wanted: dict[str, dict[bytes, float]] = {}
    for order_id, order in model.state.orders.items():
        units = sum(line.outstanding for line in order.lines)
        if order.bounded and order.state == "reserved" and units:
            for group in (order.channel, *([f"{order.channel}\n{order.buyer}"] if order.buyer else [])):
                wanted.setdefault(group, {})[order_id.encode()] = units
    sums = {group: sum(entries.values()) for group, entries in wanted.items()}
    stored = await shop.redis.hgetall(shop.prefix + "unpaid")
    assert {group.decode(): int(units) for group, units in stored.items()} == sums
    for group, entries in wanted.items():
        assert await shop.index(f"unpaid:{group}") == entries, group


def _free(driver: RedisDriver) -> dict[tuple[str, str], int]:
    stocks = {sku: driver.stock(sku) for sku in SKUS}
    shelf = {(sku, warehouse): stocks[sku].free(warehouse) for sku in SKUS for warehouse in WAREHOUSES}
    with_pools = {(sku, f"{at} with pools"): stocks[sku].unheld(at) for sku in SKUS for at in WAREHOUSES}
    return shelf | with_pools


def _check_promises(
    batch: Sequence[Command], driver: RedisDriver, before: dict[tuple[str, str], int], first: int
) -> None:
    """Check what must hold beside the model: no oversell, and every claim belongs to an open order."""
    causes = {effect.cause[0] for decision in driver.decisions[first:] for effect in decision.effects}
    shipped = "ship" in causes  # parked until its order came
    if all(isinstance(command, PROMISES) for command in batch) and not shipped:
        for place, free in _free(driver).items():
            assert free >= min(0, before[place]), f"{place} was oversold"
    claims: dict[str, Counter[str]] = {sku: Counter() for sku in SKUS}
    for order in driver.orders.values():
        kind = "locked" if order.state == "reserved" else "committed"
        for line in order.lines:
            for warehouse, units in line.warehouses.items():
                claims[line.sku][f"{kind}@{warehouse}"] += units
            for waits, units in (("preordered", line.preordered), ("short", line.short)):
                if units:
                    claims[line.sku][f"{waits}@{order.channel}"] += units
    for sku in SKUS:
        kinds = ("locked", "committed", "preordered", "short")
        kept = {name: value for name, value in driver.stock(sku).counters.items() if name.split("@")[0] in kinds}
        assert kept == dict(claims[sku]), sku
        assert set(driver.offers(sku)) <= set(CHANNELS)
