"""The load: scenarios of orders, movements and policies, run concurrently at a steady rate.

In: a seed, rates, the clients, and the rows of the public topics (`on_record`). Out: everything was sent, and sent
again if there was no answer. The number of concurrent scenarios is limited: while the system is down they wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from stocktide.loadtest.client.contract import OrderView, StockView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.oracle.history import HistoryRecord, MovementPublished, OrderPublished, StockPublished
from stocktide.retry import poll_until
from stocktide.streams.backoff import doubling_pauses
from tests.faults.edge_scenarios import (
    EdgeSizes,
    early_event_scenario,
    edge_opening_receipts,
    large_fields_scenario,
    skewed_clock_scenario,
    wide_order_scenario,
)
from tests.faults.queue_scenarios import queue_opening_receipts, queue_scenario
from tests.faults.recording_clients import RecordingClients
from tests.faults.scenarios import (
    ScenarioStep,
    malformed_input,
    movement_scenario,
    opening_receipts,
    order_scenario,
    policy_change,
)

# Concurrent scenarios: those of about ten seconds. Beyond it the load pauses.
SCENARIOS_MAX = 1_500
# Attempts for a step without an answer; then its scenario continues.
TRIES_MAX = 8
RETRY_SECONDS_MIN, RETRY_SECONDS_MAX = 0.2, 2.0
# The wait for the row of an order before its shipment.
ROW_SECONDS_MAX = 4.0
OPENING_SECONDS_MAX = 60.0
# The time that scenarios in progress get at the end of the load.
DRAIN_SECONDS_MAX = 90.0
# Orders whose rows are kept for a shipment.
AWAITED_MAX = 20_000


@dataclass(frozen=True, slots=True)
class ScenarioRates:
    """Scenarios begun per second. That of an order has 2.5 steps on average, and one in eight is sent twice."""

    orders: float = 140.0
    movements: float = 12.0
    policies: float = 0.4
    noises: float = 0.5
    wide: float = 0.2
    large: float = 0.5
    early: float = 1.0
    skewed: float = 0.5
    queued: float = 4.0
    breadth: EdgeSizes = field(default_factory=EdgeSizes)


class ScenarioRunner:
    """Runs the load: `receive_opening_stock`, then `run` until `stop`."""

    def __init__(self, seed: int, rates: ScenarioRates, clients: RecordingClients) -> None:
        self._seed = seed
        self._rates = rates
        self._clients = clients
        self._running = True
        self._slots = asyncio.Semaphore(SCENARIOS_MAX)
        self._scenarios: set[asyncio.Task[None]] = set()
        self._orders: dict[str, OrderView | None] = {}
        self._stock: dict[str, StockView] = {}
        self._rng = random.Random(f"{seed}-manners")
        self.receipts_seen: set[str] = set()
        self.failures: list[BaseException] = []
        # The number of order scenarios begun: `o1` to `o<orders>` may exist.
        self.orders = 0
        # The ids of orders of the other scenarios.
        self.other_orders: list[str] = []

    @property
    def in_progress(self) -> int:
        return len(self._scenarios)

    def on_record(self, record: HistoryRecord) -> None:
        """Record a row of a public topic, which later steps need."""
        if isinstance(record, OrderPublished):
            if record.order.order_id in self._orders:
                self._orders[record.order.order_id] = record.order
        elif isinstance(record, StockPublished):
            self._stock[record.stock.sku] = record.stock
        elif isinstance(record, MovementPublished) and record.movement.id.endswith("-opening"):
            self.receipts_seen.add(record.movement.id)

    async def receive_opening_stock(self, check: Callable[[], None]) -> None:
        """Send the opening receipts, and wait for their rows; `check` raises if they cannot arrive."""
        steps = [*opening_receipts(), *edge_opening_receipts(self._rates.breadth), *queue_opening_receipts()]
        for step in steps:
            await self._send(step)

        async def is_received() -> bool:
            check()
            return len(self.receipts_seen) == len(steps)

        assert await poll_until(is_received, OPENING_SECONDS_MAX), self.receipts_seen

    async def run(self) -> None:
        async with asyncio.TaskGroup() as generators:
            for rate, scenario in self._scenarios_by_rate():
                generators.create_task(self._generate(rate, scenario))
        if self._scenarios:
            await asyncio.wait(self._scenarios, timeout=DRAIN_SECONDS_MAX)
        for task in self._scenarios:
            task.cancel()

    def _scenarios_by_rate(self) -> Iterator[tuple[float, Callable[[int], list[ScenarioStep]]]]:
        rates, seed = self._rates, self._seed

        def order(number: int) -> list[ScenarioStep]:
            self.orders = number
            return order_scenario(seed, number)

        def with_order_ids(steps: list[ScenarioStep]) -> list[ScenarioStep]:
            self.other_orders += {step.event["order_id"] for step in steps if "order_id" in step.event}
            return steps

        yield rates.orders, order
        yield rates.movements, partial(movement_scenario, seed)
        yield rates.policies, lambda number: [policy_change(seed, number)]
        yield rates.noises, lambda number: [malformed_input(seed, number)]
        yield rates.wide, lambda number: with_order_ids(wide_order_scenario(seed, number, rates.breadth))
        yield rates.large, lambda number: with_order_ids(large_fields_scenario(seed, number))
        yield rates.early, lambda number: with_order_ids(early_event_scenario(seed, number, rates.breadth))
        yield rates.skewed, partial(skewed_clock_scenario, seed)
        yield rates.queued, lambda number: with_order_ids(queue_scenario(seed, number))

    def stop(self) -> None:
        """Begin no more scenarios; `run` returns when those in progress have ended."""
        self._running = False

    async def _generate(self, rate: float, scenario: Callable[[int], list[ScenarioStep]]) -> None:
        """Begin scenarios at a steady rate; a pause of the system is not made up for."""
        if rate <= 0:
            return
        loop = asyncio.get_running_loop()
        number, due = 0, loop.time()
        while self._running:
            await self._slots.acquire()
            number += 1
            self._begin(self._run_scenario(scenario(number)))
            due = max(due + 1 / rate, loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._scenarios.add(task)
        task.add_done_callback(self._on_scenario_end)

    def _on_scenario_end(self, task: asyncio.Task[None]) -> None:
        self._scenarios.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    async def _run_scenario(self, steps: list[ScenarioStep]) -> None:
        if any(step.units for step in steps) and len(self._orders) < AWAITED_MAX:
            self._orders[steps[0].event["order_id"]] = None
        try:
            for step in steps:
                await asyncio.sleep(step.pause_ms / 1000)
                await self._send(step)
        finally:
            if order_id := steps[0].event.get("order_id"):
                self._orders.pop(order_id, None)

    async def _send(self, step: ScenarioStep) -> None:
        """Send the event until it is answered, then its repeats."""
        event = await self._fill_in(step)
        if event is None:
            return
        pauses = doubling_pauses(RETRY_SECONDS_MIN, RETRY_SECONDS_MAX)
        for attempt in range(TRIES_MAX):
            disconnects = step.disconnects and not attempt
            status = await self._clients.ask(step.door, step.kind, event, step.raw, hangs_up=disconnects)
            if status is not None and status < 500:
                break
            await asyncio.sleep(next(pauses) * self._rng.uniform(0.5, 1))
        for door in step.repeats:
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            await self._clients.ask(door, step.kind, event, step.raw)

    async def _fill_in(self, step: ScenarioStep) -> Event | None:
        """The event as it is sent: with its time and the fields that depend on the state."""
        if step.raw is not None or step.kind.startswith("policy."):
            return step.event
        event = {**step.event, "occurred_at": _time(step.late_ms)}
        if "ends_in_ms" in event:
            event["until"] = _time(-event.pop("ends_in_ms"))
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
        """The lines of a shipment or return, from the newest row of the order; none if there is nothing to move."""
        order_id = step.event["order_id"]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ROW_SECONDS_MAX
        while (order := self._orders.get(order_id)) is None or order.state in ("reserved", "awaiting_approval"):
            if loop.time() > deadline or order_id not in self._orders:
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
