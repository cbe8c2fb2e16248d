"""The AsyncAPI document: topics, feeds, sockets and the calls of webhooks.

In: the table of topics and those of messages. Out: the document as JSON bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from stocktide.api.routes.route import JSON
from stocktide.api.spec.messages import (
    FROM_SOCKETS,
    MSGPACK,
    OF_TOPICS,
    ORDER_FEED,
    PACKED_TOPICS,
    RECEIVED_TOPICS,
    SOCKET,
    STOCK_FEED,
    WEBHOOK_CALLS,
)
from stocktide.api.spec.schemas import LICENSE, Schemas
from stocktide.streams.contract.documents import encode
from stocktide.streams.topics import Topic

ASYNCAPI = "3.0.0"
_KAFKA_BINDING = "0.5.0"
_KEY = "key"
_SECURITY = [{"$ref": f"#/components/securitySchemes/{_KEY}"}]
_SERVERS = {
    "kafka": {"host": "{host}", "protocol": "kafka", "variables": {"host": {"default": "localhost:9092"}}},
    "api": {
        "host": "{host}",
        "protocol": "http",
        "variables": {"host": {"default": "localhost:8080"}},
        "security": _SECURITY,
    },
    "sockets": {
        "host": "{host}",
        "protocol": "ws",
        "variables": {"host": {"default": "localhost:8080"}},
        "security": _SECURITY,
    },
}
_WEBHOOK_HEADERS = {
    "type": "object",
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "properties": {
        "webhook-id": {"type": "string"},
        "webhook-timestamp": {"type": "string", "pattern": "^[0-9]+$"},
        "webhook-signature": {"type": "string", "description": "Standard Webhooks: `v1,` and base64, one or two"},
    },
}


def make_asyncapi_document(version: str) -> bytes:
    """The document; `version` is the product's."""
    document = _Document()
    for topic in OF_TOPICS:
        document.add_topic(topic)
    path = "/v1/channels/{channel}"
    document.add_feed("stock-feed", f"{path}/feed", "What a channel may sell, by Server-Sent Events", STOCK_FEED)
    document.add_feed("order-feed", f"{path}/orders/feed", "A channel's orders, by Server-Sent Events", ORDER_FEED)
    document.add_socket("socket", f"{path}/socket", "What a channel may sell, by WebSocket")
    document.add_webhooks("webhook-calls", "The signed calls of webhooks, to the URL of each")
    return encode(
        {
            "asyncapi": ASYNCAPI,
            "info": {"title": "Stocktide", "version": version, "license": LICENSE},
            "defaultContentType": JSON,
            "servers": _SERVERS,
            "channels": document.channels,
            "operations": document.operations,
            "components": {
                "schemas": document.schemas.components,
                "securitySchemes": {_KEY: {"type": "http", "scheme": "bearer"}},
            },
        }
    )


class _Document:
    """The channels and operations of the document, as they are added."""

    def __init__(self) -> None:
        tables = (*OF_TOPICS.values(), STOCK_FEED, ORDER_FEED, SOCKET, FROM_SOCKETS, WEBHOOK_CALLS)
        self.schemas = Schemas(shape for table in tables for shape in table.values())
        for component in self.schemas.components.values():
            _as_asyncapi(component)
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}

    def add_topic(self, topic: Topic) -> None:
        """A topic with its settings, written or read by Stocktide."""
        media_type = MSGPACK if topic in PACKED_TOPICS else JSON
        messages = {
            name: {"name": name, "contentType": media_type, "payload": self.schemas.of(shape)}
            for name, shape in OF_TOPICS[topic].items()
        }
        channel = {
            "address": "{app_id}-" + topic.name,
            "description": f"{topic.holds[0].upper()}{topic.holds[1:]}. Key: {topic.key}. Writer: {topic.writer}.",
            "parameters": {"app_id": {"default": "stocktide"}},
            "bindings": {"kafka": _kafka_binding(topic)},
        }
        self._add(topic.name, "kafka", channel, messages)
        self._operate("receive" if topic in RECEIVED_TOPICS else "send", topic.name, messages)

    def add_feed(self, name: str, path: str, what: str, events: Mapping[str, Any]) -> None:
        """A feed of Server-Sent Events: the `data` of each event."""
        messages = {
            event: {"name": event, "summary": f"`event: {event}`", "payload": self.schemas.of(shape)}
            for event, shape in events.items()
        }
        self._add(name, "api", {"address": path, "description": what}, messages)
        self._operate("send", name, messages)

    def add_socket(self, name: str, path: str, what: str) -> None:
        """The frames of a WebSocket, of both sides."""
        sent = {event: {"name": event, "payload": _frame(event, self.schemas.of(of))} for event, of in SOCKET.items()}
        taken = {tag: {"name": tag, "payload": self.schemas.of(shape)} for tag, shape in FROM_SOCKETS.items()}
        self._add(name, "sockets", {"address": path, "description": what}, {**sent, **taken})
        self._operate("send", name, sent)
        self._operate("receive", name, taken)

    def add_webhooks(self, name: str, what: str) -> None:
        """The calls that Stocktide makes."""
        messages = {
            tag: {"name": tag, "headers": _WEBHOOK_HEADERS, "payload": self.schemas.of(shape)}
            for tag, shape in WEBHOOK_CALLS.items()
        }
        self._add(name, None, {"address": None, "description": what}, messages)
        self._operate("send", name, messages)

    def _add(self, name: str, server: str | None, channel: dict[str, Any], messages: Mapping[str, Any]) -> None:
        channel["messages"] = messages
        if server is not None:
            channel["servers"] = [{"$ref": f"#/servers/{server}"}]
        for parameter in re.findall(r"{(\w+)}", channel["address"] or ""):
            channel.setdefault("parameters", {}).setdefault(parameter, {"description": f"The name of a {parameter}"})
        self.channels[name] = channel

    def _operate(self, action: str, name: str, messages: Iterable[str]) -> None:
        self.operations[f"{action}-{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "messages": [{"$ref": f"#/channels/{name}/messages/{message}"} for message in messages],
        }


def _kafka_binding(topic: Topic) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": topic.cleanup.split(",")}
    if topic.retention_ms is not None and not topic.trimmed_by_stocktide:
        configuration["retention.ms"] = topic.retention_ms
    if topic.record_bytes_max is not None:
        configuration["max.message.bytes"] = topic.record_bytes_max
    binding: dict[str, Any] = {"topicConfiguration": configuration, "bindingVersion": _KAFKA_BINDING}
    return binding if topic.partitions is None else {**binding, "partitions": topic.partitions}


def _frame(event: str, data: dict[str, Any]) -> dict[str, Any]:
    """The schema of a frame: its event, the id with which the feed resumes after it, and the data."""
    properties = {"event": {"const": event}, "id": {"type": "string"}, "data": data}
    return {"type": "object", "required": ["event", "data"], "properties": properties}


def _as_asyncapi(schema: Any) -> None:
    """Change a schema in place into one of AsyncAPI, where `discriminator` is the name of the property."""
    if isinstance(schema, list):
        for each in schema:
            _as_asyncapi(each)
    elif isinstance(schema, dict):
        if isinstance(schema.get("discriminator"), dict):
            schema["discriminator"] = schema["discriminator"]["propertyName"]
        for each in schema.values():
            _as_asyncapi(each)
