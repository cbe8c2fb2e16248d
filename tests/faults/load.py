"""The load: the stories of orders, movements and policies, told side by side at a steady rate.

In: a seed, a rate, the doors; what the public topics tell meanwhile (`saw`). Out: everything was asked, and asked again
where no answer came. How much is under way at once is bounded: while the shop is shut the stories wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from stocktide.loadtest.client.contract import OrderView, StockView
from stocktide.loadtest.oracle.history import HistoryRecord, MovementPublished, OrderPublished, StockPublished
from stocktide.retry import poll_until
from tests.faults.edge_scenarios import (
    EdgeSizes,
    early_event_scenario,
    edge_opening_receipts,
    large_fields_scenario,
    skewed_clock_scenario,
    wide_order_scenario,
)
from tests.faults.recording_clients import RecordingClients
from tests.faults.scenarios import Event, ScenarioStep, movement_scenario, noise, opening, order_scenario, policy_change

# Stories under way: some ten seconds' worth. Beyond it the load rests.
STORIES_MAX = 1_500
# A step that was not answered is asked again, as a client does that must know; then its story goes on without.
TRIES_MAX = 8
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.2, 2.0
# Between placing and shipping the row of the order is waited for so long.
ROW_SECONDS_MAX = 4.0
OPENING_SECONDS_MAX = 60.0
# The end of the load: stories that have begun get this long.
DRAIN_SECONDS_MAX = 90.0
# Orders whose rows are kept for a shipment.
AWAITED_MAX = 20_000


@dataclass(frozen=True, slots=True)
class ScenarioRates:
    """How many stories begin a second. An order's has 2.5 steps on average, and one in eight is sent twice."""

    orders: float = 140.0
    movements: float = 12.0
    policies: float = 0.4
    noises: float = 0.5
    wide: float = 0.2
    large: float = 0.5
    early: float = 1.0
    skewed: float = 0.5
    breadth: EdgeSizes = field(default_factory=EdgeSizes)


