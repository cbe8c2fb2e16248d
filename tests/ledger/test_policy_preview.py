"""A preview of a policy says what the policy then does, and writes nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stocktide.tables.ledger.commands import Command, DeletePolicy, SetPolicy
from stocktide.tables.ledger.policy_preview import PreviewRow
from tests.ledger.ledgers import ON_SERVERS
from tests.ledger.shop_client import RedisShopClient
from tests.ledger.strategies import POLICIES, POLICY_FIELDS, SEED

pytestmark = ON_SERVERS

SKUS = [f"s{number:02}" for number in range(30)]
CHANNELS = ("tmall", "jd")
ROUNDS = 12
# Less than a page, so that each round takes several.
PAGE = 7


async def stored(shop: RedisShopClient) -> dict[bytes, bytes]:
    """Every key of the shard."""
    return {key: await shop.redis.dump(key) async for key in shop.redis.scan_iter(match=f"{shop.prefix}*")}


async def preview(shop: RedisShopClient, channel: str, sku: str | None, policy: Any) -> list[PreviewRow]:
    """All pages."""
    rows: list[PreviewRow] = []
    cursor = ""
    while True:
        page = (await shop.ledger.preview_policy(channel, sku, policy, cursor, PAGE, now_ms=shop.now)).value
        if page.refusal:
            assert (page.refusal, page.rows) == ("unknown_policy", ())
            return []
        rows += page.rows
        if not page.last:
            return rows
        cursor = page.last


async def fill_shop(shop: RedisShopClient, chance: random.Random) -> None:
    """Stock in two warehouses, holds, preorders and short orders."""
    for channel in CHANNELS:
        await shop.set_policy(channel, **random_policy(chance))
    for number, sku in enumerate(SKUS):
        for at in chance.sample(("SH1", "BJ1"), chance.randint(1, 2)):
            await shop.receive(sku, chance.randint(1, 14), at=at)
        for _ in range(chance.randint(0, 3)):
            fields: dict[str, Any] = {"accept": "sold"} if chance.random() < 0.4 else {}
            await shop.place(
                f"{sku}-{chance.random()}", {sku: chance.randint(1, 9)}, channel=chance.choice(CHANNELS), **fields
            )
        if number % 5 == 0:
            await shop.adjust("lost", {sku: -chance.randint(1, 12)}, at="SH1")


def random_policy(chance: random.Random) -> dict[str, Any]:
    """One as the random runs set them."""
    names = chance.sample(sorted(POLICY_FIELDS), 4)
    return chance.choice(POLICIES) | {name: chance.choice(POLICY_FIELDS[name]) for name in names}


async def test_a_preview_is_what_the_change_then_does_and_writes_nothing(shop: RedisShopClient) -> None:
    chance = random.Random(SEED)
    await fill_shop(shop, chance)
    changed = 0
    for turn in range(ROUNDS):
        shop.advance(seconds=chance.choice((0, 5, 30)))
        channel, sku = chance.choice((*CHANNELS, "new")), chance.choice((None, None, "s03"))
        policy = random_policy(chance) if chance.random() < 0.8 else None
        before = await stored(shop)
        rows = await preview(shop, channel, sku, policy)
        assert await stored(shop) == before
        command: Command = DeletePolicy(channel=channel, sku=sku)
        if policy is not None:
            command = SetPolicy(channel=channel, sku=sku, policy=policy)
        done = await shop.submit(command)
        assert [row.sku for row in rows] == ([] if done.outcome == "unknown_policy" else [sku] if sku else SKUS)
        for row in rows:
            offer = next(
                each
                for each in (await shop.ledger.read_sku(row.sku)).value[1]  # type: ignore[index]
                if each.channel == channel
            )
            found = (offer.mode, offer.quantity, offer.preorder_remaining)
            assert (row.after.mode, row.after.quantity, row.after.preorder_remaining) == found, (
                turn,
                channel,
                sku,
                policy,
                row,
            )
            changed += row.before != row.after
    assert changed > ROUNDS


async def test_a_preview_for_all_channels_has_a_row_of_each(shop: RedisShopClient) -> None:
    for channel in CHANNELS:
        await shop.set_policy(channel, below_threshold="preorder", preorder_cap=9)
    await shop.receive("A", 1)
    await shop.place("o1", {"A": 1})
    rows = await preview(shop, "*", "A", {"preorder_cap": 4})
    assert [(row.channel, row.before.preorder_remaining, row.after.preorder_remaining) for row in rows] == [
        ("tmall", 9, 4),
        ("jd", 9, 4),
    ]
    assert await preview(shop, "tmall", "unknown", {"buffer": 1}) == []


@pytest.mark.parametrize("sku", [None, "A"])
async def test_a_preview_is_refused_as_the_change_would_be(shop: RedisShopClient, sku: str | None) -> None:
    large = {"warehouses": [f"{number:0128}" for number in range(5_000)]}
    page = await shop.ledger.preview_policy("tmall", sku, large)
    await shop.receive("A", 1)
    page = await shop.ledger.preview_policy("tmall", sku, large)
    assert page.value.refusal == (await shop.set_policy(sku=sku, **large)).outcome == "too_large"
