"""Parked events and many events, as far as only Redis shows them: keys, bounds, alerts and dead letters."""

from __future__ import annotations

import msgspec
import pytest

from stocktide.tables.ledger.commands import Origin, Ship
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import fingerprint
from stocktide.tables.ledger.records import Alert
from stocktide.tables.recovery.redo import Writes
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.shop_client import RedisShopClient
from tests.ledger.test_early import early_pay

KIB = 1024
LIMITS = LedgerLimits()
BATCH = 250

pytestmark = ON_SERVERS


@pytest.fixture
def limits() -> LedgerLimits:
    """The limits by default."""
    return LIMITS


def named(alerts: tuple[Alert, ...]) -> list[tuple[str, str | None, str | None, str | None]]:
    return [(each.type, each.order_id, each.event_id, each.event_type) for each in alerts]


async def test_an_alert_names_each_event_that_has_waited_for_15_minutes_once(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    await shop.pay("o1", id="p", by_kafka=True)
    await shop.place("o2", {"A": 1})
    await shop.pay("o2")
    shop.advance(minutes=1)
    await shop.take_back("o2", ("A", 1, "SH1"), id="r", by_kafka=True)
    shop.advance(minutes=14, seconds=-1)
    assert not (await shop.tick()).alerts
    shop.advance(seconds=1)
    assert named((await shop.tick()).alerts) == [("waiting_for_order", "o1", "p", "order.paid")]
    shop.advance(minutes=1)
    assert named((await shop.tick()).alerts) == [("waiting_for_order", "o2", "r", "order.returned")]
    shop.advance(minutes=60)
    assert (await shop.tick()).outcome == "nothing_due"
    shop.advance(minutes=23 * 60)
    ended = (await shop.tick()).alerts
    assert sorted(named(ended)) == [
        ("wait_failed", "o1", "p", "order.paid"),
        ("wait_failed", "o2", "r", "order.returned"),
    ]
    details = {each.reason: each.detail for each in shop.driver.decisions[-1].refused}
    assert details.keys() == {"unknown_order", "more_than_shipped"}
    assert all("it waited 8" in detail and "did not come" in detail for detail in details.values())
    assert await shop.index("deadlines") == await shop.index("waiting") == {}
    assert await shop.key("order:o1") is None


async def test_a_tick_ends_a_bounded_part_of_the_waits_and_the_next_ones_the_rest(shop: RedisShopClient) -> None:
    for order in range(40):
        await shop.submit_all(*(early_pay(f"o{order}", f"p{number}", 3 * KIB) for number in range(20)))
    shop.advance(minutes=24 * 60)
    ended, ticks = 0, 0
    while (await shop.tick()).outcome != "nothing_due":
        letters = shop.driver.decisions[-1].refused
        assert sum(len(each.origin.raw) for each in letters) <= (512 + 64) * KIB
        ended, ticks = ended + len(letters), ticks + 1
    assert (ended, ticks > 1) == (800, True)
    assert await shop.index("deadlines") == await shop.index("waiting") == {}


@pytest.mark.parametrize("limits", [LedgerLimits(waiting_bytes_max=1_000), LedgerLimits(waiting_orders_max=1)])
async def test_all_parked_events_are_bounded_and_released_room_is_used_again(shop: RedisShopClient) -> None:
    await shop.receive("A", 5)
    assert (await shop.submit(early_pay("o1", "p", 600))).outcome == "parked"
    assert (await shop.submit(early_pay("o2", "p", 600))).refused == ("too_many_events",)
    assert (await shop.submit(early_pay("o1", "p2", 300))).outcome == "parked"
    await shop.redis.delete(f"{shop.prefix}waiting_bytes")  # as a recovery leaves it
    assert (await shop.submit(early_pay("o2", "p", 600))).refused == ("too_many_events",)
    await shop.place("o1", {"A": 1})
    assert (await shop.submit(early_pay("o2", "p", 600))).outcome == "parked"
    assert await shop.index("waiting") == {b"o2": 600}
    assert await shop.key("waiting_bytes") == b"600"


async def test_a_redo_restores_the_indexes_of_parked_events(shop: RedisShopClient) -> None:
    await shop.receive("A", 9)
    for order in ("o1", "o2", "o3", "gone"):
        await shop.submit(early_pay(order, "p", 200))
    await shop.place("o1", {"A": 1})
    await shop.place("held", {"A": 1})
    await shop.take_back("held", ("A", 1, "SH1"), by_kafka=True)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    writes = Writes(LIMITS)
    stream = await shop.redis.xrange(f"{shop.prefix}outbox")
    for _, fields in stream:
        writes.add(fields[b"payload"])
    indexed = msgspec.msgpack.decode(writes.packed()[0])[3]
    for name in ("deadlines", "waiting"):
        found = next(entries for key, entries in indexed if key == name)
        assert dict(zip(found[1::2], found[::2], strict=True)) == {
            member.decode(): score for member, score in (await shop.index(name)).items()
        }


async def test_ten_thousand_parcels_of_one_order_take_300_kb_and_each_counts_once(shop: RedisShopClient) -> None:
    units = 10_000
    await shop.receive("A", units)
    await shop.place("o1", {"A": units})
    mark = fingerprint("ship")
    parcels = [
        Ship(id=f"a-parcel-{n}", order_id="o1", at=shop.now, fingerprint=mark, lines=(("A", 1, "SH1"),))
        for n in range(units)
    ]
    for at in range(0, units, BATCH):
        assert {reply.outcome for reply in await shop.submit_all(*parcels[at : at + BATCH])} == {"shipped"}
    packed = await shop.key("order:o1")
    assert packed is not None and len(packed) < 300_000
    assert (shop.order("o1").state, shop.stock("A").on_hand) == ("shipped", 0)
    again = await shop.submit_all(*parcels[::400])
    assert all(reply.replayed for reply in again)
    other = [msgspec.structs.replace(each, fingerprint=fingerprint("other")) for each in parcels[::400]]
    assert {reply.outcome for reply in await shop.submit_all(*other)} == {"conflict"}


async def test_extensions_that_change_nothing_leave_no_more_than_a_bounded_trace(shop: RedisShopClient) -> None:
    await shop.hold(1, of=1)
    for number in range(1_200):
        assert (await shop.extend("o1", 1, id=f"x{number}")).outcome == "extended"
    packed = await shop.key("order:o1")
    assert packed is not None and len(packed) < 32_000
    assert (await shop.pay("o1")).outcome == "paid"


@pytest.mark.parametrize(
    ("reason", "detail_part"),
    [
        ("conflict", "the id is taken by an event with another body"),
        ("already_final", "the order is paid and cannot be extended"),
        ("not_in_order", "lines[0].sku"),
        ("too_large", "cannot wait"),
    ],
)
async def test_a_dead_letter_names_the_reason(shop: RedisShopClient, reason: str, detail_part: str) -> None:
    await shop.hold(1, of=5)
    await shop.pay("o1", id="p")
    await shop.cancel("o1", id="p", by_kafka=True)
    await shop.extend("o1", by_kafka=True)
    await shop.ship("o1", ("B", 1, "SH1"), by_kafka=True)
    await shop.submit(msgspec.structs.replace(early_pay("o2", "p"), origin=Origin("orders", 0, 1, "x" * 65 * KIB)))
    refused = {each.reason: each.detail for decision in shop.driver.decisions for each in decision.refused}
    assert detail_part in refused[reason]
