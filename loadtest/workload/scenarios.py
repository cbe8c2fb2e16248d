"""The scenario of each arrival, as a function of the seed alone.

In: a `Goods` (the SKUs on sale and their demand), a seed, a number. Out: a `Scenario`: an order, and the events that
follow if it is accepted. All names begin with `mark`, which keeps the SKUs and orders of runs apart.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from msgspec import Struct

from stocktide.loadtest.client.events import Event

Then = Literal["pay", "cancel", "abandon"]

# Lines of an order, as running shares: of the 8,400 orders of Online Retail, December 2010 to May 2011 (Chen 2015,
# UCI, doi 10.24432/C5BW33), 11.7 % have one line, 15.7 % at most two, 48.6 % at most 13. Within a step each number is
# as likely; the longest 1.8 % are cut at 150 lines.
BASKET_LINES = (
    (1, 0.117), (2, 0.157), (3, 0.194), (4, 0.228), (5, 0.264), (6, 0.295), (8, 0.352), (10, 0.41), (13, 0.486),
    (16, 0.564), (20, 0.651), (25, 0.727), (30, 0.785), (40, 0.854), (50, 0.901), (75, 0.955), (100, 0.97), (150, 1.0),
)  # fmt: skip
# Units of a line, from the same file: the 15 commonest, which are 93 % of its lines.
LINE_UNITS = (1, 2, 12, 6, 3, 4, 24, 10, 8, 5, 48, 25, 20, 16, 36)
LINE_WEIGHTS = (291, 156, 113, 81, 70, 69, 43, 38, 24, 22, 11, 10, 8, 7, 6)
# Units of a hot SKU per order.
HOT_UNITS = (1, 2)
HOT_WEIGHTS = (9, 1)

# The next step after an accepted order, of 100 orders; an assumption, not a measurement.
THEN: tuple[Then, ...] = ("pay", "cancel", "abandon")
THEN_WEIGHTS = (78, 10, 12)
# Shares of all orders: repeated at once, aborted by the client, placed by a bot.
REPEAT_SHARE = 0.08
DISCONNECT_SHARE = 0.02
BOT_SHARE = 0.06
# Shares: of the paid orders that are shipped, of those that are returned, of those that are damaged.
SHIPPED_SHARE = 0.3
RETURNED_SHARE = 0.15
DAMAGED_SHARE = 0.25
THINK_MS = (200, 3_000)
# A client that disconnects does so within this time of its request, and retries later.
DISCONNECT_MS_MAX = 20
RETRY_MS = (300, 1_500)
SHIP_MS = (500, 2_000)
# SKUs of a basket are distinct: a repeated one is drawn anew, a bounded number of times.
DRAWS_PER_LINE_MAX = 4
BOTS = 5
# What an order of the share `changes` does, of 100; an assumption too. `sold`: its marketplace has sold it already;
# `pool`: it draws from the pool of the sale; `give_back`: one unit is cancelled after the payment; `pay_late`: it is
# paid after its hold has ended, and asks for its units again.
Change = Literal["sold", "pool", "give_back", "pay_late"]
CHANGES: tuple[Change, ...] = ("sold", "pool", "give_back", "pay_late")
CHANGE_WEIGHTS = (30, 20, 25, 25)
# The purpose of the pool of the sale.
POOL = "flash"
# The place of the marketplace that sells by itself among the channels: its policy takes no preorders.
MARKETPLACE = 2
# A hold that ends before the payment comes; the expiry step runs about every second.
LATE_HOLD_SECONDS = 1
LATE_MS = (1_500, 4_000)
WAREHOUSES = ("SH1", "BJ1")


class Goods(Struct, frozen=True):
    """The SKUs on sale, of which the first `hot` are hot.

    `hot_share`: the share of orders for one hot SKU and nothing else. `zipf`: the exponent by which the demand for the
    others falls with their rank; 0 is equal demand. `names`: the SKUs of a file, by falling demand; generated if empty.
    `changes`: the share of orders that are sold already, draw from a pool, give units back or are paid late.
    """

    mark: str
    skus: int
    hot: int
    hot_share: float
    zipf: float
    channels: tuple[str, ...]
    hold_seconds: int
    names: tuple[str, ...] = ()
    changes: float = 0.0

    def sku(self, rank: int) -> str:
        """The name of a SKU by its rank, from 0."""
        if self.names:
            return f"{self.mark}-{self.names[rank]}"
        return f"{self.mark}-{'HOT' if rank < self.hot else 'SKU'}-{rank:04}"

    @property
    def hot_skus(self) -> tuple[str, ...]:
        """The hot SKUs."""
        return tuple(self.sku(rank) for rank in range(self.hot))

    @property
    def all_skus(self) -> tuple[str, ...]:
        """All SKUs."""
        return tuple(self.sku(rank) for rank in range(self.skus))


@dataclass(frozen=True, slots=True)
class Scenario:
    """An order, and the steps that follow.

    `again`: the order is sent twice at once. `disconnect_after_ms`: the client disconnects so long after the request
    and retries `retry_after_ms` later. `think_ms` passes between the response and `then`. A paid order may be shipped
    after `ship_ms` and returned `return_ms` later. `change`: what else it does.
    """

    placed: Event
    then: Then
    think_ms: int
    again: bool = False
    disconnect_after_ms: int | None = None
    retry_after_ms: int = 0
    bot: bool = False
    ship_ms: int | None = None
    return_ms: int | None = None
    damaged: bool = False
    change: Change | None = None

    @property
    def order_id(self) -> str:
        """The id of the order."""
        return str(self.placed["order_id"])


class Workload:
    """The scenarios of a run."""

    def __init__(self, goods: Goods, seed: int) -> None:
        self._goods = goods
        self._seed = seed
        ranks = range(1, max(1, goods.skus - goods.hot) + 1)
        self._sums = list(accumulate(rank**-goods.zipf for rank in ranks))
        self._first_cold = goods.hot if goods.skus > goods.hot else 0

    def scenario(self, number: int) -> Scenario:
        """The n-th scenario: an order of the flash sale, of a bot, or an ordinary basket."""
        rng = random.Random(f"{self._seed}-errand-{number}")
        bot = rng.random() < BOT_SHARE
        flash = bot or rng.random() < self._goods.hot_share
        return self._scenario(number, rng, self._flash_lines(rng) if flash else self._basket(rng), bot)

    def scenario_of(self, number: int, lines: list[Event]) -> Scenario:
        """The n-th scenario for the basket of a file."""
        return self._scenario(number, random.Random(f"{self._seed}-errand-{number}"), lines, False)

    def _scenario(self, number: int, rng: random.Random, lines: list[Event], bot: bool) -> Scenario:
        goods = self._goods
        name = f"bot{rng.randrange(BOTS)}-{number}" if bot else f"{number}"
        placed: Event = {
            "order_id": f"{goods.mark}-{name}",
            "id": f"{goods.mark}-{name}-placed",
            "channel": rng.choice(goods.channels),
            "lines": lines,
            "hold_seconds": goods.hold_seconds,
        }
        if bot:
            # A bot holds units for resale and pays for none.
            return Scenario(placed, "abandon", 0, bot=True)
        then = rng.choices(THEN, THEN_WEIGHTS)[0]
        disconnects = rng.random() < DISCONNECT_SHARE
        shipped = then == "pay" and rng.random() < SHIPPED_SHARE
        returned = shipped and rng.random() < RETURNED_SHARE
        scenario = Scenario(
            placed,
            then,
            rng.randint(*THINK_MS),
            again=not disconnects and rng.random() < REPEAT_SHARE,
            disconnect_after_ms=rng.randint(1, DISCONNECT_MS_MAX) if disconnects else None,
            retry_after_ms=rng.randint(*RETRY_MS),
            ship_ms=rng.randint(*SHIP_MS) if shipped else None,
            return_ms=rng.randint(*SHIP_MS) if returned else None,
            damaged=rng.random() < DAMAGED_SHARE,
        )
        # The last draws: without changes the same seed gives the same load as ever.
        return self._changed(scenario, rng) if rng.random() < goods.changes else scenario

    def _changed(self, scenario: Scenario, rng: random.Random) -> Scenario:
        placed, change = scenario.placed, rng.choices(CHANGES, CHANGE_WEIGHTS)[0]
        if change == "sold":
            channels = self._goods.channels
            sold = {"channel": channels[MARKETPLACE % len(channels)], "accept": "sold", "paid": True}
            return replace(scenario, placed={**placed, **sold}, then="pay", change=change)
        if change == "pool":
            return replace(scenario, placed={**placed, "purpose": POOL}, change=change)
        scenario = replace(scenario, then="pay", ship_ms=None, return_ms=None, change=change)
        if change == "pay_late":
            late = {**placed, "hold_seconds": LATE_HOLD_SECONDS}
            return replace(scenario, placed=late, think_ms=rng.randint(*LATE_MS))
        return scenario

    def _flash_lines(self, rng: random.Random) -> list[Event]:
        units = rng.choices(HOT_UNITS, HOT_WEIGHTS)[0]
        return [{"sku": self._goods.sku(rng.randrange(max(1, self._goods.hot))), "quantity": units}]

    def _basket(self, rng: random.Random) -> list[Event]:
        """As many lines as real orders have; with few SKUs possibly fewer."""
        wanted = min(_line_count(rng), len(self._sums))
        ranks: dict[int, None] = {}
        for _ in range(DRAWS_PER_LINE_MAX * wanted):
            ranks[self._first_cold + self._cold_rank(rng)] = None
            if len(ranks) == wanted:
                break
        return [{"sku": self._goods.sku(rank), "quantity": rng.choices(LINE_UNITS, LINE_WEIGHTS)[0]} for rank in ranks]

    def _cold_rank(self, rng: random.Random) -> int:
        return min(bisect_left(self._sums, rng.random() * self._sums[-1]), len(self._sums) - 1)


def _line_count(rng: random.Random) -> int:
    drawn, least = rng.random(), 1
    for most, share in BASKET_LINES:
        if drawn < share:
            return rng.randint(least, most)
        least = most + 1
    return BASKET_LINES[-1][0]
