"""The reader of the YAML files that users write.

In: a file and the type of its content. Out: the content, or a ValueError whose text says what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml  # type: ignore[import-untyped]

from stocktide.streams.contract.decode_errors import explain_error

# A file is a page or two; what is larger is another file.
FILE_BYTES_MAX = 256 * 1024

_T = TypeVar("_T")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path, kind: type[_T]) -> _T:
    """The content of a file. Raises OSError, and ValueError with the line or the path of what is wrong."""
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
    try:
        return msgspec.convert(_load(raw), kind, builtin_types=(datetime, date))
    except msgspec.ValidationError as error:
        what, place = explain_error(error, kind)
        raise ValueError(f"{place}: {what}" if place else what) from None


def _load(raw: bytes) -> Any:
    """The content without types. Raises ValueError."""
    try:
        loader = _Loader(raw)
        try:
            root = loader.get_single_node()
            # YAML forbids it, and the library takes the last one.
            if (repeated := min(_repeated_keys(root), default=None)) is not None:
                line, first, key = repeated
                raise ValueError(f"line {line}: the key {key!r} is in line {first} already")
            return None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark is not None else ""
        raise ValueError(place + ", ".join(part for part in (error.context, error.problem) if part)) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _repeated_keys(root: Any) -> Iterator[tuple[int, int, str]]:
    """The line of each repeated key, that of the first one, and the key. A key that `<<` merges is none of its own."""
    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += node.value
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                todo.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    continue
                line, same = key.start_mark.line + 1, (key.tag, key.value)
                if same in lines:
                    yield line, lines[same], key.value
                else:
                    lines[same] = line
