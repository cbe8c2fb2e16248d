"""The open-model load generator: orders start at their scheduled times, whatever the system does.

In: arrivals, each with its scenario. Out: requests through an order client, and counts and latencies, measured from the
scheduled time. The number of orders that wait for a response is limited; an arrival beyond the limit counts as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.events import utc_now
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.order_clients import OrderClient, Placement
from stocktide.loadtest.workload.scenarios import Scenario

# Orders of one process that wait for a response. At 400/s and a timeout of 8 s, more means an outage.
WAITING_MAX = 3_000
# A later send is the generator's own lateness; the timer is accurate to 1 ms.
LATE_SECONDS = 0.005
# With sends as late as this, the load was not the one that was asked for.
VERY_LATE_SECONDS = 0.1
# Overdue arrivals that start before other tasks run.
STARTED_AT_ONCE_MAX = 50
# After the last arrival, scenarios under way may finish for so long.
DRAIN_SECONDS_MAX = 30.0


class Arrival(NamedTuple):
    """A scenario and its scheduled time, s of the machine's monotonic clock."""

    due: float
    scenario: Scenario


class LoadGenerator:
    """Runs the scenarios of one process. `events`: the client for shipments and returns."""

    def __init__(self, clients: tuple[OrderClient, ...], events: OrderClient, meter: LoadMeter) -> None:
        self.waiting = 0
        self._clients = clients
        self._events = events
        self._meter = meter
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = 0
        self._zero_at = 0.0
        self._failure: BaseException | None = None

    async def push(self, arrivals: Iterable[Arrival], zero_at: float) -> None:
        """Start each arrival at its time, then wait for those under way. Raises what ended a scenario: a bug.

        `zero_at`: the start of the load, s of the monotonic clock.
        """
        self._zero_at = zero_at
        started = 0
        for arrival in arrivals:
            delay = arrival.due - time.monotonic()
            if delay > 0 or started >= STARTED_AT_ONCE_MAX:
                await asyncio.sleep(max(0.0, delay))
                started = 0
            started += 1
            self._start(arrival)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS_MAX)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    def _start(self, arrival: Arrival) -> None:
        at = arrival.due - self._zero_at
        if self.waiting >= WAITING_MAX:
            self._meter.count(at, "scheduled")
            self._meter.fail(at, "too many wait")
            return
        self._started += 1
        task = asyncio.create_task(self._run(arrival, self._clients[self._started % len(self._clients)]))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _run(self, arrival: Arrival, client: OrderClient) -> None:
        """One scenario, from the order to its last event."""
        scenario, due = arrival.scenario, arrival.due
        self._count_lateness(due)
        if scenario.disconnect_after_ms is not None and not isinstance(
            await client.ask("order.placed", scenario.placed, scenario.disconnect_after_ms), Response
        ):
            self._meter.totals["hang_ups"] += 1
            due = time.monotonic() + scenario.retry_after_ms / 1000
            await asyncio.sleep(scenario.retry_after_ms / 1000)
        placement = await self._place(scenario, client, due)
        if not placement.accepted:
            return
        if scenario.bot:
            self._meter.totals["held_by_bots"] += 1
        if scenario.then == "abandon":
            self._meter.totals["abandoned"] += 1
            return
        await asyncio.sleep(scenario.think_ms / 1000)
        if scenario.then == "cancel":
            await self._change_order(client, "order.cancelled", scenario, "cancelled")
        elif await self._change_order(client, "order.paid", scenario, "paid") and scenario.ship_ms is not None:
            await self._ship(scenario, placement.order)

    async def _place(self, scenario: Scenario, client: OrderClient, due: float) -> Placement:
        """Place the order, and measure from when it was due."""
        meter, at = self._meter, due - self._zero_at
        meter.count(at, "scheduled")
        if scenario.bot:
            meter.totals["bots"] += 1
        self.waiting += 1
        try:
            repeated = asyncio.create_task(self._repeat(scenario, client)) if scenario.again else None
            response = await client.ask("order.placed", scenario.placed)
            if isinstance(response, str):
                placement = Placement(None, response)
            else:
                placement = await client.placed(scenario.order_id, response)
        finally:
            self.waiting -= 1
        seconds = time.monotonic() - due
        if placement.accepted is None:
            meter.fail(at, placement.reason)
        elif placement.accepted:
            meter.count(at, "accepted")
            meter.record("accepted", at, seconds)
        else:
            meter.count(at, "refused")
            meter.refusals[placement.reason] += 1
            meter.record("refused", at, seconds)
        if repeated is not None:
            await repeated
        return placement

    async def _repeat(self, scenario: Scenario, client: OrderClient) -> None:
        self._meter.totals["repeats"] += 1
        await client.ask("order.placed", scenario.placed)

    async def _change_order(self, client: OrderClient, kind: str, scenario: Scenario, name: str) -> bool:
        """Pay or cancel; whether that was accepted."""
        event = {"id": f"{scenario.order_id}-{name}", "order_id": scenario.order_id, "occurred_at": utc_now()}
        response = await client.ask(kind, event)
        accepted = isinstance(response, Response) and response.status in (200, 202)
        self._meter.totals[name if accepted else f"not_{name}"] += 1
        return accepted

    async def _ship(self, scenario: Scenario, order: OrderView | None) -> None:
        """Ship a paid order from the warehouses that hold it; return one unit where the scenario says so."""
        lines: list[dict[str, Any]] = [
            {"sku": line.sku, "quantity": units, "warehouse": warehouse}
            for line in (order.lines if order else ())
            for warehouse, units in line.warehouses.items()
            if units
        ]
        if not lines:
            return
        await self._send_lines("order.shipped", scenario, lines, scenario.ship_ms or 0)
        if scenario.return_ms is not None:
            condition = "damaged" if scenario.damaged else "sellable"
            returned = [{**line, "quantity": 1, "condition": condition} for line in lines[:1]]
            await self._send_lines("order.returned", scenario, returned, scenario.return_ms)

    async def _send_lines(self, kind: str, scenario: Scenario, lines: list[dict[str, Any]], delay_ms: int) -> None:
        await asyncio.sleep(delay_ms / 1000)
        name, order_id = kind.partition(".")[2], scenario.order_id
        event = {"id": f"{order_id}-{name}", "order_id": order_id, "occurred_at": utc_now(), "lines": lines}
        response = await self._events.ask(kind, event)
        accepted = isinstance(response, Response) and response.status == 202
        self._meter.totals[name if accepted else f"not_{name}"] += 1

    def _count_lateness(self, due: float) -> None:
        late = time.monotonic() - due
        if late > LATE_SECONDS:
            self._meter.count(due - self._zero_at, "late_sends")
            if late > VERY_LATE_SECONDS:
                self._meter.totals["very_late_sends"] += 1
