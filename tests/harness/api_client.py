"""A real client of the API: calls, and the feed as it comes over the wire."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from stocktide.retry import poll_until

# Everything here happens within a second on a quiet machine; a shared one takes many times that.
WAIT_SECONDS_MAX = 30.0
AT = "2026-11-11T00:00:00Z"

_numbers = itertools.count(1)


def fresh(what: str) -> str:
    """A name that no other test uses."""
    return f"{what}-{next(_numbers)}-{time.time_ns() % 10**9}"


@dataclass(slots=True)
class ApiAnswer:
    """A response, read whole. `body` is None where there is none."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The code of a problem, which it has to be."""
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, self.body)
        assert {"type", "title", "status", "detail", "code"} <= set(self.body)
        assert self.body["status"] == self.status
        return str(self.body["code"])


@dataclass(slots=True)
class FeedEvent:
    """One event of the feed."""

    event: str
    data: Any
    id: str | None


class ApiTestClient:
    """Calls one API at `api` (http://HOST:PORT)."""

    def __init__(self, session: aiohttp.ClientSession, api: str) -> None:
        self.session = session
        self.api = api

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> ApiAnswer:
        """One call; `body` is JSON unless it is bytes."""
        data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        async with self.session.request(method, self.api + path, data=data, headers=headers, **options) as response:
            raw = await response.read()
            is_json = "json" in response.headers.get("Content-Type", "")
            return ApiAnswer(response.status, response.headers, orjson.loads(raw) if is_json else raw or None)

    async def get(self, path: str) -> ApiAnswer:
        """GET."""
        return await self.call("GET", path)

    async def post(self, path: str, body: Any = None) -> ApiAnswer:
        """POST of JSON."""
        return await self.call("POST", path, body)

    async def place(self, sku: str, quantity: int = 1, **more: Any) -> ApiAnswer:
        """Place an order of one line, for `tmall` unless said otherwise."""
        order = {
            "order_id": fresh("order"),
            "channel": "tmall",
            "lines": [{"sku": sku, "quantity": quantity}],
            **more,
        }
        return await self.post("/v1/orders", order)

    async def receive(self, sku: str, quantity: int, warehouse: str = "SH1") -> Any:
        """Receive units, and wait until the ledger has them; what the movement did."""
        movement = {
            "type": "stock.received",
            "id": fresh("wms"),
            "occurred_at": AT,
            "warehouse": warehouse,
            "lines": [{"sku": sku, "quantity": quantity}],
        }
        taken = await self.post("/v1/movements", movement)
        assert taken.status == 202, taken.body
        return await self.movement(warehouse, movement["id"])

    async def movement(self, warehouse: str, movement_id: Any) -> Any:
        """What a movement did, once it is known."""
        path = f"/v1/warehouses/{warehouse}/movements/{movement_id}"
        return await self.once(path, lambda answer: answer.status == 200)

    async def once(self, path: str, holds: Callable[[ApiAnswer], bool]) -> Any:
        """The body of GET `path`, once its answer is as it is to be."""
        answers: list[ApiAnswer] = []

        async def asked() -> bool:
            answers[:] = [await self.get(path)]
            return holds(answers[0])

        assert await poll_until(asked, WAIT_SECONDS_MAX), answers[0]
        return answers[0].body

    async def stock(self, sku: str) -> Any:
        """A SKU."""
        answer = await self.get(f"/v1/stock/{sku}")
        assert answer.status == 200, answer.body
        return answer.body

    @asynccontextmanager
    async def feed(self, channel: str, last_id: str | None = None) -> AsyncIterator[FeedReader]:
        """Subscribe."""
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        timeout = aiohttp.ClientTimeout(total=None)
        path = f"{self.api}/v1/channels/{channel}/feed"
        async with self.session.get(path, headers=headers, timeout=timeout) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield FeedReader(response)


@dataclass(slots=True)
class FeedReader:
    """A subscription. `last_id` is what a browser would send when it comes back."""

    response: aiohttp.ClientResponse
    last_id: str | None = None
    versions: dict[str, int] = field(default_factory=dict)

    async def next(self) -> FeedEvent:
        """The next event; comments are passed over. A version that does not grow fails the test."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            fields: dict[str, str] = {}
            while True:
                line = (await self.response.content.readline()).decode().rstrip("\n")
                if line.startswith(":"):
                    continue
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    return self._frame(fields)
                elif self.response.content.at_eof():
                    raise EOFError("the feed ended")
                else:
                    fields = {}

    async def until_synced(self) -> list[Any]:
        """The updates before `synced`."""
        updates = []
        while (frame := await self.next()).event != "synced":
            if frame.event == "stock":
                updates.append(frame.data)
        return updates

    async def until(self, sku: str, **wanted: Any) -> Any:
        """The first update of `sku` that has these values."""
        while True:
            update = (await self.next()).data
            if update.get("sku") == sku and all(update[name] == value for name, value in wanted.items()):
                return update

    def _frame(self, fields: dict[str, str]) -> FeedEvent:
        frame = FeedEvent(fields["event"], orjson.loads(fields["data"]), fields.get("id"))
        if frame.id is not None:
            self.last_id = frame.id
        if frame.event == "stock":
            sku, version = frame.data["sku"], frame.data["version"]
            assert version > self.versions.get(sku, 0), f"{sku} went from {self.versions[sku]} to {version}"
            self.versions[sku] = version
        return frame
