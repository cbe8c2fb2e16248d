"""With which codes a call may be refused, by status.

In: a row of the table of routes. Out: its own refusals, and those that follow from what it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from stocktide.api.access.roles import PUBLIC, roles_of
from stocktide.api.errors.codes import CODES
from stocktide.api.routes.route import Route

Refusal = tuple[int, str]

# Of every call: they come before it is known which call it is.
_TARGET = ("malformed_request", "malformed_path", "key_in_url", "foreign_origin", "uri_too_long", "headers_too_large")
_CONNECTION = ("request_timeout", "expectation_failed", "too_many_connections")
_KEY = ("unauthorized", "forbidden", "too_many_requests")
_BODY = ("bad_request", "malformed_body", "too_large", "unsupported_media_type")
_MESSAGE = ("malformed_json", "invalid_field", "missing_field")
_LEDGER = ("unsettled", "overloaded", "unavailable")


def refusals_of(route: Route) -> dict[int, tuple[str, ...]]:
    """The codes of a call by status, both in order."""
    found: dict[int, set[str]] = {}
    for status, code in _all(route):
        found.setdefault(status, set()).add(code)
    return {status: tuple(sorted(found[status])) for status in sorted(found)}


def _all(route: Route) -> Iterator[Refusal]:
    yield from ((status, code) for status, codes in route.problems.items() for code in codes)
    for code in _common(route):
        yield CODES[code].statuses[0], code


def _common(route: Route) -> Iterator[str]:
    yield from (*_TARGET, *_CONNECTION)
    if roles_of(route.method, route.path) is not PUBLIC:
        yield from _KEY
        if "{channel}" in route.path:
            yield "unknown_channel"
    if not route.path.startswith("/v1/"):
        return
    yield from _LEDGER
    if route.body is not None:
        yield from _BODY
        if route.body is not bytes:
            yield from _MESSAGE
    elif "{" in route.path or route.query:
        yield "invalid_field"
