"""Events that come before what they need wait for it, for a bounded time and in bounded bytes (rules 29 and 43)."""

from __future__ import annotations

import msgspec

from stocktide.tables.ledger.commands import Command, Origin, Pay, Tick, fingerprint
from tests.ledger.ledgers import PARK_MS
from tests.ledger.shop_client import ShopClient

SECONDS = PARK_MS // 1000
KIB = 1024


def early_pay(order_id: str, id: str, raw_bytes: int = 2) -> Command:
    """A payment from Kafka whose event takes so many bytes."""
    return Pay(
        id=id, order_id=order_id, at=1, fingerprint=fingerprint("pay"), origin=Origin("orders", 0, 1, "x" * raw_bytes)
    )


async def test_a_payment_that_came_before_its_order_pays_it_however_late_the_order_comes(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.pay("o1", by_kafka=True)
    shop.later(seconds=SECONDS - 1)
    await shop.tick()
    assert (await shop.place("o1", {"A": 2})).outcome == "reserved"
    assert (shop.order("o1").state, shop.stock("A").committed) == ("paid", 2)


async def test_each_event_waits_its_own_time(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.cancel("o1", by_kafka=True)
    shop.later(seconds=SECONDS - 1)
    assert (await shop.pay("o1", by_kafka=True)).outcome == "parked"
    shop.later(seconds=1)
    told = await shop.tick()
    assert (told.outcome, told.refused) == ("expired", ("unknown_order",))
    assert (await shop.tick()).outcome == "nothing_due"
    await shop.place("o1", {"A": 2})
    assert shop.order("o1").state == "paid", "the payment waited on"


async def test_a_return_that_came_before_its_shipment_counts_with_it(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4})
    await shop.pay("o1")
    told = await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)
    assert (told.outcome, told.refused) == ("parked", ())
    assert (shop.stock("A").on_hand, shop.line("o1", "A").returned) == (10, 0)
    assert (await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)).replayed
    assert (await shop.take_back("o1", ("A", 1, "SH1"), id="r", by_kafka=True)).outcome == "conflict"
    assert (await shop.ship("o1", ("A", 4, "SH1"))).outcome == "shipped"
    assert (shop.stock("A").on_hand, shop.line("o1", "A").returned) == (8, 2)
    assert (await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)).outcome == "returned"
    assert shop.stock("A").on_hand == 8, "it counted once"


async def test_a_return_waits_until_enough_parcels_have_left(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4})
    await shop.take_back("o1", ("A", 3, "SH1"), by_kafka=True)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 0
    await shop.ship("o1", ("A", 1, "SH1"))
    assert shop.line("o1", "A").returned == 3


async def test_everything_of_an_order_may_come_before_it_in_any_order(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    for told in (
        await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True),
        await shop.extend("o1", 3_600, by_kafka=True),
        await shop.ship("o1", ("A", 2, "SH1"), by_kafka=True),
        await shop.pay("o1", by_kafka=True),
    ):
        assert told.outcome == "parked"
    told = await shop.place("o1", {"A": 2})
    assert (told.outcome, told.refused, told.alert_types) == ("reserved", (), set())
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.shipped, line.returned, shop.stock("A").on_hand) == ("shipped", 2, 1, 9)


