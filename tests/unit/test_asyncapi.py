"""The AsyncAPI document, against the standard and the table of topics.

`tests/schemas/asyncapi-3.0.0.json.gz` is `schemas/3.0.0.json` of the package `@asyncapi/specs` 6.11.1 (Apache-2.0,
Copyright 2016-2025 AsyncAPI Initiative), without white space.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema_rs import Draft7Validator

from stocktide.api.spec.asyncapi import make_asyncapi_document
from stocktide.streams.topics import TOPICS

SCHEMA = Path(__file__).parents[1] / "schemas" / "asyncapi-3.0.0.json.gz"
DOCUMENT: dict[str, Any] = orjson.loads(make_asyncapi_document("1"))


@pytest.fixture(scope="module")
def standard() -> Draft7Validator:
    """The official schema of AsyncAPI 3.0.0."""
    return Draft7Validator(orjson.loads(gzip.decompress(SCHEMA.read_bytes())))


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in references(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for each in value.values() for found in references(each)]


def test_the_document_is_valid_asyncapi_3_0(standard: Draft7Validator) -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert not [f"{error.instance_path}: {error.message}"[:500] for error in standard.iter_errors(DOCUMENT)]


def test_a_wrong_document_is_found(standard: Draft7Validator) -> None:
    wrong = {**DOCUMENT, "operations": {"x": {"action": "listen", "channel": {"$ref": "#/channels/orders"}}}}
    assert list(standard.iter_errors(wrong))


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert found
    assert all(resolve(reference) is not None for reference in found)


def test_every_topic_is_a_channel_with_its_settings() -> None:
    for topic in TOPICS:
        channel = DOCUMENT["channels"][topic.name]
        assert channel["address"] == "{app_id}-" + topic.name
        assert channel["messages"]
        assert channel["bindings"]["kafka"].get("partitions") == topic.partitions


def test_feeds_sockets_and_webhooks_are_channels_and_nothing_else_is() -> None:
    others = {"stock-feed", "order-feed", "socket", "webhook-calls"}
    assert set(DOCUMENT["channels"]) == {topic.name for topic in TOPICS} | others


def test_a_channel_is_used_by_an_operation() -> None:
    used = {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}
    assert used == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
