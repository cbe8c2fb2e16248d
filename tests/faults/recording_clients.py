"""The doors into the shop, each of which notes what it asks before it asks, and what it was told.

In: an event. Out: the answer's status, or None where none came; and the record of both.
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

# The API gives up after 5 s; a client's patience is a little longer, so that its word is heard.
REQUEST_SECONDS_MAX = 8.0
CONNECT_SECONDS_MAX = 2.0
CONNECTIONS_MAX = 256
# Lines of NDJSON that go together: what a channel's connector gathers in so long.
GATHER_SECONDS = 0.1
LINES_MAX = 500
# How long Kafka may take; a shorter outage is waited out by the producer.
ACKNOWLEDGED_SECONDS_MAX = 10.0
# A client that hangs up does so within so many seconds of its request.
HANG_UP_SECONDS = 0.02

_HEADERS = {"Content-Type": "application/json"}


class RunRecorder:
    """Numbers what is asked, and writes down what is known, when it is known. `on_answer` is told when a write was
    answered."""

    def __init__(self, file: HistoryFile, watch: Callable[[HistoryRecord], None] = lambda record: None) -> None:
        self._file = file
        self._watch = watch
        self._number = 0
        self.clock = HistoryClock()
        self.doors: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        # When somebody was told of an order, in s of the loop's clock: how long nobody was is the downtime.
        self.answered_at: list[float] = []

    @property
    def now(self) -> int:
        """The time of a record."""
        return self.clock.now()

    @property
    def commands(self) -> int:
        """How many were asked."""
        return self._number

    def add(self, record: HistoryRecord) -> None:
        """Write a record down."""
        self._file.add(record)
        self._watch(record)

    def asked(self, door: InputTransport, kind: str, event: Event) -> int:
        """An event is about to be sent; its number."""
        self._number += 1
        self.doors[door] += 1
        self.kinds[kind] += 1
        self.add(Request(self.now, self._number, door, kind, event))
        return self._number

    def told(self, door: InputTransport, told: Response) -> int:
        """It was answered."""
        self.statuses[f"{door} {told.status} {told.code or ''}".rstrip()] += 1
        if told.order is not None:
            self.answered_at.append(asyncio.get_running_loop().time())
        self.add(told)
        return told.status

    def silent(self, door: InputTransport, number: int, why: str) -> None:
        """It was not."""
        self.statuses[f"{door} no answer"] += 1
        self.add(NoResponse(self.now, number, why))


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    raw: bytes
    done: asyncio.Future[int | None]


class RecordingClients:
    """All of them. `apis` are addresses; a client picks one at random, and may find it dead."""

    def __init__(self, recorder: RunRecorder, apis: list[str], kafka: str, topic: Callable[[str], str]) -> None:
        self.recorder = recorder
        self._apis = apis
        self._kafka = kafka
        self._topic = topic
        self._rng = random.Random()
        self._session: aiohttp.ClientSession | None = None
        self._producer: AIOKafkaProducer | None = None
        self._lines: asyncio.Queue[_Line] = asyncio.Queue()
        self._gatherer: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX, sock_connect=CONNECT_SECONDS_MAX),
        )
        self._gatherer = asyncio.create_task(self._gather())

    async def close(self) -> None:
        """Disconnect."""
        if self._gatherer is not None:
            self._gatherer.cancel()
            await asyncio.gather(self._gatherer, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        if self._producer is not None:
            await self._stop_producer(self._producer)

    async def ask(
        self, door: InputTransport, kind: str, event: Event, raw: bytes | None, *, hangs_up: bool = False
    ) -> int | None:
        """Send it, and wait for the answer: its status, None where none came. `raw`: what is sent instead."""
        noted = {} if raw is not None else event
        number = self.recorder.asked(door, kind, noted)
        if door == "kafka":
            return await self._send(number, kind, event, raw)
        if door == "ndjson":
            line = _Line(number, raw if raw is not None else _line(kind, event), _future())
            self._lines.put_nowait(line)
            return await line.done
        return await self._request(number, kind, event, raw, hangs_up)

    async def get(self, path: str) -> tuple[int, bytes] | None:
        """Read something; None where no answer comes."""
        assert self._session is not None
        try:
            async with self._session.get(self._rng.choice(self._apis) + path) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    # HTTP

    async def _request(self, number: int, kind: str, event: Event, raw: bytes | None, hangs_up: bool) -> int | None:
        assert self._session is not None
        method, path, body = _call(kind, event)
        body = raw if raw is not None else body
        url = self._rng.choice(self._apis) + path
        patience = self._rng.uniform(0, HANG_UP_SECONDS) if hangs_up else None
        try:
            async with (
                asyncio.timeout(patience),
                self._session.request(method, url, data=body, headers=_HEADERS) as response,
            ):
                said = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.recorder.silent("http", number, "hung up" if hangs_up else repr(error))
            return None
        try:
            told = decode_response(self.recorder.now, number, response.status, said)
        except msgspec.DecodeError:
            told = Response(self.recorder.now, number, response.status, "unreadable")
        return self.recorder.told("http", told)

    # NDJSON

    async def _gather(self) -> None:
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
                said, status = await response.read(), response.status
            rejected = (
                {entry["line"]: entry["code"] for entry in orjson.loads(said)["rejected"]} if status == 202 else {}
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            for line in lines:
                self.recorder.silent("ndjson", line.number, repr(error))
                line.done.set_result(None)
            return
        for at, line in enumerate(lines, start=1):
            code = rejected.get(at)
            one = status if code is None else 422
            line.done.set_result(self.recorder.told("ndjson", Response(self.recorder.now, line.number, one, code)))

    # Kafka

    async def _send(self, number: int, kind: str, event: Event, raw: bytes | None) -> int | None:
        name = "movements" if kind.startswith("stock.") or event.get("key") in ("SH1", "BJ1", "GZ1") else "orders"
        key = event.get("key") or event.get("order_id") or event["warehouse"]
        value = raw if raw is not None else _line(kind, event)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(2 * ACKNOWLEDGED_SECONDS_MAX):
                producer = await self._open_producer()
                sent = await producer.send_and_wait(self._topic(name), value, key=key.encode())
        except (KafkaError, TimeoutError, OSError) as error:
            self.recorder.silent("kafka", number, repr(error))
            return None
        where = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        return self.recorder.told("kafka", Response(self.recorder.now, number, 202, **where))

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


def _line(kind: str, event: Event) -> bytes:
    return orjson.dumps({"type": kind, **event})


def _call(kind: str, event: Event) -> tuple[str, str, bytes]:
    """Method, path and body of an event by HTTP."""
    if kind in ("policy.put", "policy.delete"):
        path = f"/v1/policies/{quote(event['channel'])}" + (f"/{quote(event['sku'])}" if event["sku"] else "")
        return ("PUT", path, orjson.dumps(event["policy"])) if kind == "policy.put" else ("DELETE", path, b"")
    if kind.startswith("stock."):
        return "POST", "/v1/movements", _line(kind, event)
    if kind in ("order.placed", "bytes"):
        return "POST", "/v1/orders", orjson.dumps(event)
    verb = {"order.paid": "pay", "order.cancelled": "cancel", "order.extended": "extend"}[kind]
    body: dict[str, Any] = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
    return "POST", f"/v1/orders/{quote(event['order_id'])}/{verb}", orjson.dumps(body)
