"""The record of the topic `intake`: a webhook as it came, with the headers and the query that its mapping reads.

In: an `Envelope`. Out: its bytes, and back. It is MessagePack, because a body of 1 MiB as base64 exceeds a request.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class Envelope(Struct, frozen=True):
    """A webhook. `received_ms` is ms since the epoch; names of headers are in lower case."""

    name: str
    received_ms: int
    headers: dict[str, str]
    query: dict[str, str]
    body: bytes


_DECODER = msgspec.msgpack.Decoder(Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """The record's value."""
    return msgspec.msgpack.encode(envelope)


def decode_envelope(raw: bytes) -> Envelope | None:
    """The webhook of a record; None if it is none."""
    try:
        return _DECODER.decode(raw)
    except msgspec.MsgspecError:
        return None
