"""Promise 1 under contention: sixteen clients, one hot SKU, not one unit too many."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter

from stocktide.tables.ledger.commands import Cancel, Command, Pay
from stocktide.tables.ledger.make_commands import fingerprint
from stocktide.tables.ledger.records import Result
from tests.ledger.shop_client import OPENING_MS, RedisShopClient, open_shop

CLIENTS = 16
ORDERS_EACH = 50
UNITS = 300


async def _apply(shop: RedisShopClient, command: Command) -> Result:
    applied = await shop.ledger.apply([command], token=secrets.token_hex(8), now_ms=OPENING_MS)
    return applied.decision.results[0]


async def _client(shop: RedisShopClient, name: int, units: random.Random, taken: Counter[str]) -> None:
    for number in range(ORDERS_EACH):
        order_id = f"c{name}-{number}"
        wanted = units.randint(1, 3)
        result = await _apply(shop, shop.place_command(order_id, {"HOT": wanted}))
        if result.outcome != "reserved":
            assert result.outcome == "insufficient_stock"
            continue
        taken[order_id] = wanted
        if number % 5 == 0:
            cancel = Cancel(id="c", order_id=order_id, at=OPENING_MS, fingerprint=fingerprint("cancel"))
            assert (await _apply(shop, cancel)).outcome == "cancelled"
            del taken[order_id]
        elif number % 2:
            pay = Pay(id="p", order_id=order_id, at=OPENING_MS, fingerprint=fingerprint("pay"))
            assert (await _apply(shop, pay)).outcome == "paid"


async def test_sixteen_clients_on_one_hot_sku_take_not_one_unit_too_many(server: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201
    async with open_shop(server, clients=CLIENTS) as shop:
        await shop.receive("HOT", UNITS)
        taken: Counter[str] = Counter()
        await asyncio.gather(*(_client(shop, name, random.Random(seed + name), taken) for name in range(CLIENTS)))
        counters = await shop.stored_counters("HOT")
        claimed = counters.get("locked@SH1", 0) + counters.get("committed@SH1", 0)
        assert claimed == taken.total() <= UNITS
        assert UNITS - claimed < 3, "demand is higher: less than one order of three units is left"


async def test_one_order_placed_by_many_at_once_is_held_once(server: str) -> None:
    async with open_shop(server, clients=CLIENTS) as shop:
        await shop.receive("HOT", UNITS)
        order = shop.place_command("o1", {"HOT": 2})
        answers = await asyncio.gather(*(_apply(shop, order) for _ in range(CLIENTS)))
        assert Counter(answer.replayed for answer in answers) == {False: 1, True: CLIENTS - 1}
        assert {answer.outcome for answer in answers} == {"reserved"}
        assert (await shop.stored_counters("HOT"))["locked@SH1"] == 2
