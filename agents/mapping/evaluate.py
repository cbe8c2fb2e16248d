"""Maps one message of a webhook to input events.

In: a mapping, a webhook, one of its messages. Out: events as the contract has them, or a Rejection with the path. The
same message gives the same events: ids are made of the platform's natural keys, never of those of a delivery.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import Struct

from stocktide.agents.mapping.values import Rejection, Values
from stocktide.streams.contract.events import Malformed, Movement, decode_event
from stocktide.streams.contract.times import ms_of, rfc3339
from stocktide.streams.mapping.envelope import Envelope
from stocktide.streams.mapping.mapping_file import (
    LINES_DIGEST,
    Choice,
    EventRule,
    Less,
    LineRule,
    Mapping,
    compile_path,
)

# Lines of one order: the contract's own limit is smaller.
ITEMS_MAX = 10_000
# Of hex digits: 80 bits, for the few changes of one order.
DIGEST_LENGTH = 20


class MappedEvent(Struct, frozen=True):
    """An event as its topic has it: its key, its JSON, and whether it is a movement."""

    key: bytes
    raw: bytes
    is_movement: bool


class Evaluator:
    """Maps the messages of one mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self._choices = {word: choice for choice in mapping.choices for word in choice.words}

    def choose(self, envelope: Envelope, message: Any) -> tuple[str, Choice]:
        """The word of a message, and what it causes. Raises Rejection."""
        values = Values(message, envelope, self.mapping.zone)
        word = values.text(self.mapping.choose)
        if (choice := self._choices.get(word)) is None:
            path = values.path(self.mapping.choose)
            raise Rejection("unknown_word", f"the mapping does not know {word[:60]!r}", path)
        return word, choice

    def events(self, envelope: Envelope, message: Any) -> list[MappedEvent]:
        """The events of a message. Raises Rejection."""
        _, choice = self.choose(envelope, message)
        events = []
        for rule in choice.events:
            values = Values(message, envelope, self.mapping.zone)
            # All words are read first: an unknown one is an error, also beside one that says there is nothing to do.
            if not all(tuple(values.word(words) for words in rule.when)):
                continue
            event = self._event(rule, values, envelope, message)
            if event is not None:
                events.append(_encode(event))
            elif rule.type == "order.placed":
                break  # an order without goods: what follows has no order
        return events

    def _event(self, rule: EventRule, values: Values, envelope: Envelope, message: Any) -> dict[str, Any] | None:
        name, at = self.mapping.name, values.time(rule.occurred_at)
        event: dict[str, Any] = {"type": rule.type, "occurred_at": rfc3339(ms_of(at)), **rule.constants}
        lines = None if rule.lines is None else self._lines(rule.lines, envelope, message)
        if lines == []:
            return None
        keys = [_digest(lines) if each == LINES_DIGEST else values.text(each) for each in rule.id]
        if rule.type.startswith("order."):
            order = values.text(rule.order_id or self.mapping.order_id)
            event["order_id"] = f"{name}-{order}"
            keys = [order, *keys]
        event["id"] = "-".join((name, *keys, rule.type.partition(".")[2]))
        if rule.type == "order.placed":
            event.setdefault("channel", self.mapping.channel or name)
        for field, sources in rule.fields.items():
            event[field] = self._named(field, values.text(sources))
        for field, sources in rule.optional.items():
            if values.find(sources) is not None:
                event[field] = self._named(field, values.text(sources))
        if rule.hold is not None:
            event["hold_seconds"] = int((values.time(rule.hold.until) - values.time(rule.hold.from_)).total_seconds())
        if lines is not None:
            event["lines"] = lines
        return event

    def _lines(self, lines: LineRule, envelope: Envelope, message: Any) -> list[dict[str, Any]]:
        items = self._items(lines.path, envelope, message)
        if items is None:
            raise Rejection("missing_field", f"`{lines.path}` is required", lines.path)
        others = [(less, self._items(less.path, envelope, message) or []) for less in lines.less if less.path]
        made = []
        for values in items:
            if not all(tuple(values.word(words) for words in lines.when)):
                continue
            line: dict[str, Any] = {"sku": values.text(lines.sku), "quantity": values.whole(lines.quantity)}
            for less in lines.less:
                found = next((each for rule, each in others if rule is less), [])
                line["quantity"] -= _subtracted(less, values, found)
            if lines.less:
                line["quantity"] = max(0, line["quantity"])
            if lines.leaves:
                line["quantity"] = -line["quantity"]
            if lines.warehouse is not None:
                line["warehouse"] = self._named("warehouse", self._warehouse(lines, values, message, envelope))
            if lines.condition is not None:
                line["condition"] = values.word(lines.condition)
            if line["quantity"]:
                made.append(line)
        return made

    def _items(self, path: str, envelope: Envelope, message: Any) -> list[Values] | None:
        """The values of each object at `path`, which may be one; None if there is nothing. Raises Rejection."""
        items = compile_path(path).search(message)
        items = [items] if isinstance(items, dict) else items
        if items is None:
            return None
        if not isinstance(items, list) or len(items) > ITEMS_MAX:
            raise Rejection("invalid_field", f"not an array of at most {ITEMS_MAX} lines", path)
        return [Values(item, envelope, self.mapping.zone, f"{path}[{index}]") for index, item in enumerate(items)]

    def _warehouse(self, lines: LineRule, values: Values, message: Any, envelope: Envelope) -> str:
        """The warehouse of a line, or of the whole message."""
        assert lines.warehouse is not None
        whole = Values(message, envelope, self.mapping.zone)
        return (whole if values.find(lines.warehouse) is None else values).text(lines.warehouse)

    def _named(self, field: str, text: str) -> str:
        return self.mapping.warehouses.get(text, text) if field == "warehouse" else text


def _subtracted(less: Less, line: Values, others: list[Values]) -> int:
    """The units that `less` names for a line. Raises Rejection."""
    if less.path is None:
        return line.whole(less.quantity)
    wanted = None if less.equals is None else line.find(less.equals)
    return sum(
        each.whole(less.quantity)
        for each in others
        if (less.key is None or str(each.find(less.key)) == str(wanted))
        and all(tuple(each.word(words) for words in less.when))
    )


def _digest(lines: list[dict[str, Any]] | None) -> str:
    """The same lines have the same one, whichever delivery has them."""
    return hashlib.sha256(msgspec.json.encode(lines)).hexdigest()[:DIGEST_LENGTH]


def _encode(event: dict[str, Any]) -> MappedEvent:
    """The event's bytes, once the contract takes them. Raises Rejection."""
    raw = msgspec.json.encode(event)
    decoded = decode_event(raw)
    if isinstance(decoded, Malformed):
        where = f" (`{decoded.path}` of {event['type']})" if decoded.path else ""
        raise Rejection(decoded.code, f"{decoded.detail}{where}", decoded.path)
    if isinstance(decoded, Movement):
        return MappedEvent(decoded.warehouse.encode(), raw, True)
    return MappedEvent(decoded.order_id.encode(), raw, False)
