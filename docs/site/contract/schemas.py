"""JSON schemas as Markdown.

In: the schemas of a document of the contract. Out: a table of fields for each, with links between them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

_HEAD = "| field | type | default | meaning |\n|---|---|---|---|\n"
REQUIRED = "required"


def schema_page(title: str, intro: str, schemas: Mapping[str, Any]) -> str:
    """A page with a chapter for each schema."""
    chapters = [f"## {name}\n\n{describe_schema(schemas[name], '')}" for name in sorted(schemas)]
    return f"# {title}\n\n{intro}\n\n" + "\n".join(chapters)


def describe_schema(schema: Mapping[str, Any], page: str) -> str:
    """What a schema is, and its fields; `page` is where the schemas are that it names."""
    text = f"{_sentence(schema['description'])}\n\n" if schema.get("description") else ""
    fields = schema.get("properties")
    if not fields:
        return text + f"{kind_of(schema, page)}\n"
    required = schema.get("required", ())
    rows = [
        f"| `{name}` | {_cell(kind_of(field, page))} | {_default(field, name in required)} "
        f"| {_cell(_sentence(field.get('description', '')))} |\n"
        for name, field in fields.items()
    ]
    return text + _HEAD + "".join(rows)


def kind_of(schema: Mapping[str, Any], page: str) -> str:
    """The type in words, for example `list of 1 to 2000 Order`."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}]({page}#{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(kind_of(each, page) for each in schema[several])
    if "const" in schema:
        return _value(schema["const"])
    if "enum" in schema:
        return ", ".join(map(_value, schema["enum"]))
    match schema.get("type"):
        case "array":
            bounds = _between(schema.get("minItems"), schema.get("maxItems"))
            return f"list of {bounds}{kind_of(schema.get('items', {}), page)}"
        case "object" if schema.get("additionalProperties"):
            return f"object of name: {kind_of(schema['additionalProperties'], page)}"
        case "object" if "properties" in schema:
            return "object with " + ", ".join(f"`{name}`" for name in schema["properties"])
        case "integer" | "number" as number:
            bounds = _between(schema.get("minimum"), schema.get("maximum"))
            return f"{number} {bounds}".strip()
        case "string":
            return _string(schema)
        case str() as other:
            return other
    return "any"


def _string(schema: Mapping[str, Any]) -> str:
    if given := schema.get("format"):
        return str(given)
    bounds = _between(schema.get("minLength"), schema.get("maxLength"))
    return f"string of {bounds}characters" if bounds else "string"


def _between(least: int | None, most: int | None) -> str:
    if least is None and most is None:
        return ""
    if most is None:
        return f"{least} or more "
    return f"at most {most} " if not least else f"{least} to {most} "


def _default(field: Mapping[str, Any], is_required: bool) -> str:
    if is_required:
        return REQUIRED
    return _cell(_value(field["default"])) if "default" in field else ""


def _value(value: Any) -> str:
    return f"`{orjson.dumps(value).decode() if not isinstance(value, str) else value}`"


def _sentence(text: str) -> str:
    """A docstring in one line."""
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
