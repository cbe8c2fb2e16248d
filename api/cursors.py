"""Cursors of pages: what a page needs to go on, as text that callers pass back unchanged.

In: a struct, or the text of a query. Out: URL-safe text, or the struct; a problem for a text that is no such cursor.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.streams.contract.events import Malformed

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
