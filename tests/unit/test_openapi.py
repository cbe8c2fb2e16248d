"""The OpenAPI document, against the standard, the table of routes and the table of error codes."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import MagicMock

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from stocktide.api.access.roles import PUBLIC, roles_of
from stocktide.api.errors.codes import CODES
from stocktide.api.routes.route import Handlers, Route
from stocktide.api.routes.table import make_routes
from stocktide.api.spec.openapi import make_openapi_document
from stocktide.api.spec.refusals import refusals_of
from stocktide.api.spec.served import with_documents

# The handlers are not called: the table of routes needs them as objects.
ROUTES = with_documents(make_routes(cast(Handlers, MagicMock())), "1")
DOCUMENT: dict[str, Any] = orjson.loads(make_openapi_document(ROUTES, "1"))


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert not [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]


def test_a_wrong_document_is_found() -> None:
    wrong = {**DOCUMENT, "paths": {"/x": {"get": {"responses": {"200": {}}}}}}
    assert list(OpenAPIV31SpecValidator(wrong).iter_errors())


def test_every_call_is_in_the_document_under_a_name_of_its_own() -> None:
    names = [operation(route)["operationId"] for route in ROUTES]
    assert len(names) == len(set(names)) == sum(map(len, DOCUMENT["paths"].values()))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_call_says_who_may_make_it_and_how_it_is_answered(route: Route) -> None:
    described = operation(route)
    is_public = roles_of(route.method, route.path) is PUBLIC
    assert described["security"] == ([] if is_public else [{"key": []}])
    assert set(described["responses"]) == {str(status) for status in {*route.answers, *refusals_of(route)}}
    assert is_public == ("429" not in described["responses"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_call_is_refused_with_known_codes_of_the_right_status(route: Route) -> None:
    for status, codes in refusals_of(route).items():
        assert not [code for code in codes if status not in CODES[code].statuses]


def test_every_code_with_a_status_is_among_the_refusals_of_a_call_or_of_none() -> None:
    described = {code for route in ROUTES for codes in refusals_of(route).values() for code in codes}
    over_http = {code for code, row in CODES.items() if row.statuses}
    # No call answers these: there is no such call, the server fails, or they are refusals of events over Kafka.
    assert over_http - described == {
        *("method_not_allowed", "length_required", "internal_error"),
        *("more_than_shipped", "more_than_damaged", "count_too_old", "not_voidable", "already_voided"),
        *("too_many_expected", "more_than_available", "more_than_reserved", "pool_ended"),
    }


def test_what_was_made_has_its_path_in_the_answer() -> None:
    made = [route for route in ROUTES if route.method in ("POST", "PUT") and 201 in route.answers]
    # A ticket is no resource: nothing can be read at a path of its own.
    assert [route.path for route in made if "Location" not in route.answer_headers.get(201, ())] == [
        "/v1/feeds/tickets"
    ]


def test_an_order_that_a_channel_sees_is_as_described_although_its_warehouses_are_left_out() -> None:
    assert "warehouses" not in DOCUMENT["components"]["schemas"]["Line"]["required"]