class ScenarioRunner:
    """`open_shop`, then `run` until cancelled by `stop`."""

    def __init__(self, seed: int, rates: ScenarioRates, doors: RecordingClients) -> None:
        self._seed = seed
        self._rates = rates
        self._doors = doors
        self._running = True
        self._slots = asyncio.Semaphore(STORIES_MAX)
        self._stories: set[asyncio.Task[None]] = set()
        self._orders: dict[str, OrderView | None] = {}
        self._stock: dict[str, StockView] = {}
        self._rng = random.Random(f"{seed}-manners")
        self.opened: set[str] = set()
        self.failures: list[BaseException] = []
        # How many stories of orders were begun: `o1` to `o<orders>` may exist.
        self.orders = 0
        # The ids of orders of the other stories.
        self.others: list[str] = []

    @property
    def under_way(self) -> int:
        """Stories that have begun and not ended."""
        return len(self._stories)

    def saw(self, record: HistoryRecord) -> None:
        """A row of a public topic: what a warehouse knows of orders and shelves."""
        if isinstance(record, OrderPublished):
            if record.order.order_id in self._orders:
                self._orders[record.order.order_id] = record.order
        elif isinstance(record, StockPublished):
            self._stock[record.stock.sku] = record.stock
        elif isinstance(record, MovementPublished) and record.movement.id.endswith("-opening"):
            self.opened.add(record.movement.id)

    async def open_shop(self, check: Callable[[], None]) -> None:
        """Fill the shelves, and wait until the topics tell of it; `check` raises where they cannot."""
        steps = [*opening(), *edge_opening_receipts(self._rates.breadth)]
        for step in steps:
            await self._take(step)

        async def filled() -> bool:
            check()
            return len(self.opened) == len(steps)

        assert await poll_until(filled, OPENING_SECONDS_MAX), self.opened

    async def run(self) -> None:
        """Tell stories until `stop`."""
        rates = self._rates
        async with asyncio.TaskGroup() as paces:
            paces.create_task(self._pace(rates.orders, self._order))
            paces.create_task(self._pace(rates.movements, lambda number: movement_scenario(self._seed, number)))
            paces.create_task(self._pace(rates.policies, lambda number: [policy_change(self._seed, number)]))
            paces.create_task(self._pace(rates.noises, lambda number: [noise(self._seed, number)]))
            for rate, story in self._broad():
                paces.create_task(self._pace(rate, story))
        if self._stories:
            await asyncio.wait(self._stories, timeout=DRAIN_SECONDS_MAX)
        for story in self._stories:
            story.cancel()

    def _broad(self) -> Iterator[tuple[float, Callable[[int], list[ScenarioStep]]]]:
        """The stories of what is large, early or badly dated, each with its rate."""
        rates, seed = self._rates, self._seed

        def noted(steps: list[ScenarioStep]) -> list[ScenarioStep]:
            self.others += {step.event["order_id"] for step in steps if "order_id" in step.event}
            return steps

        yield rates.wide, lambda number: noted(wide_order_scenario(seed, number, rates.breadth))
        yield rates.large, lambda number: noted(large_fields_scenario(seed, number))
        yield rates.early, lambda number: noted(early_event_scenario(seed, number, rates.breadth))
        yield rates.skewed, lambda number: skewed_clock_scenario(seed, number)

    def _order(self, number: int) -> list[ScenarioStep]:
        self.orders = number
        return order_scenario(self._seed, number)

    def stop(self) -> None:
        """Begin no more stories; `run` returns when those under way are told."""
        self._running = False

    async def _pace(self, rate: float, story: Callable[[int], list[ScenarioStep]]) -> None:
        """Begin stories at a steady rate; a pause of the shop is not made up for."""
        if rate <= 0:
            return
        loop = asyncio.get_running_loop()
        number, due = 0, loop.time()
        while self._running:
            await self._slots.acquire()
            number += 1
            self._begin(self._tell(story(number)))
            due = max(due + 1 / rate, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._stories.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._stories.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    async def _tell(self, steps: list[ScenarioStep]) -> None:
        if any(step.units for step in steps) and len(self._orders) < AWAITED_MAX:
            self._orders[steps[0].event["order_id"]] = None
        try:
            for step in steps:
                await asyncio.sleep(step.pause_ms / 1000)
                await self._take(step)
        finally:
            if order_id := steps[0].event.get("order_id"):
                self._orders.pop(order_id, None)

    async def _take(self, step: ScenarioStep) -> None:
        """Ask, until it is answered; then ask the very same again where the story says so."""
        event = await self._filled(step)
        if event is None:
            return
        pause = RETRY_SECONDS_MIN
        for attempt in range(TRIES_MAX):
            hangs_up = step.hangs_up and not attempt
            status = await self._doors.ask(step.door, step.kind, event, step.raw, hangs_up=hangs_up)
            if status is not None and status < 500:
                break
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1))
            pause = min(2 * pause, RETRY_SECONDS_MAX)
        for door in step.again:
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            await self._doors.ask(door, step.kind, event, step.raw)

    async def _filled(self, step: ScenarioStep) -> Event | None:
        """The event as it is sent: its time, and what only the warehouse knows."""
        if step.raw is not None or step.kind.startswith("policy."):
            return step.event
        event = {**step.event, "occurred_at": _time(step.late_ms)}
        if step.kind == "stock.counted":
            event["lines"] = [self._counted(line, event["warehouse"]) for line in event["lines"]]
        elif step.units:
            lines = await self._units(step)
            if not lines:
                return None
            event["lines"] = lines
            event.pop("condition", None)
        return event

    def _counted(self, line: Event, warehouse: str) -> Event:
        stock = self._stock.get(line["sku"])
        shelf = stock.warehouses.get(warehouse) if stock else None
        return {"sku": line["sku"], "quantity": max(0, (shelf.on_hand if shelf else 0) + line["quantity"])}

    async def _units(self, step: ScenarioStep) -> list[Event]:
        """The lines of a shipment or return, from the newest row of the order; none where there is nothing to move."""
        order_id = step.event["order_id"]
        loop = asyncio.get_running_loop()
        poll_until = loop.time() + ROW_SECONDS_MAX
        while (order := self._orders.get(order_id)) is None or order.state == "reserved":
            if loop.time() > poll_until or order_id not in self._orders:
                break
            await asyncio.sleep(0.05)
        if order is None:
            return []
        if step.kind == "order.returned":
            condition = step.event["condition"]
            return [
                {"sku": line.sku, "quantity": 1, "warehouse": "SH1", "condition": condition}
                for line in order.lines
                if line.shipped > line.returned
            ]
        lines = [
            {"sku": line.sku, "quantity": units, "warehouse": warehouse}
            for line in order.lines
            for warehouse, units in line.warehouses.items()
            if units and line.reserved
        ]
        if step.units == "some" and lines:
            first = lines[0]
            return [{**first, "quantity": (first["quantity"] + 1) // 2}]
        return lines


def _time(late_ms: int) -> str:
    at = datetime.now(UTC) - timedelta(milliseconds=late_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
