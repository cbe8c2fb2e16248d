"""Reads the topic `dead-letters` and folds its rows into dead letters with their state.

In: rows of the topic. Out: `DeadLetterSummary`s without their bytes, and whole rows on request. The topic keeps rows
for a time and cannot take one back, so another row, a mark, says that one was sent again or dropped: `reason` is
`retried` or `dropped`, `of` names the dead letter. A mark covers every dead letter of the same event up to that one.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct, structs

from stocktide.streams.contract.decode_errors import shorten
from stocktide.streams.contract.documents import DeadLetter
from stocktide.streams.contract.times import rfc3339
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN
from stocktide.streams.kafka.read_topic import read_topic, topic_consumer
from stocktide.streams.kafka.record_origin import RecordPlace

State = Literal["open", "retried", "dropped"]
CLOSED_STATES: tuple[State, ...] = ("retried", "dropped")
ALL_STATES: tuple[State, ...] = ("open", *CLOSED_STATES)
# The newest dead letters kept while the topic is read, some 500 bytes each.
LETTERS_MAX = 200_000
# Bytes of a key that are held: those of events are names, but a producer may
# use any. The whole one is in the topic.
KEY_BYTES_MAX = 1_024
# Every record that is read exists already; a fetch that waits for more delays the next one.
_FETCH_WAIT_MS = 20
# Rows are decoded for so many bytes, and some for each row, before the event loop runs other tasks: some 4 ms.
TURN_BYTES, ROW_BYTES = 256 * 1024, 1_024


class DeadLetterSummary(Struct, frozen=True):
    """A dead letter and its state. `place` is its own in `dead-letters`, `key` that of its row. Of `size` bytes only
    the `beginning` is held; `is_cut`: the topic has not all of them either."""

    place: RecordPlace
    key: bytes | None
    reason: str
    detail: str
    path: str | None
    origin: RecordPlace
    at: str
    size: int
    is_cut: bool = False
    is_text: bool = True
    beginning: bytes = b""
    state: State = "open"
    by: str = ""
    done_at: str = ""


class StoredDeadLetter(Struct, frozen=True):
    """A row with its key and its place in the topic."""

    place: RecordPlace
    key: bytes | None
    row: DeadLetter
    value: bytes


class DeadLetterFilter(Struct, frozen=True):
    """Which dead letters are wanted. Times are in ms; `topics` are full names. `limit`: the newest to list, the oldest
    to change."""

    reasons: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    all_states: bool = False

    def matches(self, letter: DeadLetterSummary) -> bool:
        """Whether a dead letter is wanted, in any state."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.origin.topic in self.topics)
            and (self.since is None or rfc3339(self.since) <= letter.at)
            and (self.until is None or letter.at <= rfc3339(self.until))
        )


class FoldChange(Struct, frozen=True):
    """What a row changed: dead letters that are to be shown now, and those that are no more."""

    come: tuple[DeadLetterSummary, ...] = ()
    gone: tuple[DeadLetterSummary, ...] = ()


class DeadLetterFold:
    """Folds rows, those of one partition in their order, into the dead letters that `matches` selects. `evicted` counts
    those beyond `letters_max`. Of each dead letter `beginning` bytes are held."""

    def __init__(
        self,
        matches: Callable[[DeadLetterSummary], bool] = lambda letter: True,
        letters_max: int | None = None,
        beginning: int = 0,
    ) -> None:
        self._matches = matches
        self._letters_max = LETTERS_MAX if letters_max is None else letters_max
        self._beginning = beginning
        self._count = 0
        self._by_event: dict[RecordPlace, list[DeadLetterSummary]] = {}
        self.evicted = 0

    def add(self, stored: StoredDeadLetter) -> FoldChange:
        """Fold in the next row; what it changed of those that `letters` gives."""
        row = stored.row
        if row.of is not None and row.reason in CLOSED_STATES:
            return self._mark(stored)
        event = row.event
        letter = DeadLetterSummary(
            stored.place,
            None if stored.key is None else stored.key[:KEY_BYTES_MAX],
            row.reason,
            shorten(row.detail),
            None if row.path is None else shorten(row.path),
            _origin_of(row),
            row.at,
            row.raw_bytes or len(event),
            row.raw_bytes is not None,
            row.raw_base64 is None,
            event[: self._beginning],
        )
        if not self._matches(letter):
            return FoldChange()
        letters = self._by_event.setdefault(_event_of(stored), [])
        before = _distinct(letters)
        letters.append(letter)
        self._count += 1
        change = _change(before, letters)
        while self._count > self._letters_max:
            oldest = self._by_event.pop(next(iter(self._by_event)))
            self._count -= len(oldest)
            self.evicted += len(oldest)
            evicted = _distinct(oldest).values()
            change = FoldChange(
                tuple(each for each in change.come if each not in evicted),
                (*change.gone, *(each for each in evicted if each not in change.come)),
            )
        return change

    def _mark(self, stored: StoredDeadLetter) -> FoldChange:
        row, of = stored.row, stored.row.of
        assert of is not None
        letters = self._by_event.get(_event_of(stored), [])
        before = _distinct(letters)
        for index, letter in enumerate(letters):
            covered = letter.place.partition == of.partition and letter.place.offset <= of.offset
            if covered and letter.state == "open":
                state: State = "retried" if row.reason == "retried" else "dropped"
                letters[index] = structs.replace(letter, state=state, by=row.by, done_at=row.at)
        return _change(before, letters)

    def letters(self, states: tuple[State, ...]) -> list[DeadLetterSummary]:
        """Those in one of `states`, oldest first. One that a restart wrote twice counts once, with its newest row."""
        found = (letter for letters in self._by_event.values() for letter in _distinct(letters).values())
        wanted = [letter for letter in found if letter.state in states]
        return sorted(wanted, key=lambda letter: (letter.at, letter.origin))

    def newest_at(self, place: RecordPlace) -> DeadLetterSummary | None:
        """The newest dead letter whose own place or event's place this is."""
        for letters in self._by_event.values():
            for letter in reversed(letters):
                if place in (letter.origin, letter.place):
                    return letter
        return None


