"""The header with the original place of an event that was sent again, so that a second refusal names the first place.

In: topic, partition, offset. Out: a header, and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

ORIGIN_HEADER = "stocktide-origin"
# The row of `dead-letters` that an event was retried from: `partition/offset`, for operators.
RETRIED_FROM_HEADER = "retried-from"
# Kafka's rule for names of topics.
_ORIGIN = re.compile(rb"([A-Za-z0-9._-]{1,249})/(\d{1,9})/(\d{1,18})")


class RecordPlace(Struct, frozen=True, order=True):
    """A record's place in Kafka. `topic` is the full name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def origin_header(place: RecordPlace) -> tuple[str, bytes]:
    """The header that stores a place."""
    return ORIGIN_HEADER, str(place).encode()


def origin_of(headers: Iterable[tuple[str, bytes | None]]) -> RecordPlace | None:
    """The stored place; None if the record has no valid origin header."""
    for name, value in headers:
        if name == ORIGIN_HEADER and value is not None and (match := _ORIGIN.fullmatch(value)) is not None:
            return RecordPlace(match[1].decode(), int(match[2]), int(match[3]))
    return None
