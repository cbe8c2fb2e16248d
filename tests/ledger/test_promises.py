"""Promised dates: when the units that a line waits for should come."""

from __future__ import annotations

from typing import Any

import pytest

from stocktide.tables.ledger.limits import LedgerLimits
from tests.ledger.ledgers import ON_VALKEY
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, ShopClient

HOUR, DAY = 3600, 24 * 3600


async def _take_preorders(shop: ShopClient, channel: str = "tmall", **policy: Any) -> None:
    await shop.set_policy(channel, **({"below_threshold": "preorder", "preorder_cap": 10_000} | policy))


def _promised(shop: ShopClient, *order_ids: str) -> list[int | None]:
    """The promised dates of lines of A, in seconds after the opening."""
    dates = [shop.line(order_id, "A").promised_at for order_id in order_ids]
    return [None if at is None else (at - OPENING_MS) // 1000 for at in dates]


def _available_from(shop: ShopClient, channel: str = "tmall") -> int | None:
    at = shop.driver.available_from("A", channel)
    return None if at is None else (at - OPENING_MS) // 1000


async def test_a_preordered_line_is_promised_by_its_place_in_the_queue(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 5}, id="po-2", eta=2 * HOUR)
    await shop.expect({"A": 3}, id="po-1", eta=HOUR)
    for number, units in enumerate((2, 2, 4, 1), 1):
        await shop.place(f"o{number}", {"A": units})
    assert _promised(shop, "o1", "o2", "o3", "o4") == [HOUR, 2 * HOUR, 2 * HOUR, None]
    line = shop.line("o2", "A")
    assert (line.first_promised_at, line.slips, shop.order("o2").sequence) == (line.promised_at, 0, 1)
    assert shop.driver.repromised == set(), "the promise of a new order belongs to its placing"


async def test_an_earlier_announcement_gives_earlier_promises_at_once(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 10}, eta=DAY)
    for number in range(3):
        await shop.place(f"o{number}", {"A": 2})
    await shop.expect({"A": 3}, id="po-1", eta=HOUR)
    assert _promised(shop, "o0", "o1", "o2") == [HOUR, DAY, DAY]
    assert shop.driver.repromised == {"o0"}
    line = shop.line("o0", "A")
    assert (line.first_promised_at, line.slips) == (OPENING_MS + 1000 * DAY, 0)
    assert [shop.order(f"o{number}").sequence for number in range(3)] == [2, 1, 1]


async def test_an_amendment_that_slips_gives_later_promises_and_counts_it(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 10}, eta=HOUR)
    await shop.place("o1", {"A": 2})
    for eta, slips in ((2 * HOUR, 1), (HOUR + 60, 1), (3 * HOUR, 2)):
        shop.advance(1)
        await shop.expect({"A": 10}, eta=eta)
        assert _promised(shop, "o1") == [eta]
        line = shop.line("o1", "A")
        assert (line.first_promised_at, line.slips) == (OPENING_MS + 1000 * HOUR, slips)
        assert shop.driver.repromised == {"o1"}
    assert shop.order("o1").sequence == 4
    assert not shop.order("o1").choice_due, "the policy does not limit slips"


async def test_cancelling_an_order_in_the_queue_moves_the_next_one_up(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 2}, eta=HOUR)
    for number in range(3):
        await shop.place(f"o{number}", {"A": 2})
    assert _promised(shop, "o0", "o1", "o2") == [HOUR, None, None]
    await shop.cancel("o0")
    assert _promised(shop, "o0", "o1", "o2") == [None, HOUR, None]
    await shop.cancel("o1", ("A", 1))
    assert _promised(shop, "o1", "o2") == [HOUR, None], "it needs two, and one is free"
    await shop.place("o3", {"A": 1})
    assert _promised(shop, "o3") == [None], "the order before it takes that one"


