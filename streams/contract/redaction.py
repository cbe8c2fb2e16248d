"""What a channel does not see: warehouses.

In: JSON documents. Out: the same without the fields that name warehouses.
"""

from __future__ import annotations

from typing import Any

import msgspec

_HIDDEN = frozenset(("warehouses", "warehouse"))


def without_warehouses(document: bytes) -> bytes:
    """A JSON document without its warehouses, as a channel sees it."""
    if b'"warehouse' not in document:
        return document
    return msgspec.json.encode(_strip(msgspec.json.decode(document)))


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strip(each) for name, each in value.items() if name not in _HIDDEN}
    return [_strip(each) for each in value] if isinstance(value, list) else value
