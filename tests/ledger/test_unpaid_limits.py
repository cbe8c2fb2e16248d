"""Limits of unpaid units, by channel and by buyer: nobody can reserve a shop's stock and never pay."""

from __future__ import annotations

from tests.harness.servers import RedisServer
from tests.ledger.shop_client import ShopClient, open_shop


async def limited(shop: ShopClient, held: int | None = None, buyer: int | None = None, units: int = 100) -> None:
    """Units of A, and a channel with limits."""
    await shop.receive("A", units)
    await shop.set_policy(held_units_max=held, buyer_units_max=buyer)


async def outcome(shop: ShopClient, order_id: str, units: int, **fields: object) -> str:
    return (await shop.place(order_id, {"A": units}, **fields)).outcome


async def test_an_order_over_the_limit_of_its_channel_is_refused_and_one_up_to_it_is_held(shop: ShopClient) -> None:
    await limited(shop, held=5)
    assert await outcome(shop, "o1", 3) == "reserved"
    assert await outcome(shop, "o2", 3) == "too_many_held"
    assert (shop.order("o2").state, shop.line("o2", "A").reason) == ("rejected", "too_many_held")
    assert await outcome(shop, "o3", 2) == "reserved"
    assert shop.stock("A").locked == 5
    assert await outcome(shop, "o4", 1, channel="jd") == "reserved", "another channel has no limit"


async def test_a_refusal_stands_even_when_there_is_room_again(shop: ShopClient) -> None:
    await limited(shop, held=2)
    await outcome(shop, "o1", 2)
    assert await outcome(shop, "o2", 1) == "too_many_held"
    await shop.pay("o1")
    again = await shop.place("o2", {"A": 1})
    assert (again.outcome, again.replayed) == ("too_many_held", True)


async def test_each_buyer_has_a_limit_of_their_own_and_orders_without_a_buyer_have_none(shop: ShopClient) -> None:
    await limited(shop, buyer=2)
    assert await outcome(shop, "o1", 2, buyer="mei") == "reserved"
    assert await outcome(shop, "o2", 1, buyer="mei") == "too_many_held"
    assert await outcome(shop, "o3", 2, buyer="ravi") == "reserved"
    assert await outcome(shop, "o4", 9) == "reserved"


async def test_the_same_buyer_of_two_channels_is_two_buyers(shop: ShopClient) -> None:
    await limited(shop, buyer=2)
    await shop.set_policy("jd", buyer_units_max=2)
    assert await outcome(shop, "o1", 2, buyer="mei") == "reserved"
    assert await outcome(shop, "o2", 2, buyer="mei", channel="jd") == "reserved"


async def test_payment_cancellation_expiry_and_a_partial_cancellation_make_room(shop: ShopClient) -> None:
    await limited(shop, held=4, buyer=4)
    await outcome(shop, "o1", 4, buyer="mei", hold_seconds=60)
    await shop.pay("o1")
    assert await outcome(shop, "o2", 4, buyer="mei", hold_seconds=60) == "reserved"
    await shop.cancel("o2")
    assert await outcome(shop, "o3", 4, buyer="mei", hold_seconds=60) == "reserved"
    assert await outcome(shop, "o4", 1, buyer="mei") == "too_many_held"
    await shop.tick_after(61)
    assert await outcome(shop, "o5", 4, buyer="mei", hold_seconds=60) == "reserved"
    await shop.cancel("o5", ("A", 3))
    assert await outcome(shop, "o6", 4, buyer="mei") == "too_many_held"
    assert await outcome(shop, "o7", 3, buyer="mei") == "reserved"


async def test_unpaid_preorders_count(shop: ShopClient) -> None:
    await shop.receive("A", 1)
    await shop.adjust("lost", {"A": -1})
    await shop.set_policy(below_threshold="preorder", preorder_cap=50, held_units_max=3)
    assert await outcome(shop, "o1", 2) == "preordered"
    assert await outcome(shop, "o2", 2) == "too_many_held"
    await shop.receive("A", 2)
    assert shop.line("o1", "A").reserved == 2
    assert await outcome(shop, "o3", 2) == "too_many_held", "a fill changes nothing: the units are still unpaid"
    await shop.pay("o1")
    assert await outcome(shop, "o4", 3) == "preordered"


