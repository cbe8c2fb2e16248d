"""A subscriber of the load test: what it records, and how it reconnects, over either transport."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stocktide.client import ApiError, Client
from stocktide.client.feed import FeedFrame, FeedTransport, parse_frame, parse_message
from stocktide.client.http import KEY_VARIABLE
from stocktide.loadtest.oracle import history
from stocktide.loadtest.run.recording import RecordingSubscriber
from tests.harness.eventually import eventually

UPDATE = (
    b'{"channel":"tmall","sku":"A","quantity":%d,"mode":"in_stock","preorder_remaining":0,"version":%d,"as_of":"x"}'
)
both_transports = pytest.mark.parametrize("transport", ["sse", "websocket"])


@asynccontextmanager
async def feed(*connections: bytes) -> AsyncIterator[tuple[str, list[str | None]]]:
    """An API whose n-th connection sends these frames and ends; later ones are refused. Also the ids of the requests.

    A socket sends the same frames as messages: what is no event is left out, and so is an incomplete last one.
    """
    ids: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        ids.append(request.headers.get("Last-Event-ID"))
        if len(ids) > len(connections):
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(connections[len(ids) - 1])
        return response

    async def answer_socket(request: web.Request) -> web.StreamResponse:
        ids.append(request.query.get("last_event_id"))
        if len(ids) > len(connections):
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        *whole, _ = connections[len(ids) - 1].split(b"\n\n")
        for event, data, id_ in filter(lambda each: each.event, map(parse_frame, whole)):
            message = {"event": event.decode(), "data": orjson.loads(data), **({"id": id_.decode()} if id_ else {})}
            await socket.send_str(orjson.dumps(message).decode())
        await socket.close(code=4503)
        return socket

    app = web.Application()
    app.router.add_get("/v1/channels/tmall/feed", answer)
    app.router.add_get("/v1/channels/tmall/socket", answer_socket)
    async with TestServer(app) as server:
        yield f"http://{server.host}:{server.port}", ids


async def records_of(
    transport: FeedTransport, *connections: bytes
) -> tuple[list[history.HistoryRecord], list[str | None]]:
    """The records of a subscriber until it is refused, and the ids of its requests."""
    records: list[history.HistoryRecord] = []
    async with feed(*connections) as (api, ids):
        clock = history.HistoryClock()
        subscriber = RecordingSubscriber("s1", "tmall", [api], clock, records.append, transport=transport)
        subscriber.start()
        await eventually(lambda: len(ids) > len(connections))
        await subscriber.stop()
    return records, ids


def frame(quantity: int, version: int, id_: str) -> bytes:
    return f"id: {id_}\nevent: stock\ndata: ".encode() + UPDATE % (quantity, version) + b"\n\n"


def test_a_message_that_is_none_becomes_an_update_that_cannot_be_read() -> None:
    for text in (b"", b"[]", b'{"event":1}', b'{"event":"stock","data":{},"id":"\xff"}'):
        assert parse_message(text) == FeedFrame(b"stock", text, None)
    assert parse_message(b'{"event":"synced","id":"7-0","data":{"a":1}}') == FeedFrame(b"synced", b'{"a":1}', b"7-0")


@both_transports
async def test_updates_and_synced_are_written_down_and_all_else_is_passed_over(transport: FeedTransport) -> None:
    sent = b"retry: 1000\n\n" + frame(3, 1, "1-0") + b": heartbeat\n\nevent: status\ndata: {}\n\n"
    records, _ = await records_of(
        transport, sent + b'id: 2-0\nevent: synced\ndata: {"channel":"tmall"}\n\n' + frame(2, 2, "3-0")
    )
    assert [type(record) for record in records] == [
        history.Subscribed,
        history.UpdateReceived,
        history.Synced,
        history.UpdateReceived,
        history.Unsubscribed,
        history.Unsubscribed,
    ]
    seen = [record.update for record in records if isinstance(record, history.UpdateReceived)]
    assert [(update.quantity, update.version) for update in seen] == [(3, 1), (2, 2)]
    assert isinstance(records[-1], history.Unsubscribed) and records[-1].left


@both_transports
async def test_a_reconnect_names_the_last_complete_event(transport: FeedTransport) -> None:
    records, ids = await records_of(transport, frame(3, 1, "1-0") + frame(2, 2, "2-0")[:-1], b"")
    assert ids == [None, "1-0", "1-0"]
    assert [record.last_event_id for record in records if isinstance(record, history.Subscribed)] == [None, "1-0"]
    assert len([record for record in records if isinstance(record, history.UpdateReceived)]) == 1


@both_transports
async def test_an_update_that_is_none_is_a_record_too(transport: FeedTransport) -> None:
    records, _ = await records_of(transport, b"id: 1-0\nevent: stock\ndata: {}\n\n")
    assert any(isinstance(record, history.UnreadableRow) and record.topic == "feed of tmall" for record in records)


@both_transports
async def test_the_key_of_the_load_test_is_sent(transport: FeedTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "stk_test_key")
    keys: list[str | None] = []

    async def refuse(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Authorization"))
        return web.Response(status=401)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with TestServer(app) as server:
        api, clock = f"http://{server.host}:{server.port}", history.HistoryClock()
        subscriber = RecordingSubscriber("s1", "tmall", [api], clock, lambda record: None, transport=transport)
        subscriber.start()
        await eventually(lambda: bool(keys))
        await subscriber.stop()
    assert keys[0] == "Bearer stk_test_key"


@pytest.mark.parametrize(("transport", "path"), [("sse", "feed"), ("websocket", "socket")])
async def test_a_refusal_names_the_path_that_was_called(transport: FeedTransport, path: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=401)

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with TestServer(app) as server, Client(f"http://{server.host}:{server.port}", key="k") as client:
        with pytest.raises(ApiError, match=f"GET /v1/channels/own/{path} was answered 401"):
            async for _ in client.feed("own", skus=["A"], transport=transport):
                pass
