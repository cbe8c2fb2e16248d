"""A receiver of webhooks: a real HTTP server on loopback that keeps every call.

In: what it answers, which a test may change. Out: the calls with their headers and bodies, signatures verified.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually

CHANNEL = "tmall"
# The environment of a system that may call a receiver.
ALLOW_LOOPBACK = {"STOCKTIDE_WEBHOOK_ALLOW": "127.0.0.0/8"}


@dataclass(slots=True)
class ReceivedCall:
    """One call. `at` is the loop's time; `status` is 0 until it is answered."""

    headers: dict[str, str]
    raw: bytes
    at: float
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def items(self) -> list[Any]:
        items: list[Any] = self.body["items"]
        return items

    def verify(self, secret: str) -> None:
        """Raises WebhookVerificationError."""
        Webhook(secret).verify(self.raw, self.headers)


@dataclass
class Receiver:
    """`answer(call)` gives the response of each call; by default 204. Answers wait while `gate` is not set."""

    url: str = ""
    calls: list[ReceivedCall] = field(default_factory=list)
    answer: Callable[[ReceivedCall], web.Response] = lambda call: web.Response(status=204)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    in_flight_max: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        call = ReceivedCall(
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
            asyncio.get_running_loop().time(),
            0,
        )
        response = self.answer(call)
        self.calls.append(call)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            await self.gate.wait()
            call.status = response.status
        finally:
            self.in_flight -= 1
        return response

    @property
    def taken(self) -> list[ReceivedCall]:
        """The calls that were answered with success."""
        return [call for call in self.calls if 200 <= call.status < 300]

    def versions(self, sku: str) -> list[int]:
        """The versions of a SKU in the calls that were taken, in order."""
        return [item["version"] for call in self.taken for item in call.items if item.get("sku") == sku]

    def newest(self, sku: str) -> Any:
        """The newest item of a SKU that was taken; None if there is none."""
        found = [item for call in self.taken for item in call.items if item.get("sku") == sku]
        return found[-1] if found else None

    async def until(self, holds: Callable[[], bool], seconds_max: float = 60.0) -> None:
        shown = lambda: str([(call.status, call.id, call.raw[:200]) for call in self.calls[-10:]])  # noqa: E731
        await eventually(holds, seconds_max, shown)


async def define_webhook(shop: ApiTestClient, receiver: Receiver, **fields: object) -> tuple[str, str]:
    """A new webhook of the receiver; its name and secret."""
    name = unique_name("hook")
    answer = await shop.put(f"/v1/webhooks/{name}", {"channel": CHANNEL, "url": receiver.url, **fields})
    assert answer.status == 201, answer.body
    return name, answer.body["secret"]


@asynccontextmanager
async def running_receiver(port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """A receiver at `/hook`, stopped at the end; on `port` if one is given."""
    receiver = Receiver()
    receiver.gate.set()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    assert runner.addresses
    receiver.url = f"http://{host}:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        receiver.gate.set()
        await runner.cleanup()