async def test_an_exchange_may_hold_no_more_than_the_limit_and_counts_what_goes_back(shop: ShopClient) -> None:
    await limited(shop, held=5)
    await shop.receive("B", 50)
    await outcome(shop, "o1", 4)
    assert (await shop.change("o1", add={"B": 2})).outcome == "too_many_held"
    assert (await shop.change("o1", remove={"A": 2}, add={"B": 3})).outcome == "changed"
    assert (await shop.change("o1", remove={"A": 2}, add={"A": 3})).outcome == "too_many_held"
    assert shop.line("o1", "A").reserved == 2, "nothing has changed"
    assert await outcome(shop, "o2", 1) == "too_many_held"
    await shop.pay("o1")
    assert (await shop.change("o1", add={"B": 9})).outcome == "changed", "a paid order is not bounded"


async def test_an_order_that_replaces_another_one_uses_its_room(shop: ShopClient) -> None:
    await limited(shop, held=5)
    await outcome(shop, "o1", 4)
    assert await outcome(shop, "o2", 6, supersedes="o1") == "too_many_held"
    assert shop.order("o1").state == "reserved"
    assert await outcome(shop, "o3", 5, supersedes="o1") == "reserved"
    assert await outcome(shop, "o4", 1) == "too_many_held"


async def test_a_partial_order_keeps_the_lines_for_which_there_is_room(shop: ShopClient) -> None:
    await limited(shop, held=5)
    await shop.receive("B", 50)
    assert (await shop.place("o1", {"A": 4, "B": 2}, accept="partial")).outcome == "partial"
    assert (shop.line("o1", "A").reserved, shop.line("o1", "B").reason) == (4, "too_many_held")
    assert await outcome(shop, "o2", 1) == "reserved"


async def test_orders_that_are_sold_paid_or_forced_are_not_bounded_and_do_not_count(shop: ShopClient) -> None:
    await limited(shop, held=2, buyer=2)
    assert await outcome(shop, "o1", 9, accept="sold", buyer="mei") == "reserved"
    assert await outcome(shop, "o2", 9, paid=True, buyer="mei") == "reserved"
    await shop.force("o3", {"A": 9})
    assert (await shop.approve("o3")).outcome == "reserved"
    assert await outcome(shop, "o4", 2, buyer="mei") == "reserved"


async def test_a_limit_counts_the_orders_since_it_was_set_also_after_it_was_removed_for_a_while(
    shop: ShopClient,
) -> None:
    await shop.receive("A", 100)
    await outcome(shop, "o1", 9)
    await shop.set_policy(held_units_max=5)
    assert await outcome(shop, "o2", 5) == "reserved"
    await shop.delete_policy()
    assert await outcome(shop, "o3", 9) == "reserved"
    await shop.set_policy(held_units_max=6)
    assert await outcome(shop, "o4", 2) == "too_many_held"
    assert await outcome(shop, "o5", 1) == "reserved"


async def test_orders_of_one_batch_share_the_room(shop: ShopClient) -> None:
    await limited(shop, held=5)
    replies = await shop.submit_all(*(shop.place_command(f"o{number}", {"A": 2}) for number in range(4)))
    assert [reply.outcome for reply in replies] == ["reserved", "reserved", "too_many_held", "too_many_held"]


async def test_the_buyer_is_part_of_the_fingerprint_only_where_it_is_given(shop: ShopClient) -> None:
    plain, named = shop.place_command("o1", {"A": 1}), shop.place_command("o1", {"A": 1}, buyer="mei")
    assert plain.fingerprint == "16118b80885cf409", "as before there were buyers"  # type: ignore[union-attr]
    assert named.fingerprint != plain.fingerprint  # type: ignore[union-attr]


async def test_a_channel_without_limits_keeps_nothing_of_its_unpaid_units(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await shop.receive("A", 100)
        await outcome(shop, "o1", 3, buyer="mei")
        assert [key async for key in shop.redis.scan_iter(match=f"{shop.prefix}unpaid*")] == []
        assert not shop.order("o1").bounded and shop.order("o1").buyer == "mei"
        await shop.set_policy(held_units_max=5)
        await outcome(shop, "o2", 3, buyer="mei")
        kept = await shop.redis.hgetall(f"{shop.prefix}unpaid")
        assert kept == {b"tmall": b"3", b"tmall\nmei": b"3"}
        await shop.pay("o2")
        assert [key async for key in shop.redis.scan_iter(match=f"{shop.prefix}unpaid*")] == []


async def test_a_sum_that_was_lost_is_counted_again(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await limited(shop, held=5)
        await outcome(shop, "o1", 3)
        await shop.redis.delete(f"{shop.prefix}unpaid")
        assert await outcome(shop, "o2", 3) == "too_many_held"
        assert await outcome(shop, "o3", 2) == "reserved"
        assert await shop.redis.hgetall(f"{shop.prefix}unpaid") == {b"tmall": b"5"}
