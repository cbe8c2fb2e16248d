"""A proxy between a load test and the API that forwards everything and injects one kind of fault.

In: the API's address and a fault. Out: an address to use instead. `injected` counts the faults.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import aiohttp
import orjson
from aiohttp import web

PlantedFault = Literal["none", "oversell", "lost-answer", "lost-update", "cut-answer", "cut-feed"]

# Forwarded headers; the others are hop-by-hop or irrelevant to the API.
_HEADERS = ("Authorization", "Content-Type", "Last-Event-ID")


class FaultyProxy:
    """`oversell` turns each refusal into a hold; `lost-answer` answers one order without forwarding it; `lost-update`
    drops the last update of a feed. `cut-answer` closes the connection instead of the first answer to each POST, and
    `cut-feed` that of the first feed once it is synced."""

    def __init__(self, api: str, fault: PlantedFault, session: aiohttp.ClientSession) -> None:
        self.injected = 0
        self._api = api
        self._fault = fault
        self._session = session
        self._feeds = 0
        self._orders = 0
        self._cut: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Forward one request, or answer it wrongly."""
        if request.path.endswith("/feed"):
            return await self._feed(request)
        body = await request.read()
        placing = request.method == "POST" and request.path == "/v1/orders"
        if placing:
            self._orders += 1
            # Not the first orders: the load has to be under way.
            if self._fault == "lost-answer" and not self.injected and self._orders > 5:
                self.injected += 1
                return web.json_response(_as_if_held(orjson.loads(body)), status=201)
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        url = self._api + request.path_qs
        async with self._session.request(request.method, url, data=body, headers=headers) as response:
            answer = await response.read()
            if self._fault == "cut-answer" and request.method == "POST" and request.path not in self._cut:
                self._cut.add(request.path)
                self._close(request)
            if placing and self._fault == "oversell" and response.status == 409:
                self.injected += 1
                refused = orjson.loads(answer)["order"]
                return web.json_response(_as_if_held(orjson.loads(body), refused), status=201)
            content = response.headers.get("Content-Type", "application/json")
            return web.Response(status=response.status, body=answer, headers={"Content-Type": content})

    def _close(self, request: web.Request) -> None:
        self.injected += 1
        assert request.transport is not None
        request.transport.abort()

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        self._feeds += 1
        # The feed of a subscriber that does not record every update.
        is_faulty = self._fault == "lost-update" and self._feeds == 8
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        async with self._session.get(self._api + request.path_qs, headers=headers) as response:
            out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await out.prepare(request)
            delay = UpdateDelay() if is_faulty else None
            rest = b""
            async for chunk in response.content.iter_any():
                frames = (rest + chunk).split(b"\n\n")
                rest = frames.pop()
                kept = [frame for each in frames for frame in (delay.take(each) if delay else [each])]
                if kept:
                    await out.write(b"\n\n".join(kept) + b"\n\n")
                self.injected += bool(delay and delay.frame)
                if self._fault == "cut-feed" and self._feeds == 1 and b"event: synced" in chunk:
                    self._close(request)
                    break
            return out


class UpdateDelay:
    """Delays each update of a hot SKU until the next one: the last one is lost."""

    def __init__(self) -> None:
        self.frame: bytes | None = None

    def take(self, frame: bytes) -> list[bytes]:
        if b"-HOT-0000" not in frame:
            return [frame]
        before, self.frame = self.frame, frame
        return [before] if before else []


def _as_if_held(placed: dict[str, Any], refused: dict[str, Any] | None = None) -> dict[str, Any]:
    """The order as if it had been accepted."""
    held = {"state": "reserved", "preordered": 0}
    lines = [
        {**line, **held, "reserved": line["quantity"], "warehouses": {"SH1": line["quantity"]}}
        for line in placed["lines"]
    ]
    order = {"placed_at": "2026-11-11T00:00:00Z", "sequence": 1, **(refused or {})}
    own = {"order_id": placed["order_id"], "channel": placed["channel"], "expires_at": None, "replayed": False}
    return {**order, **own, "state": "reserved", "lines": lines}


@asynccontextmanager
async def faulty_proxy(api: str, fault: PlantedFault) -> AsyncIterator[tuple[str, FaultyProxy]]:
    """The proxy's address and the proxy, served."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        proxy = FaultyProxy(api, fault, session)
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] = proxy.answer
        runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}", proxy
        finally:
            await asyncio.wait_for(runner.cleanup(), 30)
