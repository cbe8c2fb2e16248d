"""The OpenAPI document, from the table of routes and the types of messages.

In: the table of routes. Out: the document as JSON bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any

from stocktide.api.access.roles import PUBLIC, roles_of
from stocktide.api.errors.codes import CODES
from stocktide.api.problems import PROBLEM_TYPE
from stocktide.api.routes.route import LOCATION, Parameter, Route
from stocktide.api.spec.refusals import refusals_of
from stocktide.api.spec.schemas import LICENSE, Schemas
from stocktide.streams.contract.documents import Problem, encode
from stocktide.streams.contract.events import Name

OPENAPI = "3.1.0"
_KEY = "key"
_SCHEMES = {_KEY: {"type": "http", "scheme": "bearer", "description": "A key of the API, `stk_…` (docs/access.md)"}}
_HEADERS = {
    LOCATION: "The path of what was made",
    "ETag": "The tag of the policy, for `If-Match`",
    "Retry-After": "The seconds after which the same request may be sent again",
    "WWW-Authenticate": "The scheme of keys",
    "X-Next-Cursor": "The cursor of the next page; left out at the end",
}
# With which headers problems of a status come.
_HEADERS_OF_PROBLEMS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_SUCCESSES = range(200, 300)


def make_openapi_document(routes: Sequence[Route], version: str) -> bytes:
    """The document; `version` is the product's."""
    schemas = Schemas(_types(routes))
    refusals = _Refusals(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas, refusals)
    components = {"schemas": schemas.components, "responses": refusals.components, "securitySchemes": _SCHEMES}
    return encode(
        {
            "openapi": OPENAPI,
            "info": {"title": "Stocktide", "version": version, "license": LICENSE},
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": components,
        }
    )


class _Refusals:
    """The answers with problem documents: calls that are refused alike share one."""

    def __init__(self, schemas: Schemas) -> None:
        self._schema = schemas.of(Problem)
        self._names: dict[tuple[int, tuple[str, ...]], str] = {}
        self.components: dict[str, Any] = {}

    def of(self, status: int, codes: tuple[str, ...]) -> dict[str, str]:
        """A reference to the answer."""
        name = self._names.get((status, codes))
        if name is None:
            number = 1 + sum(known == status for known, _ in self._names)
            name = self._names[status, codes] = f"Refused{status}_{number}"
            self.components[name] = self.answer(status, codes)
        return {"$ref": f"#/components/responses/{name}"}

    def answer(self, status: int, codes: tuple[str, ...]) -> dict[str, Any]:
        """The answer itself."""
        what = " ".join(f"`{code}`: {CODES[code].meaning}" for code in codes)
        narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
        answer = {"description": what, "content": {PROBLEM_TYPE: {"schema": {"allOf": [self._schema, narrowed]}}}}
        return answer | _headers(_HEADERS_OF_PROBLEMS.get(status, ()))


def _types(routes: Sequence[Route]) -> Iterator[Any]:
    yield from (Problem, Name)
    for route in routes:
        yield from (shape for shape in (route.body, *route.answers.values()) if shape is not None)
        yield from (each.of for each in (*route.query, *route.headers))


def _operation(route: Route, schemas: Schemas, refusals: _Refusals) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": _operation_id(route), "summary": route.summary}
    roles = roles_of(route.method, route.path)
    if roles is PUBLIC:
        operation["security"] = []
    else:
        operation["security"] = [{_KEY: []}]
        operation["description"] = f"Roles: {', '.join(sorted(roles))}."
    if parameters := list(_parameters(route, schemas)):
        operation["parameters"] = parameters
    if route.body is not None:
        content = {route.body_type: _media(route.body_type, route.body, schemas)}
        operation["requestBody"] = {"content": content, "required": not _may_be_empty(route)}
    answers: dict[str, Any] = {}
    refused = refusals_of(route)
    for status, codes in refused.items():
        answers[str(status)] = refusals.of(status, codes)
        if route.refuses_as_answered:
            answer = answers[str(status)] = refusals.answer(status, codes)
            answer["content"][route.answer_type] = {}
    for status, shape in route.answers.items():
        answer = answers[str(status)] = _answer(route, status, shape, schemas)
        if status in refused:  # not ready, or refused before the call was read
            answer["content"] |= refusals.answer(status, refused[status])["content"]
    operation["responses"] = {status: answers[status] for status in sorted(answers)}
    return operation


def _operation_id(route: Route) -> str:
    """`post_orders_pay` for `POST /v1/orders/{order_id}/pay`, `get_pools` for `GET /v1/pools`."""
    parts = re.findall(r"\w+", route.path.removeprefix("/v1").removesuffix(".json")) or ["board"]
    words = [part for part in parts if "{" + part + "}" not in route.path]
    named = [part for part in parts if part not in words]
    # Paths with one name less have the same words.
    ending = f"_by_{named[-1]}" if route.path.endswith("}") or len(named) > 1 else ""
    return f"{route.method.lower()}_{'_'.join(words)}{ending}"


def _parameters(route: Route, schemas: Schemas) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": schemas.of(Name)}
    for place, parameters in (("query", route.query), ("header", route.headers)):
        yield from (_parameter(each, place, schemas) for each in parameters)


def _parameter(parameter: Parameter, place: str, schemas: Schemas) -> dict[str, Any]:
    schema = schemas.of(parameter.of)
    if parameter.is_list:
        schema = {"type": "array", "items": schema}
    return {"name": parameter.name, "in": place, "required": parameter.required, "schema": schema}


def _may_be_empty(route: Route) -> bool:
    """Whether an empty body is taken as `{}`: no field of it is required."""
    return not getattr(route.body, "__struct_fields__", True) or (
        hasattr(route.body, "__struct_defaults__")
        and len(route.body.__struct_defaults__) == len(route.body.__struct_fields__)
    )


def _answer(route: Route, status: int, shape: Any, schemas: Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": route.summary if status in _SUCCESSES else HTTPStatus(status).phrase}
    if shape is not None:
        types = (route.answer_type, *route.other_types) if status in _SUCCESSES else (route.answer_type,)
        answer["content"] = {each: _media(each, shape, schemas) for each in types}
    return answer | _headers(route.answer_headers.get(status, ()))


def _headers(names: Iterable[str]) -> dict[str, Any]:
    headers = {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}
    return {"headers": headers} if headers else {}


def _media(media_type: str, shape: Any, schemas: Schemas) -> dict[str, Any]:
    if shape is bytes:
        return {}
    if media_type.endswith("/json") or shape is str:
        return {"schema": schemas.of(shape)}
    # Lines, frames or cells: a text whose parts are the shape.
    return {"schema": {"type": "string", "contentMediaType": media_type, "contentSchema": schemas.of(shape)}}