async def test_a_return_that_can_never_become_right_is_refused_at_once(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4})
    assert (await shop.take_back("o1", ("A", 5, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)
    await shop.ship("o1", ("A", 4, "SH1"))
    assert (await shop.take_back("o1", ("A", 5, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)
    await shop.place("o2", {"A": 4})
    await shop.cancel("o2")
    assert (await shop.take_back("o2", ("A", 1, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)


async def test_a_return_waits_for_no_one_over_http(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4})
    assert (await shop.take_back("o1", ("A", 1, "SH1"))).outcome == "more_than_shipped"


async def test_a_waiting_return_is_refused_once_its_order_ends_without_the_shipment(shop: ShopClient) -> None:
    await shop.receive("A", 20)
    for number, order_id in enumerate(("cancelled", "expired", "superseded")):
        await shop.place(order_id, {"A": 2}, hold_seconds=5 + number)
        await shop.take_back(order_id, ("A", 1, "SH1"), by_kafka=True)
    told = await shop.cancel("cancelled")
    assert (told.refused, told.alert_types) == (("more_than_shipped",), {"wait_failed"})
    told = await shop.place("new", {"A": 1}, supersedes="superseded")
    assert (told.refused, told.alert_types) == (("more_than_shipped",), {"wait_failed"})
    shop.later(seconds=6)
    told = await shop.tick()
    assert (told.refused, told.alert_types) == (("more_than_shipped",), {"wait_failed"})
    shop.later(seconds=SECONDS)
    assert (await shop.tick()).refused == ()


async def test_a_hold_that_is_superseded_in_vain_keeps_what_waits_with_it(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.place("o1", {"A": 2})
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    told = await shop.place("o2", {"A": 100}, supersedes="o1")
    assert (told.outcome, told.refused) == ("insufficient_stock", ())
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 1


async def test_a_return_that_is_applied_may_leave_nothing_for_one_that_came_before_it(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4})
    await shop.take_back("o1", ("A", 4, "SH1"), by_kafka=True)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    told = await shop.ship("o1", ("A", 1, "SH1"))
    assert (told.refused, shop.line("o1", "A").returned) == (("more_than_shipped",), 1)


async def test_a_return_whose_shipment_never_comes_ends_in_the_dead_letters_and_the_hold_goes_on(
    shop: ShopClient,
) -> None:
    await shop.receive("A", 10)
    await shop.place("o1", {"A": 4}, hold_seconds=SECONDS + 100)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    shop.later(seconds=SECONDS - 1)
    assert (await shop.tick()).outcome == "nothing_due"
    shop.later(seconds=1)
    told = await shop.tick()
    assert (told.refused, told.alert_types) == (("more_than_shipped",), {"wait_failed"})
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 4)
    shop.later(seconds=100)
    await shop.tick()
    assert shop.order("o1").state == "expired"


async def test_a_wait_that_ends_with_a_refusal_raises_an_alert_too(shop: ShopClient) -> None:
    await shop.receive("A", 1)
    await shop.pay("o1", by_kafka=True)
    told = await shop.place("o1", {"A": 2})
    assert (told.refused, told.alert_types) == (("already_final",), {"wait_failed"})


async def test_small_events_wait_by_the_hundred(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    for at in range(0, 500, 100):
        for told in await shop.batch(*(early_pay("o1", f"p{at + number}", 120) for number in range(100))):
            assert told.outcome == "parked"
    assert (await shop.place("o1", {"A": 2})).refused == ()
    assert shop.order("o1").state == "paid"


async def test_what_waits_with_one_order_is_bounded_in_bytes(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    assert (await shop.say(early_pay("o1", "huge", 64 * KIB + 1))).refused == ("too_large",)
    assert (await shop.say(early_pay("o1", "p1", 60 * KIB))).outcome == "parked"
    assert (await shop.say(early_pay("o1", "p2", 5 * KIB))).refused == ("too_many_events",)
    assert (await shop.say(early_pay("o1", "p1", 60 * KIB))).replayed, "a repeat takes up no room"
    assert (await shop.say(early_pay("o2", "p2", 5 * KIB))).outcome == "parked"
    await shop.place("o1", {"A": 2})
    assert shop.order("o1").state == "paid"
    assert (await shop.say(early_pay("o3", "p1", 60 * KIB))).outcome == "parked"


async def test_events_that_are_too_small_to_be_any_are_bounded_all_the_same(shop: ShopClient) -> None:
    told = await shop.batch(*(early_pay("o1", f"p{number}") for number in range(1_025)))
    assert [answer.outcome for answer in told].count("parked") == 1_024


async def test_a_return_finds_no_room_where_others_wait(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.say(early_pay("o1", "p1", 64 * KIB))
    await shop.place("o1", {"A": 2})
    origin = Origin("orders", 0, 1, "x" * 64 * KIB)
    for number, outcome in ((1, "parked"), (2, "too_many_events")):
        command = shop.returned("o1", ("A", 1, "SH1"), id=f"r{number}", by_kafka=True)
        told = await shop.say(msgspec.structs.replace(command, origin=origin))
        assert told.outcome == outcome
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 1


async def test_a_tick_that_drops_and_a_placing_of_the_same_batch_leave_nothing_behind(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.say(early_pay("o1", "p1", 60 * KIB))
    shop.later(seconds=SECONDS)
    again = early_pay("o1", "p2", 60 * KIB)
    told = await shop.batch(Tick(orders_max=9), again, shop.placed("o1", {"A": 2}))
    assert ([answer.outcome for answer in told], told[0].refused) == (
        ["expired", "parked", "reserved"],
        ("unknown_order",),
    )
    assert shop.order("o1").state == "paid"
