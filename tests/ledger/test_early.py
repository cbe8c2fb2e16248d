"""Events that come before what they need wait for it, for a bounded time and in bounded bytes (rules 29 and 43)."""

from __future__ import annotations

import msgspec

from stocktide.tables.ledger.commands import Command, Origin, Pay, Tick
from stocktide.tables.ledger.make_commands import fingerprint
from tests.ledger.ledgers import PARK_MS
from tests.ledger.shop_client import ShopClient

SECONDS = PARK_MS // 1000
KIB = 1024


def early_pay(order_id: str, id: str, raw_bytes: int = 2) -> Command:
    """A payment from Kafka whose event takes so many bytes."""
    return Pay(
        id=id, order_id=order_id, at=1, fingerprint=fingerprint("pay"), origin=Origin("orders", 0, 1, "x" * raw_bytes)
    )


async def test_each_event_waits_its_own_time(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.cancel("o1", by_kafka=True)
    shop.advance(seconds=SECONDS - 1)
    assert (await shop.tick()).outcome == "nothing_due"
    assert (await shop.pay("o1", by_kafka=True)).outcome == "parked"
    shop.advance(seconds=1)
    reply = await shop.tick()
    assert (reply.outcome, reply.refused) == ("expired", ("unknown_order",))
    assert (await shop.tick()).outcome == "nothing_due"
    await shop.place("o1", {"A": 2})
    assert shop.order("o1").state == "paid", "the cancellation was dropped, and the payment still waited"


async def test_a_return_that_came_before_its_shipment_counts_with_it(shop: ShopClient) -> None:
    await shop.buy(4, of=10)
    reply = await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("parked", ())
    assert (shop.stock("A").on_hand, shop.line("o1", "A").returned) == (10, 0)
    assert (await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)).replayed
    assert (await shop.take_back("o1", ("A", 1, "SH1"), id="r", by_kafka=True)).outcome == "conflict"
    assert (await shop.ship("o1", ("A", 4, "SH1"))).outcome == "shipped"
    assert (shop.stock("A").on_hand, shop.line("o1", "A").returned) == (8, 2)
    assert (await shop.take_back("o1", ("A", 2, "SH1"), id="r", by_kafka=True)).outcome == "returned"
    assert shop.stock("A").on_hand == 8, "it counted once"


async def test_a_return_waits_until_enough_parcels_have_left(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    await shop.take_back("o1", ("A", 3, "SH1"), by_kafka=True)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 0
    await shop.ship("o1", ("A", 1, "SH1"))
    assert shop.line("o1", "A").returned == 3


async def test_everything_of_an_order_may_come_before_it_in_any_order(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    for reply in (
        await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True),
        await shop.extend("o1", 3_600, by_kafka=True),
        await shop.ship("o1", ("A", 2, "SH1"), by_kafka=True),
        await shop.pay("o1", by_kafka=True),
    ):
        assert reply.outcome == "parked"
    reply = await shop.place("o1", {"A": 2})
    assert (reply.outcome, reply.refused, reply.alert_types) == ("reserved", (), set())
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.shipped, line.returned, shop.stock("A").on_hand) == ("shipped", 2, 1, 9)


