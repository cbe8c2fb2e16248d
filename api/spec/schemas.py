"""The JSON schemas of the types of messages, as components of a document.

In: types. Out: their schemas, with references to the components.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from stocktide.streams.contract import documents
from stocktide.streams.contract.documents import Problem

LICENSE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
_REFERENCE = "#/components/schemas/{name}"


class Schemas:
    """The schemas of `types` and of what they consist of."""

    def __init__(self, types: Iterable[Any]) -> None:
        # A type that is Annotated or a union has no hash of its own that tells it from its equals.
        wanted = {repr(one): one for each in types for one in _several(each)}
        schemas, self.components = msgspec.json.schema_components(wanted.values(), ref_template=_REFERENCE)
        self._schemas = dict(zip(wanted, schemas, strict=True))
        # Clients are to ignore fields that they do not know; this version sends no others than these.
        for name in self.components.keys() & vars(documents).keys() - {Problem.__name__}:
            component = self.components[name]
            component["additionalProperties"] = False
            # Keys of a channel do not see them (`api/access/scopes.py`).
            component["required"] = [field for field in component.get("required", ()) if field != "warehouses"]

    def of(self, shape: Any) -> dict[str, Any]:
        """The schema of one of the types, or of any of several."""
        if isinstance(shape, tuple):
            return {"anyOf": [self.of(each) for each in shape]}
        return self._schemas[repr(shape)]


def _several(shape: Any) -> tuple[Any, ...]:
    return shape if isinstance(shape, tuple) else (shape,)
