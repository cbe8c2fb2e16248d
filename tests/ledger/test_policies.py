"""Policies (rules 1 to 5): their levels, how they merge, and the effects of a change."""

from __future__ import annotations

from stocktide.tables.ledger.commands import DeletePolicy, SetPolicy
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.model_policy import policy_digest
from tests.ledger.shop_client import RedisShopClient, ShopClient


async def test_rule_2_levels_merge_field_by_field(shop: ShopClient) -> None:
    await shop.set_policy(buffer=2, max_listed=50)
    await shop.set_policy(sku="A", max_listed=5)
    await shop.receive_all({"A": 100, "B": 100})
    assert shop.offer("A").quantity == 5
    assert shop.offer("B").quantity == 50
    await shop.adjust("lost", {"A": -94})
    assert shop.offer("A").quantity == 4, "the channel's buffer of 2 holds for A too"


async def test_rule_2_putting_replaces_a_level_whole(shop: ShopClient) -> None:
    await shop.set_policy(buffer=2, max_listed=5)
    await shop.receive("A", 100)
    await shop.set_policy(buffer=3)
    assert shop.offer("A").quantity == 97


async def test_rule_2_deleting_removes_a_level(shop: ShopClient) -> None:
    await shop.set_policy(max_listed=5)
    await shop.set_policy(sku="A", max_listed=3)
    await shop.receive("A", 100)
    assert (await shop.delete_policy(sku="A")).outcome == "policy_deleted"
    assert shop.offer("A").quantity == 5
    assert (await shop.delete_policy()).outcome == "policy_deleted"
    assert shop.offer("A").quantity == 100


async def test_rule_2_deleting_a_level_that_is_not_there_is_refused(shop: ShopClient) -> None:
    assert (await shop.delete_policy()).outcome == "unknown_policy"
    assert (await shop.delete_policy(sku="A")).outcome == "unknown_policy"
    await shop.subscribe("tmall")
    assert (await shop.delete_policy()).outcome == "unknown_policy"


async def test_rule_3_a_merged_resume_threshold_below_safety_reads_as_safety_plus_one(shop: ShopClient) -> None:
    await shop.set_policy(resume_threshold=4, safety_threshold=1, below_threshold="suspend")
    await shop.set_policy(sku="A", safety_threshold=5)
    await shop.hold(1, of=6)
    assert shop.mode("A") == "suspended"
    await shop.receive("A", 1)
    assert shop.mode("A") == "in_stock"


async def test_rule_4_a_change_of_policy_waives_the_dwell(shop: ShopClient) -> None:
    await shop.fall_to_threshold(dwell_seconds=3600)
    await shop.receive("A", 10)
    assert shop.mode("A") == "suspended"
    await shop.set_policy(safety_threshold=6, below_threshold="suspend", dwell_seconds=3600)
    assert shop.mode("A") == "in_stock"


async def test_rule_4_a_change_of_policy_respects_the_resume_threshold(shop: ShopClient) -> None:
    await shop.set_policy(safety_threshold=5, resume_threshold=10, below_threshold="suspend")
    await shop.hold(1, of=6)
    await shop.receive("A", 3)
    await shop.set_policy(safety_threshold=4, resume_threshold=10, below_threshold="suspend")
    assert shop.mode("A") == "suspended"
    await shop.set_policy(safety_threshold=4, resume_threshold=8, below_threshold="suspend")
    assert shop.mode("A") == "in_stock"


async def test_rule_4_a_change_of_policy_leaves_holds_as_they_are(shop: ShopClient) -> None:
    await shop.hold(6, of=6)
    await shop.set_policy(safety_threshold=6, below_threshold="suspend", share=0.0)
    assert (shop.order("o1").state, shop.stock("A").locked) == ("reserved", 6)
    assert (await shop.pay("o1")).outcome == "paid"


async def test_rule_5_a_subscription_makes_a_channel_known(shop: ShopClient) -> None:
    await shop.receive("A", 6)
    assert (await shop.subscribe("jd")).outcome == "channel_known"
    assert shop.offer("A", "jd") == ("in_stock", 6, 0)
    assert (await shop.subscribe("jd")).replayed


async def test_rule_5_a_channel_that_becomes_known_late_starts_by_the_stock_of_that_moment(shop: ShopClient) -> None:
    await shop.set_policy("tmall", safety_threshold=5, below_threshold="suspend")
    await shop.receive("A", 6)
    await shop.set_policy("jd", safety_threshold=6, below_threshold="suspend", dwell_seconds=3600)
    assert (shop.mode("A", "tmall"), shop.mode("A", "jd")) == ("in_stock", "suspended")
    await shop.receive("A", 1)
    assert shop.mode("A", "jd") == "in_stock", "it never left the shelf, so there is no dwell to wait for"


async def test_channels_are_judged_each_by_its_own_policy(shop: ShopClient) -> None:
    await shop.set_policy("tmall", safety_threshold=2, below_threshold="suspend")
    await shop.set_policy("jd", safety_threshold=4, below_threshold="preorder", preorder_cap=7)
    await shop.set_policy("main", primary=True, safety_threshold=9, below_threshold="suspend")
    await shop.hold(6, of=10, channel="main")
    assert shop.offer("A", "tmall") == ("in_stock", 4, 0)
    assert shop.offer("A", "jd") == ("preorder", 0, 7)
    assert shop.offer("A", "main") == ("in_stock", 4, 0)