async def test_a_return_that_can_never_become_right_is_refused_at_once(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    assert (await shop.take_back("o1", ("A", 5, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)
    await shop.ship("o1", ("A", 4, "SH1"))
    assert (await shop.take_back("o1", ("A", 5, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)
    await shop.place("o2", {"A": 4})
    await shop.cancel("o2")
    assert (await shop.take_back("o2", ("A", 1, "SH1"), by_kafka=True)).refused == ("more_than_shipped",)


async def test_a_parked_return_is_refused_once_its_order_ends_without_the_shipment(shop: ShopClient) -> None:
    await shop.receive("A", 20)
    for number, order_id in enumerate(("cancelled", "expired", "superseded")):
        await shop.place(order_id, {"A": 2}, hold_seconds=5 + number)
        await shop.take_back(order_id, ("A", 1, "SH1"), by_kafka=True)
    reply = await shop.cancel("cancelled")
    assert (reply.refused, reply.alert_types) == (("more_than_shipped",), {"wait_failed"})
    reply = await shop.place("new", {"A": 1}, supersedes="superseded")
    assert (reply.refused, reply.alert_types) == (("more_than_shipped",), {"wait_failed"})
    shop.advance(seconds=6)
    reply = await shop.tick()
    assert (reply.refused, reply.alert_types) == (("more_than_shipped",), {"wait_failed"})
    shop.advance(seconds=SECONDS)
    assert (await shop.tick()).refused == ()


async def test_a_parked_return_is_refused_when_its_hold_is_over_though_the_shipment_comes_before_the_tick(
    shop: ShopClient,
) -> None:
    await shop.hold(4, of=10, hold_seconds=5)
    await shop.take_back("o1", ("A", 4, "SH1"), by_kafka=True)
    shop.advance(seconds=5)
    reply = await shop.ship("o1", ("A", 4, "SH1"))
    assert (reply.outcome, reply.refused) == ("shipped", ("more_than_shipped",))
    assert (shop.order("o1").state, shop.line("o1", "A").returned) == ("expired", 0)


async def test_a_hold_that_is_superseded_in_vain_keeps_its_parked_events(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    reply = await shop.place("o2", {"A": 100}, supersedes="o1")
    assert (reply.outcome, reply.refused) == ("insufficient_stock", ())
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 1


async def test_a_return_that_is_applied_may_leave_nothing_for_one_that_came_before_it(shop: ShopClient) -> None:
    await shop.hold(4, of=10)
    await shop.take_back("o1", ("A", 4, "SH1"), by_kafka=True)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    reply = await shop.ship("o1", ("A", 1, "SH1"))
    assert (reply.refused, shop.line("o1", "A").returned) == (("more_than_shipped",), 1)


async def test_a_return_without_its_shipment_is_dead_lettered_and_the_hold_goes_on(shop: ShopClient) -> None:
    await shop.hold(4, of=10, hold_seconds=SECONDS + 100)
    await shop.take_back("o1", ("A", 1, "SH1"), by_kafka=True)
    shop.advance(seconds=SECONDS - 1)
    assert (await shop.tick()).outcome == "nothing_due"
    shop.advance(seconds=1)
    reply = await shop.tick()
    assert (reply.refused, reply.alert_types) == (("more_than_shipped",), {"wait_failed"})
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 4)
    await shop.tick_after(seconds=100)
    assert shop.order("o1").state == "expired"


async def test_a_parked_event_that_its_order_cannot_take_is_dead_lettered_with_an_alert(shop: ShopClient) -> None:
    await shop.receive("A", 1)
    await shop.pay("o1", by_kafka=True)
    reply = await shop.place("o1", {"A": 2})
    assert reply.outcome == "insufficient_stock"
    assert (reply.refused, reply.alert_types) == (("already_final",), {"wait_failed"})


async def test_small_events_wait_by_the_hundred(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    for at in range(0, 500, 100):
        for reply in await shop.submit_all(*(early_pay("o1", f"p{at + number}", 120) for number in range(100))):
            assert reply.outcome == "parked"
    assert (await shop.place("o1", {"A": 2})).refused == ()
    assert shop.order("o1").state == "paid"


async def test_the_parked_events_of_one_order_are_bounded_in_bytes(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    assert (await shop.submit(early_pay("o1", "huge", 64 * KIB + 1))).refused == ("too_large",)
    assert (await shop.submit(early_pay("o1", "p1", 60 * KIB))).outcome == "parked"
    assert (await shop.submit(early_pay("o1", "p2", 5 * KIB))).refused == ("too_many_events",)
    assert (await shop.submit(early_pay("o1", "p1", 60 * KIB))).replayed, "a repeat takes up no room"
    assert (await shop.submit(early_pay("o2", "p2", 5 * KIB))).outcome == "parked"
    await shop.place("o1", {"A": 2})
    assert shop.order("o1").state == "paid"
    assert (await shop.submit(early_pay("o3", "p1", 60 * KIB))).outcome == "parked"


async def test_parked_events_of_two_bytes_are_bounded_too(shop: ShopClient) -> None:
    reply = await shop.submit_all(*(early_pay("o1", f"p{number}") for number in range(1_025)))
    assert [answer.outcome for answer in reply].count("parked") == 1_024


async def test_a_return_finds_no_room_where_others_wait(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.submit(early_pay("o1", "p1", 64 * KIB))
    await shop.place("o1", {"A": 2})
    origin = Origin("orders", 0, 1, "x" * 64 * KIB)
    for number, outcome in ((1, "parked"), (2, "too_many_events")):
        command = shop.return_command("o1", ("A", 1, "SH1"), id=f"r{number}", by_kafka=True)
        assert (await shop.submit(msgspec.structs.replace(command, origin=origin))).outcome == outcome
    await shop.ship("o1", ("A", 2, "SH1"))
    assert shop.line("o1", "A").returned == 1


async def test_a_tick_that_drops_and_a_placing_of_the_same_batch_leave_nothing_behind(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.submit(early_pay("o1", "p1", 60 * KIB))
    shop.advance(seconds=SECONDS)
    again = early_pay("o1", "p2", 60 * KIB)
    reply = await shop.submit_all(Tick(orders_max=9), again, shop.place_command("o1", {"A": 2}))
    assert ([answer.outcome for answer in reply], reply[0].refused) == (
        ["expired", "parked", "reserved"],
        ("unknown_order",),
    )
    assert shop.order("o1").state == "paid"


async def test_an_event_of_a_channel_waits_and_reaches_no_order_of_another_channel(shop: ShopClient) -> None:
    await shop.receive("A", 9)
    for order_id in ("o1", "o2"):
        await shop.pay(order_id, channel="jd", by_kafka=True)
    reply = await shop.place("o1", {"A": 2}, channel="tmall")
    assert (reply.refused, reply.alert_types) == (("unknown_order",), {"wait_failed"})
    assert shop.order("o1").state == "reserved"
    await shop.place("o2", {"A": 2}, channel="jd")
    assert shop.order("o2").state == "paid"


async def test_an_event_of_a_channel_changes_no_order_of_another_one(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    before = shop.order("o1")
    for command in (
        shop.pay_command("o1", channel="jd", by_kafka=True),
        shop.cancel_command("o1", channel="jd", by_kafka=True),
        shop.extend_command("o1", 60, channel="jd", by_kafka=True),
        shop.change_command("o1", add={"A": 1}, channel="jd", by_kafka=True),
    ):
        assert (await shop.submit(command)).refused == ("unknown_order",)
    assert shop.order("o1") == before
    assert (await shop.pay("o1", channel="tmall", by_kafka=True)).outcome == "paid"


async def test_another_channel_takes_neither_the_id_nor_the_room_of_an_event_that_waits(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    replace = msgspec.structs.replace
    assert (await shop.submit(replace(early_pay("o1", "p1", 60 * KIB), channel="jd"))).outcome == "parked"
    for sender in (None, "tmall"):
        reply = await shop.submit(replace(early_pay("o1", "p1", 60 * KIB), channel=sender))
        assert (reply.outcome, reply.replayed) == ("parked", False)
    assert (await shop.submit(replace(early_pay("o1", "p2", 5 * KIB), channel="jd"))).refused == ("too_many_events",)
    reply = await shop.place("o1", {"A": 2}, channel="tmall")
    assert (reply.refused, shop.order("o1").state) == (("unknown_order",), "paid")
    outcomes = [
        (await shop.submit(replace(early_pay("o2", "p1", 60 * KIB), channel=f"c{number}"))).outcome
        for number in range(9)
    ]
    assert outcomes == ["parked"] * 8 + ["too_many_events"]
