"""Shoppers who come at their time, whatever the system does: the open model.

In: arrivals, each with its scenario. Out: requests through a door, and what became of each order, measured from the
time at which it was due. Nobody waits for another's answer; how many may wait at once has a limit, and whoever comes
beyond it is counted as failed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.workload.scenarios import Scenario

# Orders of one tester that wait for their answer. At 400/s and 8 s of patience: more is an outage, not a load.
WAITING_MAX = 3_000
# A send that leaves later than this after its time is the tester's own lateness; the timer itself is good for 1 ms.
LATE_SECONDS = 0.005
# So late, the load was not the one that was asked for.
VERY_LATE_SECONDS = 0.1
# Arrivals behind their time that are begun before others get their turn.
BEGUN_AT_ONCE_MAX = 50
# After the last arrival whoever is still under way (thinking, paying, shipping) gets so long.
DRAIN_SECONDS_MAX = 30.0


class OrderClient(Protocol):
    """What a shopper needs of a door."""

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send once; the answer, or why there is none."""
        ...

    async def placed(self, order_id: str, told: Response) -> Placement:
        """What became of an order that the door took."""
        ...


class Placement(NamedTuple):
    """`accepted` None: it failed. `reason` of a refusal or a failure. `order` as it was told."""

    accepted: bool | None
    reason: str = ""
    order: OrderView | None = None


class Arrival(NamedTuple):
    """When, in s of the machine's monotonic clock, and what."""

    due: float
    scenario: Scenario


class LoadGenerator:
    """One tester's shoppers. `zero_at`: when the load began, s of the monotonic clock."""

    def __init__(self, doors: tuple[OrderClient, ...], events: OrderClient, meter: LoadMeter) -> None:
        self._doors = doors
        # Where shipments and returns go in, by whatever door orders do.
        self._events = events
        self._meter = meter
        self._under_way: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._zero_at = 0.0
        self.waiting = 0
        self.broke: BaseException | None = None

    async def push(self, arrivals: Iterable[Arrival], zero_at: float) -> None:
        """Begin each at its time, then wait for those who are under way. Raises what broke a shopper: a bug."""
        self._zero_at = zero_at
        begun = 0
        for arrival in arrivals:
            delay = arrival.due - time.monotonic()
            if delay > 0 or begun >= BEGUN_AT_ONCE_MAX:
                await asyncio.sleep(max(0.0, delay))
                begun = 0
            begun += 1
            self._begin(arrival)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_SECONDS_MAX)
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        if self.broke is not None:
            raise self.broke

    def _begin(self, arrival: Arrival) -> None:
        at = arrival.due - self._zero_at
        if self.waiting >= WAITING_MAX:
            self._meter.count(at, "scheduled")
            self._meter.fail(at, "too many wait")
            return
        self._begun += 1
        task = asyncio.create_task(self._shop(arrival, self._doors[self._begun % len(self._doors)]))
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broke = self.broke or error

    async def _shop(self, arrival: Arrival, door: OrderClient) -> None:
        """One shopper, from placing to the end of the scenario."""
        scenario, due = arrival.scenario, arrival.due
        self._note_lateness(due)
        if scenario.disconnect_after_ms is not None and not isinstance(
            await door.ask("order.placed", scenario.placed, scenario.disconnect_after_ms), Response
        ):
            self._meter.totals["hang_ups"] += 1
            due = time.monotonic() + scenario.retry_after_ms / 1000
            await asyncio.sleep(scenario.retry_after_ms / 1000)
        placed = await self._place(scenario, door, due)
        if not placed.accepted:
            return
        if scenario.bot:
            self._meter.totals["held_by_bots"] += 1
        if scenario.then == "abandon":
            self._meter.totals["abandoned"] += 1
            return
        await asyncio.sleep(scenario.think_ms / 1000)
        if scenario.then == "cancel":
            await self._follow(door, "order.cancelled", scenario, "cancelled")
            return
        if await self._follow(door, "order.paid", scenario, "paid") and scenario.ship_ms is not None:
            await self._parcel(scenario, placed.order)

    async def _place(self, scenario: Scenario, door: OrderClient, due: float) -> Placement:
        """Place the order, and measure from when it was due."""
        meter, at = self._meter, due - self._zero_at
        meter.count(at, "scheduled")
        if scenario.bot:
            meter.totals["bots"] += 1
        self.waiting += 1
        try:
            repeated = asyncio.create_task(self._repeat(scenario, door)) if scenario.again else None
            told = await door.ask("order.placed", scenario.placed)
            placed = Placement(None, told) if isinstance(told, str) else await door.placed(scenario.order_id, told)
        finally:
            self.waiting -= 1
        took = time.monotonic() - due
        if placed.accepted is None:
            meter.fail(at, placed.reason)
        elif placed.accepted:
            meter.count(at, "accepted")
            meter.record("accepted", at, took)
        else:
            meter.count(at, "refused")
            meter.refusals[placed.reason] += 1
            meter.record("refused", at, took)
        if repeated is not None:
            await repeated
        return placed

    async def _repeat(self, scenario: Scenario, door: OrderClient) -> None:
        self._meter.totals["repeats"] += 1
        await door.ask("order.placed", scenario.placed)

    async def _follow(self, door: OrderClient, kind: str, scenario: Scenario, name: str) -> bool:
        """Pay or cancel; whether that was taken."""
        id_ = f"{scenario.order_id}-{name}"
        told = await door.ask(kind, {"id": id_, "order_id": scenario.order_id, "occurred_at": now()})
        taken = isinstance(told, Response) and told.status in (200, 202)
        self._meter.totals[name if taken else f"not_{name}"] += 1
        return taken

    async def _parcel(self, scenario: Scenario, order: OrderView | None) -> None:
        """What was paid leaves the warehouses in which it is held; some of it comes back."""
        lines: list[dict[str, Any]] = [
            {"sku": line.sku, "quantity": units, "warehouse": warehouse}
            for line in (order.lines if order else ())
            for warehouse, units in line.warehouses.items()
            if units
        ]
        if not lines:
            return
        await self._move("order.shipped", scenario, lines, scenario.ship_ms or 0)
        if scenario.return_ms is not None:
            condition = "damaged" if scenario.damaged else "sellable"
            back = [{**line, "quantity": 1, "condition": condition} for line in lines[:1]]
            await self._move("order.returned", scenario, back, scenario.return_ms)

    async def _move(self, kind: str, scenario: Scenario, lines: list[dict[str, Any]], after_ms: int) -> None:
        await asyncio.sleep(after_ms / 1000)
        name = kind.partition(".")[2]
        event = {
            "id": f"{scenario.order_id}-{name}",
            "order_id": scenario.order_id,
            "occurred_at": now(),
            "lines": lines,
        }
        told = await self._events.ask(kind, event)
        self._meter.totals[name if isinstance(told, Response) and told.status == 202 else f"not_{name}"] += 1

    def _note_lateness(self, due: float) -> None:
        late = time.monotonic() - due
        if late > LATE_SECONDS:
            self._meter.count(due - self._zero_at, "late_sends")
            if late > VERY_LATE_SECONDS:
                self._meter.totals["very_late_sends"] += 1


def now() -> str:
    """The time as an event tells it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
