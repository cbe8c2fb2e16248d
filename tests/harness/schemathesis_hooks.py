"""Hooks of schemathesis, loaded by its command line: inputs that reach beyond the checks of fields.

In: generated bodies. Out: the same, where some name a SKU that is in stock, a channel or a URL that can be.
"""

from __future__ import annotations

import uuid
from typing import Any

import schemathesis

SKU = "fuzzed"
CHANNEL = "fuzzed"
URL = "https://shop.example/stocktide"


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Change the bodies of orders that have lines, and the URLs of webhooks."""
    if not isinstance(body, dict):
        return body
    if context.operation.label == "POST /v1/orders" and _has_lines(body):
        made = {"order_id": uuid.uuid4().hex, "channel": CHANNEL, "lines": [{"sku": SKU, "quantity": 1}]}
        if body.get("accept") != "sold":  # so that some can still be paid
            made |= {"paid": False, "force": False}
        return {name: value for name, value in body.items() if name not in ("occurred_at", "supersedes")} | made
    if context.operation.label == "POST /v1/orders/{order_id}/cancel" and _has_lines(body):
        return {**body, "lines": [{"sku": SKU, "quantity": 1}]}
    if context.operation.label == "PUT /v1/webhooks/{name}" and isinstance(body.get("url"), str):
        return {**body, "url": URL}
    return body


@schemathesis.serializer("application/x-ndjson")
def serialize_lines(context: Any, value: Any) -> bytes:
    """Text as it is; the schema of a body of lines is a text."""
    return value.encode(errors="replace") if isinstance(value, str) else str(value).encode()


def _has_lines(body: dict[str, Any]) -> bool:
    lines = body.get("lines")
    is_list = isinstance(lines, list) and bool(lines)
    return is_list and all(isinstance(line, dict) and {"sku", "quantity"} <= line.keys() for line in lines)
