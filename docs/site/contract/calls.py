"""The pages of the HTTP API.

In: the OpenAPI document, made from the product's table of routes. Out: a page for each group of calls, and their index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, cast

import orjson
from pymdownx.slugs import slugify

from docs.site.contract.schemas import REQUIRED, kind_of, schema_page
from stocktide.api.routes.route import Handlers
from stocktide.api.routes.table import make_routes
from stocktide.api.spec.openapi import make_openapi_document
from stocktide.api.spec.served import with_documents

# Calls that are not below /v1.
_SERVICE = "service"
_SCHEMAS = "schemas.md"
_INTRO = (
    "Every call, made from the table of routes of the product; a running API serves the same as `GET /openapi.json`."
    " The [rules](../rules.md) say what the calls do, [access](../access.md) which keys they need, and"
    " [errors](../errors.md) what their refusals mean."
)


class _NoHandler:
    """Stands for the handlers: the table of routes needs them, and nothing calls them."""

    def __getattr__(self, name: str) -> _NoHandler:
        return self


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the API; `group` is its page."""

    method: str
    path: str
    operation: dict[str, Any]

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def group(self) -> str:
        parts = self.path.strip("/").split("/")
        return parts[1] if parts[0] == "v1" else _SERVICE

    @property
    def anchor(self) -> str:
        """The anchor of its heading, by the rule of the generator (`zensical.toml`) and of forges."""
        return str(slugify(case="lower")(self.title, "-"))


class HttpContract:
    """The OpenAPI document, read for the pages."""

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document as the API serves it."""
        product = version("stocktide")
        routes = with_documents(make_routes(cast(Handlers, _NoHandler())), product)
        document: dict[str, Any] = orjson.loads(make_openapi_document(routes, product))
        return document

    @cached_property
    def calls(self) -> list[Call]:
        """All calls in the order of the table."""
        return [
            Call(method.upper(), path, operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        ]

    def codes_of(self, call: Call) -> dict[str, list[str]]:
        """The codes of the problem documents of a call, by status."""
        return {
            status: codes for status, answer in call.operation["responses"].items() if (codes := self._codes(answer))
        }

    def pages(self) -> Iterator[tuple[str, str]]:
        """Each page below `http/` with its text."""
        groups: dict[str, list[Call]] = {}
        for call in self.calls:
            groups.setdefault(call.group, []).append(call)
        yield "index.md", self._index(groups)
        for group, calls in groups.items():
            yield f"{group}.md", f"# HTTP: {group}\n\n" + "\n".join(map(self._chapter, calls))
        schemas = self.document["components"]["schemas"]
        yield _SCHEMAS, schema_page("Schemas of the HTTP API", "The bodies of requests and answers.", schemas)

    def _index(self, groups: Mapping[str, list[Call]]) -> str:
        text = f"# The HTTP API\n\n{_INTRO}\n"
        for group, calls in groups.items():
            rows = "".join(
                f"| [`{call.title}`]({group}.md#{call.anchor}) | {_cell(call.operation['summary'])} |\n"
                for call in calls
            )
            text += f"\n## {group}\n\n| call | what it does |\n|---|---|\n{rows}"
        return text

    def _chapter(self, call: Call) -> str:
        operation = call.operation
        text = f"## `{call.title}`\n\n{operation['summary']}.\n\n"
        text += f"{operation.get('description', 'It needs no key.')}\n\n"
        if parameters := operation.get("parameters"):
            rows = "".join(map(_parameter, parameters))
            text += f"| parameter | in | type | default | meaning |\n|---|---|---|---|---|\n{rows}\n"
        if body := operation.get("requestBody"):
            need = REQUIRED if body["required"] else "may be empty"
            text += "".join(
                f"Body ({need}): `{kind}`, {kind_of(media.get('schema', {}), _SCHEMAS)}.\n\n"
                for kind, media in body["content"].items()
            )
        return text + self._answers(call)

    def _answers(self, call: Call) -> str:
        text = "| status | answer |\n|---|---|\n"
        for status, answer in call.operation["responses"].items():
            shapes = [
                f"`{kind}`" + (f", {kind_of(schema, _SCHEMAS)}" if (schema := media.get("schema")) else "")
                for kind, media in self._resolved(answer).get("content", {}).items()
                if "problem" not in kind
            ]
            codes = [f"[`{code}`](../errors/{code}.md)" for code in self._codes(answer)]
            text += f"| {status} | {_cell('; '.join(shapes + [', '.join(codes)] * bool(codes)) or 'no body')} |\n"
        return text

    def _codes(self, answer: Mapping[str, Any]) -> list[str]:
        codes: list[str] = []
        for media in self._resolved(answer).get("content", {}).values():
            for part in media.get("schema", {}).get("allOf", ()):
                codes += part.get("properties", {}).get("code", {}).get("enum", ())
        return codes

    def _resolved(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = answer.get("$ref")
        found: Mapping[str, Any] = (
            self.document["components"]["responses"][reference.rpartition("/")[2]] if reference else answer
        )
        return found


def _parameter(parameter: Mapping[str, Any]) -> str:
    schema = parameter["schema"]
    default = REQUIRED if parameter.get("required") else f"`{schema['default']}`" if "default" in schema else ""
    meaning = parameter.get("description") or schema.get("description", "")
    cells = (f"`{parameter['name']}`", parameter["in"], kind_of(schema, _SCHEMAS), default, meaning)
    return "| " + " | ".join(map(_cell, cells)) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
