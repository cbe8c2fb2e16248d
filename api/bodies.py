"""Bodies of requests: read within a bound, decoded into what a handler takes.

In: a request. Out: its bytes or a typed message, or the problem that says what is wrong with it.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from stocktide.api import problems
from stocktide.streams.contract.events import BODY_BYTES_MAX, BOM, Malformed, decode_with

Message = TypeVar("Message")

# What a client sends that names no type, or names one only because its tool always does.
_TOLERATED_TYPES = frozenset({"application/octet-stream", "application/x-www-form-urlencoded", "text/plain"})
_ENCODINGS = frozenset({"identity", "gzip", "deflate"})
_LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


async def read_body(request: web.Request, bytes_max: int = BODY_BYTES_MAX) -> bytes | web.Response:
    """The whole body; a problem where it is larger than `bytes_max` or says that it is no JSON."""
    declared = request.content_type
    if declared not in _TOLERATED_TYPES and not declared.endswith("json") and declared not in _LINES_TYPES:
        return problems.problem_response(415, "unsupported_media_type", f"{declared} is not taken here; send JSON")
    if request.headers.get("Content-Encoding", "identity").lower() not in _ENCODINGS:
        return problems.unsupported_encoding()
    if (length := request.content_length) is not None and length > bytes_max:
        return _too_large(length, bytes_max)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _too_large(bytes_max + 1, bytes_max)
    except web.RequestPayloadError:
        return problems.problem_response(400, "malformed_body", "The body is not encoded as its headers say.")
    return body.removeprefix(BOM) if len(body) <= bytes_max else _too_large(len(body), bytes_max)


async def read_message(
    request: web.Request, decoder: msgspec.json.Decoder[Message], empty: bytes | None = None
) -> Message | web.Response:
    """The body decoded; `empty` stands in for a body of nothing, where that is allowed."""
    body = await read_body(request)
    if isinstance(body, web.Response):
        return body
    if not body and empty is not None:
        body = empty
    message = decode_with(decoder, body)
    return problems.from_malformed(message) if isinstance(message, Malformed) else message


def _too_large(size: int, bytes_max: int) -> web.Response:
    return problems.from_malformed(Malformed("too_large", f"{size} bytes or more; at most {bytes_max} are taken"))
