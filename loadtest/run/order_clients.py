"""The order clients of the load generator: HTTP and Kafka.

In: responses to `order.placed`. Out: a `Placement`: accepted, refused or failed. By HTTP the response decides; by Kafka
the order's row in the topic `reservations` does.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Self

from msgspec.json import Decoder

from stocktide.loadtest.client.contract import OrderView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.client.topics import TopicReader, TopicRecord
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run.recording import (
    REQUEST_SECONDS_MAX,
    RecordingHttpClient,
    RecordingProducer,
    RequestRecorder,
)

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
