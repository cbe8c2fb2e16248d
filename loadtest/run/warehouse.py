"""The shop of a load test: it opens with policies and stock, and meanwhile goods come in, break and are counted.

In: a `Goods`, the units of each hot SKU, and rows of `stock` as they come. Out: policies and movements, asked through
`RecordingHttpClient`, each of them written down.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.client.events import LINES_MAX, Event
from stocktide.loadtest.client.http import ApiError
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.load_generator import now
from stocktide.loadtest.run.recording import RecordingHttpClient
from stocktide.loadtest.workload.scenarios import WAREHOUSES, Goods

# Of a SKU that is not hot there is more than anybody buys in a run: it may only be refused by mistake.
COLD_UNITS = 200_000
# Receipts are read back from the topics in milliseconds each; a slow machine takes this long for thousands of SKUs.
OPENING_SECONDS_MAX = 60.0
# What happens in the warehouses beside a sale, per second.
MOVEMENTS_PER_SECOND = 2.0
MOVEMENTS = ("received", "damages", "counted")
MOVEMENT_WEIGHTS = (70, 15, 15)
TRIES_MAX = 5
RETRY_SECONDS = 0.5


def hot_policies(channels: tuple[str, ...], units: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """How each channel sells a hot SKU: every way in which a shelf may end is in the sale."""
    tenth = max(1, units // 10)
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"safety_threshold": tenth, "below_threshold": "preorder", "preorder_cap": tenth},
        {"safety_threshold": tenth // 2, "below_threshold": "suspend"},
        {"share": 0.5, "buffer": tenth // 5},
        {"max_listed": tenth, "primary": True},
    )
    for index, channel in enumerate(channels):
        if way := ways[index % len(ways)]:
            yield channel, way


class WarehouseSimulator:
    """The shop's warehouses. `movements` are those that were taken: (warehouse, id)."""

    def __init__(self, goods: Goods, units: int, seed: int, http: RecordingHttpClient) -> None:
        self._goods = goods
        self._units = units
        self._http = http
        self._chance = random.Random(f"{seed}-floor")
        self._stock: dict[str, StockView] = {}
        self._moved = asyncio.Event()
        self._number = 0
        self.movements: list[tuple[str, str]] = []

    def saw(self, stock: StockView) -> None:
        """A row of `stock`."""
        known = self._stock.get(stock.sku)
        if known is None or stock.version > known.version:
            self._stock[stock.sku] = stock
            self._moved.set()

    def left(self, sku: str) -> int:
        """Units available, as far as is known."""
        stock = self._stock.get(sku)
        return 0 if stock is None else stock.available

    async def open(self) -> None:
        """Set the policies, fill the shelves, wait until every SKU is published. Raises ApiError."""
        goods = self._goods
        for sku in goods.hot_skus:
            for channel, policy in hot_policies(goods.channels, self._units):
                await self._ask("policy.put", {"channel": channel, "sku": sku, "policy": policy})
        expected = {sku: self._units if rank < goods.hot else COLD_UNITS for rank, sku in enumerate(goods.all_skus)}
        for index, warehouse in enumerate(WAREHOUSES):
            share = {sku: (units + index) // len(WAREHOUSES) for sku, units in expected.items()}
            lines = [{"sku": sku, "quantity": units} for sku, units in share.items() if units]
            for start in range(0, len(lines), LINES_MAX):
                await self._open_with(warehouse, lines[start : start + LINES_MAX])
        try:
            async with asyncio.timeout(OPENING_SECONDS_MAX):
                while not all(self._on_hand(sku) == units for sku, units in expected.items()):
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise ApiError(f"the opening stock was not published within {OPENING_SECONDS_MAX:.0f} s") from None

    async def trade(self) -> None:
        """Movements of what is not hot, until cancelled."""
        cold = self._goods.all_skus[self._goods.hot :]
        while cold:
            await asyncio.sleep(self._chance.expovariate(MOVEMENTS_PER_SECOND))
            sku, warehouse = self._chance.choice(cold), self._chance.choice(WAREHOUSES)
            kind = self._chance.choices(MOVEMENTS, MOVEMENT_WEIGHTS)[0]
            if kind == "received":
                lines = [{"sku": sku, "quantity": self._chance.randint(1, 500)}]
                await self._move("stock.received", warehouse, lines=lines)
            elif kind == "damages":
                lines = [{"sku": sku, "quantity": -self._chance.randint(1, 5)}]
                await self._move("stock.adjusted", warehouse, reason="damages", lines=lines)
            elif (stock := self._stock.get(sku)) is not None and warehouse in stock.warehouses:
                # Whoever counts finds what the books say, or one less.
                found = max(0, stock.warehouses[warehouse].on_hand - self._chance.choice((0, 0, 0, 1)))
                await self._move("stock.counted", warehouse, lines=[{"sku": sku, "quantity": found}])

    def _on_hand(self, sku: str) -> int:
        stock = self._stock.get(sku)
        return 0 if stock is None else stock.on_hand

    async def _open_with(self, warehouse: str, lines: list[Event]) -> None:
        """The opening stock must come, or there is nothing to sell. Raises ApiError."""
        await self._ask("stock.received", self._movement(warehouse, lines=lines))

    async def _move(self, kind: str, warehouse: str, **more: Any) -> None:
        """What happens beside the sale is asked once: an API that is away then is what the run is about."""
        await self._http.ask(kind, self._movement(warehouse, **more))

    def _movement(self, warehouse: str, **more: Any) -> Event:
        self._number += 1
        id_ = f"{self._goods.mark}-m{self._number}"
        self.movements.append((warehouse, id_))
        return {"id": id_, "occurred_at": now(), "warehouse": warehouse, **more}

    async def _ask(self, kind: str, event: Event) -> None:
        """Ask until it is taken. Raises ApiError."""
        said: Response | str = ""
        for _ in range(TRIES_MAX):
            said = await self._http.ask(kind, event)
            if isinstance(said, Response) and said.status < 300:
                return
            await asyncio.sleep(RETRY_SECONDS)
        told = f"{said.status} {said.code}" if isinstance(said, Response) else said
        raise ApiError(f"{kind} was not taken: {told}")
