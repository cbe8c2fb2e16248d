"""Paying, cancelling, extending, expiring (rules 23 to 26, 29 and 30)."""

from __future__ import annotations

from stocktide.tables.ledger.commands import Tick
from tests.ledger.ledgers import PARK_MS
from tests.ledger.shop_client import ShopClient

WEEK_MS = 7 * 24 * 3600 * 1000


async def test_rule_23_paying_is_idempotent_by_state(shop: ShopClient) -> None:
    await shop.buy(2, of=5)
    assert (await shop.pay("o1", id="another")).result == ("paid", True)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (await shop.pay("o1", id="a-third")).outcome == "paid", "paying what was shipped is fine"
    assert shop.order("o1").state == "shipped"


async def test_rule_23_cancelling_is_idempotent_by_state(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    await shop.cancel("o1")
    assert (await shop.cancel("o1", id="another")).result == ("cancelled", True)
    assert shop.stock("A").available == 5


async def test_rule_23_an_expired_order_cannot_be_cancelled(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=10)
    shop.advance(seconds=10)
    assert (await shop.cancel("o1")).outcome == "already_final"
    assert shop.order("o1").state == "expired"


async def test_rule_23_a_cancelled_or_rejected_order_cannot_be_paid(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    await shop.cancel("o1")
    assert (await shop.pay("o1")).outcome == "already_final"
    await shop.place("o2", {"A": 9})
    assert (await shop.pay("o2")).outcome == "already_final"
    assert (await shop.cancel("o2")).outcome == "already_final"


async def test_rule_24_the_rest_of_a_partly_shipped_order_is_released(shop: ShopClient) -> None:
    await shop.receive_all({"A": 5, "B": 5})
    await shop.place("o1", {"A": 3, "B": 2})
    await shop.pay("o1")
    await shop.ship("o1", ("A", 1, "SH1"))
    assert shop.order("o1").state == "paid"
    assert (await shop.cancel("o1")).outcome == "cancelled"
    assert shop.order("o1").state == "shipped"
    line = shop.line("o1", "A")
    assert (line.state, line.shipped, line.cancelled, line.reserved) == ("cancelled", 1, 2, 0)
    other = shop.line("o1", "B")
    assert (other.state, other.cancelled) == ("cancelled", 2)
    assert (shop.stock("A").available, shop.stock("B").available) == (4, 5)


async def test_rule_24_a_wholly_shipped_order_cannot_be_cancelled(shop: ShopClient) -> None:
    await shop.buy(2, of=5)
    await shop.ship("o1", ("A", 2, "SH1"))
    assert (await shop.cancel("o1")).outcome == "already_final"


async def test_rule_25_paying_at_the_deadline_is_too_late_though_no_step_has_run(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=60)
    shop.advance(seconds=60)
    reply = await shop.pay("o1")
    assert reply.outcome == "already_final"
    assert shop.order("o1").state == "expired"
    assert shop.stock("A").available == 5, "its units are back in the same step"
    assert not reply.alerts


async def test_rule_25_paying_a_millisecond_before_the_deadline_is_in_time(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=60)
    shop.advance(seconds=59.999)
    assert (await shop.pay("o1")).outcome == "paid"


async def test_rule_25_a_late_payment_by_kafka_raises_an_alert_and_is_dead_lettered(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=60)
    await shop.tick_after(seconds=61)
    reply = await shop.pay("o1", by_kafka=True)
    assert reply.outcome == "already_final"
    assert reply.alert_types == {"paid_after_expiry"}
    assert reply.refused == ("already_final",)


async def test_rule_25_the_time_of_the_ledger_never_goes_back(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=60)
    shop.advance(seconds=60)
    await shop.receive("B", 1)
    shop.advance(seconds=-50)
    assert (await shop.pay("o1")).outcome == "already_final"


async def test_rule_26_extending_moves_the_deadline_to_now_and_the_hold(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=60)
    shop.advance(seconds=30)
    assert (await shop.extend("o1", 300)).outcome == "extended"
    assert shop.order("o1").expires_at == shop.now + 300_000
    await shop.tick_after(seconds=299)
    assert shop.order("o1").state == "reserved"
    await shop.tick_after(seconds=1)
    line = shop.line("o1", "A")
    assert shop.order("o1").state == "expired"
    assert (line.state, line.reserved, line.cancelled, line.warehouses) == ("expired", 0, 0, {})


async def test_rule_26_extending_never_shortens_a_hold(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=600)
    before = shop.order("o1")
    assert (await shop.extend("o1", 10)).outcome == "extended"
    assert shop.order("o1").expires_at == before.expires_at
    assert shop.order("o1").sequence == before.sequence


async def test_rule_26_a_hold_lasts_at_most_seven_days_from_its_placing(shop: ShopClient) -> None:
    await shop.hold(2, of=5, hold_seconds=604_800)
    placed_at = shop.now
    shop.advance(minutes=60)
    await shop.extend("o1", 604_800)
    assert shop.order("o1").expires_at == placed_at + WEEK_MS


async def test_rule_26_only_an_unpaid_hold_can_be_extended(shop: ShopClient) -> None:
    await shop.buy(1, of=5)
    assert (await shop.extend("o1")).outcome == "already_final"
    await shop.place("o2", {"A": 1})
    await shop.cancel("o2")
    assert (await shop.extend("o2")).outcome == "already_final"
    await shop.place("o3", {"A": 1}, hold_seconds=1)
    shop.advance(seconds=1)
    assert (await shop.extend("o3")).outcome == "already_final"


async def test_rule_29_over_http_an_unknown_order_is_refused_at_once(shop: ShopClient) -> None:
    for reply in (await shop.pay("o1"), await shop.cancel("o1"), await shop.extend("o1")):
        assert reply.outcome == "unknown_order"
        assert not reply.refused


async def test_rule_29_an_event_by_kafka_waits_for_its_order_however_late_it_comes(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    reply = await shop.pay("o1", by_kafka=True)
    assert (reply.outcome, reply.refused) == ("parked", ())
    assert (await shop.pay("o1")).outcome == "unknown_order", "over HTTP it is still unknown"
    await shop.tick_after(seconds=PARK_MS // 1000 - 1)
    assert (await shop.place("o1", {"A": 2})).outcome == "reserved"
    assert shop.order("o1").state == "paid"
    assert shop.stock("A").committed == 2


async def test_rule_29_parked_events_are_applied_in_the_order_they_came(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.pay("o1", by_kafka=True)
    await shop.ship("o1", ("A", 1, "SH1"), by_kafka=True)
    await shop.cancel("o1", by_kafka=True)
    await shop.place("o1", {"A": 2})
    line = shop.line("o1", "A")
    assert (shop.order("o1").state, line.shipped, line.cancelled) == ("shipped", 1, 1)


async def test_rule_30_sequence_counts_the_changes_of_the_order(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    assert shop.order("o1").sequence == 1
    await shop.extend("o1", 3600)
    assert shop.order("o1").sequence == 2
    await shop.pay("o1")
    await shop.pay("o1", id="again")
    assert shop.order("o1").sequence == 3


async def test_rule_30_expires_at_is_null_once_paid_or_final(shop: ShopClient) -> None:
    await shop.hold(2, of=5)
    assert shop.order("o1").expires_at == shop.now + 900_000
    await shop.pay("o1")
    assert shop.order("o1").expires_at is None
    await shop.place("o2", {"A": 2})
    await shop.cancel("o2")
    assert shop.order("o2").expires_at is None


async def test_promise_4_a_tick_ends_holds_in_bounded_steps(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    for number in range(3):
        await shop.place(f"o{number}", {"A": 1}, hold_seconds=10 + number)
    shop.advance(seconds=60)
    while (await shop.tick(orders_max=2)).outcome != "nothing_due":
        pass
    assert shop.stock("A").available == 5
    assert {shop.order(f"o{number}").state for number in range(3)} == {"expired"}


async def test_an_order_from_kafka_that_finds_no_stock_is_no_dead_letter(shop: ShopClient) -> None:
    reply = await shop.place("o1", {"A": 1}, by_kafka=True)
    assert (reply.outcome, reply.refused) == ("unknown_sku", ())


async def test_rule_29_a_dropped_event_is_not_applied_by_a_placing_of_the_same_batch(shop: ShopClient) -> None:
    await shop.receive("A", 5)
    await shop.pay("o1", by_kafka=True)
    shop.advance(seconds=60)
    reply = await shop.submit_all(Tick(orders_max=9), Tick(orders_max=9), shop.place_command("o1", {"A": 2}))
    assert (reply[-1].outcome, reply[0].refused) == ("reserved", ("unknown_order",))
    assert shop.order("o1").state == "reserved"
    assert (await shop.pay("o1")).outcome == "paid"


async def test_rule_24_shipped_units_of_a_cancelled_order_may_be_returned(shop: ShopClient) -> None:
    await shop.hold(3, of=5)
    await shop.ship("o1", ("A", 1, "SH1"))
    await shop.cancel("o1")
    assert (await shop.cancel("o1", id="another")).replayed, "a repeat may have any id"
    assert (await shop.take_back("o1", ("A", 1, "SH1"))).outcome == "returned"
    assert shop.stock("A").available == 5