async def test_an_expired_hold_is_in_the_queue_until_the_expiry_step(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 2}, eta=HOUR)
    await shop.place("o1", {"A": 2}, hold_seconds=60)
    await shop.place("o2", {"A": 2})
    shop.advance(60)
    await shop.expect({"A": 2}, eta=2 * HOUR)
    assert _promised(shop, "o1", "o2") == [2 * HOUR, None]
    await shop.tick()
    assert _promised(shop, "o1", "o2") == [None, 2 * HOUR]


async def test_a_withdrawn_announcement_leaves_lines_without_a_promise(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 10}, eta=HOUR)
    await shop.place("o1", {"A": 2})
    shop.advance(1)
    await shop.expect({"A": 0}, eta=None)
    line = shop.line("o1", "A")
    assert (line.promised_at, line.first_promised_at, line.slips) == (None, OPENING_MS + 1000 * HOUR, 0)
    assert shop.driver.repromised == {"o1"}
    await shop.expect({"A": 2}, id="po-1", eta=2 * HOUR)
    assert (_promised(shop, "o1"), shop.line("o1", "A").slips) == ([2 * HOUR], 1), "later than it was promised first"


async def test_a_line_that_an_exchange_adds_has_the_place_of_its_order(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 2, "B": 2}, eta=HOUR)
    await shop.submit_all(
        shop.place_command("o1", {"B": 1}),
        shop.place_command("o2", {"A": 2}),
        shop.change_command("o1", add={"A": 2}),
    )
    assert _promised(shop, "o1", "o2") == [HOUR, None]
    await shop.place("o3", {"B": 1})
    await shop.change("o2", remove={"A": 1}, add={"A": 1, "B": 1})
    assert (shop.line("o2", "B").promised_at, shop.line("o3", "B").slips) == (OPENING_MS + 1000 * HOUR, 0)
    assert shop.line("o3", "B").promised_at is None, "it was placed later"


async def test_vip_orders_and_short_units_push_others_back(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 2}, eta=HOUR)
    await shop.expect({"A": 4}, id="po-10", eta=2 * HOUR)
    await shop.place("o1", {"A": 2})
    await shop.place("vip", {"A": 2}, priority="vip")
    assert _promised(shop, "vip", "o1") == [HOUR, 2 * HOUR]
    assert shop.line("o1", "A").slips == 1
    await shop.place("sold", {"A": 2}, accept="sold", channel="jd")
    assert _promised(shop, "sold", "vip", "o1") == [HOUR, 2 * HOUR, 2 * HOUR]


async def test_lines_take_from_warehouses_of_their_channel_alone(shop: ShopClient) -> None:
    await _take_preorders(shop, warehouses=("BJ1",))
    await _take_preorders(shop, "jd")
    await _take_preorders(shop, "dear", pool_only=True)
    await shop.expect({"A": 2}, eta=HOUR)
    await shop.expect({"A": 2}, at="BJ1", id="po-1", eta=2 * HOUR)
    for channel in ("dear", "tmall", "jd"):
        await shop.place(channel, {"A": 2}, channel=channel)
    assert _promised(shop, "dear", "tmall", "jd") == [None, 2 * HOUR, HOUR]
    await _take_preorders(shop)
    assert _promised(shop, "tmall", "jd") == [HOUR, 2 * HOUR]
    assert shop.driver.repromised == {"tmall", "jd"}
    await shop.set_policy("jd", "A", warehouses=("SH1",))
    assert _promised(shop, "tmall", "jd") == [HOUR, None]


async def test_a_receipt_fills_the_first_orders_and_the_others_keep_their_place(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 2}, id="po-1", eta=HOUR)
    await shop.expect({"A": 4}, id="po-2", eta=DAY)
    for number in range(3):
        await shop.place(f"o{number}", {"A": 2})
    await shop.receive("A", 2, expected_id="po-1")
    assert _promised(shop, "o0", "o1", "o2") == [None, DAY, DAY]
    assert shop.line("o0", "A").first_promised_at == OPENING_MS + 1000 * HOUR
    assert shop.driver.repromised == set()
    await shop.receive("A", 1)  # which nobody announced
    await shop.place("o3", {"A": 1})
    assert _promised(shop, "o1", "o2", "o3") == [DAY, DAY, DAY]
    await shop.receive("A", 10, expected_id="po-2")
    assert _promised(shop, "o1", "o2", "o3") == [None, None, None]


