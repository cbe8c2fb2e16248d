"""The open-model load generator: orders start at their scheduled times, whatever the system does.

In: arrivals, each with its scenario. Out: requests through an order client, and counts and latencies, measured from the
scheduled time. The number of orders that wait for a response is limited; an arrival beyond the limit counts as failed.
The outcome of an order by HTTP is its response, by Kafka its row in the topic `reservations`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from msgspec.json import Decoder

from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.events import Event, shipment_lines, utc_now
from stocktide.loadtest.client.topics import TopicReader, TopicRecord
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.recording import (
    REQUEST_SECONDS_MAX,
    RecordingHttpClient,
    RecordingProducer,
    RequestRecorder,
)
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
LINGER_MS = 2

_ORDER = Decoder(OrderView)


class Placement(NamedTuple):
    """The outcome of an order. `accepted` is None where it failed; `reason` explains a refusal or a failure."""

    accepted: bool | None
    reason: str = ""
    order: OrderView | None = None


class HttpOrderClient(RecordingHttpClient):
    """Places orders by HTTP."""

    async def placed(self, order_id: str, response: Response) -> Placement:
        """200 and 201 accept, 409 refuses, everything else failed."""
        if response.status in (200, 201):
            return Placement(True, order=response.order)
        code = f"{response.status} {response.code or ''}".rstrip()
        return Placement(False, response.code or code) if response.status == 409 else Placement(None, code)


class KafkaOrderClient(RecordingProducer):
    """Places orders by Kafka. `mark` begins the ids of this run."""

    def __init__(self, kafka: str, app_id: str, mark: str, recorder: RequestRecorder, **security: Any) -> None:
        super().__init__(kafka, app_id, recorder, LINGER_MS, **security)
        self._mark = mark.encode()
        self._rows: dict[str, asyncio.Future[OrderView]] = {}
        self._reader = TopicReader(kafka, app_id, {"reservations": self._on_row}, **security)

    async def __aenter__(self) -> Self:
        """Connect, and read the topic up to its present end. Raises TopicReaderError or EventNotStored."""
        await super().__aenter__()
        try:
            await self._reader.start()
            await self._reader.catch_up()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._reader.stop()
        await super().__aexit__(*error)

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """See `RecordingProducer`."""
        if kind == "order.placed":
            self._rows.setdefault(event["order_id"], asyncio.get_running_loop().create_future())
        return await super().ask(kind, event, disconnect_after_ms)

    async def placed(self, order_id: str, response: Response) -> Placement:
        """The outcome in the order's first row, which is awaited as long as a response by HTTP."""
        try:
            order = await asyncio.wait_for(self._rows[order_id], REQUEST_SECONDS_MAX)
        except TimeoutError:
            return Placement(None, "no row")
        finally:
            self._rows.pop(order_id, None)
        if order.state == "rejected":
            reason = next((line.reason for line in order.lines if line.reason), "rejected")
            return Placement(False, reason)
        return Placement(True, order=order)

    def _on_row(self, row: TopicRecord) -> None:
        if self._mark not in row.value:
            return
        order = _ORDER.decode(row.value)
        awaited = self._rows.get(order.order_id)
        if awaited is not None and not awaited.done():
            awaited.set_result(order)


OrderClient = HttpOrderClient | KafkaOrderClient


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
            await self._send(client, "order.cancelled", scenario)
        elif await self._pay(client, scenario):
            if scenario.change == "give_back":
                line = {"sku": scenario.placed["lines"][0]["sku"], "quantity": 1}
                await self._send(client, "order.cancelled", scenario, "changes.orders_cancelled_in_part", lines=[line])
            if scenario.ship_ms is not None:
                await self._ship(scenario, placement.order)

    async def _pay(self, client: OrderClient, scenario: Scenario) -> bool:
        """Pay an order that was not paid with its placing; whether it is paid."""
        if scenario.change == "sold":
            return True
        if scenario.change == "pay_late":
            return await self._send(client, "order.paid", scenario, "changes.orders_paid_late", if_expired="take_again")
        return await self._send(client, "order.paid", scenario)

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
            self._count_changes(scenario, placement.order)
        else:
            meter.count(at, "refused")
            meter.refusals[placement.reason] += 1
            meter.record("refused", at, seconds)
        if repeated is not None:
            await repeated
        return placement

    def _count_changes(self, scenario: Scenario, order: OrderView | None) -> None:
        """Count what is special about an accepted order."""
        totals, lines = self._meter.totals, order.lines if order is not None else ()
        totals["changes.orders_sold_already"] += scenario.change == "sold"
        totals["changes.orders_sold_beyond_the_shelf"] += any(line.short for line in lines)
        totals["changes.orders_preordered"] += any(line.preordered for line in lines)
        totals["changes.orders_for_the_pool"] += scenario.change == "pool"

    async def _repeat(self, scenario: Scenario, client: OrderClient) -> None:
        self._meter.totals["repeats"] += 1
        await client.ask("order.placed", scenario.placed)

    async def _send(
        self, client: OrderClient, kind: str, scenario: Scenario, counted_as: str = "", **more: Any
    ) -> bool:
        """Send an event of an order that was placed; whether it was accepted."""
        name, order_id = kind.partition(".")[2], scenario.order_id
        event = {"id": f"{order_id}-{name}", "order_id": order_id, "occurred_at": utc_now(), **more}
        response = await client.ask(kind, event)
        accepted = isinstance(response, Response) and response.status in (200, 202)
        counted = counted_as or name
        self._meter.totals[counted if accepted else f"{counted}_refused" if counted_as else f"not_{name}"] += 1
        return accepted

    async def _ship(self, scenario: Scenario, order: OrderView | None) -> None:
        """Ship a paid order from the warehouses that hold it; return one unit where the scenario says so."""
        if order is None or not (lines := shipment_lines(order)):
            return
        await asyncio.sleep((scenario.ship_ms or 0) / 1000)
        await self._send(self._events, "order.shipped", scenario, lines=lines)
        if scenario.return_ms is not None:
            condition = "damaged" if scenario.damaged else "sellable"
            returned = [{**line, "quantity": 1, "condition": condition} for line in lines[:1]]
            await asyncio.sleep(scenario.return_ms / 1000)
            await self._send(self._events, "order.returned", scenario, lines=returned)

    def _count_lateness(self, due: float) -> None:
        late = time.monotonic() - due
        if late > LATE_SECONDS:
            self._meter.count(due - self._zero_at, "late_sends")
            if late > VERY_LATE_SECONDS:
                self._meter.totals["very_late_sends"] += 1
