"""What every batch is subject to: the blessing, the outbox and its chain, the ledger's time, how long records stay."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from stocktide.streams.contract.times import now_ms as clock_ms
from stocktide.tables.ledger.client import Busy, KnownSkus, Ledger, LedgerLimits, Unblessed
from stocktide.tables.ledger.commands import (
    Adjust,
    Command,
    KnowChannel,
    Pay,
    Place,
    Receive,
    SetPolicy,
    Sweep,
    Tick,
    fingerprint,
)
from stocktide.tables.ledger.scripts import key_prefix
from tests.ledger.ledgers import bless
from tests.ledger.shop_client import OPENING_MS

LIMITS = LedgerLimits(outbox_max=3, order_retention_ms=50_000, refused_retention_ms=20_000)
TICK = Tick(orders_max=10)


class UnblessedLedger:
    """A ledger with its Redis in reach."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.app_id = f"test-{secrets.token_hex(6)}"
        self.prefix = key_prefix(self.app_id)
        self.ledger = Ledger(redis, app_id=self.app_id, limits=LIMITS)


@pytest.fixture
async def bench(server: str) -> AsyncIterator[UnblessedLedger]:
    """A ledger that nobody blessed yet, whose outbox holds three batches."""
    redis = Redis.from_url(server)
    yield UnblessedLedger(redis)
    await redis.aclose()


def receive(id_: str, units: int = 5, received_at: int = 0) -> Receive:
    """A receipt of A."""
    mark = fingerprint("receive", units)
    return Receive(
        id=id_, warehouse="SH1", at=OPENING_MS, lines=(("A", units),), fingerprint=mark, received_at=received_at
    )


def place(order_id: str, units: int) -> Place:
    """An order of A."""
    return Place(
        id="placed",
        order_id=order_id,
        at=OPENING_MS,
        channel="tmall",
        lines=(("A", units),),
        fingerprint=fingerprint("place", units),
    )


async def test_rule_r1_an_unblessed_redis_decides_nothing(bench: UnblessedLedger) -> None:
    with pytest.raises(Unblessed):
        await bench.ledger.apply([receive("m1")], token="t1", now_ms=OPENING_MS)
    assert [key async for key in bench.redis.scan_iter(f"{bench.prefix}*")] == []


@pytest.mark.parametrize("field", ["run_id", "replid"])
async def test_rule_r1_a_blessing_of_another_server_does_not_count(bench: UnblessedLedger, field: str) -> None:
    await bless(bench.redis, bench.app_id)
    await bench.redis.hset(f"{bench.prefix}blessed", field, "0" * 40)
    with pytest.raises(Unblessed):
        await bench.ledger.apply([receive("m1")], token="t1", now_ms=OPENING_MS)


