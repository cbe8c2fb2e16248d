"""Passes that set the promised dates of long queues, in bounded steps."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from msgspec import structs

from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.queue_places import place_in_queue
from tests.harness.servers import RedisServer
from tests.ledger.ledgers import LIMITS
from tests.ledger.model_promises import available_from, dates_of
from tests.ledger.model_state import ModelAnnouncement, ModelLine, ModelOrder, ModelSku, ModelState
from tests.ledger.shop_client import RedisShopClient, open_shop
from tests.ledger.strategies import EXAMPLES, SEED

HOUR = 3600
# More orders than one call may go through, by some calls.
LONG_QUEUE = 2_000
ORDERS_PER_BATCH = 250
TICKS_MAX = 100
# Random walks, and how often each stops to be compared: some seconds.
WALKS, STOPS, STEPS = max(2, EXAMPLES // 5), 6, 8
A_FEW: LedgerLimits = structs.replace(LIMITS, fill_orders_max=3)


async def _queue(shop: RedisShopClient, count: int, **fields: str) -> None:
    """Orders of 1 to 3 units of A, over two channels, which wait."""
    for channel in ("tmall", "jd"):
        await shop.set_policy(channel, below_threshold="preorder", preorder_cap=10_000)
    for sku in "AB":  # which make them known
        await shop.receive(sku, 1)
        await shop.adjust("lost", {sku: -1})
    for first in range(0, count, ORDERS_PER_BATCH):
        numbers = range(first, min(count, first + ORDERS_PER_BATCH))
        await shop.submit_all(*(_order(shop, number, **fields) for number in numbers))


def _order(shop: RedisShopClient, number: int, **fields: str) -> Command:
    channel = ("tmall", "jd")[number % 2]
    return shop.place_command(f"o{number}", {"A": 1 + number % 3}, channel=channel, **fields)


async def _tick_until_idle(shop: RedisShopClient, orders_max: int = 3) -> int:
    """-> the number of ticks that had something to do"""
    for ticks in range(TICKS_MAX):
        changed = len(shop.driver.decisions)
        if (await shop.tick()).outcome == "nothing_due":
            return ticks
        for decision in shop.driver.decisions[changed:]:
            repromised = [row for row in decision.orders if row.repromised]
            assert len(repromised) <= orders_max
    raise AssertionError("the ticks do not end")


def _expected(shop: RedisShopClient, *announced: tuple[float, int]) -> Iterator[tuple[str, int | None]]:
    """Each order that waits for A, with its date by (eta, units): what is before it in the queue comes first."""
    waiting = []
    for order_id, order in shop.driver.orders.items():
        for line in order.lines:
            place = place_in_queue(order, line)
            if place is not None:
                waiting.append((place, order_id, line.preordered + line.short))
    ahead = 0
    for _, order_id, units in sorted(waiting):
        ahead, due = ahead + units, 0
        for eta, coming in announced:
            due += coming
            if ahead <= due:
                yield order_id, round(eta)
                break
        else:
            yield order_id, None


def _check(shop: RedisShopClient, *announced: tuple[float, int]) -> None:
    opening = shop.now - round(1000 * shop.seconds)
    expected = {order: None if eta is None else opening + 1000 * eta for order, eta in _expected(shop, *announced)}
    assert {order_id: shop.line(order_id, "A").promised_at for order_id in expected} == expected


async def test_a_queue_of_2000_orders_is_promised_over_several_ticks(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await _queue(shop, LONG_QUEUE)
        assert await shop.index("promises") == {}
        await shop.expect({"A": 1_500}, id="po-1", eta=HOUR)
        assert await shop.index("promises") == {b"A": 0}
        assert await _tick_until_idle(shop, LIMITS.fill_orders_max) == LONG_QUEUE // LIMITS.fill_orders_max
        _check(shop, (HOUR, 1_500))
        assert await shop.index("promises") == {}
        shop.advance(1)
        await shop.expect({"A": 400}, id="po-0", eta=HOUR / 2)
        await _tick_until_idle(shop, LIMITS.fill_orders_max)
        _check(shop, (HOUR / 2, 400), (HOUR, 1_500))
        assert {order.sequence for order in shop.driver.orders.values()} == {1, 2, 3}, "only those that moved"


async def test_what_changes_a_long_queue_during_a_pass_waits_for_the_next_one(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, A_FEW) as shop:
        await _queue(shop, 20)
        await shop.expect({"A": 30}, eta=HOUR)
        await shop.cancel("o0")
        await shop.place("last", {"A": 1})
        assert shop.line("last", "A").promised_at is None, "as many wait before it as are announced"
        await shop.expect({"A": 45}, id="po-1", eta=2 * HOUR)
        assert (await shop.place("next", {"A": 1})).outcome == "preordered"
        assert shop.line("next", "A").promised_at is not None, "by the sums of the SKU"
        await _tick_until_idle(shop)
        due = await shop.index("promises")
        assert due == {b"A": shop.now + 1000}, "passes leave time for orders"
        shop.advance(1)
        assert await _tick_until_idle(shop) > 1
        _check(shop, (HOUR, 30), (2 * HOUR, 45))
        assert await shop.index("promises") == {}


async def test_a_pass_waits_until_units_on_the_shelf_are_given_out(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, A_FEW) as shop:
        await _queue(shop, 20)
        await shop.expect({"A": 20}, eta=HOUR)
        await _tick_until_idle(shop)
        await shop.receive("A", 12)
        assert (await shop.index("fills"), await shop.index("promises")) == ({b"A": 0}, {b"A": 0})
        await _tick_until_idle(shop)
        _check(shop, (HOUR, 20))
        assert (await shop.index("fills"), await shop.index("promises")) == ({}, {})


async def test_queues_of_several_skus_and_channels_share_the_bound_of_a_batch(valkey: RedisServer) -> None:
    async with open_shop(valkey.url, A_FEW) as shop:
        await _queue(shop, 10)
        for number in range(10):
            await shop.place(f"b{number}", {"B": 1}, channel=("tmall", "jd")[number % 2])
        await shop.expect({"A": 10, "B": 10}, eta=HOUR)
        assert await shop.index("promises") == {b"A": 0, b"B": 0}
        await _tick_until_idle(shop)
        assert sum(shop.line(f"o{number}", "A").promised_at is not None for number in range(10)) == 5
        assert all(shop.line(f"b{number}", "B").promised_at for number in range(10))


async def test_orders_without_announcements_have_no_pass(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await _queue(shop, 20)
        await shop.cancel("o3")
        await shop.receive("A", 5)
        record = (await shop.ledger.read_sku("A")).value
        assert record is not None and (record[0].announced, record[0].promise_pass) == ({}, None)
        assert {effect.cause[0] for each in shop.driver.decisions for effect in each.effects} <= {
            *("place", "cancel", "receive", "adjust", "fill", "set_policy", "sweep"),
        }


async def test_random_walks_in_short_passes_come_to_the_dates_of_the_rule(valkey: RedisServer) -> None:
    random = Random(SEED)
    print(f"STOCKTIDE_TEST_SEED={SEED}")  # noqa: T201
    for _ in range(WALKS):
        async with open_shop(valkey.url, structs.replace(LIMITS, fill_orders_max=random.choice((2, 3, 256)))) as shop:
            await _queue(shop, random.choice((0, 5)))
            for _ in range(STOPS):
                for _ in range(STEPS):
                    await _random_step(shop, random)
                while await _tick_until_idle(shop, 256) or await shop.index("promises"):
                    shop.advance(1)
                await _compare_with_rule(shop)


async def _random_step(shop: RedisShopClient, random: Random) -> None:
    """An order, its end, an announcement or what comes of it, or other warehouses of a channel."""
    shop.advance(random.choice((0, 0, 0.1, 2)))
    orders, announced = ["o0", *shop.driver.orders], f"po-{random.randint(0, 3)}"
    kind, at, channel = random.random(), random.choice(("SH1", "BJ1")), random.choice(("tmall", "jd"))
    if kind < 0.45:
        fields = {"priority": random.choice(("standard", "standard", "vip")), "accept": random.choice(("all", "sold"))}
        allow = random.random() < 0.8
        lines = {sku: random.randint(1, 4) for sku in random.choice(("A", "AB", "B"))}
        placing = shop.place_command(f"r{len(orders)}", lines, channel=channel, allow_preorder=allow, **fields)
        await shop.submit_all(*([placing, shop.cancel_command(orders[-1])] if random.random() < 0.1 else [placing]))
    elif kind < 0.6:
        await shop.cancel(random.choice(orders), *random.choice(((), (("A", 1),))))
    elif kind < 0.8:
        units = {sku: random.choice((0, 3, 9, 20)) for sku in random.choice(("A", "AB"))}
        await shop.expect(units, at=at, id=announced, eta=random.choice((-5, 60, HOUR, 2 * HOUR)))
    elif kind < 0.9:
        await shop.receive("A", random.randint(1, 6), at=at, expected_id=random.choice((announced, None)))
    elif kind < 0.95:
        await shop.tick()
    else:
        warehouses = random.choice((None, ("SH1",), ("BJ1",), ("BJ1", "SH1")))
        await shop.set_policy(channel, below_threshold="preorder", preorder_cap=10_000, warehouses=warehouses)


async def _compare_with_rule(shop: RedisShopClient) -> None:
    state = await _state_of(shop)
    for name in state.skus:
        dates = dates_of(state, name)
        assert {order_id: shop.line(order_id, name).promised_at for order_id in dates} == dates, name
        for channel in state.channels:
            if shop.mode(name, channel) == "preorder":
                assert shop.driver.available_from(name, channel) == available_from(state, channel, name), name
    waiting = {name: dates_of(state, name) for name in state.skus}
    for order_id, order in shop.driver.orders.items():
        assert all(line.promised_at is None or order_id in waiting[line.sku] for line in order.lines), order_id


async def _state_of(shop: RedisShopClient) -> ModelState:
    """What decides the dates, as the ledger has it."""
    state = ModelState()
    for order_id, order in shop.driver.orders.items():
        lines = [
            ModelLine(line.sku, line.quantity, line.state, line.preordered, short=line.short) for line in order.lines
        ]
        state.orders[order_id] = ModelOrder(
            order.state, order.channel, lines=lines, priority=order.priority, queued=order.queued
        )
    for name in "AB":
        if (read := (await shop.ledger.read_sku(name)).value) is not None:
            state.skus[name] = ModelSku(policies={channel: dict(level) for channel, level in read[0].policies.items()})
    for channel in ("tmall", "jd"):
        state.channels[channel], _, _ = (await shop.ledger.read_policy(channel, None)).value
    for key, record in (await shop.ledger.read_expected("", "", None, "", 1_000)).value.rows:
        warehouse, id_ = key.split("\n")
        announced = {line.sku: line.quantity for line in record.lines}
        received = {line.sku: line.received for line in record.lines}
        state.announcements[warehouse, id_] = ModelAnnouncement(record.at, record.eta, announced, received)
    return state
