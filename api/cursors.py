"""Where pages begin: cursors, as text that callers pass back unchanged, limits, and times.

In: a struct, or the parameters of a query. Out: URL-safe text, or what the parameters say; a problem for what is none.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.requests import parse_limit, parse_time
from stocktide.streams.contract.events import Malformed
from stocktide.streams.contract.times import explain_time

_Cursor = TypeVar("_Cursor", bound=Struct)


def encode_cursor(cursor: Struct) -> str:
    """The text of a cursor."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode_cursor(given: str, of: type[_Cursor]) -> _Cursor | web.Response:
    """The cursor in a text, or the problem."""
    try:
        return msgspec.msgpack.decode(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)), type=of)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        return problems.from_malformed(Malformed("invalid_field", "not the `next` of a page", "cursor"))


def parse_page(
    query: MultiDict[str], of: type[_Cursor], default: int, limit_max: int
) -> tuple[int, _Cursor | None] | web.Response:
    """The limit of a page and the cursor with which it begins, None for the first one; or the problem."""
    limit = parse_limit(query.get("limit"), default, limit_max)
    if isinstance(limit, web.Response):
        return limit
    if (given := query.get("cursor")) is None:
        return limit, None
    cursor = decode_cursor(given, of)
    return cursor if isinstance(cursor, web.Response) else (limit, cursor)


def parse_since(query: MultiDict[str]) -> int | web.Response | None:
    """The parameter `since` as ms, None without it; or the problem."""
    if (given := query.get("since")) is None:
        return None
    since = parse_time(given)
    return problems.from_malformed(Malformed("invalid_field", explain_time(given), "since")) if since is None else since
