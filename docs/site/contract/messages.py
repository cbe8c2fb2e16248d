"""The pages of topics, feeds and webhooks.

In: the AsyncAPI document, made from the product's tables. Out: a page of all channels, and their schemas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import orjson

from docs.site.contract.schemas import kind_of, schema_page
from stocktide.api.spec.asyncapi import make_asyncapi_document

_SCHEMAS = "schemas.md"
_INTRO = (
    "Every topic of Kafka, every feed and every webhook with its messages, made from the tables of the product; a"
    " running API serves the same as `GET /asyncapi.json`. `app_id` is the setting"
    " [`STOCKTIDE_APP_ID`](../settings/app_id.md)."
)
_DAY_MS = 86_400_000


def message_pages() -> Iterator[tuple[str, str]]:
    """Each page below `messages/` with its text."""
    document = orjson.loads(make_asyncapi_document(version("stocktide")))
    chapters = [_chapter(name, channel) for name, channel in document["channels"].items()]
    yield "index.md", f"# Topics, feeds and webhooks\n\n{_INTRO}\n\n" + "\n".join(chapters)
    intro = "The payloads of the messages."
    yield _SCHEMAS, schema_page("Schemas of messages", intro, document["components"]["schemas"])


def _chapter(name: str, channel: Mapping[str, Any]) -> str:
    text = f"## {name}\n\n"
    if address := channel.get("address"):
        text += f"`{address}`\n\n"
    text += f"{channel.get('description', '')}{_kept(channel)}\n\n| message | type | payload |\n|---|---|---|\n"
    for message, described in channel.get("messages", {}).items():
        payload = kind_of(described.get("payload", {}), _SCHEMAS).replace("|", "\\|")
        text += f"| `{message}` | {described.get('contentType', '')} | {payload} |\n"
    return text


def _kept(channel: Mapping[str, Any]) -> str:
    """How long a topic keeps its records."""
    settings = channel.get("bindings", {}).get("kafka", {}).get("topicConfiguration", {})
    if "compact" in settings.get("cleanup.policy", ()):
        return " Compacted: the newest record of each key is kept."
    retention = settings.get("retention.ms")
    if retention is None:
        return ""
    return " Records are kept without end." if retention < 0 else f" Records are kept for {retention // _DAY_MS} days."
