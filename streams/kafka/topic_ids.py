"""Reads the id that Kafka gave to a topic: another topic of the same name, made later, has another one.

In: a started client, a topic. Out: the id, or on a broker that is older than topic ids (Kafka 2.8) that of its cluster.
aiokafka's own metadata request has no ids.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA = 3
_UUID_BYTES = 16
_NO_ID = bytes(_UUID_BYTES)


class _Uuid(AbstractType):
    """The 16 bytes of an id."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


class _MetadataResponseV10(Response):
    API_KEY = _METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestV10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponseV10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


_Structs = MetadataRequest_v5 | _MetadataRequestV10


class _TopicMetadataRequest(Request[_Structs]):
    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: Any) -> Any:
        if request_struct_class is MetadataRequest_v5:
            return request_struct_class([self._topic], False)
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


async def read_topic_id(client: Any, topic: str) -> str:
    """The id of a topic as text, from a started AIOKafkaClient. Raises KafkaError, also if there is no such topic."""
    response = await client.send(client.get_random_node(), _TopicMetadataRequest(topic))
    found = response.topics[0] if response.topics else None
    if found is None:
        raise UnknownTopicOrPartitionError(topic)
    if found[0]:
        raise for_code(found[0])(topic)
    if isinstance(response, _MetadataResponseV10) and found[2] != _NO_ID:
        return bytes(found[2]).hex()
    return f"{response.cluster_id}"
