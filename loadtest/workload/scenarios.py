"""What each arrival does, as a function of the seed alone: the scenario of the n-th shopper.

In: a `Goods` (what is sold and how it is wanted), a seed, a number. Out: an `Scenario`: an order, and what becomes of
it if it is accepted. Names are the same for the same seed but for `mark`, which tells one run's orders and SKUs from
another's.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
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
# A flash sale's limit per customer: most take one.
HOT_UNITS = (1, 2)
HOT_WEIGHTS = (9, 1)

# What becomes of an order that was accepted, of 100; a guess at a shop's checkout, not a measurement.
THEN: tuple[Then, ...] = ("pay", "cancel", "abandon")
THEN_WEIGHTS = (78, 10, 12)
# Shares of all shoppers.
IMPATIENT_SHARE = 0.08
HANGS_UP_SHARE = 0.02
BOT_SHARE = 0.06
# Of the paid orders so many are shipped during the run, and of those so many come back.
SHIPPED_SHARE = 0.3
RETURNED_SHARE = 0.15
DAMAGED_SHARE = 0.25
# Whoever thinks before paying thinks so long.
THINK_MS = (200, 3_000)
# A client that hangs up does so so long after it asked; it asks again a while later.
HANG_UP_MS_MAX = 20
AGAIN_MS = (300, 1_500)
SHIP_MS = (500, 2_000)
# A basket of distinct SKUs is drawn anew where one comes twice, but not for ever.
DRAWS_PER_LINE_MAX = 4
# Names of bots: each comes again and again.
BOTS = 5
WAREHOUSES = ("SH1", "BJ1")


class Goods(Struct, frozen=True):
    """What is sold: the first `hot` of `skus` are hot. `hot_share`: of the shoppers, who want one hot SKU and nothing
    else. `zipf`: the exponent by which the demand for the others falls with their rank; 0 wants all alike. `names`:
    what the SKUs are called in a file, the most wanted first; made up where there are none.
    """

    mark: str
    skus: int
    hot: int
    hot_share: float
    zipf: float
    channels: tuple[str, ...]
    hold_seconds: int
    names: tuple[str, ...] = ()

    def sku(self, rank: int) -> str:
        """The name of a SKU by its rank, from 0."""
        if self.names:
            return f"{self.mark}-{self.names[rank]}"
        return f"{self.mark}-{'HOT' if rank < self.hot else 'SKU'}-{rank:04}"

    @property
    def hot_skus(self) -> tuple[str, ...]:
        """The hot ones."""
        return tuple(self.sku(rank) for rank in range(self.hot))

    @property
    def all_skus(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.sku(rank) for rank in range(self.skus))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One shopper: the order as it is sent, and what follows.

    `again`: sends the same order once more at once. `disconnect_after_ms`: leaves so long after asking, and asks again
    `retry_after_ms` after that. `think_ms` lies between the answer and `then`. Shipping and returning follow a payment.
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

    @property
    def order_id(self) -> str:
        """Its order."""
        return str(self.placed["order_id"])


class Workload:
    """The errands of a run."""

    def __init__(self, goods: Goods, seed: int) -> None:
        self._goods = goods
        self._seed = seed
        ranks = range(1, max(1, goods.skus - goods.hot) + 1)
        self._sums = list(accumulate(rank**-goods.zipf for rank in ranks))
        self._first_cold = goods.hot if goods.skus > goods.hot else 0

    def scenario(self, number: int) -> Scenario:
        """The n-th shopper's scenario: a flash sale's, a bot's or an ordinary basket."""
        chance = random.Random(f"{self._seed}-scenario-{number}")
        bot = chance.random() < BOT_SHARE
        flash = bot or chance.random() < self._goods.hot_share
        return self._errand(number, chance, self._flash_lines(chance) if flash else self._basket(chance), bot)

    def scenario_of(self, number: int, lines: list[Event]) -> Scenario:
        """The same for a basket that a file tells."""
        return self._errand(number, random.Random(f"{self._seed}-scenario-{number}"), lines, False)

    def _errand(self, number: int, chance: random.Random, lines: list[Event], bot: bool) -> Scenario:
        goods = self._goods
        who = f"bot{chance.randrange(BOTS)}-{number}" if bot else f"{number}"
        placed: Event = {
            "order_id": f"{goods.mark}-{who}",
            "id": f"{goods.mark}-{who}-placed",
            "channel": chance.choice(goods.channels),
            "lines": lines,
            "hold_seconds": goods.hold_seconds,
        }
        if bot:
            # It holds what it gets, to sell it on, and pays for none of it.
            return Scenario(placed, "abandon", 0, bot=True)
        then = chance.choices(THEN, THEN_WEIGHTS)[0]
        hangs_up = chance.random() < HANGS_UP_SHARE
        shipped = then == "pay" and chance.random() < SHIPPED_SHARE
        returned = shipped and chance.random() < RETURNED_SHARE
        return Scenario(
            placed,
            then,
            chance.randint(*THINK_MS),
            again=not hangs_up and chance.random() < IMPATIENT_SHARE,
            disconnect_after_ms=chance.randint(1, HANG_UP_MS_MAX) if hangs_up else None,
            retry_after_ms=chance.randint(*AGAIN_MS),
            ship_ms=chance.randint(*SHIP_MS) if shipped else None,
            return_ms=chance.randint(*SHIP_MS) if returned else None,
            damaged=chance.random() < DAMAGED_SHARE,
        )

    def _flash_lines(self, chance: random.Random) -> list[Event]:
        units = chance.choices(HOT_UNITS, HOT_WEIGHTS)[0]
        return [{"sku": self._goods.sku(chance.randrange(max(1, self._goods.hot))), "quantity": units}]

    def _basket(self, chance: random.Random) -> list[Event]:
        """As many lines as real orders have; where there are few SKUs a draw may end with fewer."""
        wanted = min(_line_count(chance), len(self._sums))
        ranks: dict[int, None] = {}
        for _ in range(DRAWS_PER_LINE_MAX * wanted):
            ranks[self._first_cold + self._cold_rank(chance)] = None
            if len(ranks) == wanted:
                break
        return [
            {"sku": self._goods.sku(rank), "quantity": chance.choices(LINE_UNITS, LINE_WEIGHTS)[0]} for rank in ranks
        ]

    def _cold_rank(self, chance: random.Random) -> int:
        return min(bisect_left(self._sums, chance.random() * self._sums[-1]), len(self._sums) - 1)


def _line_count(chance: random.Random) -> int:
    drawn, least = chance.random(), 1
    for most, share in BASKET_LINES:
        if drawn < share:
            return chance.randint(least, most)
        least = most + 1
    return BASKET_LINES[-1][0]
