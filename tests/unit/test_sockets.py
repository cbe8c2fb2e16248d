"""Sockets on a real connection whose client does not keep up, and the messages and selections of those that do."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import TestServer

from stocktide.api.app import make_app
from stocktide.api.feeds.catch_up import CatchUp
from stocktide.api.feeds.close_codes import CloseCode
from stocktide.api.feeds.connections import OpenFeeds
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import ChannelFeeds, FeedHandler
from stocktide.api.metrics import ApiMetrics
from stocktide.api.routes.route import Route
from stocktide.client.feed import parse_message
from stocktide.streams.contract.documents import Status
from stocktide.tables.ledger.client import KnownSkus
from tests.harness.eventually import eventually
from tests.unit.access_parts import open_guard
from tests.unit.fakes import FakeRecord, FakeSource

SECONDS_MAX = 10.0
# What the kernel keeps of a connection whose client reads nothing, on both sides, is far less.
KERNEL_BYTES_MAX = 8 * 1024 * 1024
HANDSHAKE = (
    b"GET /tmall HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Channels:
    async def ensure(self, channel: str) -> None:
        pass


async def knows_nothing(cursor: str, limit: int) -> KnownSkus:
    return KnownSkus(0, ())


@asynccontextmanager
async def serving(
    hub: Hub, stall_seconds_max: float = 60.0, heartbeat_seconds: float = 60.0, pong_seconds_max: float = 60.0
) -> AsyncIterator[tuple[TestServer, OpenFeeds]]:
    """The sockets of a hub at `/{channel}`, and at `/{channel}/feed` the same by SSE."""
    open_feeds = OpenFeeds()
    parts = (CatchUp(hub, FakeSource()), Channels(), SnapshotMonitor(hub, knows_nothing), lambda: Status(True, {}))
    feeds = ChannelFeeds(hub, *parts, open_feeds, stall_seconds_max)
    handler = SocketHandler(feeds, heartbeat_seconds, pong_seconds_max)
    handlers = {"/{channel}": handler.socket, "/{channel}/feed": FeedHandler(feeds).feed}
    routes = [Route(method="GET", path=path, handler=each, summary="", answers={}) for path, each in handlers.items()]
    server = TestServer(make_app(routes, ApiMetrics(), open_guard()))
    await server.start_server()
    try:
        yield server, open_feeds
    finally:
        hub.close()
        await server.close()


def publish(hub: Hub, skus: list[str], version: int, padding: int = 0) -> None:
    """One update of each SKU. `padding` bytes make it so long."""
    at = hub.position[0]
    pad = os.urandom(padding // 2).hex()
    for number, sku in enumerate(skus):
        value = {"channel": "tmall", "sku": sku, "quantity": version, "version": version, "padding": pad}
        hub.add(0, [FakeRecord(at + number, orjson.dumps(value), f"tmall/{sku}".encode())])


def connect_and_read_nothing(server: TestServer) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((server.host, server.port))
    client.sendall(HANDSHAKE)
    return client


def read_frames(client: socket.socket, enough: bytes) -> list[tuple[int, bytes]]:
    """(first byte, payload) of each frame until the connection ends or `enough` has come."""
    client.settimeout(SECONDS_MAX)
    received = bytearray()
    while chunk := client.recv(1 << 20):
        received += chunk
        if enough and enough in received:
            break
    client.close()
    data, frames = bytes(received).split(b"\r\n\r\n", 1)[1], []
    while data:
        length, begin = data[1], 2
        if length > 125:
            begin = 4 if length == 126 else 10
            length = int.from_bytes(data[2:begin], "big")
        frames.append((data[0], data[begin : begin + length]))
        data = data[begin + length :]
    return frames


async def test_a_socket_that_reads_nothing_for_too_long_is_dropped_with_its_code() -> None:
    hub = Hub(1)
    publish(hub, [f"S{number}" for number in range(1_000)], 1, padding=20_000)
    async with serving(hub, stall_seconds_max=0.2) as (server, open_feeds):
        client = connect_and_read_nothing(server)
        await eventually(lambda: len(open_feeds) > 0)
        await eventually(lambda: len(open_feeds) == 0)
        *updates, (opcode, close) = await asyncio.to_thread(read_frames, client, b"")
        assert opcode == 0x88 and int.from_bytes(close[:2], "big") == CloseCode.TOO_SLOW == 4408
        assert close[2:] == b"nothing was read for 0 seconds"
        assert 0 < len(updates) < 1_000


async def test_a_socket_that_answers_no_ping_is_dropped_with_the_same_code() -> None:
    hub = Hub(1)
    async with (
        serving(hub, heartbeat_seconds=0.05, pong_seconds_max=0.2) as (server, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(server.make_url("/tmall"), autoping=False) as it,
    ):
        async with asyncio.timeout(SECONDS_MAX):
            while (message := await it.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING):
                pass
        assert (it.close_code, message.extra) == (4408, "no ping was answered for 0 seconds")


@pytest.mark.parametrize(("ends", "code"), [("close", CloseCode.SHUTTING_DOWN), ("begin", CloseCode.STREAM_RECREATED)])
async def test_both_transports_say_why_the_hub_ends_a_feed(ends: str, code: CloseCode) -> None:
    hub = Hub(1)
    async with serving(hub) as (server, open_feeds), aiohttp.ClientSession() as session:
        async with (
            session.ws_connect(server.make_url("/tmall")) as it,
            session.get(server.make_url("/tmall/feed")) as stream,
        ):
            await eventually(lambda: hub.readers == 2)
            if ends == "close":
                hub.close()
            else:
                hub.begin("0123456789ab")
            async with asyncio.timeout(SECONDS_MAX):
                events = [orjson.loads(message.data)["event"] async for message in it]
                text = await stream.text()
            assert it.close_code == code and set(events) <= {"synced"}
            assert text.count("event: error") == 1 and text.endswith("\n\n")
            assert orjson.loads(text.rpartition("data: ")[2])["code"] == code.name.lower()
        await eventually(lambda: len(open_feeds) == 0)


async def test_of_a_slow_client_the_hub_keeps_the_newest_update_of_each_sku_and_no_more() -> None:
    hub, skus, rounds = Hub(1), [f"S{number}" for number in range(50)], 100
    publish(hub, skus, 1)
    async with serving(hub) as (server, open_feeds):
        client = connect_and_read_nothing(server)
        await eventually(lambda: hub.readers > 0)
        for version in range(2, rounds + 2):
            publish(hub, skus, version, padding=4_000)
            await asyncio.sleep(0.001)
        assert hub.rows == len(skus)
        (connection,) = open_feeds._connections
        transport = connection.request.transport
        assert transport is not None and transport.get_write_buffer_size() < 256 * 1024
        newest = b'"sku":"S49","quantity":%d,' % (rounds + 1)
        frames = await asyncio.to_thread(read_frames, client, newest)
        updates = [orjson.loads(parse_message(text).data) for _, text in frames[:-1] if b'"stock"' in text]
        versions: dict[str, int] = {}
        for update in updates:
            assert update["version"] > versions.get(update["sku"], 0)
            versions[update["sku"]] = update["version"]
        assert set(versions) == set(skus)
        published = rounds * len(skus) * 4_000
        assert sum(len(text) for _, text in frames) < KERNEL_BYTES_MAX < published / 2
