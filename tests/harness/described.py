"""Compares answers with what `/openapi.json` says of them.

In: answers of an API. Out: nothing, or an AssertionError for a status, a type, a code or a body that it does not say.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, cast

import jsonschema_rs
import orjson

from tests.harness.document import openapi_document


class DescribedApi:
    """The document, and the validators of its answers, each made when it is first needed."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        # Paths without parameters come before those with them, as in the router.
        self._paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._validators: dict[tuple[str, str, int, str], Any] = {}

    def check(self, method: str, path: str, status: int, media_type: str, body: Any) -> None:
        """Raises AssertionError unless the answer is one of those that are described."""
        template = next((each for each in self._paths if _matches(each, path)), None)
        operation = {} if template is None else self._document["paths"][template].get(method.lower(), {})
        if not operation:
            return
        answer = operation["responses"].get(str(status))
        if template is None or answer is None:
            raise AssertionError(f"{method} {path} answered {status}, which /openapi.json does not say: {body!r}")
        content = self._resolve(answer).get("content", {})
        if "*/*" in content or (not content and body is None):
            return
        assert media_type in content, f"{method} {path} answered {status} as {media_type}, not as {list(content)}"
        if not media_type.endswith("json") or "schema" not in content[media_type]:
            return
        key = (method, template, status, media_type)
        if key not in self._validators:
            schema = {**content[media_type]["schema"], "components": self._document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(schema)
        wrong = next(self._validators[key].iter_errors(body), None)
        assert wrong is None, f"{method} {path} answered {status} with what /openapi.json does not say: {wrong}"

    def _resolve(self, answer: dict[str, Any]) -> dict[str, Any]:
        found: Any = answer
        if "$ref" in answer:
            found = self._document
            for part in answer["$ref"].removeprefix("#/").split("/"):
                found = found[part]
        return cast(dict[str, Any], found)


def _matches(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path) is not None


@cache
def described() -> DescribedApi:
    """The document of this source."""
    return DescribedApi(orjson.loads(openapi_document()))
