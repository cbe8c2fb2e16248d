"""Every switch of a channel's mode (rules 5 to 11), as its offers show it."""

from __future__ import annotations

from typing import Any

import pytest

from stocktide.tables.ledger.commands import SetPolicy
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.shop_client import ShopClient


async def test_rule_5_a_first_order_makes_a_channel_known_for_every_sku(shop: ShopClient) -> None:
    await shop.receive("A", 10)
    await shop.receive("B", 7)
    await shop.place("o1", {"A": 1}, channel="jd")
    assert shop.offer("A", "jd") == ("in_stock", 9, 0)
    assert shop.offer("B", "jd") == ("in_stock", 7, 0)


async def test_rule_5_a_sku_policy_makes_a_sku_known_before_anything_moved(shop: ShopClient) -> None:
    await shop.set_policy(sku="A", below_threshold="preorder", preorder_cap=5)
    assert shop.offer("A") == ("preorder", 0, 5)
    assert (await shop.place("o1", {"A": 2})).outcome == "preordered"


async def test_rule_5_an_order_does_not_make_a_sku_known(shop: ShopClient) -> None:
    assert (await shop.place("o1", {"A": 1})).outcome == "unknown_sku"
    assert (await shop.place("o2", {"A": 1})).outcome == "unknown_sku"


async def test_rule_4_two_changes_of_a_policy_in_one_batch_both_decide_when_a_channel_leaves(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive("A", 10)
    suspend = {"below_threshold": "suspend"}
    await shop.submit_all(
        SetPolicy(channel="tmall", policy=suspend | {"safety_threshold": 5}),
        shop.place_command("o1", {"A": 1}),
        SetPolicy(channel="tmall", policy=suspend | {"safety_threshold": 8, "resume_threshold": 12}),
        shop.place_command("o2", {"A": 1}),
    )
    await shop.receive("A", 2)
    assert shop.mode("A") == "suspended", "10 units are between the two thresholds"


async def test_rule_6_available_is_summed_over_the_warehouses_the_channel_sells_from(shop: ShopClient) -> None:
    await shop.set_policy(warehouses=["SH1", "BJ1"])
    await shop.receive_at(SH1=4, BJ1=5, GZ1=100)
    assert shop.offer("A") == ("in_stock", 9, 0)


async def test_rule_6_a_negative_warehouse_counts_in_the_sum(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive_at(SH1=10, BJ1=1)
    await shop.adjust("lost", {"A": -4}, at="BJ1")
    assert shop.offer("A") == ("in_stock", 7, 0)
    await shop.place("o1", {"A": 7})
    assert shop.line("o1", "A").warehouses == {"SH1": 7}, "units are drawn only from positive warehouses"


async def test_rule_6_offered_is_never_below_zero(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    await shop.receive("A", 3)
    await shop.adjust("lost", {"A": -5})
    assert shop.offer("A") == ("sold_out", 0, 0)


async def test_rule_6_without_split_the_best_single_warehouse_is_offered(shop: ShopClient) -> None:
    await shop.set_policy(split=False)
    await shop.receive_at(SH1=4, BJ1=6)
    assert shop.offer("A") == ("in_stock", 6, 0)
    assert (await shop.place("o1", {"A": 7})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 6})).outcome == "reserved"


async def test_rule_7_the_published_offer_is_the_enforced_one(shop: ShopClient) -> None:
    await shop.set_policy(share=0.5, buffer=3, max_listed=8)
    await shop.receive("A", 14)
    assert shop.offer("A") == ("in_stock", 5, 0), "floor(0.5 * (14 - 3))"
    assert (await shop.place("o1", {"A": 6})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 5})).outcome == "reserved"
    assert shop.offer("A") == ("in_stock", 3, 0), "floor(0.5 * (9 - 3))"
    await shop.receive("A", 100)
    assert shop.offer("A") == ("in_stock", 8, 0), "never more than max_listed"


