"""Promise 1 under a crowd: sixteen clients, one hot SKU, not one unit too many."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter

from stocktide.streams.contract import events
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Cancel, Pay, Place, fingerprint, make_place
from stocktide.tables.ledger.records import Result
from tests.ledger.drivers import RedisDriver
from tests.ledger.ledgers import open_ledger
from tests.ledger.shop_client import OPENING_MS, ShopClient

CLIENTS = 16
ORDERS_EACH = 50
UNITS = 300


def _order(order_id: str, units: int) -> Place:
    body = events.OrderBody(order_id=order_id, channel="tmall", lines=(events.OrderLine("HOT", units),))
    return make_place(body)


async def _say(ledger: Ledger, *commands: Place | Pay | Cancel) -> tuple[Result, ...]:
    applied = await ledger.apply(commands, token=secrets.token_hex(8), now_ms=OPENING_MS)
    return applied.decision.results


async def _client(ledger: Ledger, name: int, units: random.Random, taken: Counter[str]) -> None:
    for number in range(ORDERS_EACH):
        order_id = f"c{name}-{number}"
        wanted = units.randint(1, 3)
        (result,) = await _say(ledger, _order(order_id, wanted))
        if result.outcome != "reserved":
            assert result.outcome == "insufficient_stock"
            continue
        taken[order_id] = wanted
        if number % 5 == 0:
            cancel = Cancel(id="c", order_id=order_id, at=OPENING_MS, fingerprint=fingerprint("cancel"))
            assert (await _say(ledger, cancel))[0].outcome == "cancelled"
            del taken[order_id]
        elif number % 2:
            pay = Pay(id="p", order_id=order_id, at=OPENING_MS, fingerprint=fingerprint("pay"))
            assert (await _say(ledger, pay))[0].outcome == "paid"


async def test_sixteen_clients_on_one_hot_sku_take_not_one_unit_too_many(server: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201
    async with open_ledger(server, clients=CLIENTS) as ledger:
        await ShopClient(RedisDriver(ledger)).receive("HOT", UNITS)
        taken: Counter[str] = Counter()
        crowd = (_client(ledger, name, random.Random(seed + name), taken) for name in range(CLIENTS))
        await asyncio.gather(*crowd)
        read = (await ledger.read_sku("HOT")).value
        assert read is not None
        counters = read[0].counters
        claimed = counters.get("locked@SH1", 0) + counters.get("committed@SH1", 0)
        assert claimed == taken.total() <= UNITS
        assert UNITS - claimed < 3, "a crowd that wants more leaves no order of three units unserved"


async def test_one_order_placed_by_many_at_once_is_held_once(server: str) -> None:
    async with open_ledger(server, clients=CLIENTS) as ledger:
        await ShopClient(RedisDriver(ledger)).receive("HOT", UNITS)
        answers = await asyncio.gather(*(_say(ledger, _order("o1", 2)) for _ in range(CLIENTS)))
        assert Counter(result.replayed for (result,) in answers) == {False: 1, True: CLIENTS - 1}
        assert {result.outcome for (result,) in answers} == {"reserved"}
        read = (await ledger.read_sku("HOT")).value
        assert read is not None
        assert read[0].counters["locked@SH1"] == 2
