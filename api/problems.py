"""Refusals over HTTP: RFC 9457 problem documents with a stable `code`.

In: an outcome of the ledger, a `Malformed`, or a status of aiohttp's own. Out: a response of type
`application/problem+json` with `type`, `title`, `status`, `detail`, `code` and, where they help, `errors`
(`[{path, detail}]`), `lines` (why each line of an order was refused) and `order`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from stocktide.streams.contract.events import Malformed
from stocktide.tables.ledger.outcomes import Outcome

PROBLEM_TYPE = "application/problem+json"
JSON_TYPE = "application/json"
# A caller that comes back after this many seconds finds the ledger settled, unless there is an outage.
RETRY_AFTER_SECONDS = 1

_HEADERS = {"Content-Type": PROBLEM_TYPE}
_JSON_HEADERS = {"Content-Type": JSON_TYPE}
# 404 where a thing is not there, 503 where the same call will work in a moment; every other refusal is a conflict
# with the state of things: 409.
_STATUS_OF_OUTCOME: Mapping[str, int] = {
    Outcome.UNKNOWN_ORDER: 404,
    Outcome.UNKNOWN_POLICY: 404,
    Outcome.SWEEP_PENDING: 503,
    Outcome.TOO_LARGE: 413,
}
_SENTENCE_OF_OUTCOME: Mapping[str, str] = {
    Outcome.INSUFFICIENT_STOCK: "There is not enough stock for this order.",
    Outcome.CHANNEL_SUSPENDED: "The channel does not sell this SKU at the moment.",
    Outcome.UNKNOWN_SKU: "No warehouse, announcement or policy has ever named this SKU.",
    Outcome.PREORDER_CAP_REACHED: "The order asks for more than may still be preordered.",
    Outcome.CONFLICT: "This id was used before, for something else.",
    Outcome.ALREADY_FINAL: "The order can no longer be changed in this way.",
    Outcome.UNKNOWN_ORDER: "There is no order of this id.",
    Outcome.UNKNOWN_POLICY: "There is no policy at this level.",
    Outcome.TOO_MANY_EVENTS: "The order has been extended as often as it can be.",
    Outcome.TOO_LARGE: "It would make a record larger than one may be; divide it, or use fewer or shorter names.",
    Outcome.TOO_MANY_CHANNELS: "As many channels are known as there may be.",
    Outcome.OCCURRED_IN_FUTURE: "It is further ahead of this system's clock than is allowed.",
    Outcome.SWEEP_PENDING: "An earlier change of policy is still being published; try again.",
}
_CODE_OF_STATUS: Mapping[int, str] = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    411: "length_required",
    413: "too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    417: "expectation_failed",
    431: "headers_too_large",
    500: "internal_error",
}
_SENTENCE_OF_STATUS: Mapping[int, str] = {
    404: "There is nothing at this path.",
    405: "This path does not take that method.",
}
_STATUS_OF_MALFORMED: Mapping[str, int] = {"malformed_json": 400, "too_large": 413, "too_many_lines": 413}


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON response."""
    merged = _JSON_HEADERS if headers is None else {**_JSON_HEADERS, **headers}
    return web.Response(body=orjson.dumps(body), status=status, headers=merged)


def problem_response(
    status: int,
    code: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """A problem document; `more` are its extension members."""
    document = {
        "type": f"urn:stocktide:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        # What a header held that is no UTF-8 comes as surrogates, which JSON cannot hold.
        "detail": detail.encode(errors="backslashreplace").decode(),
        "code": code,
        **more,
    }
    merged = _HEADERS if headers is None else {**headers, **_HEADERS}
    return web.Response(body=orjson.dumps(document), status=status, headers=merged)


def from_outcome(outcome: str, detail: str | None = None, **more: Any) -> web.Response:
    """The problem of an outcome that refuses."""
    if outcome == Outcome.OCCURRED_IN_FUTURE:
        return from_malformed(Malformed(outcome, _SENTENCE_OF_OUTCOME[outcome], "occurred_at"))
    status = _STATUS_OF_OUTCOME.get(outcome, 409)
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
    sentence = detail or _SENTENCE_OF_OUTCOME.get(outcome) or f"The ledger answered {outcome}."
    return problem_response(status, outcome, sentence, headers, **more)


def from_malformed(what: Malformed) -> web.Response:
    """The problem of bytes that are no message: 400 where they are no JSON, 413 where too many, else 422."""
    status = _STATUS_OF_MALFORMED.get(what.code, 422)
    if what.path is None:
        return problem_response(status, what.code, what.detail)
    sentence = f"`{what.path}`: {what.detail}"
    return problem_response(status, what.code, sentence, errors=[{"path": what.path, "detail": what.detail}])


def unsupported_encoding() -> web.Response:
    """415 of a body that is packed in a way that we do not unpack."""
    detail = "A body is taken as it is, or packed once by gzip or deflate; its Content-Encoding names something else."
    return problem_response(415, "unsupported_media_type", detail)


def not_found(code: str, detail: str) -> web.Response:
    """404 with a code that says what is not there."""
    return problem_response(404, code, detail)


def service_unavailable(code: str, detail: str) -> web.Response:
    """503: nothing was promised; the same call may be sent again after `Retry-After` seconds."""
    return problem_response(503, code, detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def from_http_exception(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals (no route, wrong method, body too large) in our form, their headers kept."""
    status = error.status
    code = _CODE_OF_STATUS.get(status) or HTTPStatus(status).name.lower()
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    return problem_response(status, code, _SENTENCE_OF_STATUS.get(status) or error.text or error.reason, headers)
