"""A subscriber of the load test: what it records, and how it reconnects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from stocktide.loadtest.oracle import history
from stocktide.loadtest.run.recording import RecordingSubscriber
from tests.harness.eventually import eventually

UPDATE = (
    b'{"channel":"tmall","sku":"A","quantity":%d,"mode":"in_stock","preorder_remaining":0,"version":%d,"as_of":"x"}'
)


@asynccontextmanager
async def feed(*connections: bytes) -> AsyncIterator[tuple[str, list[str | None]]]:
    """An API whose n-th connection sends these bytes and ends; later ones are refused. Also the ids of the requests."""
    ids: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        ids.append(request.headers.get("Last-Event-ID"))
        if len(ids) > len(connections):
            return web.Response(status=503)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(connections[len(ids) - 1])
        return response

    app = web.Application()
    app.router.add_get("/v1/channels/tmall/feed", answer)
    async with TestServer(app) as server:
        yield f"http://{server.host}:{server.port}", ids


async def records_of(*connections: bytes) -> tuple[list[history.HistoryRecord], list[str | None]]:
    """The records of a subscriber until it is refused, and the ids of its requests."""
    records: list[history.HistoryRecord] = []
    async with feed(*connections) as (api, ids):
        subscriber = RecordingSubscriber("s1", "tmall", [api], history.HistoryClock(), records.append)
        subscriber.start()
        await eventually(lambda: len(ids) > len(connections))
        await subscriber.stop()
    return records, ids


def frame(quantity: int, version: int, id_: str) -> bytes:
    return f"id: {id_}\nevent: stock\ndata: ".encode() + UPDATE % (quantity, version) + b"\n\n"


async def test_updates_and_synced_are_written_down_and_all_else_is_passed_over() -> None:
    sent = b"retry: 1000\n\n" + frame(3, 1, "1-0") + b": heartbeat\n\nevent: status\ndata: {}\n\n"
    records, _ = await records_of(sent + b'id: 2-0\nevent: synced\ndata: {"channel":"tmall"}\n\n' + frame(2, 2, "3-0"))
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


async def test_a_reconnect_names_the_last_complete_event() -> None:
    records, ids = await records_of(frame(3, 1, "1-0") + frame(2, 2, "2-0")[:-1], b"")
    assert ids == [None, "1-0", "1-0"]
    assert [record.last_event_id for record in records if isinstance(record, history.Subscribed)] == [None, "1-0"]
    assert len([record for record in records if isinstance(record, history.UpdateReceived)]) == 1


async def test_an_update_that_is_none_is_a_record_too() -> None:
    records, _ = await records_of(b"id: 1-0\nevent: stock\ndata: {}\n\n")
    assert any(isinstance(record, history.UnreadableRow) and record.topic == "feed of tmall" for record in records)
