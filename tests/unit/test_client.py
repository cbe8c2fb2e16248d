"""The Python client: retries over HTTP, frames of a feed, and the topic of an event."""

from __future__ import annotations

import ast
import asyncio
import copy
import itertools
import pickle
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stocktide import client as package
from stocktide.client import ApiError, Client, NoApiResponse, Retry, StocktideError, SyncClient
from stocktide.client.feed import FeedFrame, read_frames
from stocktide.client.http import ApiResponse
from stocktide.loadtest.client.http import StocktideClient
from stocktide.loadtest.client.kafka import record_of

STOCK = b'{"sku":"A","version":3,"on_hand":5}'


@asynccontextmanager
async def api(*responses: tuple[int, bytes]) -> AsyncIterator[tuple[StocktideClient, list[str]]]:
    """A client of a server that sends these responses, the last one for ever; and the paths of the requests."""
    paths: list[str] = []

    async def respond(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        status, body = responses[min(len(paths), len(responses)) - 1]
        return web.Response(status=status, body=body, headers={"Retry-After": "0"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    async with TestServer(app) as server, StocktideClient(str(server.make_url(""))) as client:
        yield client, paths


async def test_a_read_is_retried_after_429_and_503() -> None:
    async with api((429, b""), (503, b""), (200, STOCK)) as (client, paths):
        stock = await client.stock("A/1")
    assert stock is not None and (stock.version, stock.on_hand) == (3, 5)
    assert paths == ["/v1/stock/A%2F1"] * 3


async def test_an_unknown_sku_is_none_and_a_body_that_breaks_the_contract_is_an_error() -> None:
    async with api((404, b""), (200, b"{}")) as (client, _):
        assert await client.stock("A") is None
        with pytest.raises(ApiError, match="GET /v1/stock/A is not what the contract says"):
            await client.stock("A")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_an_error_that_names_its_variable(status: int) -> None:
    async with api((status, b"")) as (client, _):
        with pytest.raises(ApiError, match="STOCKTIDE_KEY"):
            await client.stock("A")


async def test_a_rejected_order_is_a_value_with_its_code() -> None:
    async with api((409, b'{"code":"insufficient_stock"}')) as (client, _):
        outcome = await client.place_order({"order_id": "o1"})
    assert (outcome.status, outcome.order, outcome.code) == (409, None, "insufficient_stock")


async def test_retries_end_after_a_bounded_time_with_the_last_problem() -> None:
    async with api((503, b'{"code":"unsettled"}')) as (client, _):
        client.retry = Retry(seconds_max=0.2, pause_seconds=0.01)
        with pytest.raises(ApiError, match="no answer for 0 s: 503") as found:
            await client.call("GET", "/v1/stock/A")
    assert (found.value.status, found.value.code) == (503, "unsettled")


async def test_the_last_problem_is_told_also_where_the_time_ends_while_an_answer_is_awaited() -> None:
    async with api((503, b'{"code":"unsettled"}')) as (client, _):
        client.retry = Retry(seconds_max=0.3, pause_seconds=0.01)
        send, sent = client.send, itertools.count()

        async def send_once(*arguments: Any) -> ApiResponse:
            if next(sent):
                await asyncio.sleep(10)
            return await send(*arguments)

        client.send = send_once  # type: ignore[method-assign]
        with pytest.raises(ApiError, match="503") as found:
            await client.call("GET", "/v1/stock/A")
    assert (found.value.status, found.value.code) == (503, "unsettled")


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("3600", 60.0), ("Wed, 21 Oct", 0.2), ("", 0.2)])
def test_the_pause_before_a_retry_is_at_least_the_one_that_the_api_asks_for(header: str, seconds: float) -> None:
    assert seconds / 2 <= Retry().pause(1, header) <= seconds


def test_pauses_grow_to_a_bound() -> None:
    assert [round(max(Retry().pause(attempt) for _ in range(200)), 0) for attempt in (1, 4, 99)] == [0, 2, 5]


class Content:
    """The body of a response, in these chunks."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


@pytest.mark.parametrize("size", [1, 7, 1_000])
async def test_frames_are_whole_whatever_their_chunks_and_line_ends(size: int) -> None:
    sent = b': heartbeat\n\nid: 7\r\nevent: stock\r\ndata: {"a":\r\ndata:1}\r\n\r\nevent: synced\ndata: {}\n\nid: 9\n'
    chunks = [sent[start : start + size] for start in range(0, len(sent), size)]
    content: aiohttp.StreamReader = Content(*chunks)  # type: ignore[assignment]
    frames = [frame async for frames in read_frames(content) for frame in frames]
    assert frames == [
        FeedFrame(b"", b"", None),
        FeedFrame(b"stock", b'{"a":\n1}', b"7"),
        FeedFrame(b"synced", b"{}", None),
    ]


def test_an_event_goes_to_the_topic_and_key_that_keep_its_order() -> None:
    assert record_of({"type": "order.paid", "order_id": "o1"})[:2] == ("orders", b"o1")
    assert record_of({"type": "stock.counted", "warehouse": "SH1"})[:2] == ("movements", b"SH1")


def test_a_type_checker_sees_each_name_and_no_other() -> None:
    body = ast.parse(Path(str(package.__file__)).read_text()).body
    checked = next(each for each in body if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING")
    imports = [each for each in [*body, *checked.body] if isinstance(each, ast.ImportFrom) and each.level == 1]
    assert sorted(name.name for each in imports for name in each.names) == sorted(package.__all__)
    # With it any misspelt name has a type.
    assert "__getattr__" not in {each.name for each in body if isinstance(each, ast.FunctionDef)}
    assert all(getattr(package, name) is not None for name in package.__all__)


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_an_error_reaches_another_process_as_it_is(again: Callable[[StocktideError], StocktideError]) -> None:
    lost, refused = again(NoApiResponse("timeout", "no answer")), again(ApiError("no", 409, {"code": "not_now"}))
    assert isinstance(lost, NoApiResponse) and (lost.reason, str(lost), lost.code) == (
        "timeout",
        "no answer",
        "no_answer",
    )
    assert isinstance(refused, ApiError) and (refused.status, refused.code) == (409, "not_now")


@pytest.mark.parametrize("api", ["127.0.0.1:8080", [], ["http://a", "b"]])
def test_an_address_that_no_attempt_can_reach_is_refused_at_once(api: str | list[str]) -> None:
    with pytest.raises(StocktideError, match="http://"):
        Client(api)


def test_a_client_without_asyncio_keeps_nobody_waiting_that_is_not_open() -> None:
    client = SyncClient("http://127.0.0.1:1")
    with pytest.raises(StocktideError, match="with"):
        client.stock("A")
    with client:
        pass
    with pytest.raises(StocktideError, match="with"):
        next(client.stocks())


def test_its_end_ends_the_calls_and_feeds_of_other_threads() -> None:
    ended: list[str] = []

    def follow(client: SyncClient, of: str) -> None:
        try:
            client.stock("A") if of == "stock" else next(iter(client.feed("own")))
        except StocktideError as error:
            ended.append(f"{of}: {error}")

    # It accepts, and never answers.
    with socket.create_server(("127.0.0.1", 0)) as server:
        with SyncClient(f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            threads = [threading.Thread(target=follow, args=(client, of), daemon=True) for of in ("stock", "feed")]
            for thread in threads:
                thread.start()
            for _ in threads:
                server.accept()
        for thread in threads:
            thread.join(timeout=10)
    assert sorted(ended) == [f"{of}: the client was closed during this call" for of in ("feed", "stock")]