async def test_a_level_may_be_set_with_no_field_at_all(shop: ShopClient) -> None:
    await shop.receive("A", 6)
    await shop.set_policy(sku="A", max_listed=2)
    assert (await shop.set_policy(sku="A")).outcome == "policy_set"
    assert (await shop.set_policy()).outcome == "policy_set"
    assert shop.offer("A") == ("in_stock", 6, 0)
    assert (await shop.delete_policy(sku="A")).outcome == "policy_deleted"
    assert (await shop.delete_policy()).outcome == "policy_deleted"


async def test_rule_4_a_sku_policy_waives_the_dwell_of_its_channel_alone(shop: ShopClient) -> None:
    for channel in ("tmall", "jd"):
        await shop.set_policy(channel, safety_threshold=5, below_threshold="suspend", dwell_seconds=60)
    await shop.hold(1, of=6)
    await shop.receive("A", 10)
    await shop.set_policy("tmall", "A", buffer=1)
    assert (shop.mode("A", "tmall"), shop.mode("A", "jd")) == ("in_stock", "suspended")


async def test_rule_9_a_policy_concerns_a_sku_that_came_in_the_same_batch(shop: ShopClient) -> None:
    await shop.subscribe("tmall")
    policy = {"safety_threshold": 7, "resume_threshold": 10, "below_threshold": "suspend"}
    await shop.submit_all(shop.receive_command({"A": 7}), SetPolicy(channel="tmall", policy=policy))
    assert shop.mode("A") == "suspended"
    await shop.receive("A", 1)
    assert shop.mode("A") == "suspended", "8 is not yet 10"
    await shop.receive("A", 2)
    assert shop.mode("A") == "in_stock"


async def test_rule_1_a_share_is_read_as_the_decimal_it_is(shop: ShopClient) -> None:
    await shop.set_policy(share=0.29)
    await shop.receive("A", 100)
    assert shop.offer("A").quantity == 29, "0.29 * 100 is 28.999999999999996 in binary"


async def test_rule_8_a_suspended_channel_that_becomes_primary_sells_its_stock(shop: ShopClient) -> None:
    await shop.receive("A", 3)
    await shop.set_policy(safety_threshold=5, below_threshold="suspend")
    assert shop.mode("A") == "suspended"
    await shop.set_policy(safety_threshold=5, below_threshold="suspend", primary=True)
    assert (shop.mode("A"), shop.offer("A").quantity) == ("in_stock", 3)


async def test_only_the_policy_that_was_read_is_replaced(shop: ShopClient) -> None:
    for sku in (None, "A"):
        read, missing = {"buffer": 2, "share": 0.5}, policy_digest(None)
        first = SetPolicy(channel="tmall", sku=sku, policy=read, expected=missing)
        second = SetPolicy(channel="tmall", sku=sku, policy={"buffer": 3}, expected=missing)
        assert [each.outcome for each in await shop.submit_all(first, second)] == ["policy_set", "conflict"]
        removal = DeletePolicy(channel="tmall", sku=sku, expected=missing)
        assert (await shop.submit(removal)).outcome == "conflict"
        removal = DeletePolicy(channel="tmall", sku=sku, expected=policy_digest(read))
        assert (await shop.submit(removal)).outcome == "policy_deleted"


async def test_a_repeat_of_the_change_that_was_made_is_no_conflict(shop: ShopClient) -> None:
    change = SetPolicy(channel="tmall", policy={"warehouses": ["SH1"], "split": False}, expected=policy_digest(None))
    assert (await shop.submit(change)).outcome == "policy_set"
    again = await shop.submit(change)
    assert (again.outcome, again.replayed) == ("policy_set", True)
    assert (await shop.submit(DeletePolicy(channel="tmall", expected="0" * 16))).outcome == "conflict"


@ON_SERVERS
async def test_an_empty_policy_is_not_the_same_as_none(shop: RedisShopClient) -> None:
    for policy in ({}, {"share": 0.5, "purposes": ["vip", "sale"], "primary": False}, None):
        if policy is None:
            await shop.delete_policy(sku="A")
        else:
            await shop.set_policy(sku="A", **policy)
        own, _, digest = (await shop.ledger.read_policy("tmall", "A")).value
        assert (own, digest) == (policy, policy_digest(policy))


@ON_SERVERS
async def test_the_approval_of_a_change_is_part_of_its_row(shop: RedisShopClient) -> None:
    asked = {"requested_by": "ann", "reason": "double eleven", "id": "request-1"}
    await shop.submit(SetPolicy(channel="tmall", policy={"buffer": 2}, actor="bob", **asked))
    (row,) = shop.driver.decisions[-1].policies
    assert (row.actor, row.requested_by, row.reason, row.id) == ("bob", *asked.values())
    await shop.submit(DeletePolicy(channel="tmall", actor="bob"))
    (row,) = shop.driver.decisions[-1].policies
    assert (row.actor, row.requested_by) == ("bob", None)