async def test_every_batch_lies_in_the_outbox_chained_to_the_one_before(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    first = await bench.ledger.apply([receive("m1")], token="t1", now_ms=OPENING_MS)
    second = await bench.ledger.apply([receive("m1")], token="t2", now_ms=OPENING_MS)
    assert (first.batch, second.batch) == (1, 2), "a repeat is in the log too"
    entries = await bench.redis.xrange(f"{bench.prefix}outbox")
    assert entries == [
        (b"1-0", {b"token": b"t1", b"previous": b"", b"payload": first.payload}),
        (b"2-0", {b"token": b"t2", b"previous": b"t1", b"payload": second.payload}),
    ]
    head = await bench.redis.hgetall(f"{bench.prefix}head")
    assert (head[b"batch"], head[b"token"]) == (b"2", b"t2")


async def test_a_tick_with_nothing_due_makes_no_batch(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    applied = await bench.ledger.apply([TICK], token="t1", now_ms=OPENING_MS)
    assert (applied.batch, applied.decision.results[0].outcome) == (0, "nothing_due")
    assert await bench.redis.xlen(f"{bench.prefix}outbox") == 0


async def test_a_full_outbox_refuses_whoever_asks_and_changes_nothing(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    for number in range(3):
        await bench.ledger.apply([receive(f"m{number}")], token=f"t{number}", now_ms=OPENING_MS)
    with pytest.raises(Busy):
        await bench.ledger.apply([receive("m9")], token="t9", now_ms=OPENING_MS)
    read = (await bench.ledger.read_sku("A")).value
    assert read is not None
    assert read[0].counters == {"on_hand@SH1": 15}


async def test_a_caller_whose_clock_jumps_ahead_ends_no_hold_early(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    now = clock_ms()
    await bench.ledger.apply([receive("m1"), place("o1", 1)], token="t1", now_ms=now)
    applied = await bench.ledger.apply([TICK], token="t2", now_ms=now + 10**9)
    assert applied.batch == 0
    assert applied.decision.at < now + 10**6


async def test_a_movement_that_is_older_than_what_is_remembered_is_refused(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    now = OPENING_MS + LIMITS.movement_retention_ms
    commands = [receive("old", received_at=OPENING_MS - 1), receive("fresh", received_at=OPENING_MS)]
    applied = await bench.ledger.apply(commands, token="t1", now_ms=now)
    assert [result.outcome for result in applied.decision.results] == ["too_old", "received"]


async def test_only_final_orders_expire_from_memory_and_refused_ones_sooner(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    pay = Pay(id="p", order_id="paid", at=OPENING_MS, fingerprint=fingerprint("pay"))
    commands: list[Command] = [receive("m1"), place("held", 1), place("paid", 1), pay, place("refused", 99)]
    await bench.ledger.apply(commands, token="t1", now_ms=OPENING_MS)
    await bench.ledger.apply([place("expired", 1)], token="t2", now_ms=OPENING_MS)
    await bench.redis.pexpire(f"{bench.prefix}order:held", 10**9)  # what an older version might have left
    await bench.ledger.apply([TICK], token="t3", now_ms=OPENING_MS + 10**6)
    lives = {name: await bench.redis.pttl(f"{bench.prefix}order:{name}") for name in ("paid", "refused", "expired")}
    assert lives["paid"] == -1
    assert 0 < lives["refused"] <= LIMITS.refused_retention_ms
    assert LIMITS.refused_retention_ms < lives["expired"] <= LIMITS.order_retention_ms


async def test_what_is_read_names_the_batch_it_is_true_of(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    await bench.ledger.apply([receive("m1"), place("o1", 1)], token="t1", now_ms=OPENING_MS)
    read = await bench.ledger.read_order("o1")
    assert (read.batch, read.token, read.settled) == (1, "t1", 0)
    assert read.value is not None
    assert read.value.state == "reserved"
    assert (await bench.ledger.read_order("nobody")).value is None


async def test_a_batch_of_thousands_of_lines_is_decided_whole(bench: UnblessedLedger) -> None:
    """Lua's unpack holds about 8,000 values: keys and rows beyond that are chunked."""
    await bless(bench.redis, bench.app_id)
    lines = tuple((f"S{number}", 1) for number in range(2_000))
    receipts = [
        Receive(id=f"m{part}", warehouse="SH1", at=OPENING_MS, fingerprint=fingerprint(part), lines=lines)
        for part in range(2)
    ]
    lost = Adjust(
        id="lost",
        warehouse="SH1",
        at=OPENING_MS,
        fingerprint="f",
        reason="lost",
        lines=tuple((s, -1) for s, _ in lines),
    )
    orders = [
        Place(
            id="p", order_id=f"o{n}", at=OPENING_MS, channel="tmall", fingerprint=f"f{n}", lines=((f"S{n % 2000}", 1),)
        )
        for n in range(5_000)
    ]
    applied = await bench.ledger.apply([*receipts, lost, *orders], token="t1", now_ms=OPENING_MS)
    outcomes = [result.outcome for result in applied.decision.results]
    assert outcomes[:3] == ["received", "received", "adjusted"]
    assert outcomes[3:].count("reserved") == 2_000
    assert len(applied.decision.skus) == 2_000


async def test_a_policy_of_a_channel_reaches_every_sku_in_bounded_steps(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    lines = tuple((f"S{number:03}", 5) for number in range(450))
    goods = Receive(id="m", warehouse="SH1", at=OPENING_MS, fingerprint="f", lines=lines)
    await bench.ledger.apply([KnowChannel(channel="tmall"), goods], token="t1", now_ms=OPENING_MS)
    policy = {"safety_threshold": 5, "below_threshold": "suspend"}
    change = SetPolicy(channel="tmall", policy=policy)
    applied = await bench.ledger.apply([change, change], token="t2", now_ms=OPENING_MS)
    assert [result.outcome for result in applied.decision.results] == ["policy_set", "sweep_pending"]
    swept = {row.sku for row in applied.decision.skus}
    assert 0 < len(swept) < len(lines)
    await bench.redis.delete(f"{bench.prefix}outbox")
    for number in range(3):
        applied = await bench.ledger.apply([Sweep(skus_max=100)], token=f"s{number}", now_ms=OPENING_MS)
        swept |= {row.sku for row in applied.decision.skus}
        assert len(applied.decision.skus) <= 100
    assert swept == {sku for sku, _ in lines}
    assert (await bench.ledger.read_registry()).value.sweep_from is None
    items, _ = (await bench.ledger.read_channel("tmall", None, "", 1_000)).value
    assert {item.offer.mode for item in items} == {"suspended"}
    await bench.redis.delete(f"{bench.prefix}outbox")
    assert (await bench.ledger.apply([Sweep(skus_max=9)], token="s9", now_ms=OPENING_MS)).batch == 0


async def test_an_order_meets_a_new_policy_before_its_sweep_has_come_by(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    lines = tuple((f"S{number:03}", 5) for number in range(450))
    goods = Receive(id="m", warehouse="SH1", at=OPENING_MS, fingerprint="f", lines=lines)
    await bench.ledger.apply([KnowChannel(channel="tmall"), goods], token="t1", now_ms=OPENING_MS)
    change = SetPolicy(channel="tmall", policy={"safety_threshold": 5, "below_threshold": "suspend"})
    order = Place(id="p", order_id="o1", at=OPENING_MS, channel="tmall", fingerprint="f", lines=(("S449", 1),))
    applied = await bench.ledger.apply([change, order], token="t2", now_ms=OPENING_MS)
    assert [result.outcome for result in applied.decision.results] == ["policy_set", "channel_suspended"]


async def test_the_known_skus_are_counted_and_named_by_page(bench: UnblessedLedger) -> None:
    await bless(bench.redis, bench.app_id)
    assert (await bench.ledger.read_known_skus("", 10)).value == KnownSkus(0, ())
    lines = tuple((f"S{number:02}", 5) for number in range(25))
    goods = Receive(id="m", warehouse="SH1", at=OPENING_MS, fingerprint="f", lines=lines)
    await bench.ledger.apply([goods], token="t1", now_ms=OPENING_MS)
    assert (await bench.ledger.read_known_skus("", 0)).value == KnownSkus(25, ())
    found, cursor = [], ""
    while page := (await bench.ledger.read_known_skus(cursor, 10)).value.names:
        found += page
        cursor = page[-1]
    assert found == [sku for sku, _ in lines]
