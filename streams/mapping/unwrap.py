"""Reads the body of a webhook: JSON or XML, bounded in depth, and JSON that lies in a field as text.

In: bytes. Out: dictionaries, lists and scalars; ints of any length stay exact. Otherwise an `Unreadable`.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from stocktide.errors import StocktideError
from stocktide.streams.mapping.mapping_file import Mapping, compile_path

# The deepest documented payload has 8 levels.
DEPTH_MAX = 32
# Messages in one call: Douyin sends at most some tens.
MESSAGES_MAX = 1_000


class Unreadable(StocktideError):
    """A body that cannot be read. `path` is where."""

    def __init__(self, detail: str, path: str | None = None) -> None:
        super().__init__(detail)
        self.path = path


def read_document(mapping: Mapping, body: bytes) -> Any:
    """The document of a body. Raises Unreadable."""
    return _read_xml(body) if mapping.unwrap.format == "xml" else read_json(body)


def read_messages(mapping: Mapping, body: bytes) -> list[Any]:
    """The messages of a body, each with its inner JSON in place. Raises Unreadable."""
    document, unwrap = read_document(mapping, body), mapping.unwrap
    messages = [document]
    if unwrap.messages is not None:
        messages = compile_path(unwrap.messages).search(document)
        if not isinstance(messages, list) or len(messages) > MESSAGES_MAX:
            raise Unreadable(f"not an array of at most {MESSAGES_MAX} messages", unwrap.messages)
    return messages if unwrap.inner is None else [_with_inner(mapping, message) for message in messages]


def read_json(body: bytes | str) -> Any:
    """JSON, at most DEPTH_MAX deep. Raises Unreadable."""
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise Unreadable(f"nested more than {DEPTH_MAX} deep") from error
    except ValueError as error:
        raise Unreadable(f"not JSON: {error}") from error
    _check_depth(document)
    return document


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _check_depth(document: Any) -> None:
    level, depth = [document], 0
    while level:
        if depth > DEPTH_MAX:
            raise Unreadable(f"nested more than {DEPTH_MAX} deep")
        below = [each for each in level if isinstance(each, (dict, list))]
        level = [value for each in below for value in (each.values() if isinstance(each, dict) else each)]
        depth += 1


def _with_inner(mapping: Mapping, message: Any) -> Any:
    field = mapping.unwrap.inner
    text = message.get(field) if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise Unreadable("JSON as text is required", field)
    try:
        return {**message, field: read_json(unquote_plus(text) if mapping.unwrap.url_encoded else text)}
    except Unreadable as error:
        raise Unreadable(str(error), field) from error


class _BoundedBuilder(TreeBuilder):
    """Makes elements without attributes, which no mapping reads, and stops at the first one that is too deep: a
    megabyte of them would take a hundred of memory."""

    _depth = 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        """See TreeBuilder."""
        if self._depth > DEPTH_MAX:
            raise Unreadable(f"nested more than {DEPTH_MAX} deep")
        self._depth += 1
        return super().start(tag, {})

    def end(self, tag: str, /) -> Element:
        """See TreeBuilder."""
        self._depth -= 1
        return super().end(tag)


def _read_xml(body: bytes) -> Any:
    parser = DefusedXMLParser(target=_BoundedBuilder(), forbid_dtd=True)
    try:
        parser.feed(body)
        root = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise Unreadable(f"not XML without a DTD: {error or type(error).__name__}") from error
    return _value_of(root)


def _value_of(element: Element) -> Any:
    """An element as the text of a leaf, or as a dictionary of its children; repeated ones are a list."""
    if not len(element):
        return (element.text or "").strip()
    children: dict[str, list[Any]] = {}
    for child in element:
        children.setdefault(child.tag, []).append(_value_of(child))
    return {tag: values if len(values) > 1 else values[0] for tag, values in children.items()}
