"""The two ways into the system for a replay: Kafka and HTTP.

In: order events and movements as JSON objects of the contract. Out: stored events, or EventNotStored or ApiError.
Both apply back pressure: the number of unacknowledged events is limited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from stocktide.client.http import REQUESTS_MAX
from stocktide.loadtest.client.events import Event, order_paid
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.kafka import EventProducer


class KafkaEventSink(EventProducer):
    """Sends to Kafka; a payment follows its order at once, in the same partition."""

    async def order(self, placed: Event) -> None:
        """Send `order.placed` and `order.paid`."""
        await self.enqueue(placed)
        await self.enqueue(order_paid(placed))

    ship = movement = EventProducer.enqueue


class HttpEventSink:
    """Sends to the API, at most `REQUESTS_MAX` orders and shipments at once."""

    def __init__(self, client: StocktideClient) -> None:
        self._client = client
        self._slots = asyncio.Semaphore(REQUESTS_MAX)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def order(self, placed: Event) -> None:
        """Place the order, and pay for it if it was accepted."""
        await self._start(self._place_and_pay(placed))

    async def ship(self, event: Event) -> None:
        """Send the shipment as an event."""
        await self._start(self._client.send_event(event))

    async def movement(self, event: Event) -> None:
        """Send a movement and wait for it, so that movements of a warehouse keep their order."""
        await self._client.send_event(event)

    async def wait_until_consumed(self) -> bool:
        """Wait for every response: the API responds when the order's batch is settled."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._check()
        return True

    async def _start(self, work: Coroutine[Any, Any, object]) -> None:
        await self._slots.acquire()
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        self._check()

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._slots.release()
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _place_and_pay(self, placed: Event) -> None:
        order = {name: value for name, value in placed.items() if name != "type"}
        if (await self._client.place_order(order)).order is not None:
            await self._client.pay_order(placed["order_id"])


EventSink = KafkaEventSink | HttpEventSink
