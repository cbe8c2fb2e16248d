"""What holds for every batch: the blessing, the outbox and its chain, the ledger's time, how long records stay."""

from __future__ import annotations

import pytest
from msgspec import structs

from stocktide.streams.contract.times import now_ms as clock_ms
from stocktide.tables.ledger.client import AppliedBatch, Busy, KnownSkus, Unblessed
from stocktide.tables.ledger.commands import Adjust, Command, KnowChannel, Pay, SetPolicy, Sweep, Tick
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import fingerprint
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.shop_client import OPENING_MS, RedisShopClient

LIMITS = LedgerLimits(outbox_max=3, order_retention_ms=50_000, refused_retention_ms=20_000)
TICK = Tick(orders_max=10)

pytestmark = [ON_SERVERS, pytest.mark.parametrize("limits", [LIMITS], ids=["small"])]


async def apply(shop: RedisShopClient, *commands: Command, token: str = "t1", now: int = OPENING_MS) -> AppliedBatch:
    return await shop.ledger.apply(commands, token=token, now_ms=now)


def receive(shop: RedisShopClient, id: str) -> Command:
    """A receipt of five units of A."""
    return shop.receive_command({"A": 5}, id=id)


def place(shop: RedisShopClient, order_id: str, units: int) -> Command:
    return shop.place_command(order_id, {"A": units})


async def test_rule_r1_an_unblessed_redis_decides_nothing(shop: RedisShopClient) -> None:
    await shop.redis.delete(f"{shop.prefix}blessed")
    with pytest.raises(Unblessed):
        await apply(shop, receive(shop, "m1"))
    assert [key async for key in shop.redis.scan_iter(f"{shop.prefix}*")] == []


@pytest.mark.parametrize("field", ["run_id", "replid"])
async def test_rule_r1_a_blessing_of_another_server_does_not_count(shop: RedisShopClient, field: str) -> None:
    await shop.redis.hset(f"{shop.prefix}blessed", field, "0" * 40)
    with pytest.raises(Unblessed):
        await apply(shop, receive(shop, "m1"))


async def test_every_batch_lies_in_the_outbox_chained_to_the_one_before(shop: RedisShopClient) -> None:
    first = await apply(shop, receive(shop, "m1"))
    second = await apply(shop, receive(shop, "m1"), token="t2")
    assert (first.batch, second.batch) == (1, 2), "a repeat is in the log too"
    entries = await shop.redis.xrange(f"{shop.prefix}outbox")
    assert entries == [
        (b"1-0", {b"token": b"t1", b"previous": b"", b"payload": first.payload}),
        (b"2-0", {b"token": b"t2", b"previous": b"t1", b"payload": second.payload}),
    ]
    head = await shop.redis.hgetall(f"{shop.prefix}head")
    assert (head[b"batch"], head[b"token"]) == (b"2", b"t2")


async def test_a_tick_with_nothing_due_makes_no_batch(shop: RedisShopClient) -> None:
    applied = await apply(shop, TICK)
    assert (applied.batch, applied.decision.results[0].outcome) == (0, "nothing_due")
    assert await shop.redis.xlen(f"{shop.prefix}outbox") == 0


async def test_a_full_outbox_refuses_every_batch_and_changes_nothing(shop: RedisShopClient) -> None:
    for number in range(3):
        await apply(shop, receive(shop, f"m{number}"), token=f"t{number}")
    with pytest.raises(Busy):
        await apply(shop, receive(shop, "m9"), token="t9")
    assert await shop.stored_counters("A") == {"on_hand@SH1": 15}


async def test_a_caller_whose_clock_jumps_ahead_ends_no_hold_early(shop: RedisShopClient) -> None:
    now = clock_ms()
    await apply(shop, receive(shop, "m1"), place(shop, "o1", 1), now=now)
    applied = await apply(shop, TICK, token="t2", now=now + 10**9)
    assert applied.batch == 0
    assert applied.decision.at < now + 10**6


async def test_a_movement_older_than_the_retention_of_movements_is_refused(shop: RedisShopClient) -> None:
    now = OPENING_MS + LIMITS.movement_retention_ms
    times = {"old": OPENING_MS - 1, "fresh": OPENING_MS}
    commands = [structs.replace(receive(shop, id), received_at=at) for id, at in times.items()]  # type: ignore[type-var]
    applied = await apply(shop, *commands, now=now)
    assert [result.outcome for result in applied.decision.results] == ["too_old", "received"]


