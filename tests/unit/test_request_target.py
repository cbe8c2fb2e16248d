"""Paths, queries and malformed requests, over a real socket and aiohttp's own parser."""

from __future__ import annotations

import asyncio
import gzip
import socket
import sys
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from stocktide.api import problems
from stocktide.api.app import make_app
from stocktide.api.listen import listen
from stocktide.api.metrics import ApiMetrics
from stocktide.api.requests import QUERY_BYTES_MAX, check_name, check_target, parse_query, read_message
from stocktide.api.routes.route import Route
from stocktide.streams.contract.events import decode_event
from tests.unit.access_parts import many_connections, open_guard

SECONDS_MAX = 10.0
_ANY = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `code` is that of a problem document."""

    status: int
    headers: bytes
    body: Any

    @property
    def code(self) -> str:
        assert b"Content-Type: application/problem+json" in self.headers, (self.headers, self.body)
        assert self.body["status"] == self.status
        return str(self.body["code"])


async def _echo(request: web.Request) -> web.Response:
    names = dict(request.match_info)
    for field, value in names.items():
        if (wrong := check_name(field, value)) is not None:
            return wrong
    return problems.json_response({"path": names, "query": list(parse_query(request).items())})


async def _take(request: web.Request) -> web.Response:
    body = await read_message(request, _ANY)
    return body if isinstance(body, web.Response) else problems.json_response(body)


def _routes() -> Iterator[Route]:
    for path in ("/v1/stock/{sku}", "/v1/policies/{channel}/{sku}", "/v1/channels/{channel}/feed"):
        for method in ("GET", "PUT"):
            yield Route(method=method, path=path, handler=_echo, summary="", answers={})
    yield Route(method="POST", path="/v1/orders", handler=_take, summary="", answers={})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        app = make_app(list(_routes()), ApiMetrics(), open_guard())
        await listen(app, listening, stack, 1.0, many_connections())
        yield listening.getsockname()[1]


async def send(port: int, request: bytes) -> Answer:
    """The first answer to these bytes."""
    async with asyncio.timeout(SECONDS_MAX):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b": 0")
        body = await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()
    return Answer(int(head.split()[1]), head, orjson.loads(body) if body else None)


async def get(port: int, target: str | bytes, method: bytes = b"GET") -> Answer:
    raw = target.encode() if isinstance(target, str) else target
    return await send(port, method + b" " + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_every_printable_character_arrives_in_a_path_and_in_a_query_as_it_was_sent(port: int) -> None:
    every = map(chr, range(sys.maxunicode + 1))
    printable = [each for each in every if each.isprintable() and unicodedata.category(each) not in ("Cs", "Co", "Cn")]
    printable.remove(" ")
    # Each printable character is in some name.
    names = ["".join(printable[start : start + 128]) for start in range(0, len(printable), 128)]
    async with asyncio.timeout(60):
        for name in names:
            sku = quote(name, safe="")
            answer = await get(port, f"/v1/policies/{sku.lower() if '%2f' in sku else sku}/x?sku={sku}")
            assert answer.body["path"]["channel"] == name
            assert answer.body["query"] == [["sku", name]]


TRICKY = [
    *("a/b", "%2F", "%25", "%", "%%", "a%2Fb", "..", ".", "a+b", "+"),
    *("a&b=c", "a;b", "a?b", "a#b", "a\\b", "é", "e\u0301"),
]


@pytest.mark.parametrize("name", TRICKY)
async def test_a_name_that_looks_like_a_piece_of_an_address_arrives(port: int, name: str) -> None:
    sku = quote(name, safe="").replace(".", "%2E")
    for form in (sku, sku.replace("%2F", "%2f")):
        answer = await get(port, f"/v1/stock/{form}?cursor={form}&sku={form}&sku=")
        assert answer.body == {"path": {"sku": name}, "query": [["cursor", name], ["sku", name], ["sku", ""]]}


async def test_what_a_client_need_not_escape_arrives_as_well(port: int) -> None:
    answer = await get(port, "/v1/stock/a+b?sku=a+b&since=2026-11-11T00:00:00+08:00&x")
    assert answer.body["path"] == {"sku": "a+b"}
    assert answer.body["query"] == [["sku", "a+b"], ["since", "2026-11-11T00:00:00+08:00"], ["x", ""]]
    assert (await get(port, "/v1/stock/..")).body["path"] == {"sku": ".."}


BROKEN = b"caf%E9 % a%4 %zz %C3 %ED%A0%80 %C0%AF %F5%80%80%80 %C3%28 caf\xe9 %u20AC".split()


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
async def test_an_escape_that_is_no_utf_8_is_never_a_name(port: int, broken: bytes, method: bytes) -> None:
    for (
        target
    ) in b"policies/web/%b policies/%b/A stock/A?sku=%b stock/A?%b channels/tmall/feed?last_event_id=%b".split():
        answer = await get(port, b"/v1/" + target.replace(b"%b", broken), method)
        assert (answer.status, answer.code) == (400, "malformed_path"), target
    assert (await get(port, b"/nowhere/" + broken, method)).code == "malformed_path"


async def test_a_control_character_or_white_space_is_no_name_and_a_fragment_is_not_lost(port: int) -> None:
    for escape in ("%00", "%0A", "%20", "%7F", "%C2%85", "%E2%80%8B", "%EF%BB%BF"):
        answer = await get(port, f"/v1/stock/a{escape}b")
        assert (answer.status, answer.code) == (422, "invalid_field"), escape
    answer = await get(port, "/v1/stock/a#b")
    assert (answer.status, answer.code) == (400, "malformed_path")
    assert "%23" in answer.body["detail"]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20), min_size=1, max_size=5))
async def test_whatever_is_escaped_as_utf_8_is_decoded_to_the_same(values: list[str]) -> None:
    query = "&".join(f"sku={quote(value, safe='')}" for value in values)
    request = make_mocked_request("GET", f"/?{query}")
    assert check_target(request) is None
    assert parse_query(request).getall("sku") == values


async def test_a_query_of_64_kib_is_taken_and_a_longer_one_is_a_414_problem(port: int) -> None:
    skus = [f"{number:04d}" + "x" * 124 for number in range(400)]
    answer = await get(port, "/v1/stock/A?" + "&".join(f"sku={sku}" for sku in skus))
    assert [value for _, value in answer.body["query"]] == skus
    assert (await get(port, "/v1/stock/A?" + "&".join(["sku=A"] * 1_000))).status == 200
    assert (await get(port, "/v1/stock/A?x=" + "y" * (QUERY_BYTES_MAX - 2))).status == 200
    for length in (QUERY_BYTES_MAX - 1, 2 * QUERY_BYTES_MAX, 50 * QUERY_BYTES_MAX):
        answer = await get(port, "/v1/stock/A?x=" + "y" * length)
        assert (answer.status, answer.code) == (414, "uri_too_long")
    assert (await get(port, "/v1/stock/" + "y" * 200_000)).code == "uri_too_long"


HEAD = b"GET /v1/stock/A HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed_request"),
    (b"nonsense\r\n\r\n", 400, "malformed_request"),
    (b"GET /nowhere\r\n\r\n", (400, 404), None),
    (b"G\x00T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    (b"GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_path"),
    ("GET /v1/stock/天猫 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400, "malformed_path"),
    ("GET /v1/stock/A?sku=天猫 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400, "malformed_path"),
    (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"no colon\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"X: a\x00b\r\n\r\n", 400, "malformed_request"),
    (HEAD + b"X: " + b"y" * 20_000 + b"\r\n\r\n", 431, "headers_too_large"),
    (HEAD + b"".join(b"X%d: y\r\n" % number for number in range(500)) + b"\r\n", 400, "malformed_request"),
    (POST + b"Content-Length: 1x\r\n\r\n{}", 400, "malformed_request"),
    (POST + b"Content-Length: -1\r\n\r\n{}", 400, "malformed_request"),
    (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "malformed_request"),
    (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400, "malformed_request"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, None),
    (POST + b"Transfer-Encoding: nonsense\r\n\r\n{}", 400, None),
    (POST + b"Expect: nonsense\r\nContent-Length: 2\r\n\r\n{}", 417, "expectation_failed"),
    (b"GET /nowhere HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n", 417, "expectation_failed"),
    (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
    (b"PATCH /v1/orders HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    (b"BREW /v1/orders HTTP/1.1\r\nHost: x\r\n\r\n", (400, 405), None),
    (b"OPTIONS /v1/orders HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405), None),
    (b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404, 405), None),
    (POST + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", 400, "malformed_body"),
    *(
        (POST + b"Content-Encoding: %b\r\nContent-Length: 2\r\n\r\n{}" % encoding, 415, "unsupported_media_type")
        for encoding in (b"br", b"zstd", b"nonsense", b"gzip, gzip", b"\xff")
    ),
    (POST + b"Content-Type: text/\xff\r\nContent-Length: 2\r\n\r\n{}", 415, "unsupported_media_type"),
    (POST + b"Origin: http://[half\r\nContent-Length: 2\r\n\r\n{}", 403, "foreign_origin"),
    (POST + b"Content-Length: 3\r\n\r\n{x}", 400, "malformed_json"),
]


@pytest.mark.parametrize(("request_", "status", "code"), NOT_HTTP, ids=lambda value: repr(value)[:60])
async def test_a_refused_request_is_a_problem(
    port: int, request_: bytes, status: int | tuple[int, ...], code: str | None
) -> None:
    answer = await send(port, request_)
    assert answer.status in (status if isinstance(status, tuple) else (status,)), answer
    assert answer.code == (code or answer.code)
    assert (await get(port, "/v1/stock/A")).status == 200


async def test_a_body_that_unpacks_to_more_than_is_taken_is_413(port: int) -> None:
    bomb = gzip.compress(b'{"a":"' + b"x" * 200_000_000 + b'"}', compresslevel=1)
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    answer = await send(port, head + bomb)
    assert (answer.status, answer.code) == (413, "too_large")
    small = gzip.compress(b'{"a":1}')
    head = POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(small)
    assert (await send(port, head + small)).body == {"a": 1}


async def test_a_byte_order_mark_before_a_body_is_passed_over(port: int) -> None:
    body = b'\xef\xbb\xbf{"a":1}'
    assert (await send(port, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)).body == {"a": 1}
    assert decode_event(b"\xef\xbb\xbf{}") == decode_event(b"{}")
