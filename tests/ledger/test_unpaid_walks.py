"""Random orders around the limits of unpaid units: the Lua and the model refuse the same, and count the same."""

from __future__ import annotations

from random import Random

from stocktide.tables.ledger.commands import Command
from tests.harness.servers import RedisServer
from tests.ledger.drivers import ModelDriver
from tests.ledger.ledgers import LIMITS
from tests.ledger.model_limits import unpaid_units
from tests.ledger.shop_client import RedisShopClient, ShopClient, open_shop
from tests.ledger.strategies import EXAMPLES, SEED

# A fifth of a second each.
WALKS, WALK_STEPS = max(2, EXAMPLES // 5), 60
SKUS, CHANNELS, BUYERS = ("A", "B", "C"), ("tmall", "jd"), (None, "mei", "ravi")


async def test_lua_and_the_model_agree_on_walks_around_the_limits(valkey: RedisServer) -> None:
    refused = 0
    for walk in range(WALKS):
        random = Random(SEED + walk)
        async with open_shop(valkey.url, LIMITS) as shop:
            model = ShopClient(ModelDriver())
            for client in (shop, model):
                await client.receive_all(dict.fromkeys(SKUS, 10_000))
                for channel in CHANNELS:
                    await client.set_policy(channel, held_units_max=9, buyer_units_max=6)
            drawn = _DrawnCommands(random, shop)
            for step in range(WALK_STEPS):
                seconds = random.choice((0, 0, 0, 0, 1, 20))
                batch = [drawn.command() for _ in range(random.choice((1, 1, 2, 4)))]
                for client in (shop, model):
                    client.advance(seconds)
                where = f"walk {walk}, step {step} of STOCKTIDE_TEST_SEED={SEED}: {batch}"
                answers = [each.result for each in await shop.driver.apply(batch, shop.now)]
                assert answers == [each.result for each in await model.driver.apply(batch, model.now)], where
                refused += sum(outcome == "too_many_held" for outcome, _ in answers)
                await _compare(shop, model, where)
    assert refused > WALKS, "the limits were hardly reached"


class _DrawnCommands:
    """Mostly orders; else events of one of the newest ones, or other limits."""

    def __init__(self, random: Random, shop: ShopClient) -> None:
        self._random = random
        self._shop = shop
        self._orders: list[tuple[str, dict[str, int]]] = []
        self._events = 0

    def command(self) -> Command:
        kind, self._events = self._random.random(), self._events + 1
        if kind < 0.35 or not self._orders:
            return self._place()
        order_id, lines = self._random.choice(self._orders[-6:])
        mark, some = f"e{self._events}", {sku: self._random.choice((1, units)) for sku, units in lines.items()}
        if kind < 0.8:
            added = {self._random.choice(SKUS): self._random.randint(1, 4)}
            return self._shop.change_command(order_id, self._random.choice(({}, some)), added, id=mark)
        if kind < 0.88:
            return self._shop.cancel_command(order_id, *self._random.choice(((), some.items())), id=mark)
        if kind < 0.96:
            return self._shop.pay_command(order_id, id=mark)
        limits = {"held_units_max": self._random.choice((4, 9, 15)), "buyer_units_max": self._random.choice((3, 6))}
        some_limits = {name: limit for name, limit in limits.items() if self._random.random() < 0.8}
        return self._shop.policy_command(self._random.choice(CHANNELS), **some_limits)

    def _place(self) -> Command:
        draw = self._random
        lines = {sku: draw.randint(1, 3) for sku in draw.sample(SKUS, draw.choice((1, 1, 2)))}
        fields = {"accept": draw.choice(("all", "all", "all", "partial", "sold")), "paid": draw.random() < 0.05}
        if self._orders and draw.random() < 0.2:
            fields["supersedes"] = draw.choice(self._orders[-6:])[0]
        fields |= {"buyer": draw.choice(BUYERS), "hold_seconds": draw.choice((20, 900))}
        order_id = f"o{len(self._orders)}"
        self._orders.append((order_id, lines))
        return self._shop.place_command(order_id, lines, channel=draw.choice(CHANNELS), **fields)


async def _compare(shop: RedisShopClient, model: ShopClient, where: str) -> None:
    assert isinstance(model.driver, ModelDriver)
    state = model.driver.state
    wanted = {}
    for channel in CHANNELS:
        wanted[channel] = unpaid_units(state, channel)
        wanted |= {f"{channel}\n{buyer}": unpaid_units(state, channel, buyer) for buyer in BUYERS if buyer}
    stored = await shop.redis.hgetall(f"{shop.prefix}unpaid")
    found = {group.decode(): int(units) for group, units in stored.items()}
    assert found == {group: units for group, units in wanted.items() if units}, where
