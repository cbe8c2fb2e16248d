"""The calls of policies: as they are, what they would do, what they were, and requests for others."""

from __future__ import annotations

from collections.abc import Iterator

from stocktide.api.handlers.policy_body import PolicyBody
from stocktide.api.handlers.policy_changes import ETAG, IF_MATCH, POLICY_CHANGED
from stocktide.api.handlers.policy_history import PAGE_ITEMS_MAX, RollbackBody
from stocktide.api.handlers.policy_preview import EXAMINED_MAX
from stocktide.api.handlers.policy_requests import PolicyRequestBody
from stocktide.api.routes.route import ACTOR, CURSOR, LOCATION, Handlers, Parameter, Route, limit
from stocktide.streams.contract import documents
from stocktide.tables.ledger.outcomes import Outcome

_LEVELS = ("{channel}", "{channel}/{sku}")
_MATCH = Parameter(IF_MATCH, str)
_SHOWN = {200: documents.PolicyAnswer}
_TAGGED = {200: (ETAG,)}
# Of every change.
_REFUSED = {403: ("approval_required",), 412: (POLICY_CHANGED,), 503: (Outcome.SWEEP_PENDING,)}
_NO_ROOM = (Outcome.TOO_MANY_CHANNELS,)


def policy_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Policies, by channel and by SKU."""
    return tuple(route for level in _LEVELS for route in _of_level(handlers, level))


def _of_level(handlers: Handlers, level: str) -> Iterator[Route]:
    path, policies = f"/v1/policies/{level}", handlers.policies
    yield Route("GET", path, policies.get, "A policy", answers=_SHOWN, answer_headers=_TAGGED)
    yield Route(
        "PUT",
        path,
        policies.put,
        "Replace a policy whole; with `If-Match` only the one of that tag",
        body=PolicyBody,
        answers=_SHOWN,
        answer_headers=_TAGGED,
        problems={**_REFUSED, 409: _NO_ROOM},
        headers=(ACTOR, _MATCH),
    )
    yield Route(
        "DELETE",
        path,
        policies.delete,
        "Remove a policy; with `If-Match` only the one of that tag",
        answers={204: None},
        problems={**_REFUSED, 404: (Outcome.UNKNOWN_POLICY,)},
        headers=(ACTOR, _MATCH),
    )
    yield Route(
        "POST",
        f"{path}/preview",
        handlers.policy_preview.post,
        "What a policy would do to the stock as it is; null: its removal. Nothing is changed",
        body=PolicyBody | None,
        answers={200: documents.PolicyPreview},
        problems={404: (Outcome.UNKNOWN_POLICY,), 409: _NO_ROOM, 503: (Outcome.SWEEP_PENDING,)},
        query=(CURSOR, limit(EXAMINED_MAX)),
    )
    yield from _of_history(handlers, level)
    yield _request(handlers, level)


def _of_history(handlers: Handlers, level: str) -> Iterator[Route]:
    history = handlers.policy_history
    yield Route(
        "GET",
        f"/v1/policy_history/{level}",
        history.get,
        "Changes of a policy, newest first",
        answers={200: documents.PolicyHistory},
        problems={503: ("busy",)},
        query=(CURSOR, limit(PAGE_ITEMS_MAX)),
    )
    yield Route(
        "POST",
        f"/v1/policies/{level}/rollback",
        history.rollback,
        "Set again what a change of the history had set",
        body=RollbackBody,
        answers=_SHOWN,
        answer_headers=_TAGGED,
        problems={
            **_REFUSED,
            404: (Outcome.UNKNOWN_POLICY, "unknown_version"),
            409: _NO_ROOM,
            503: ("busy", Outcome.SWEEP_PENDING),
        },
        headers=(ACTOR, _MATCH),
    )


def _request(handlers: Handlers, level: str) -> Route:
    return Route(
        "POST",
        f"/v1/policies/{level}/request",
        handlers.policy_requests.post,
        "Ask for another policy, or its removal (null), which a second person approves",
        body=PolicyRequestBody,
        answers={200: documents.PolicyApproval, 202: documents.PolicyApproval},
        answer_headers={202: (LOCATION,)},
        problems={404: (Outcome.UNKNOWN_POLICY,), 409: ("too_many_waiting",), 412: (POLICY_CHANGED,)},
        headers=(ACTOR, _MATCH),
    )
