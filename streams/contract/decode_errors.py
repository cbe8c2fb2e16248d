"""What msgspec's decoding errors say, with the values that are allowed where there are only some.

In: an error and the type that was decoded. Out: a sentence and the path of the field (`lines[0].sku`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import inspect

# Characters of what is said about an error, or of its path: the decoder repeats values and names, of any length.
DETAIL_CHARACTERS_MAX = 500
# Greedy: the value, which comes first, may contain such a text too.
_PATH = re.compile(r"(?P<what>.*) - at `(?:key in )?\$\.?(?P<path>[^`]*)`", re.DOTALL)
# A field, or the place in an array or a dictionary.
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")
# A value that is not one of a Literal, and a tag that is none of a union's.
_NOT_LISTED = ("Invalid enum value ", "Invalid value ")


def explain_error(error: msgspec.ValidationError, decoded: Any) -> tuple[str, str]:
    """What is wrong with a value of the type `decoded`, and its path; "" for the whole."""
    match = _PATH.fullmatch(str(error))
    what, path = (match["what"], match["path"]) if match else (str(error), "")
    allowed = f": one of {', '.join(values)}" if (values := _allowed(what, path, decoded)) else ""
    return shorten(what, DETAIL_CHARACTERS_MAX - len(allowed)) + allowed, shorten(path)


def shorten(text: str | None, characters_max: int = DETAIL_CHARACTERS_MAX) -> str:
    """The text, or its beginning with `…`; "" for None."""
    text = text or ""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def _allowed(what: str, path: str, decoded: Any) -> list[str]:
    """The values that the field at `path` may have; none where that depends on what else was sent."""
    if not what.startswith(_NOT_LISTED):
        return []
    kinds = [_type_info(decoded)]
    for step in _STEP.findall(path):
        kinds = [below for kind in kinds for each in _members(kind) for below in _below(each, step)]
    literals = [each.values for kind in kinds for each in _members(kind) if isinstance(each, inspect.LiteralType)]
    tags = [each for each in literals if isinstance(each, _Tag)]
    if tags:
        return [str(tag) for each in tags for tag in each]
    return [str(value) for value in literals[0]] if len(set(literals)) == 1 else []


class _Tag(tuple[Any, ...]):
    """The tag of one type of a union: together they are what is allowed."""


# Decoders are made at import, for a few dozen types.
@lru_cache(maxsize=128)
def _type_info(decoded: Any) -> inspect.Type:
    return inspect.type_info(decoded)


def _members(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, or the type itself."""
    if isinstance(kind, inspect.Metadata):
        yield from _members(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _members(each)
    else:
        yield kind


def _below(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """The types of what is at a step of a path below a value."""
    if isinstance(kind, inspect.StructType):
        if step == kind.tag_field:
            yield inspect.LiteralType(_Tag((kind.tag,)))
        yield from (field.type for field in kind.fields if field.encode_name == step)
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType):
        yield kind.item_type
    elif isinstance(kind, inspect.DictType):
        yield kind.value_type
