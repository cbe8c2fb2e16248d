"""The API's process from outside: errors at the start, readiness, and subscribers that do not keep up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stocktide.api.app import make_app
from stocktide.api.batching import Overloaded
from stocktide.api.event_producer import ProduceFailed
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.sse import ChannelFeeds, FeedHandler
from stocktide.api.handlers.health import Readiness
from stocktide.api.metrics import ApiMetrics
from stocktide.api.routes.route import Route
from stocktide.api_server import run
from stocktide.settings import Settings
from stocktide.streams.contract.documents import Status
from stocktide.tables.ledger.client import KnownSkus, Unblessed
from stocktide.tables.ledger.submission import Unsettled
from tests.harness.eventually import eventually
from tests.unit.access_parts import open_guard
from tests.unit.fakes import FakeRecord, FakeSource

NOBODY = "127.0.0.1:1"
READY = Status(True, {})


class FakeChannels:
    async def ensure(self, channel: str) -> None:
        pass


async def knows_nothing(cursor: str, limit: int) -> KnownSkus:
    return KnownSkus(0, ())


async def knows_two(cursor: str, limit: int) -> KnownSkus:
    return KnownSkus(2, ("A", "B"))


async def serve(path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> TestServer:
    route = Route(method="GET", path=path, handler=handler, summary="", answers={})
    server = TestServer(make_app([route], ApiMetrics(), open_guard()))
    await server.start_server()
    return server


def test_a_taken_port_is_reported_and_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(Settings(port=port, kafka=NOBODY, redis=f"redis://{NOBODY}")) == 1
    assert f"port {port} on 127.0.0.1 cannot be bound: Address already in use" in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Unsettled("no worker"), 503, "unsettled"),
        (TimeoutError(), 503, "unsettled"),
        (Unblessed("no takeover"), 503, "unavailable"),
        (ConnectionResetError(), 503, "unavailable"),
        (ProduceFailed("Kafka did not take the events"), 503, "unavailable"),
        (Overloaded(), 503, "overloaded"),
        (KeyError("inner secret"), 500, "internal_error"),
    ],
)
async def test_an_outage_is_a_problem_with_retry_after(failure: Exception, status: int, code: str) -> None:
    async def fail(_: web.Request) -> web.StreamResponse:
        raise failure

    server = await serve("/v1/fails", fail)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /v1/fails HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await server.close()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (b"Retry-After: 1" in head) == (status == 503)
    assert orjson.loads(body)["code"] == code
    assert b"inner secret" not in body


async def test_readiness_gives_every_reason_and_notifies_the_feeds_when_it_changes() -> None:
    reported: list[dict[str, Any]] = []
    wrong: list[str | None] = [None, None]
    checks = {"kafka": lambda: _says(wrong[0]), "redis": lambda: _says(wrong[1])}
    readiness = Readiness(checks, reported.append)
    assert await readiness.check() == READY
    assert await readiness.check() == READY
    wrong[:] = ["gone", "evicts"]
    both = Status(False, {"kafka": "gone", "redis": "evicts"})
    assert await readiness.check() == both
    assert reported == [READY, both]


async def _says(reason: str | None) -> str | None:
    return reason


async def test_a_subscriber_that_reads_nothing_is_dropped_with_a_reason() -> None:
    hub = Hub(1)
    padding = "x" * 10_000
    for number in range(2_000):
        value = orjson.dumps({"version": 1, "padding": padding})
        hub.add(0, [FakeRecord(number, value, f"tmall/S{number}".encode())])
    snapshots = SnapshotMonitor(hub, knows_nothing)
    parts = (CatchUp(hub, FakeSource()), FakeChannels(), snapshots, lambda: READY, OpenFeeds())
    feeds = FeedHandler(ChannelFeeds(hub, *parts, stall_seconds_max=0.2))
    server = await serve("/{channel}", feeds.feed)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((server.host, server.port))
    client.sendall(b"GET /tmall HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: hub.readers > 0)
    await eventually(lambda: hub.readers == 0)
    received = await asyncio.to_thread(_read_all, client)
    assert b'event: error\ndata: {"code":"too_slow"' in received
    await server.close()


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ("1", {"event": "resumed", "data": {"channel": "tmall"}}),
        ("nonsense", {"event": "reset", "data": {"channel": "tmall", "reason": "malformed_id"}}),
        ("1-2", {"event": "reset", "data": {"channel": "tmall", "reason": "malformed_id"}}),
        ("99", {"event": "reset", "data": {"channel": "tmall", "reason": "unknown_id"}}),
        ("", None),
        (None, None),
    ],
)
async def test_a_feed_first_says_whether_it_resumes_or_resets(given: str | None, first: Any) -> None:
    hub = Hub(1)
    for number, sku in enumerate("AB"):
        value = orjson.dumps({"version": 1, "sku": sku})
        hub.add(0, [FakeRecord(number, value, f"tmall/{sku}".encode())])
    catch_up, snapshots = CatchUp(hub, FakeSource(ends=(2,)), 0.01), SnapshotMonitor(hub, knows_two)
    feeds = FeedHandler(ChannelFeeds(hub, catch_up, FakeChannels(), snapshots, lambda: READY, OpenFeeds()))
    server = await serve("/{channel}", feeds.feed)
    for header, target in ((given, "/tmall"), (None, "/tmall" if given is None else f"/tmall?last_event_id={given}")):
        line = "" if header is None else f"Last-Event-ID: {header}\r\n"
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"GET {target} HTTP/1.0\r\nHost: x\r\n{line}\r\n".encode())
        async with asyncio.timeout(5):
            text = (await reader.readuntil(b"event: synced")).decode()
        writer.close()
        events = [block.split("\n") for block in text.split("\n\n") if "event: " in block]
        reported = [line.removeprefix("event: ") for block in events for line in block if line.startswith("event: ")]
        skus = ["B"] if first is not None and first["event"] == "resumed" else ["A", "B"]
        assert reported == ([first["event"]] if first else []) + ["stock"] * len(skus) + ["synced"]
        if first is not None:
            assert orjson.loads(events[0][-1].removeprefix("data: ")) == first["data"]
    hub.close()
    await server.close()


def _read_all(client: socket.socket) -> bytes:
    client.settimeout(10)
    received = bytearray()
    while chunk := client.recv(1 << 20):
        received += chunk
    client.close()
    return bytes(received)
