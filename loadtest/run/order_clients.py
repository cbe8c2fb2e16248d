"""The doors as a shopper of the load test sees them: how each tells what became of an order.

In: what a door answered. Out: accepted, refused or failed. By HTTP the answer says it; by Kafka the row of the topic
`reservations` does, and until it comes the shopper waits.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.json import Decoder

from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.client.topics import TopicReader, TopicRecord
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.load_generator import Placement, now
from stocktide.loadtest.run.recording import RecordingHttpClient, RecordingKafkaClient

# A shopper who sees nothing for so long has left; the same patience as by HTTP.
ROW_SECONDS_MAX = 8.0
_ORDER = Decoder(OrderView)


class HttpOrderClient:
    """Places by HTTP: the answer is the outcome."""

    def __init__(self, http: RecordingHttpClient) -> None:
        self._http = http

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send once."""
        return await self._http.ask(kind, event, disconnect_after_ms)

    async def placed(self, order_id: str, told: Response) -> Placement:
        """201 and 200 hold something, 409 refuses, all else failed."""
        if told.status in (200, 201):
            return Placement(True, order=told.order)
        code = f"{told.status} {told.code or ''}".rstrip()
        return Placement(False, told.code or code) if told.status == 409 else Placement(None, code)


class KafkaOrderClient:
    """Places by Kafka: the order's first row is the outcome. `mark` begins the ids of this run."""

    def __init__(self, kafka: RecordingKafkaClient, mark: str, address: str, app_id: str, **security: Any) -> None:
        self._kafka = kafka
        self._mark = mark.encode()
        self._rows: dict[str, asyncio.Future[OrderView]] = {}
        self._feeds = TopicReader(address, app_id, {"reservations": self._take}, **security)

    async def start(self) -> None:
        """Begin to read rows, from those that come now. Raises ObserverError."""
        await self._feeds.start()
        await self._feeds.catch_up()

    async def stop(self) -> None:
        """Read no more."""
        await self._feeds.stop()

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        """Send once, with its time, which Kafka's events must tell."""
        if kind == "order.placed":
            self._rows.setdefault(event["order_id"], asyncio.get_running_loop().create_future())
        return await self._kafka.ask(kind, {"occurred_at": now(), **event})

    async def placed(self, order_id: str, told: Response) -> Placement:
        """Wait for the row."""
        try:
            order = await asyncio.wait_for(self._rows[order_id], ROW_SECONDS_MAX)
        except TimeoutError:
            return Placement(None, "no row")
        finally:
            self._rows.pop(order_id, None)
        if order.state == "rejected":
            reason = next((line.reason for line in order.lines if line.reason), "rejected")
            return Placement(False, reason)
        return Placement(True, order=order)

    def _take(self, row: TopicRecord) -> None:
        if self._mark not in row.value:
            return
        order = _ORDER.decode(row.value)
        waits = self._rows.get(order.order_id)
        if waits is not None and not waits.done():
            waits.set_result(order)