async def test_rule_7_never_in_stock_with_nothing_offered(shop: ShopClient) -> None:
    await shop.set_policy(buffer=5, below_threshold="suspend")
    await shop.receive("A", 6)
    assert shop.offer("A") == ("in_stock", 1, 0)
    await shop.place("o1", {"A": 1})
    assert shop.stock("A").available == 5, "above the threshold of 0"
    assert shop.offer("A") == ("suspended", 0, 0)


async def test_rule_8_sell_through_stays_in_stock_down_to_the_last_unit(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5)
    await shop.hold(5, of=6)
    assert shop.offer("A") == ("in_stock", 1, 0)
    await shop.place("o2", {"A": 1})
    assert shop.offer("A") == ("sold_out", 0, 0)
    assert (await shop.place("o3", {"A": 1})).outcome == "insufficient_stock"


async def test_rule_8_suspend_refuses_orders_at_the_threshold(shop: ShopClient) -> None:
    await shop.fall_to_threshold()
    assert shop.offer("A") == ("suspended", 0, 0)
    assert (await shop.place("o2", {"A": 1})).outcome == "channel_suspended"
    assert shop.stock("A").available == 5


async def test_rule_8_preorder_begins_at_the_threshold_and_ends_sold_out(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="preorder", preorder_cap=3)
    await shop.hold(3, of=8)
    assert shop.offer("A") == ("preorder", 0, 3)
    assert (await shop.place("o2", {"A": 3})).outcome == "preordered"
    assert shop.offer("A") == ("sold_out", 0, 0)


async def test_rule_8_a_primary_channel_reads_suspend_as_sell_through(shop: ShopClient) -> None:
    await shop.set_policy("main", safety_threshold=5, below_threshold="suspend", primary=True)
    await shop.set_policy("jd", safety_threshold=5, below_threshold="suspend")
    await shop.hold(2, of=6, channel="main")
    assert shop.offer("A", "main") == ("in_stock", 4, 0)
    assert shop.mode("A", "jd") == "suspended"


async def test_rule_8_a_primary_channel_keeps_its_preorder(shop: ShopClient) -> None:
    await shop.set_policy("main", safety_threshold=5, below_threshold="preorder", preorder_cap=9, primary=True)
    await shop.receive("A", 5)
    assert shop.offer("A", "main") == ("preorder", 0, 9)


async def test_rule_9_between_the_thresholds_the_last_mode_stays(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, resume_threshold=10, below_threshold="suspend")
    await shop.receive("A", 7)
    assert shop.mode("A") == "in_stock", "a new SKU starts in stock above the safety threshold"
    await shop.place("o1", {"A": 2})
    assert shop.mode("A") == "suspended"
    await shop.receive("A", 4)
    assert shop.mode("A") == "suspended", "9 is not yet 10"
    await shop.receive("A", 1)
    assert shop.offer("A") == ("in_stock", 10, 0)
    await shop.place("o2", {"A": 4})
    assert shop.offer("A") == ("in_stock", 6, 0)


