"""The OpenAPI document, from the table of routes and the types of messages.

In: `api.routes`. Out: the document as JSON bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from stocktide.api.access.roles import PUBLIC, roles_of
from stocktide.api.routes.route import Route
from stocktide.streams.contract import documents
from stocktide.streams.contract.documents import Problem, encode

OPENAPI = "3.1.0"
_KEY = "key"
_ACCESS_PROBLEMS = {
    "401": "There is no valid key",
    "403": "The key has not the right",
    "429": "The key makes too many requests; `Retry-After` says when the next may come",
}
_REFERENCE = "#/components/schemas/{name}"


def make_openapi_document(routes: Sequence[Route], version: str) -> bytes:
    """The document; `version` is the product's."""
    types = _types(routes)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    # Clients are to ignore fields that they do not know; this version sends no others than these.
    for name in components.keys() & vars(documents).keys() - {Problem.__name__}:
        components[name]["additionalProperties"] = False
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    document = {
        "openapi": OPENAPI,
        "info": {"title": "Stocktide", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}}},
    }
    return encode(document)


def _types(routes: Sequence[Route]) -> list[Any]:
    found: list[Any] = [Problem]
    for route in routes:
        for wanted in (route.body, *route.answers.values()):
            if wanted is not None and not any(repr(wanted) == repr(known) for known in found):
                found.append(wanted)
    return found


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": route.summary, "responses": {}}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    for place, names in (("query", route.query), ("header", route.headers)):
        parameters += [{"name": name, "in": place, "schema": {"type": "string"}} for name in names]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {route.body_type: {"schema": schemas[repr(route.body)]}}
        operation["requestBody"] = {"content": content}
    for status, shape in route.answers.items():
        answer: dict[str, Any] = {"description": route.summary}
        if shape is not None:
            answer["content"] = {route.answer_type: {"schema": schemas[repr(shape)]}}
            answer["content"] |= {each: {"schema": {"type": "string"}} for each in route.other_types}
        operation["responses"][str(status)] = answer
    if route.path.startswith("/v1"):
        problem = {"application/problem+json": {"schema": schemas[repr(Problem)]}}
        operation["responses"]["default"] = {"description": "A problem", "content": problem}
    roles = roles_of(route.method, route.path)
    if roles is not PUBLIC:
        operation["security"] = [{_KEY: []}]
        operation["description"] = f"Roles: {', '.join(sorted(roles))}."
        problem = {"application/problem+json": {"schema": schemas[repr(Problem)]}}
        for code, what in _ACCESS_PROBLEMS.items():
            operation["responses"][code] = {"description": what, "content": problem}
    return operation
