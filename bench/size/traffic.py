"""A steady load of orders by HTTP and by Kafka while servers fail, and a check that every response still stands.

In: a rate. Out: the response to each order by HTTP, and the ids of the orders that Kafka has acknowledged. An order
without a response is sent again, as the contract requires.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson

from bench.load import pace
from bench.size.seeding import APP_ID, encode_held_order
from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.http import ApiError, StocktideClient
from stocktide.loadtest.client.kafka import EventProducer

# Concurrent orders by HTTP; more would only queue.
REQUESTS_MAX = 200


class OrderTraffic:
    """Orders at `rate` a second, half by HTTP and half by Kafka; `api` None: all by Kafka."""

    def __init__(self, kafka: str, api: str | None, rate: float, skus: int, prefix: str) -> None:
        self._kafka = kafka
        self._api = api
        self._rate = rate
        self._skus = skus
        self._prefix = prefix
        self._running = True
        self._requests: set[asyncio.Task[None]] = set()
        # The order of each response, and the ids that Kafka has taken.
        self.responses: dict[str, OrderView] = {}
        self.acknowledged_ids: list[str] = []
        self.unexpected: list[str] = []
        self.longest_seconds = 0.0
        # The time of each response (s, monotonic clock).
        self.responded_at: list[float] = []

    @asynccontextmanager
    async def run(self) -> AsyncIterator[OrderTraffic]:
        """Send orders for the duration; at the end, wait for the pending ones."""
        async with (
            EventProducer(self._kafka, APP_ID) as producer,
            StocktideClient(self._api or "", REQUESTS_MAX) as client,
        ):
            sending = asyncio.create_task(self._send_all(producer, client))
            try:
                yield self
            finally:
                self._running = False
                await sending
                await asyncio.gather(*self._requests)

    async def lost(self, read: Callable[[str], Awaitable[OrderView | None]]) -> list[str]:
        """The ids of orders that do not exist or differ from their response. `read` gets one by its id."""
        ids = [*self.responses, *self.acknowledged_ids]
        orders = await asyncio.gather(*map(read, ids))
        return [
            order_id
            for order_id, order in zip(ids, orders, strict=True)
            if order is None or order.state != "reserved" or self.responses.get(order_id, order) != order
        ]

    async def _send_all(self, producer: EventProducer, client: StocktideClient) -> None:
        numbers = itertools.count()
        async for _ in pace(self._rate, lambda _: self._running):
            number = next(numbers)
            if self._api is None or number % 2:
                order_id = f"{self._prefix}-k{number}"
                await producer.enqueue(orjson.loads(encode_held_order(order_id, number, self._skus)))
                self.acknowledged_ids.append(order_id)
            elif len(self._requests) < REQUESTS_MAX:
                task = asyncio.create_task(self._post(client, number))
                self._requests.add(task)
                task.add_done_callback(self._requests.discard)

    async def _post(self, client: StocktideClient, number: int) -> None:
        order_id = f"{self._prefix}-h{number}"
        order = orjson.loads(encode_held_order(order_id, number, self._skus))
        del order["type"]
        began = time.monotonic()
        try:
            outcome = await client.place_order(order)
        except ApiError as error:
            self.unexpected.append(f"{order_id}: {error}")
            return
        if outcome.order is None:
            self.unexpected.append(f"{order_id}: {outcome.status} {outcome.code}")
            return
        self.responses[order_id] = outcome.order
        self.responded_at.append(time.monotonic())
        self.longest_seconds = max(self.longest_seconds, self.responded_at[-1] - began)
