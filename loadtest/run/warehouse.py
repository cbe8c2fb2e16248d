"""The warehouses of a load test: opening policies and stock, then receipts, damages and counts during the sale.

In: a `Goods`, the units of each hot SKU, rows of `stock`. Out: recorded policies and movements. Where orders have
changes, the hot SKUs have a pool of the sale, and a receipt that is announced, slips, and comes late.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from stocktide.client import ApiError
from stocktide.loadtest.client.contract import StockView
from stocktide.loadtest.client.events import LINES_MAX, Event, utc_in, utc_now
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.recording import RecordingHttpClient
from stocktide.loadtest.workload.scenarios import POOL, WAREHOUSES, Goods

# More than a run can sell: a refusal of a SKU that is not hot is an error.
COLD_UNITS = 200_000
# A slow machine takes this long to publish the receipts of thousands of SKUs.
OPENING_SECONDS_MAX = 60.0
MOVEMENTS_PER_SECOND = 2.0
MOVEMENTS = ("received", "damages", "counted")
MOVEMENT_WEIGHTS = (70, 15, 15)
TRIES_MAX = 5
RETRY_SECONDS = 0.5
# Of the units of a hot SKU: in the pool of the sale; announced; still announced when the receipt slips; received.
POOL_SHARE, ANNOUNCED_SHARE, SLIPPED_SHARE, RECEIVED_SHARE = 0.1, 0.4, 0.3, 0.25
# Shares of the time of the load: the announcement slips, the pool ends, the receipt comes after its first time.
SLIPS_AT, POOL_ENDS_AT, RECEIVED_AT = 0.5, 0.7, 0.8


def hot_policies(
    channels: tuple[str, ...], units: int, with_changes: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The policy of a hot SKU by channel: together they cover every mode and rule. `with_changes`: a second channel
    takes preorders, as far as units are announced."""
    tenth = max(1, units // 10)
    backed = {"safety_threshold": tenth // 2, "below_threshold": "preorder", "preorder_cap": tenth}
    policies: tuple[dict[str, Any], ...] = (
        {},
        {"safety_threshold": tenth, "below_threshold": "preorder", "preorder_cap": tenth},
        {"safety_threshold": tenth // 2, "below_threshold": "suspend"},
        {"share": 0.5, "buffer": tenth // 5, **({**backed, "preorder_backed": True} if with_changes else {})},
        {"max_listed": tenth, "primary": True},
    )
    for index, channel in enumerate(channels):
        if policy := policies[index % len(policies)]:
            yield channel, policy


class WarehouseSimulator:
    """The warehouses of a run of `seconds`. `movements`: (warehouse, id) of each that was sent; `totals`: how many of
    them belong to preorders and the pool."""

    def __init__(self, goods: Goods, units: int, seconds: float, seed: int, http: RecordingHttpClient) -> None:
        self.movements: list[tuple[str, str]] = []
        self.totals: Counter[str] = Counter()
        self._goods = goods
        self._units = units
        self._seconds = seconds
        self._http = http
        self._random = random.Random(f"{seed}-floor")
        self._announcements: list[str] = []
        self._stock: dict[str, StockView] = {}
        self._stock_changed = asyncio.Event()

    def on_stock(self, stock: StockView) -> None:
        """Handle a row of `stock`."""
        known = self._stock.get(stock.sku)
        if known is None or stock.version > known.version:
            self._stock[stock.sku] = stock
            self._stock_changed.set()

    def available(self, sku: str) -> int:
        """The published available units of a SKU."""
        stock = self._stock.get(sku)
        return 0 if stock is None else stock.available

    async def open(self) -> None:
        """Set the policies, receive the opening stock, wait until it is published. Raises ApiError."""
        goods = self._goods
        for sku in goods.hot_skus:
            for channel, policy in self.policies():
                await self._send("policy.put", {"channel": channel, "sku": sku, "policy": policy})
        expected = {sku: self._units if rank < goods.hot else COLD_UNITS for rank, sku in enumerate(goods.all_skus)}
        for index, warehouse in enumerate(WAREHOUSES):
            share = {sku: (units + index) // len(WAREHOUSES) for sku, units in expected.items()}
            lines = [{"sku": sku, "quantity": units} for sku, units in share.items() if units]
            for start in range(0, len(lines), LINES_MAX):
                event = self._movement(warehouse, lines=lines[start : start + LINES_MAX])
                await self._send("stock.received", event)
        try:
            async with asyncio.timeout(OPENING_SECONDS_MAX):
                while not all(self._on_hand(sku) == units for sku, units in expected.items()):
                    self._stock_changed.clear()
                    await self._stock_changed.wait()
        except TimeoutError:
            raise ApiError(f"the opening stock was not published within {OPENING_SECONDS_MAX:.0f} s") from None
        if goods.changes:
            await self._open_changes()

    def policies(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The policies of each hot SKU."""
        return hot_policies(self._goods.channels, self._units, bool(self._goods.changes))

    async def trade(self) -> None:
        """Move units until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._trade_cold())
            if self._goods.changes:
                group.create_task(self._deliver_late())

    async def _open_changes(self) -> None:
        """Set units of the hot SKUs aside for the sale, and announce a receipt of more."""
        warehouse = WAREHOUSES[0]
        for lines in self._hot_lines(POOL_SHARE):
            until = utc_in(POOL_ENDS_AT * self._seconds)
            event = self._movement(warehouse, purpose=POOL, until=until, lines=lines)
            await self._send("stock.reserved", event)
            self.totals["changes.pools"] += len(lines)
        for lines in self._hot_lines(ANNOUNCED_SHARE):
            event = self._movement(warehouse, eta=utc_in(SLIPS_AT * self._seconds), lines=lines)
            await self._send("stock.expected", event)
            self._announcements.append(event["id"])
            self.totals["changes.announcements"] += 1

    async def _deliver_late(self) -> None:
        """The announced receipts slip: later, and fewer units. They come later than that, with still fewer."""
        warehouse = WAREHOUSES[0]
        await asyncio.sleep(SLIPS_AT * self._seconds)
        eta = utc_in((RECEIVED_AT - SLIPS_AT) * self._seconds)
        for id_, lines in zip(self._announcements, self._hot_lines(SLIPPED_SHARE), strict=True):
            event = {"id": id_, "occurred_at": utc_now(), "warehouse": warehouse, "eta": eta, "lines": lines}
            await self._http.ask("stock.expected", event)
            self.totals["changes.announcements_that_slipped"] += 1
        await asyncio.sleep((RECEIVED_AT - SLIPS_AT) * self._seconds)
        for id_, lines in zip(self._announcements, self._hot_lines(RECEIVED_SHARE), strict=True):
            await self._move("stock.received", warehouse, expected_id=id_, lines=lines)
            self.totals["changes.late_receipts"] += 1

    def _hot_lines(self, share: float) -> Iterator[list[Event]]:
        """A share of the units of each hot SKU, in movements of their largest size."""
        lines = [{"sku": sku, "quantity": max(1, round(share * self._units))} for sku in self._goods.hot_skus]
        for start in range(0, len(lines), LINES_MAX):
            yield lines[start : start + LINES_MAX]

    async def _trade_cold(self) -> None:
        cold = self._goods.all_skus[self._goods.hot :]
        while cold:
            await asyncio.sleep(self._random.expovariate(MOVEMENTS_PER_SECOND))
            sku, warehouse = self._random.choice(cold), self._random.choice(WAREHOUSES)
            kind = self._random.choices(MOVEMENTS, MOVEMENT_WEIGHTS)[0]
            if kind == "received":
                lines = [{"sku": sku, "quantity": self._random.randint(1, 500)}]
                await self._move("stock.received", warehouse, lines=lines)
            elif kind == "damages":
                lines = [{"sku": sku, "quantity": -self._random.randint(1, 5)}]
                await self._move("stock.adjusted", warehouse, reason="damages", lines=lines)
            elif (stock := self._stock.get(sku)) is not None and warehouse in stock.warehouses:
                counted = max(0, stock.warehouses[warehouse].on_hand - self._random.choice((0, 0, 0, 1)))
                await self._move("stock.counted", warehouse, lines=[{"sku": sku, "quantity": counted}])

    def _on_hand(self, sku: str) -> int:
        stock = self._stock.get(sku)
        return 0 if stock is None else stock.on_hand

    async def _move(self, kind: str, warehouse: str, **more: Any) -> None:
        """Send a movement once: an API that is away at that time is part of the test."""
        await self._http.ask(kind, self._movement(warehouse, **more))

    def _movement(self, warehouse: str, **more: Any) -> Event:
        id_ = f"{self._goods.mark}-m{len(self.movements) + 1}"
        self.movements.append((warehouse, id_))
        return {"id": id_, "occurred_at": utc_now(), "warehouse": warehouse, **more}

    async def _send(self, kind: str, event: Event) -> None:
        """Send until accepted: without its opening the run is worthless. Raises ApiError."""
        response: Response | str = ""
        for _ in range(TRIES_MAX):
            response = await self._http.ask(kind, event)
            if isinstance(response, Response) and response.status < 300:
                return
            await asyncio.sleep(RETRY_SECONDS)
        reason = f"{response.status} {response.code}" if isinstance(response, Response) else response
        raise ApiError(f"{kind} was not taken: {reason}")
