"""The demo: a small shop opens, sells, holds a flash sale, takes orders for what it no longer has, receives a truck of
goods for them, and sells again.

In: the API's address. Out: requests of the contract until it is cancelled, and lines that describe them. The client
repeats requests while the worker or the API restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from stocktide.client import Order
from stocktide.client.http import JSON, NDJSON, ApiResponse
from stocktide.demo import catalog
from stocktide.loadtest.client.events import Event, utc_now
from stocktide.loadtest.client.http import StocktideClient
from stocktide.progress import Echo

# Concurrent shoppers; each has one order.
SHOPPERS_MAX = 400
REQUESTS_MAX = 48
# Orders per second.
STEADY_RATE = 12.0
FLASH_RATE = 90.0
STEADY_SECONDS = 25.0
# The sale ends when few units are left, or after this time on a slow machine.
FLASH_SECONDS_MAX = 120.0
FLASH_LEFT = 15
LOOK_SECONDS = 1.0
PAUSE_SECONDS = 12.0
# Units on the truck: of CONSOLE-X more than any resume threshold, of SNEAKER-RED enough for what is short.
PREORDER_SKU, SOLD_SKU = "CONSOLE-X", "SNEAKER-RED"
TRUCK_UNITS = {PREORDER_SKU: 600, SOLD_SKU: 60}
# Units that a marketplace has sold beyond the shelf, and units of a preorder and of an order of the campaign.
SHORT_UNITS = 20
ORDER_UNITS = 2
# The fill follows the receipt within milliseconds on a quiet machine.
FILL_SECONDS_MAX = 30.0
POLL_SECONDS = 0.1
# Unpaid orders expire while the demo runs.
HOLD_SECONDS = 45
# Sold everyday goods are received again in such portions, so that the shop never sells out.
RESTOCK_UNITS = 40
SEED = 20261111


async def run(api: str, echo: Echo, keys: Mapping[str, str]) -> None:
    """Open the shop and run it until cancelled, with the first keys if there are any. Raises ApiError after minutes
    without the API."""
    async with StocktideClient(api, REQUESTS_MAX, key=keys.get("operator")) as client:
        demo = DemoShop(client, random.Random(SEED), echo, f"demo-{datetime.now(UTC):%H%M%S}")
        async with asyncio.TaskGroup() as group:
            group.create_task(demo.course(f"Open {api}/ in a browser{_sign_in(keys)}", group))


def _sign_in(keys: Mapping[str, str]) -> str:
    """How to sign in to the board. The key may be printed: it reads a demo, and ends with it."""
    # On a line of its own, so that it can be copied without a full stop.
    return f", and sign in with this key:\n  {keys['viewer']}" if "viewer" in keys else "."


class DemoShop:
    """The demo's script and its shoppers."""

    def __init__(self, client: StocktideClient, chance: random.Random, echo: Echo, run: str) -> None:
        self._client = client
        self._chance = chance
        self._echo = echo
        self._run = run
        self._numbers = 0
        self._sold: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(SHOPPERS_MAX)
        # Orders that wait for the truck, with what each is.
        self._waiting: dict[str, str] = {}

    async def course(self, where: str, group: asyncio.TaskGroup) -> None:
        """Run one stage after the other; the last one does not end. `where` the board is."""
        await self.open()
        self._echo(
            f"\n{where}\n"
            f"  Each row is one of {len(catalog.GOODS) + len(catalog.FLASH_GOODS)} SKUs, each column a channel; "
            "a click on a SKU shows its numbers.\n"
            f"\nNow: everyday trade, about {STEADY_RATE:.0f} orders a second. Most are paid, some are "
            f"cancelled,\n  some are never paid and expire after {HOLD_SECONDS} s; paid orders are shipped, a few are"
            " returned."
        )
        group.create_task(self._everyday(group))
        await asyncio.sleep(STEADY_SECONDS)
        await self._flash_sale(group)
        await self.sell_beyond_the_shelf()
        await asyncio.sleep(PAUSE_SECONDS)
        await self.receive_truck()
        self._echo(
            f"\nNow: everyday trade again. {PREORDER_SKU} sells; the other two stay as they are."
            "\n  The demo runs until you press Ctrl-C."
        )

    async def open(self) -> None:
        """Set the policies, receive the opening stock, set the pool of the campaign aside."""
        self._echo("The shop opens: five channels get their policies, three warehouses their stock.")
        for channel, policy in catalog.POLICIES.items():
            await self._call("PUT", f"/v1/policies/{channel}", policy, 200, 201)
        for receipt in catalog.opening_receipts(catalog.opening_stock(self._chance), self._run, utc_now()):
            await self._call("POST", "/v1/movements", receipt, 202)
        await self._call("POST", "/v1/movements", catalog.pool(f"{self._run}-pool", utc_now()), 202)
        self._echo(
            f"SH1 sets {catalog.POOL_UNITS} {catalog.POOL_SKU} aside for the campaign {catalog.POOL_PURPOSE}: a pool,"
            " GET /v1/pools shows it."
        )

    async def _flash_sale(self, group: asyncio.TaskGroup) -> None:
        names = ", ".join(f"{sku} ({units})" for sku, units in catalog.FLASH_GOODS.items())
        self._echo(
            f"\nNow: a flash sale, {FLASH_RATE:.0f} orders a second, of {names}.\n"
            "  Watch their rows: douyin, then tmall stop selling from the shelf and take preorders at their\n"
            "  thresholds; douyin is sold out once its 40 preorders are gone; jd is suspended at 50 units;\n"
            "  pinduoduo keeps 20 back; shopify, the shop's own site, sells the last one. No unit is sold twice."
        )
        skus = tuple(catalog.FLASH_GOODS)
        ending = asyncio.create_task(self._wait_until_sold_out(skus))
        try:
            while not ending.done():
                await self._shopper(group, [{"sku": self._chance.choice(skus), "quantity": 1}])
                await asyncio.sleep(self._chance.expovariate(FLASH_RATE))
            ending.result()
        finally:
            ending.cancel()

    async def _wait_until_sold_out(self, skus: tuple[str, ...]) -> None:
        """Return once few units of each SKU are available, or after FLASH_SECONDS_MAX."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLASH_SECONDS_MAX):
                while True:
                    stocks = [await self._client.stock(sku) for sku in skus]
                    if all(stock is not None and stock.available <= FLASH_LEFT for stock in stocks):
                        return
                    await asyncio.sleep(LOOK_SECONDS)

    async def sell_beyond_the_shelf(self) -> None:
        """A preorder, an order that a marketplace has sold already, and one that draws from the pool."""
        self._echo(
            "\nNow: three orders for what the shelf no longer has: a preorder, one that a marketplace has sold\n"
            "  already, one from a pool."
        )
        preorder = await self._place("tmall", PREORDER_SKU, ORDER_UNITS)
        if preorder is not None:
            self._waiting[preorder.order_id] = f"the preorder of {ORDER_UNITS} {PREORDER_SKU}"
            self._echo(f"  tmall preorders {ORDER_UNITS} {PREORDER_SKU} (order {preorder.order_id}).")
        stock = await self._client.stock(SOLD_SKU)
        units = SHORT_UNITS + max(0, stock.available if stock is not None else 0)
        sold = await self._place("pinduoduo", SOLD_SKU, units, accept="sold")
        if sold is not None:
            short = sold.lines[0].short
            self._waiting[sold.order_id] = f"the sold order of {units} {SOLD_SKU}"
            self._echo(
                f"  pinduoduo has sold {units} {SOLD_SKU} already (order {sold.order_id}): {units - short} are there,"
                f" {short} are short."
            )
        drawn = await self._place("jd", catalog.POOL_SKU, ORDER_UNITS, purpose=catalog.POOL_PURPOSE)
        if drawn is not None:
            self._echo(
                f"  jd sells {ORDER_UNITS} {catalog.POOL_SKU} from the pool {catalog.POOL_PURPOSE} (order"
                f" {drawn.order_id}), whatever its shelf says."
            )

    async def receive_truck(self) -> None:
        """Receive units, which fill the waiting orders first."""
        lines = [{"sku": sku, "quantity": units} for sku, units in TRUCK_UNITS.items()]
        await self._call("POST", "/v1/movements", catalog.receipt(self._id(), "SH1", lines, utc_now()), 202)
        units = " and ".join(f"{units} of {sku}" for sku, units in TRUCK_UNITS.items())
        self._echo(
            f"\nNow: SH1 receives {units}. First those who wait get theirs, what is short\n"
            "  before the preorders, the oldest first; then the channels sell from the shelf again, each at its own\n"
            "  resume threshold."
        )
        for order_id, what in self._waiting.items():
            if await self._is_filled(order_id):
                self._echo(f"  Order {order_id}, {what}, has all of its units.")

    async def _is_filled(self, order_id: str) -> bool:
        """Wait until nothing of the order waits, for a bounded time; whether nothing does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FILL_SECONDS_MAX):
                while True:
                    order = await self._client.order(order_id)
                    if order is not None and not any(line.short or line.preordered for line in order.lines):
                        return True
                    await asyncio.sleep(POLL_SECONDS)
        return False

    async def _place(self, channel: str, sku: str, units: int, **more: Any) -> Order | None:
        """Place and pay an order; None where it is refused."""
        order_id = self._id()
        lines = [{"sku": sku, "quantity": units}]
        body = {"order_id": order_id, "channel": channel, "lines": lines, "paid": True, **more}
        return (await self._client.place_order(body)).order

    async def _everyday(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._shopper(group, catalog.basket(self._chance))
            await asyncio.sleep(self._chance.expovariate(STEADY_RATE))
            await self._restock()

    async def _restock(self) -> None:
        low = [sku for sku, units in self._sold.items() if units >= RESTOCK_UNITS and sku in catalog.GOODS]
        for sku in low:
            self._sold[sku] -= RESTOCK_UNITS
            lines = [{"sku": sku, "quantity": RESTOCK_UNITS}]
            event = catalog.receipt(self._id(), self._chance.choice(catalog.WAREHOUSES), lines, utc_now())
            await self._call("POST", "/v1/movements", event, 202)

    async def _shopper(self, group: asyncio.TaskGroup, lines: list[dict[str, Any]]) -> None:
        await self._slots.acquire()
        group.create_task(self._shop(lines)).add_done_callback(lambda _: self._slots.release())

    async def _shop(self, lines: list[dict[str, Any]]) -> None:
        """One shopper: places an order, then pays, cancels or forgets it."""
        order_id = self._id()
        channel = self._chance.choice(tuple(catalog.POLICIES))
        body = {"order_id": order_id, "channel": channel, "lines": lines, "hold_seconds": HOLD_SECONDS}
        placed = await self._call("POST", "/v1/orders", body, 200, 201, 409)
        if placed.status == 409:
            return
        self._sold.update({line["sku"]: line["quantity"] for line in lines})
        await asyncio.sleep(self._chance.uniform(0.3, 2.5))
        then = self._chance.choices(("pay", "cancel", "forget"), (80, 12, 8))[0]
        if then == "forget":
            return
        path = f"/v1/orders/{quote(order_id, safe='')}/{then}"
        answer = await self._call("POST", path, {}, 200, 409)
        if then == "pay" and answer.status == 200 and self._chance.random() < 0.6:
            await self._parcel(orjson.loads(answer.body))

    async def _parcel(self, order: dict[str, Any]) -> None:
        """Ship a paid order; one in ten is returned, one in four of those damaged."""
        held = [
            {"sku": line["sku"], "quantity": units, "warehouse": warehouse}
            for line in order["lines"]
            for warehouse, units in line["warehouses"].items()
        ]
        if not held:
            return
        await asyncio.sleep(self._chance.uniform(1, 6))
        await self._event("order.shipped", order["order_id"], held)
        if self._chance.random() < 0.1:
            await asyncio.sleep(self._chance.uniform(3, 10))
            condition = self._chance.choices(("sellable", "damaged"), (3, 1))[0]
            back = [{**line, "condition": condition} for line in held[:1]]
            await self._event("order.returned", order["order_id"], back)

    async def _event(self, type: str, order_id: str, lines: list[dict[str, Any]]) -> None:
        event: Event = {"type": type, "id": self._id(), "occurred_at": utc_now(), "order_id": order_id}
        await self._call("POST", "/v1/events", {**event, "lines": lines}, 202, content=NDJSON)

    async def _call(
        self, method: str, path: str, body: dict[str, Any], *expected: int, content: str = JSON
    ) -> ApiResponse:
        return await self._client.call(method, path, orjson.dumps(body), content, expected)

    def _id(self) -> str:
        self._numbers += 1
        return f"{self._run}-{self._numbers}"