async def test_only_final_orders_expire_and_refused_ones_sooner(shop: RedisShopClient) -> None:
    pay = Pay(id="p", order_id="paid", at=OPENING_MS, fingerprint=fingerprint("pay"))
    commands: list[Command] = [
        receive(shop, "m1"),
        place(shop, "held", 1),
        place(shop, "paid", 1),
        pay,
        place(shop, "refused", 99),
    ]
    await apply(shop, *commands)
    await apply(shop, place(shop, "expired", 1), token="t2")
    await shop.redis.pexpire(f"{shop.prefix}order:held", 10**9)  # what an older version might have left
    await apply(shop, TICK, token="t3", now=OPENING_MS + 10**6)
    lives = {name: await shop.redis.pttl(f"{shop.prefix}order:{name}") for name in ("paid", "refused", "expired")}
    assert lives["paid"] == -1
    assert 0 < lives["refused"] <= LIMITS.refused_retention_ms
    assert LIMITS.refused_retention_ms < lives["expired"] <= LIMITS.order_retention_ms


async def test_a_read_names_the_batch_that_it_reflects(shop: RedisShopClient) -> None:
    await apply(shop, receive(shop, "m1"), place(shop, "o1", 1))
    read = await shop.ledger.read_order("o1")
    assert (read.batch, read.token, read.settled) == (1, "t1", 0)
    assert read.value is not None
    assert read.value.state == "reserved"
    assert (await shop.ledger.read_order("unknown")).value is None


async def test_a_batch_of_thousands_of_lines_is_decided_whole(shop: RedisShopClient) -> None:
    """Lua's unpack holds about 8,000 values; more keys and rows are chunked."""
    skus = [f"S{number}" for number in range(2_000)]
    receipts = [shop.receive_command(dict.fromkeys(skus, 1)) for _ in range(2)]
    lost = Adjust(
        id="lost",
        warehouse="SH1",
        at=OPENING_MS,
        fingerprint="f",
        reason="lost",
        lines=tuple((sku, -1) for sku in skus),
    )
    orders = [shop.place_command(f"o{n}", {skus[n % len(skus)]: 1}) for n in range(5_000)]
    applied = await apply(shop, *receipts, lost, *orders)
    outcomes = [result.outcome for result in applied.decision.results]
    assert outcomes[:3] == ["received", "received", "adjusted"]
    assert outcomes[3:].count("reserved") == 2_000
    assert len(applied.decision.skus) == 2_000


async def test_a_policy_of_a_channel_reaches_every_sku_in_bounded_steps(shop: RedisShopClient) -> None:
    skus = [f"S{number:03}" for number in range(450)]
    await apply(shop, KnowChannel(channel="tmall"), shop.receive_command(dict.fromkeys(skus, 5)))
    policy = {"safety_threshold": 5, "below_threshold": "suspend"}
    change = SetPolicy(channel="tmall", policy=policy)
    order = shop.place_command("o1", {"S449": 1})
    applied = await apply(shop, change, change, order, token="t2")
    outcomes = [result.outcome for result in applied.decision.results]
    assert outcomes == ["policy_set", "sweep_pending", "channel_suspended"], "orders do not wait for the sweep"
    swept = {row.sku for row in applied.decision.skus}
    assert 0 < len(swept) < len(skus)
    await shop.redis.delete(f"{shop.prefix}outbox")
    for number in range(3):
        applied = await apply(shop, Sweep(skus_max=100), token=f"s{number}")
        swept |= {row.sku for row in applied.decision.skus}
        assert len(applied.decision.skus) <= 100
    assert swept == set(skus)
    assert (await shop.ledger.read_registry()).value.sweep_from is None
    items, _ = (await shop.ledger.read_channel("tmall", None, "", 1_000)).value
    assert {item.offer.mode for item in items} == {"suspended"}
    await shop.redis.delete(f"{shop.prefix}outbox")
    assert (await apply(shop, Sweep(skus_max=9), token="s9")).batch == 0


async def test_the_known_skus_are_counted_and_listed_by_page(shop: RedisShopClient) -> None:
    assert (await shop.ledger.read_known_skus("", 10)).value == KnownSkus(0, ())
    skus = [f"S{number:03}" for number in range(25)]
    await apply(shop, shop.receive_command(dict.fromkeys(skus, 5)))
    assert (await shop.ledger.read_known_skus("", 0)).value == KnownSkus(25, ())
    found, cursor = [], ""
    while page := (await shop.ledger.read_known_skus(cursor, 10)).value.names:
        found += page
        cursor = page[-1]
    assert found == skus
