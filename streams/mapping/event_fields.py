"""Compares what the rules of a mapping say of an event with the event's type in the contract.

In: a rule. Out: what can never be an event, so that the file is refused and not each webhook.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from stocktide.streams.contract.events import Event, Malformed, ReturnedLine, decode_with
from stocktide.streams.mapping.mapping_file import EventRule

_TYPES: dict[Any, type[Struct]] = {each.__struct_config__.tag: each for each in get_args(Event)}


def event_trouble(rule: EventRule, place: str) -> str | None:
    """What is wrong with a rule at `place`: a field that its event does not have or needs, a constant of a wrong type;
    None if nothing is."""
    event = _TYPES[rule.type]
    known = {field.encode_name for field in fields(event)}
    for part in ("fields", "optional", "constants"):
        for name in getattr(rule, part):
            if name not in known:
                return f"`{place}.{part}.{name}`: {rule.type} has no such field"
    if (wrong := _wrong_value(event, rule.constants)) is not None:
        return f"`{place}.constants.{wrong.path}`: {wrong.detail}"
    condition = None if rule.lines is None else rule.lines.condition
    for word, meaning in () if condition is None else condition.words.items():
        if (wrong := _wrong_value(ReturnedLine, {"condition": meaning})) is not None:
            return f"`{place}.lines.condition.words.{word}`: {wrong.detail}"
    given = {"id", "occurred_at", *rule.constants, *rule.fields, *rule.optional}
    given |= {"lines"} if rule.lines is not None else set()
    given |= {"order_id"} if rule.type.startswith("order.") else set()
    given |= {"channel"} if rule.type == "order.placed" else set()
    missing = [field.encode_name for field in fields(event) if field.required and field.encode_name not in given]
    return f"`{place}`: {rule.type} needs `{missing[0]}`" if missing else None


def _wrong_value(kind: type[Struct], values: dict[str, Any]) -> Malformed | None:
    """The first value that its field of `kind` does not take."""
    chosen = [field for field in fields(kind) if field.encode_name in values]
    some = msgspec.defstruct(
        kind.__name__,
        [(field.name, field.type) for field in chosen],
        rename={field.name: field.encode_name for field in chosen},
    )
    found = decode_with(msgspec.json.Decoder(some), msgspec.json.encode(values))
    return found if isinstance(found, Malformed) else None