def _distinct(letters: list[DeadLetterSummary]) -> dict[tuple[str, str], DeadLetterSummary]:
    """Of the dead letters of one event those that are shown: the newest in each state."""
    return {(letter.state, letter.done_at): letter for letter in letters}


def _change(before: dict[tuple[str, str], DeadLetterSummary], letters: list[DeadLetterSummary]) -> FoldChange:
    after = _distinct(letters)
    come = tuple(letter for key, letter in after.items() if before.get(key) is not letter)
    return FoldChange(come, tuple(letter for key, letter in before.items() if after.get(key) is not letter))


def _event_of(stored: StoredDeadLetter) -> RecordPlace:
    """What tells the event of a dead letter or a mark: its origin; of a row that Kafka refused, which has none, the
    dead letter's own place."""
    row, place = stored.row, stored.place
    if row.offset != OFFSET_NOT_WRITTEN:
        return _origin_of(row)
    return place if row.of is None else RecordPlace(place.topic, row.of.partition, row.of.offset)


def _origin_of(row: DeadLetter) -> RecordPlace:
    return RecordPlace(row.topic, row.partition, row.offset)


def decode_row(value: bytes | None) -> DeadLetter | None:
    """A row; None where the record is no dead letter."""
    try:
        fields = msgspec.json.decode(value or b"", type=dict[str, Any])
        # Rows of other writers may lack the two.
        row = msgspec.convert({"detail": "", "path": None, **fields}, DeadLetter)
        return row if row.raw_base64 is None or base64.b64decode(row.raw_base64, validate=True) is not None else None
    except (msgspec.MsgspecError, ValueError):
        return None


class DeadLetterTopic:
    """The topic on Kafka, `topic` its full name. Every method raises KafkaError."""

    def __init__(self, topic: str, client: dict[str, Any]) -> None:
        self._topic = topic
        self._client = client

    async def rows(
        self,
        since_ms: int | None = None,
        places: Iterable[RecordPlace] | None = None,
        begin: Mapping[int, int] | None = None,
    ) -> AsyncIterator[StoredDeadLetter]:
        """Every row up to the current end, in order for each partition: since a time, or those at `places`, or from the
        offset in `begin` on."""
        chosen = None if places is None else set(places)
        decoded = 0
        client = {**self._client, "fetch_max_wait_ms": _FETCH_WAIT_MS}
        async with topic_consumer(client["bootstrap_servers"], self._topic, **client) as consumer:
            bounds = await self._bounds(consumer, since_ms, chosen)
            for part, (first, _) in bounds.items():
                consumer.seek(part, max(first, (begin or {}).get(part.partition, 0)))
            async for part, records in read_topic(consumer, {part: end for part, (_, end) in bounds.items()}):
                for record in records:
                    decoded += ROW_BYTES + len(record.value or b"")
                    if decoded > TURN_BYTES:
                        decoded = 0
                        await asyncio.sleep(0)
                    place = RecordPlace(part.topic, part.partition, record.offset)
                    if (chosen is None or place in chosen) and (row := decode_row(record.value)) is not None:
                        yield StoredDeadLetter(place, record.key or None, row, record.value or b"")

    async def _bounds(
        self, consumer: AIOKafkaConsumer, since_ms: int | None, places: set[RecordPlace] | None
    ) -> dict[TopicPartition, tuple[int, int]]:
        """First and end offset of the rows to read, by partition."""
        partitions = list(consumer.assignment())
        first, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        if places is not None:
            wanted: dict[int, list[int]] = {}
            for place in places:
                wanted.setdefault(place.partition, []).append(place.offset)
            spans = {part: wanted.get(part.partition, []) for part in partitions}
            return {
                part: (max(first[part], min(offsets)), min(ends[part], max(offsets) + 1))
                for part, offsets in spans.items()
                if offsets
            }
        if since_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, since_ms)))
            first = {part: ends[part] if found[part] is None else found[part].offset for part in partitions}
        return {part: (first[part], ends[part]) for part in partitions}
