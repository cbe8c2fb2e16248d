"""What a request asks for, as it was sent: the names in its path and its query arrive unchanged, or not at all.

In: a request. Out: its query, decoded, or the problem of a target of which a part would be lost or taken for another.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from aiohttp import web
from multidict import MultiDict

from stocktide.api import problems

# 400 names of 128 characters of ASCII, or 40 whose every character is escaped, go into one query.
QUERY_BYTES_MAX = 64 * 1024
# The parser's bound, of path and query: a path of two names with every character escaped has 3 KiB.
TARGET_BYTES_MAX = QUERY_BYTES_MAX + 8 * 1024

_INCOMPLETE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_SHOWN_MAX = 60


def check_target(request: web.Request) -> web.Response | None:
    """The problem of a target that cannot be read as it was meant, else None."""
    query = request.rel_url.raw_query_string
    if len(query) > QUERY_BYTES_MAX:
        return problems.problem_response(414, "uri_too_long", f"A query has at most {QUERY_BYTES_MAX} bytes.")
    if "#" in request.raw_path:
        return _malformed("a `#` begins a fragment, which is not sent to a server; in a name it is written `%23`")
    for part, text in (("path", request.rel_url.raw_path), ("query", query)):
        if (wrong := _wrong_in(text)) is not None:
            return _malformed(f"{wrong} in the {part}")
    return None


def parse_query(request: web.Request) -> MultiDict[str]:
    """The parameters of a target that was not refused. A `+` is a plus: no value may hold white space, which a form
    would write so."""
    pairs = (pair.partition("=") for pair in request.rel_url.raw_query_string.split("&") if pair)
    return MultiDict((_decoded(name), _decoded(value)) for name, _, value in pairs)


def _wrong_in(text: str) -> str | None:
    if (found := _INCOMPLETE.search(text)) is not None:
        return f"`{_shown(found[0])}` is no whole escape (`%` itself is written `%25`)"
    try:
        _decoded(text)
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.end].hex("%").upper()
        return f"`%{wrong}` is not UTF-8"
    return None


def _decoded(text: str) -> str:
    # The parser keeps bytes that are no UTF-8 as surrogates.
    return unquote_to_bytes(text.encode(errors="surrogateescape")).decode()


def _shown(text: str) -> str:
    return text.encode(errors="surrogateescape").decode("ascii", errors="backslashreplace")[:_SHOWN_MAX]


def _malformed(detail: str) -> web.Response:
    return problems.problem_response(400, "malformed_path", f"The target of the request cannot be read: {detail}.")