async def test_rule_9_a_new_sku_at_the_threshold_starts_below_it_and_waits_for_no_dwell(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend", dwell_seconds=3600)
    await shop.receive("A", 5)
    assert shop.mode("A") == "suspended"
    await shop.receive("A", 1)
    assert shop.mode("A") == "in_stock"


async def test_rule_9_the_dwell_delays_only_the_return(shop: ShopClient) -> None:
    await shop.fall_to_threshold(dwell_seconds=60)
    assert shop.mode("A") == "suspended", "leaving is immediate"
    shop.advance(seconds=30)
    await shop.receive("A", 100)
    assert shop.mode("A") == "suspended"
    await shop.tick_after(seconds=29.999)
    assert shop.mode("A") == "suspended"
    await shop.tick_after(seconds=0.001)
    assert shop.mode("A") == "in_stock", "sixty seconds after it left"


async def test_rule_9_at_the_end_of_the_dwell_the_stock_decides(shop: ShopClient) -> None:
    await shop.fall_to_threshold(dwell_seconds=60)
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    await shop.tick_after(seconds=61)
    assert shop.mode("A") == "suspended"
    await shop.receive("A", 1)
    assert shop.mode("A") == "in_stock"


async def test_rule_9_an_order_after_the_dwell_ends_it_like_a_tick(shop: ShopClient) -> None:
    await shop.fall_to_threshold(dwell_seconds=60)
    await shop.receive("A", 10)
    assert (await shop.place("o2", {"A": 1})).outcome == "channel_suspended"
    shop.advance(seconds=60)
    assert (await shop.place("o3", {"A": 1})).outcome == "reserved"
    assert shop.mode("A") == "in_stock"


async def test_rule_9_a_policy_of_another_channel_leaves_a_dwell_that_is_over_to_the_tick(shop: ShopClient) -> None:
    await shop.set_policy("jd")
    await shop.fall_to_threshold(dwell_seconds=60)
    await shop.receive("A", 10)
    shop.advance(seconds=60)
    await shop.set_policy("jd")
    assert shop.mode("A") == "suspended"
    await shop.set_policy("jd", buffer=1)
    assert shop.mode("A") == "in_stock", "the offer to jd moved, so the SKU is evaluated"


async def test_rule_9_between_preorder_and_sold_out_there_is_no_dwell(shop: ShopClient) -> None:
    await shop.set_policy(sku="A", below_threshold="preorder", preorder_cap=2, dwell_seconds=3600)
    await shop.place("o1", {"A": 2})
    assert shop.mode("A") == "sold_out"
    await shop.cancel("o1")
    assert shop.offer("A") == ("preorder", 0, 2)


@pytest.mark.parametrize(
    "policy",
    [
        {"safety_threshold": 50, "below_threshold": "suspend"},
        {"safety_threshold": 50, "below_threshold": "preorder", "preorder_cap": 99},
        {"buffer": 50},
        {"share": 0.0},
        {"max_listed": 0},
    ],
    ids=["suspended", "preorder", "buffer", "share", "max_listed"],
)
async def test_rule_11_vip_draws_from_the_stock_under_every_policy(shop: ShopClient, policy: dict[str, Any]) -> None:
    await shop.set_policy(**policy)
    await shop.receive("A", 10)
    assert shop.mode("A") != "in_stock"
    assert (await shop.place("o1", {"A": 10}, priority="vip")).outcome == "reserved"
    assert shop.stock("A").available == 0


async def test_rule_11_vip_beyond_what_is_available_is_treated_as_standard(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=50, below_threshold="preorder", preorder_cap=20)
    await shop.receive("A", 10)
    assert (await shop.place("o1", {"A": 11}, priority="vip")).outcome == "preordered"
    assert shop.stock("A").locked == 0


async def test_rule_11_vip_draws_only_from_the_warehouses_of_its_channel(shop: ShopClient) -> None:
    await shop.set_policy(warehouses=["SH1"])
    await shop.receive_at(SH1=2, BJ1=9)
    assert (await shop.place("o1", {"A": 3}, priority="vip")).outcome == "insufficient_stock"


async def test_rule_9_two_channels_each_wait_for_their_own_dwell(shop: ShopClient) -> None:
    for channel, seconds in {"tmall": 60, "jd": 10}.items():
        await shop.set_policy(channel, safety_threshold=5, below_threshold="suspend", dwell_seconds=seconds)
    await shop.hold(1, of=6)
    await shop.receive("A", 10)
    await shop.tick_after(seconds=10)
    assert (shop.mode("A", "tmall"), shop.mode("A", "jd")) == ("suspended", "in_stock")
    await shop.tick_after(seconds=50)
    assert shop.mode("A", "tmall") == "in_stock"


async def test_rule_9_a_dwell_that_begins_later_does_not_hide_one_that_ends_sooner(shop: ShopClient) -> None:
    await shop.set_policy("tmall", safety_threshold=5, below_threshold="suspend", dwell_seconds=60)
    await shop.set_policy("jd", safety_threshold=3, below_threshold="suspend", dwell_seconds=600)
    await shop.hold(1, of=6)
    await shop.receive("A", 10)
    await shop.adjust("lost", {"A": -12})
    await shop.receive("A", 12)
    await shop.tick_after(seconds=60)
    assert (shop.mode("A", "tmall"), shop.mode("A", "jd")) == ("in_stock", "suspended")
    await shop.tick_after(seconds=540)
    assert shop.mode("A", "jd") == "in_stock"


@ON_SERVERS  # the model has no alert of low stock
async def test_low_stock_raises_an_alert_for_a_channel_that_sells_from_some_warehouses_only(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, warehouses=("SH1",))
    await shop.receive_at(SH1=10, BJ1=90)
    assert not (await shop.adjust("lost", {"A": -4}, at="SH1")).alerts
    reply = await shop.adjust("lost", {"A": -1}, at="SH1")
    assert [(alert.type, alert.channel, alert.quantity) for alert in reply.alerts] == [("low_stock", "tmall", 5)]
    assert not (await shop.adjust("lost", {"A": -1}, at="SH1")).alerts, "one alert is enough"
    assert not (await shop.adjust("lost", {"A": -89}, at="BJ1")).alerts, "the channel does not sell from there"


@ON_SERVERS
async def test_low_stock_raises_an_alert_when_it_takes_a_channel_off_the_shelf(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, below_threshold="suspend")
    await shop.receive("A", 7)
    assert not (await shop.place("o1", {"A": 1})).alerts
    reply = await shop.place("o2", {"A": 1})
    assert [(alert.type, alert.sku, alert.channel) for alert in reply.alerts] == [("low_stock", "A", "tmall")]
    assert not (await shop.place("o3", {"A": 1})).alerts


async def test_rule_8_selling_through_sells_a_returned_unit_below_the_safety_threshold(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5)
    await shop.hold(6, of=6)
    assert shop.mode("A") == "sold_out"
    await shop.receive("A", 1)
    assert (shop.mode("A"), shop.offer("A").quantity) == ("in_stock", 1)


async def test_rule_9_between_the_thresholds_a_sold_out_sku_stays_sold_out(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=2, resume_threshold=8)
    await shop.hold(4, of=4)
    await shop.receive("A", 5)
    assert shop.mode("A") == "sold_out"
    await shop.receive("A", 3)
    assert shop.mode("A") == "in_stock"


async def test_rule_6_without_a_split_the_best_warehouse_offers_no_more_than_the_sum(shop: ShopClient) -> None:
    await shop.set_policy(split=False)
    await shop.receive_at(SH1=20, BJ1=1)
    await shop.adjust("lost", {"A": -6}, at="BJ1")
    assert shop.offer("A").quantity == 15
    assert (await shop.place("o1", {"A": 16})).outcome == "insufficient_stock"
    assert (await shop.place("o2", {"A": 16}, priority="vip")).outcome == "insufficient_stock"
    assert (await shop.place("o3", {"A": 15})).outcome == "reserved"
    assert shop.stock("A").available == 0


async def test_rule_9_a_raised_threshold_counts_though_it_moved_no_offer(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=4, below_threshold="suspend", dwell_seconds=5)
    await shop.receive("A", 20)
    await shop.set_policy(safety_threshold=8, below_threshold="suspend", dwell_seconds=5)
    await shop.adjust("lost", {"A": -13})
    assert shop.offer("A") == ("suspended", 0, 0)
    await shop.receive("A", 13)
    assert shop.offer("A") == ("suspended", 0, 0)
    shop.advance(seconds=6)
    await shop.tick()
    assert shop.offer("A") == ("in_stock", 20, 0)


async def test_rule_9_an_announcement_that_slips_after_the_dwell_ends_it_like_a_tick(shop: ShopClient) -> None:
    await shop.fall_to_threshold(dwell_seconds=60)
    await shop.expect({"A": 10}, id="po-1")
    await shop.receive("A", 10)
    assert shop.mode("A") == "suspended"
    shop.advance(seconds=60)
    await shop.expect({"A": 10}, id="po-1", eta=7200)
    assert shop.mode("A") == "in_stock"