async def test_an_overdue_announcement_still_promises_its_date(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await shop.expect({"A": 5}, eta=60)
    await shop.place("o1", {"A": 1})
    await shop.tick_after(120)
    await shop.place("o2", {"A": 1})
    assert _promised(shop, "o1", "o2") == [60, 60]
    assert _available_from(shop) == 60


async def test_available_from_is_the_date_of_the_next_buyer(shop: ShopClient) -> None:
    await _take_preorders(shop)
    await _take_preorders(shop, "jd", warehouses=("BJ1",))
    await shop.set_policy("own")
    await shop.expect({"A": 2}, eta=HOUR)
    await shop.expect({"A": 2}, at="BJ1", id="po-1", eta=2 * HOUR)
    assert [_available_from(shop, name) for name in ("tmall", "jd", "own")] == [HOUR, 2 * HOUR, None]
    await shop.place("o1", {"A": 2})
    assert _available_from(shop) == 2 * HOUR
    await shop.place("o2", {"A": 2})
    assert [_available_from(shop, name) for name in ("tmall", "jd")] == [None, None]
    await shop.cancel("o1")
    assert [_available_from(shop, name) for name in ("tmall", "jd")] == [2 * HOUR, 2 * HOUR]
    shop.advance(1)
    await shop.expect({"A": 2}, at="BJ1", id="po-1", eta=3 * HOUR)
    assert _available_from(shop) == 3 * HOUR
    await shop.receive("A", 9)
    assert (shop.mode("A"), _available_from(shop)) == ("in_stock", None)


async def test_a_slip_beyond_the_policys_days_makes_a_choice_due_once(shop: ShopClient) -> None:
    await _take_preorders(shop, slip_days_max=2)
    await shop.expect({"A": 5, "B": 5}, eta=DAY)
    await shop.place("o1", {"A": 1, "B": 1})
    shop.advance(1)
    assert (await shop.expect({"A": 5, "B": 5}, eta=3 * DAY)).alerts == ()
    assert not shop.order("o1").choice_due
    shop.advance(1)
    reply = await shop.expect({"A": 5, "B": 5}, eta=3 * DAY + 1)
    assert [alert.type for alert in reply.alerts] == ["choice_due"], "one, although two lines slipped"
    assert shop.order("o1").choice_due
    shop.advance(1)
    assert (await shop.expect({"A": 5, "B": 5}, eta=9 * DAY)).alerts == ()
    assert shop.line("o1", "A").slips == 3


@ON_VALKEY
async def test_the_alert_of_a_choice_names_the_order_and_its_channel(shop: RedisShopClient) -> None:
    await _take_preorders(shop, slip_days_max=0)
    await shop.expect({"A": 5}, eta=DAY)
    await shop.place("o1", {"A": 1})
    shop.advance(1)
    (alert,) = (await shop.expect({"A": 5}, eta=DAY + 1)).alerts
    assert (alert.type, alert.order_id, alert.channel) == ("choice_due", "o1", "tmall")


@ON_VALKEY
@pytest.mark.parametrize("limits", [LedgerLimits(lines_per_step=2, step_bytes_max=150)])
async def test_an_amendment_in_steps_moves_the_promises_of_every_line(shop: RedisShopClient) -> None:
    await _take_preorders(shop)
    skus = "ABCDE"
    await shop.expect(dict.fromkeys(skus, 3), eta=HOUR)
    await shop.place("o1", dict.fromkeys(skus, 1))
    shop.advance(1)
    before = shop.driver.batch
    await shop.expect(dict.fromkeys(skus, 3), eta=2 * HOUR)
    assert shop.driver.batch > before + 1, "several calls"
    assert {line.promised_at for line in shop.order("o1").lines} == {OPENING_MS + 2000 * HOUR}
