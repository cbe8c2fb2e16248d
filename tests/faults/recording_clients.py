"""The clients of the system under test, which record each request and its answer.

In: an event. Out: the status of the answer, or None without one; and the records of both.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryFile,
    HistoryRecord,
    InputTransport,
    NoResponse,
    Request,
    Response,
    decode_response,
)
from tests.faults.scenarios import Event

# Longer than the API's own limit of 5 s, so that its answer arrives.
REQUEST_SECONDS_MAX = 8.0
CONNECT_SECONDS_MAX = 2.0
CONNECTIONS_MAX = 256
# Lines of NDJSON are sent together at this interval, as a channel's connector does.
GATHER_SECONDS = 0.1
LINES_MAX = 500
# The limit for an acknowledgement; the producer retries within it.
ACKNOWLEDGED_SECONDS_MAX = 10.0
# The maximum time after which a client disconnects without an answer.
HANG_UP_SECONDS = 0.02

_HEADERS = {"Content-Type": "application/json"}


class RunRecorder:
    """Numbers the requests and writes all records with their times."""

    def __init__(self, file: HistoryFile, watch: Callable[[HistoryRecord], None] = lambda record: None) -> None:
        self._file = file
        self._watch = watch
        self._number = 0
        self.clock = HistoryClock()
        self.doors: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        # The times of answers with an order, in s of the loop's clock: gaps are downtime.
        self.answered_at: list[float] = []

    @property
    def now(self) -> int:
        return self.clock.now()

    @property
    def commands(self) -> int:
        return self._number

    def add(self, record: HistoryRecord) -> None:
        self._file.add(record)
        self._watch(record)

    def record_request(self, door: InputTransport, kind: str, event: Event) -> int:
        """Record an event that is about to be sent; returns its number."""
        self._number += 1
        self.doors[door] += 1
        self.kinds[kind] += 1
        self.add(Request(self.now, self._number, door, kind, event))
        return self._number

    def record_response(self, door: InputTransport, response: Response) -> int:
        self.statuses[f"{door} {response.status} {response.code or ''}".rstrip()] += 1
        if response.order is not None:
            self.answered_at.append(asyncio.get_running_loop().time())
        self.add(response)
        return response.status

    def record_no_response(self, door: InputTransport, number: int, why: str) -> None:
        self.statuses[f"{door} no answer"] += 1
        self.add(NoResponse(self.now, number, why))


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    raw: bytes
    done: asyncio.Future[int | None]


class RecordingClients:
    """A client for each transport. `apis` are addresses; each request goes to a random one, which may be down."""

    def __init__(self, recorder: RunRecorder, apis: list[str], kafka: str, topic: Callable[[str], str]) -> None:
        self.recorder = recorder
        self._apis = apis
        self._kafka = kafka
        self._topic = topic
        self._rng = random.Random()
        self._session: aiohttp.ClientSession | None = None
        self._producer: AIOKafkaProducer | None = None
        self._lines: asyncio.Queue[_Line] = asyncio.Queue()
        self._line_sender: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX),
        )
        self._line_sender = asyncio.create_task(self._send_lines())

    async def close(self) -> None:
        if self._line_sender is not None:
            self._line_sender.cancel()
            await asyncio.gather(self._line_sender, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._producer is not None:
            await self._stop_producer(self._producer)

    async def ask(
        self, door: InputTransport, kind: str, event: Event, raw: bytes | None, *, hangs_up: bool = False
    ) -> int | None:
        """Send an event, and wait for the answer: its status, None without one. `raw` is sent instead of the event."""
        recorded_event = {} if raw is not None else event
        number = self.recorder.record_request(door, kind, recorded_event)
        if door == "kafka":
            return await self._send(number, kind, event, raw)
        if door == "ndjson":
            line = _Line(number, raw if raw is not None else _encode_line(kind, event), _future())
            self._lines.put_nowait(line)
            return await line.done
        return await self._request(number, kind, event, raw, hangs_up)

    async def get(self, path: str) -> tuple[int, bytes] | None:
        """The answer to a GET; None without one."""
        assert self._session is not None
        try:
            async with self._session.get(self._rng.choice(self._apis) + path) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    # HTTP

    async def _request(self, number: int, kind: str, event: Event, raw: bytes | None, hangs_up: bool) -> int | None:
        assert self._session is not None
        method, path, body = _make_http_request(kind, event)
        body = raw if raw is not None else body
        url = self._rng.choice(self._apis) + path
        timeout = self._rng.uniform(0, HANG_UP_SECONDS) if hangs_up else None
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.request(method, url, data=body, headers=_HEADERS) as response,
            ):
                body_text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.recorder.record_no_response("http", number, "hung up" if hangs_up else repr(error))
            return None
        try:
            recorded = decode_response(self.recorder.now, number, response.status, body_text)
        except msgspec.DecodeError:
            recorded = Response(self.recorder.now, number, response.status, "unreadable")
        return self.recorder.record_response("http", recorded)

    # NDJSON

    async def _send_lines(self) -> None:
        while True:
            lines = [await self._lines.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while not self._lines.empty() and len(lines) < LINES_MAX:
                lines.append(self._lines.get_nowait())
            await self._post(lines)

    async def _post(self, lines: list[_Line]) -> None:
        assert self._session is not None
        url = self._rng.choice(self._apis) + "/v1/events"
        body = b"\n".join(line.raw for line in lines) + b"\n"
        try:
            async with self._session.post(url, data=body, headers={"Content-Type": "application/x-ndjson"}) as response:
                body_text, status = await response.read(), response.status
            rejected = (
                {entry["line"]: entry["code"] for entry in orjson.loads(body_text)["rejected"]} if status == 202 else {}
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            for line in lines:
                self.recorder.record_no_response("ndjson", line.number, repr(error))
                line.done.set_result(None)
            return
        for at, line in enumerate(lines, start=1):
            code = rejected.get(at)
            one = status if code is None else 422
            line.done.set_result(
                self.recorder.record_response("ndjson", Response(self.recorder.now, line.number, one, code))
            )

    # Kafka

    async def _send(self, number: int, kind: str, event: Event, raw: bytes | None) -> int | None:
        name = "movements" if kind.startswith("stock.") or event.get("key") in ("SH1", "BJ1", "GZ1") else "orders"
        key = event.get("key") or event.get("order_id") or event["warehouse"]
        value = raw if raw is not None else _encode_line(kind, event)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(2 * ACKNOWLEDGED_SECONDS_MAX):
                producer = await self._open_producer()
                sent = await producer.send_and_wait(self._topic(name), value, key=key.encode())
        except (KafkaError, TimeoutError, OSError) as error:
            self.recorder.record_no_response("kafka", number, repr(error))
            return None
        where = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        return self.recorder.record_response("kafka", Response(self.recorder.now, number, 202, **where))

    async def _open_producer(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._kafka,
                    acks="all",
                    linger_ms=5,
                    request_timeout_ms=int(ACKNOWLEDGED_SECONDS_MAX * 1000),
                    max_request_size=2 * 1024 * 1024,
                )
                try:
                    await producer.start()
                except BaseException:
                    await self._stop_producer(producer)
                    raise
                self._producer = producer
        return self._producer

    async def _stop_producer(self, producer: AIOKafkaProducer) -> None:
        with suppress(KafkaError, TimeoutError, OSError):
            await asyncio.wait_for(producer.stop(), 2.0)


def _future() -> asyncio.Future[int | None]:
    return asyncio.get_running_loop().create_future()


def _encode_line(kind: str, event: Event) -> bytes:
    return orjson.dumps({"type": kind, **event})


def _make_http_request(kind: str, event: Event) -> tuple[str, str, bytes]:
    """Method, path and body of an event by HTTP."""
    if kind in ("policy.put", "policy.delete"):
        path = f"/v1/policies/{quote(event['channel'])}" + (f"/{quote(event['sku'])}" if event["sku"] else "")
        return ("PUT", path, orjson.dumps(event["policy"])) if kind == "policy.put" else ("DELETE", path, b"")
    if kind.startswith("stock."):
        return "POST", "/v1/movements", _encode_line(kind, event)
    if kind in ("order.placed", "bytes"):
        return "POST", "/v1/orders", orjson.dumps(event)
    verb = {"order.paid": "pay", "order.cancelled": "cancel", "order.extended": "extend"}[kind]
    body: dict[str, Any] = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
    return "POST", f"/v1/orders/{quote(event['order_id'])}/{verb}", orjson.dumps(body)
