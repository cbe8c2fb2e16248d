"""The parts of a request: its target, the names in it, and its body, each checked before a handler uses it.

In: a request. Out: the decoded query, bytes or a typed message; or the problem document that refuses them. Names in a
path or a query arrive unchanged, or the request is refused.
"""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import Struct
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.access.caller import OPEN, caller_of
from stocktide.streams.contract.events import BODY_BYTES_MAX, BOM, Malformed, Name, Time, decode_with
from stocktide.streams.contract.times import ms_of

Message = TypeVar("Message")

# 400 names of 128 ASCII characters, or 40 names with every character escaped.
QUERY_BYTES_MAX = 64 * 1024
# The parser's limit for path and query: a path of two names with every character escaped has 3 KiB.
TARGET_BYTES_MAX = QUERY_BYTES_MAX + 8 * 1024
# A body of 8 MiB over 3 Mbit/s; a client that sends slowly on purpose holds a connection no longer.
BODY_SECONDS_MAX = 20.0
# The header that names the actor of a call where there are no keys.
ACTOR_HEADER = "X-Actor"
ACTOR_DEFAULT = "operator"
# The channel of policies for all channels; it does not sell.
EVERY_CHANNEL = "*"

_INCOMPLETE_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_QUOTED_LENGTH_MAX = 60
# The types of clients that do not declare JSON.
_TOLERATED_TYPES = frozenset({"application/octet-stream", "application/x-www-form-urlencoded", "text/plain"})
_ENCODINGS = frozenset({"identity", "gzip", "deflate"})
_LINES_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})


class BodyRefused(Struct, frozen=True):
    """Why a body was not taken, as a problem document says it."""

    status: int
    code: str
    detail: str


def check_target(request: web.Request) -> web.Response | None:
    """The problem of an ambiguous or undecodable target, else None."""
    target = request.raw_path
    if len(target) <= QUERY_BYTES_MAX and target.isascii() and "%" not in target and "#" not in target:
        return None  # nothing to decode
    query = request.rel_url.raw_query_string
    if len(query) > QUERY_BYTES_MAX:
        return problems.problem_response(414, "uri_too_long", f"A query has at most {QUERY_BYTES_MAX} bytes.")
    if "#" in request.raw_path:
        return _malformed_path("a `#` begins a fragment, which is not sent to a server; in a name it is written `%23`")
    for part, text in (("path", request.rel_url.raw_path), ("query", query)):
        if (error := _decoding_error(text)) is not None:
            return _malformed_path(f"{error} in the {part}")
    return None


def parse_query(request: web.Request) -> MultiDict[str]:
    """The parameters of a checked target. A `+` stays a plus: no value contains white space, which forms encode so."""
    pairs = (pair.partition("=") for pair in request.rel_url.raw_query_string.split("&") if pair)
    return MultiDict((_decode(name), _decode(value)) for name, _, value in pairs)


def check_name(field: str, value: str) -> web.Response | None:
    """The problem if `value` is not a valid name, else None."""
    try:
        msgspec.convert(value, Name)
    except msgspec.ValidationError:
        pass
    else:
        if value.isprintable():
            return None
    detail = "1 to 128 printable characters without white space"
    return problems.from_malformed(Malformed("invalid_field", detail, field))


def read_actor(request: web.Request) -> str | web.Response:
    """On whose behalf a call is made, for the audit: the key's holder, without keys whom the header names; or the
    problem."""
    caller = caller_of(request)
    if caller is not OPEN:
        return caller.holder
    actor = request.headers.get(ACTOR_HEADER, ACTOR_DEFAULT)
    return check_name(ACTOR_HEADER, actor) or actor


def check_channel(value: str) -> web.Response | None:
    """The same for a channel that sells: not `*`."""
    if value == EVERY_CHANNEL:
        detail = "`*` names all channels, and only in policies of a SKU"
        return problems.from_malformed(Malformed("invalid_field", detail, "channel"))
    return check_name("channel", value)


