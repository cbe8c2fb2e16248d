"""A client of the API for tests: calls, and the feed as it arrives over the connection.

In: `http://HOST:PORT`. Out: answers, feed events.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson
from yarl import URL

from stocktide.client.feed import FeedFrame, read_frames
from tests.harness.described import described
from tests.harness.events import Event, lines_of, stock_received
from tests.harness.eventually import eventually, holds_already

# Everything here takes under a second on a quiet machine.
WAIT_SECONDS_MAX = 30.0
NDJSON = {"Content-Type": "application/x-ndjson"}

_numbers = itertools.count(1)


def unique_name(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{next(_numbers)}-{time.time_ns() % 10**9}"


@dataclass(slots=True)
class ApiAnswer:
    """A response, read whole. `body` is None where there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The code of the problem document, which the response has to be."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        assert {"type", "title", "status", "detail", "code"} <= set(self.body)
        assert self.body["status"] == self.status
        return str(self.body["code"])

    @property
    def problem(self) -> tuple[int, str]:
        return self.status, self.code


@dataclass(slots=True)
class FeedEvent:
    """One event of the feed."""

    event: str
    data: Any
    id: str | None


class ApiTestClient:
    """Calls one API at `api` (http://HOST:PORT)."""

    def __init__(self, session: aiohttp.ClientSession, api: str, seconds_max: float = WAIT_SECONDS_MAX) -> None:
        self.session = session
        self.api = api
        self._seconds_max = seconds_max

    async def call(self, method: str, path: str | URL, body: Any = None, **options: Any) -> ApiAnswer:
        """One call; `body` is sent as JSON if it is an object, else as it is. A URL is a whole one, sent as it is."""
        url = path if isinstance(path, URL) else self.api + path
        data = orjson.dumps(body) if isinstance(body, (dict, list)) else body
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            raw = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            answer = ApiAnswer(response.status, response.headers, orjson.loads(raw) if is_json else raw or None)
            described().check(method, response.url.raw_path, answer.status, response.content_type, answer.body)
            return answer

    async def get(self, path: str | URL) -> ApiAnswer:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None) -> ApiAnswer:
        return await self.call("POST", path, body)

    async def put(self, path: str, body: Any = None) -> ApiAnswer:
        return await self.call("PUT", path, body)

    async def place(self, sku: str = "", quantity: int = 1, **more: Any) -> ApiAnswer:
        """Place an order of one line, or of `lines`, by default of the channel `tmall`."""
        order = {"order_id": unique_name("order"), "channel": "tmall", "lines": lines_of((sku, quantity))}
        return await self.post("/v1/orders", {**order, **more})

    async def send_events(self, *events: Event | bytes) -> ApiAnswer:
        """Send events to /v1/events: an answer means accepted, not yet applied."""
        body = b"".join((event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n" for event in events)
        return await self.call("POST", "/v1/events", body, headers=NDJSON)

    async def receive(self, sku: str, quantity: int, warehouse: str = "SH1") -> Any:
        """Receive units and wait until the ledger has them; the movement's result."""
        return await self.move(stock_received(unique_name("wms"), (sku, quantity), warehouse=warehouse))

    async def receive_new(self, quantity: int) -> str:
        """Receive units of a new SKU; its name."""
        sku = unique_name("sku")
        await self.receive(sku, quantity)
        return sku

    async def move(self, movement: Event) -> Any:
        """Send a movement and wait until the ledger has it; its result."""
        accepted = await self.post("/v1/movements", movement)
        assert accepted.status == 202, accepted.body
        return await self.movement(movement["warehouse"], movement["id"])

    async def movement(self, warehouse: str, movement_id: Any) -> Any:
        """The result of a movement, once it is known."""
        path = f"/v1/warehouses/{warehouse}/movements/{movement_id}"
        return await self.get_when(path, lambda answer: answer.status == 200)

    async def get_when(self, path: str | URL, holds: Callable[[ApiAnswer], bool]) -> Any:
        """The body of GET `path`, once `holds` is true of the answer."""
        answers: list[ApiAnswer] = []

        async def matches() -> bool:
            answers[:] = [await self.get(path)]
            return holds_already(holds, answers[0])

        await eventually(matches, self._seconds_max, lambda: str(answers[0]))
        return answers[0].body

    async def stock(self, sku: str) -> Any:
        answer = await self.get(f"/v1/stock/{sku}")
        assert answer.status == 200, answer.body
        return answer.body

    @asynccontextmanager
    async def feed(
        self, channel: str, last_id: str | None = None, of: Literal["feed", "orders/feed"] = "feed"
    ) -> AsyncIterator[FeedReader]:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        timeout = aiohttp.ClientTimeout(total=None)
        path = f"{self.api}/v1/channels/{channel}/{of}"
        async with self.session.get(path, headers=headers, timeout=timeout) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield FeedReader(response)


@asynccontextmanager
async def open_client(
    api: str, seconds_max: float = WAIT_SECONDS_MAX, key: str | None = None
) -> AsyncIterator[ApiTestClient]:
    timeout = aiohttp.ClientTimeout(total=seconds_max)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield ApiTestClient(session, api, seconds_max)


class FeedReader:
    """A subscription. `last_id` is what a browser would send when it reconnects."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.last_id: str | None = None
        self.versions: dict[str, int] = {}
        self._portions = read_frames(response.content)
        self._arrived: list[FeedFrame] = []

    async def next(self) -> FeedEvent:
        """The next event; comments are skipped. A version that does not grow fails the test."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not self._arrived:
                portion = await anext(self._portions, None)
                if portion is None:
                    raise EOFError("the feed ended")
                self._arrived += [frame for frame in portion if frame.event]
        return self._take(self._arrived.pop(0))

    async def until_synced(self) -> list[Any]:
        """The updates before `synced`."""
        updates = []
        while (event := await self.next()).event != "synced":
            if event.event == "stock":
                updates.append(event.data)
        return updates

    async def orders_until(self, *wanted: tuple[str, str]) -> list[tuple[str, str]]:
        """The orders of the feed with their states, until each of `wanted` has come."""
        found: list[tuple[str, str]] = []
        while not set(wanted) <= set(found):
            event = await self.next()
            if event.event == "order":
                found.append((event.data["order_id"], event.data["state"]))
        return found

    async def until(self, sku: str, **wanted: Any) -> Any:
        """The first update of `sku` that has these values."""
        while True:
            update = (await self.next()).data
            if update.get("sku") == sku and all(update[name] == value for name, value in wanted.items()):
                return update

    def _take(self, frame: FeedFrame) -> FeedEvent:
        event = FeedEvent(frame.event.decode(), orjson.loads(frame.data), frame.id.decode() if frame.id else None)
        if event.id is not None:
            self.last_id = event.id
        if event.event == "stock":
            sku, version = event.data["sku"], event.data["version"]
            assert version > self.versions.get(sku, 0), f"{sku} went from {self.versions[sku]} to {version}"
            self.versions[sku] = version
        return event
