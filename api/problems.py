"""RFC 9457 problem documents with a stable `code`, and JSON responses.

In: an outcome of the ledger, a `Malformed`, or an error of aiohttp. Out: a response of type `application/problem+json`
with `type`, `title`, `status`, `detail`, `code` and optionally `errors` (`[{path, detail}]`), `lines` (the reason for
each refused line of an order) and `order`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web

from stocktide.api.errors.codes import CODES
from stocktide.api.errors.row import ErrorCode
from stocktide.streams.contract.documents import FieldError, encode
from stocktide.streams.contract.events import Malformed
from stocktide.tables.ledger.outcomes import Outcome

PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"
# The page of a code, from the root of the API that answers.
PAGE_PATH = "/problems/{code}"
# After this the ledger has settled, unless there is an outage.
RETRY_AFTER_SECONDS = 1

_HEADERS = {"Content-Type": PROBLEM_TYPE}
_JSON_HEADERS = {"Content-Type": JSON_TYPE}
# How a detail begins that is the path of a field.
_PATHS = ("lines[", "remove[", "add[")
CODE_OF_STATUS: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    411: "length_required",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    417: "expectation_failed",
    426: "upgrade_required",
    431: "headers_too_large",
    500: "internal_error",
}
_SENTENCE_OF_STATUS: Mapping[int, str] = {
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
}


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response."""
    merged = _JSON_HEADERS if headers is None else {**_JSON_HEADERS, **headers}
    return web.Response(body=encode(body), status=status, headers=merged)


def location(path: str, **names: str) -> dict[str, str]:
    """The header `Location`: a path of the table of routes, with each name as one segment of it."""
    return {"Location": path.format(**{name: quote(value, safe="") for name, value in names.items()})}


def problem_response(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """A problem document; `more` are its extension members."""
    document = {
        "type": PAGE_PATH.format(code=code),
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        # Bytes of a header that are not UTF-8 are surrogates, which JSON cannot represent.
        "detail": detail.encode(errors="backslashreplace").decode(),
        "code": code,
        **more,
    }
    merged = _HEADERS if headers is None else {**headers, **_HEADERS}
    return web.Response(body=encode(document), status=status, headers=merged)


def from_outcome(outcome: str, detail: str | None = None, **more: Any) -> web.Response:
    """The problem document of a refusal."""
    if outcome == Outcome.OCCURRED_IN_FUTURE:
        return from_malformed(Malformed(outcome, CODES[outcome].meaning, "occurred_at"))
    if detail is not None and detail.startswith(_PATHS):
        what = _row(outcome).meaning
        detail, more = f"`{detail}`: {what}", more | {"errors": [FieldError(detail, what)]}
    # Of an order the refusal is a conflict, whatever a read of the same name answers.
    statuses = _row(outcome).statuses
    status = 409 if 409 in statuses or not statuses else statuses[0]
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
    sentence = detail or _row(outcome).meaning
    return problem_response(status, outcome, sentence, headers, **more)


def from_malformed(what: Malformed) -> web.Response:
    """The problem document of an invalid message: 400 if it is not JSON, 413 if it is too large, else 422."""
    status = next(iter(_row(what.code).statuses), 422)
    if what.path is None:
        return problem_response(status, what.code, what.detail)
    sentence = f"`{what.path}`: {what.detail}"
    return problem_response(status, what.code, sentence, errors=[FieldError(what.path, what.detail)])


def unsupported_encoding() -> web.Response:
    """415 for an unsupported Content-Encoding."""
    detail = "A body is taken as it is, or packed once by gzip or deflate; its Content-Encoding names something else."
    return problem_response(415, "unsupported_media_type", detail)


def not_found(code: str, detail: str) -> web.Response:
    """404 with a code."""
    return problem_response(404, code, detail)


def unknown_sku() -> web.Response:
    """404 for a SKU that nothing has named."""
    return not_found(Outcome.UNKNOWN_SKU, CODES[Outcome.UNKNOWN_SKU].meaning)


def service_unavailable(code: str, detail: str) -> web.Response:
    """503: nothing was promised; the same call can be repeated after `Retry-After` seconds."""
    return problem_response(503, code, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def from_http_exception(error: web.HTTPException) -> web.Response:
    """The problem document of an error of aiohttp (no route, wrong method, body too large), with its headers."""
    status = error.status
    code = CODE_OF_STATUS.get(status, "bad_request" if status < 500 else "internal_error")
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return problem_response(status, code, _SENTENCE_OF_STATUS.get(status) or error.text or error.reason, headers)


def _row(code: str) -> ErrorCode:
    return CODES.get(code) or ErrorCode(code, (), f"The ledger answered {code}.", "")