def parse_limit(given: str | None, default: int, limit_max: int, name: str = "limit") -> int | web.Response:
    """The parameter `name`: from 1 to `limit_max`, or the problem."""
    if given is None:
        return default
    if given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= limit_max:
        return int(given)
    return problems.from_malformed(Malformed("invalid_field", f"a number from 1 to {limit_max}", name))


def parse_time(given: str) -> int | None:
    """A time of a query as ms since the epoch; None if it is no time of the contract."""
    try:
        return ms_of(msgspec.convert(given, Time))
    except (msgspec.ValidationError, OverflowError, ValueError):
        return None


async def read_body(request: web.Request, bytes_max: int = BODY_BYTES_MAX) -> bytes | web.Response:
    """The whole body; a problem if it is larger than `bytes_max` or not declared as JSON."""
    declared = request.content_type
    if declared not in _TOLERATED_TYPES and not declared.endswith("json") and declared not in _LINES_TYPES:
        return problems.problem_response(415, "unsupported_media_type", f"{declared} is not taken here; send JSON")
    if request.headers.get("Content-Encoding", "identity").lower() not in _ENCODINGS:
        return problems.unsupported_encoding()
    body = await receive_body(request, bytes_max)
    if isinstance(body, BodyRefused):
        refused = problems.problem_response(body.status, body.code, body.detail)
        if body.status == 408:
            refused.force_close()
        return refused
    return body.removeprefix(BOM)


async def receive_body(request: web.Request, bytes_max: int) -> bytes | BodyRefused:
    """The bytes of the body, once they have arrived in time and are not too many."""
    if (length := request.content_length) is not None and length > bytes_max:
        return _too_large(length, bytes_max)
    content = request.content
    try:
        # A body that has arrived already needs no wait; `read` waits twice, for the bytes and for their end.
        if content.is_eof():
            body = content.read_nowait()
        else:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                body = await request.read()
    except TimeoutError:
        return BodyRefused(408, "request_timeout", f"The body has to arrive within {BODY_SECONDS_MAX:.0f} s.")
    except web.HTTPRequestEntityTooLarge:
        return _too_large(bytes_max + 1, bytes_max)
    except web.RequestPayloadError:
        return BodyRefused(400, "malformed_body", "The body is not encoded as its headers say.")
    return body if len(body) <= bytes_max else _too_large(len(body), bytes_max)


async def read_message(
    request: web.Request, decoder: msgspec.json.Decoder[Message], empty: bytes | None = None
) -> Message | web.Response:
    """The decoded body; `empty` replaces an empty body."""
    body = await read_body(request)
    if not isinstance(body, bytes):  # an instance check for a response is slow: its class is abstract
        return body
    if not body and empty is not None:
        body = empty
    message = decode_with(decoder, body)
    return problems.from_malformed(message) if isinstance(message, Malformed) else message


def _decoding_error(text: str) -> str | None:
    if (found := _INCOMPLETE_ESCAPE.search(text)) is not None:
        return f"`{_quote(found[0])}` is no whole escape (`%` itself is written `%25`)"
    try:
        _decode(text)
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.end].hex("%").upper()
        return f"`%{wrong}` is not UTF-8"
    return None


def _decode(text: str) -> str:
    # The parser represents bytes that are not UTF-8 as surrogates.
    return unquote_to_bytes(text.encode(errors="surrogateescape")).decode()


def _quote(text: str) -> str:
    escaped = text.encode(errors="surrogateescape").decode("ascii", errors="backslashreplace")
    return escaped[:_QUOTED_LENGTH_MAX]


def _malformed_path(detail: str) -> web.Response:
    return problems.problem_response(400, "malformed_path", f"The target of the request cannot be read: {detail}.")


def _too_large(size: int, bytes_max: int) -> BodyRefused:
    return BodyRefused(413, "too_large", f"{size} bytes or more; at most {bytes_max} are taken")
