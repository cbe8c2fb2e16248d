"""The topic `dead-letters`, read and folded: which letters there are, and what became of each.

In: rows of the topic. Out: `DeadLetterSummary`s without their bytes, and rows whole where they are asked for. The topic
keeps rows for a time and cannot take one back, so what was sent again or dropped is told by another row, a mark:
`reason` `retried` or `dropped`, `of` the letter. A mark covers every letter of the same event up to that one.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct, structs

from stocktide.streams.kafka.record_origin import RecordPlace

State = Literal["open", "retried", "dropped"]
CLOSED_STATES: tuple[State, ...] = ("retried", "dropped")
ALL_STATES: tuple[State, ...] = ("open", *CLOSED_STATES)
# Later than every time, as text.
TIME_MAX = "~"
# Letters that are kept while the topic is read, some 500 bytes each: of more, the newest.
LETTERS_MAX = 200_000
_POLL_MS = 1_000
# All that is read is there: a fetch that waits for more would only be in the way of the next one.
_FETCH_WAIT_MS = 20
_ROWS_MAX = 2_000
# A broker that gives nothing for so many polls in a row, before the end is reached, is an outage.
_SILENT_POLLS_MAX = 20


class _Of(Struct, frozen=True):
    partition: int
    offset: int


class DeadLetterValue(Struct, frozen=True):
    """A row of the topic, as docs/architecture.md describes it."""

    reason: str
    topic: str
    partition: int
    offset: int
    at: str
    detail: str = ""
    path: str | None = None
    raw: str | None = None
    raw_base64: str | None = None
    raw_bytes: int | None = None
    of: _Of | None = None
    by: str = ""

    @property
    def origin(self) -> RecordPlace:
        """Where the event lay."""
        return RecordPlace(self.topic, self.partition, self.offset)

    @property
    def event(self) -> bytes:
        """The event as it came; its beginning, where it `is_cut`."""
        return base64.b64decode(self.raw_base64) if self.raw_base64 is not None else (self.raw or "").encode()

    @property
    def is_cut(self) -> bool:
        """Whether the event was too large to be kept whole."""
        return self.raw_bytes is not None


class DeadLetterSummary(Struct, frozen=True):
    """A letter without its bytes, and what became of it. `place` is its own, in `dead-letters`; `key` its row's."""

    place: RecordPlace
    key: bytes | None
    reason: str
    detail: str
    path: str | None
    origin: RecordPlace
    at: str
    size: int
    is_cut: bool = False
    state: State = "open"
    by: str = ""
    done_at: str = ""


class StoredDeadLetter(Struct, frozen=True):
    """A row with its key and its place in the topic."""

    place: RecordPlace
    key: bytes | None
    row: DeadLetterValue
    value: bytes


class DeadLetterQuery(Struct, frozen=True):
    """Which letters are asked for. Times are RFC 3339, as the rows have them; `topics` full names."""

    reasons: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    since: str = ""
    until: str = TIME_MAX

    def has(self, letter: DeadLetterSummary) -> bool:
        """Whether this one is, whatever became of it."""
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.origin.topic in self.topics)
            and self.since <= letter.at <= self.until
        )


class DeadLetterFold:
    """Takes in rows, those of one partition in their order, and keeps the letters that are `asked` for. `forgotten`
    counts those that were too many to be kept."""

    def __init__(self, asked: Callable[[DeadLetterSummary], bool]) -> None:
        self._asked = asked
        self._count = 0
        self.by_origin: dict[RecordPlace, list[DeadLetterSummary]] = {}
        self.forgotten = 0

    def take(self, stored: StoredDeadLetter) -> None:
        """The next row."""
        row = stored.row
        if row.of is not None and row.reason in CLOSED_STATES:
            self._mark(stored)
            return
        letter = DeadLetterSummary(
            stored.place,
            stored.key,
            row.reason,
            row.detail,
            row.path,
            row.origin,
            row.at,
            row.raw_bytes or len(row.event),
            row.is_cut,
        )
        if not self._asked(letter):
            return
        self.by_origin.setdefault(row.origin, []).append(letter)
        self._count += 1
        while self._count > LETTERS_MAX:
            gone = self.by_origin.pop(next(iter(self.by_origin)))
            self._count -= len(gone)
            self.forgotten += len(gone)

    def _mark(self, stored: StoredDeadLetter) -> None:
        row, of = stored.row, stored.row.of
        assert of is not None
        letters = self.by_origin.get(row.origin, [])
        for index, letter in enumerate(letters):
            covered = letter.place.partition == of.partition and letter.place.offset <= of.offset
            if covered and letter.state == "open":
                state: State = "retried" if row.reason == "retried" else "dropped"
                letters[index] = structs.replace(letter, state=state, by=row.by, done_at=row.at)

    def letters(self, states: tuple[State, ...]) -> list[DeadLetterSummary]:
        """Those in one of `states`, oldest first. One that a restart wrote twice counts once, with its newest row."""
        found: dict[tuple[RecordPlace, str, str], DeadLetterSummary] = {}
        for letters in self.by_origin.values():
            for letter in letters:
                if letter.state in states:
                    found[letter.origin, letter.state, letter.done_at] = letter
        return sorted(found.values(), key=lambda letter: (letter.at, letter.origin))


def decode_row(value: bytes | None) -> DeadLetterValue | None:
    """A row; None where it is none of ours."""
    try:
        row = _ROW.decode(value or b"")
        return row if row.raw_base64 is None or base64.b64decode(row.raw_base64, validate=True) is not None else None
    except (msgspec.MsgspecError, ValueError):
        return None


_ROW = msgspec.json.Decoder(DeadLetterValue)


class DeadLetterTopic:
    """The topic on Kafka, `topic` its full name. Every method raises KafkaError."""

    def __init__(self, topic: str, client: dict[str, Any]) -> None:
        self._topic = topic
        self._client = client

    async def rows(
        self,
        since_ms: int | None = None,
        places: Iterable[RecordPlace] | None = None,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> AsyncIterator[StoredDeadLetter]:
        """Every row that is there now, in order for each partition: since a time, or those at `places`.
        `report(done, total)` is told how far it is, in records."""
        consumer = AIOKafkaConsumer(
            self._topic, group_id=None, enable_auto_commit=False, fetch_max_wait_ms=_FETCH_WAIT_MS, **self._client
        )
        await consumer.start()
        try:
            chosen = None if places is None else set(places)
            async for stored in self._read(consumer, await self._bounds(consumer, since_ms, chosen), report):
                if chosen is None or stored.place in chosen:
                    yield stored
        finally:
            await consumer.stop()

    async def _bounds(
        self, consumer: AIOKafkaConsumer, since_ms: int | None, places: set[RecordPlace] | None
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Per partition where reading begins and ends."""
        partitions = list(consumer.assignment())
        if not partitions:
            raise KafkaError(f"Kafka has no topic {self._topic}")
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

    async def _read(
        self,
        consumer: AIOKafkaConsumer,
        bounds: dict[TopicPartition, tuple[int, int]],
        report: Callable[[int, int], None],
    ) -> AsyncIterator[StoredDeadLetter]:
        left = {part: end for part, (start, end) in bounds.items() if start < end}
        total = sum(end - start for start, end in bounds.values())
        if not left:
            report(0, 0)
            return  # a consumer that is assigned nothing does not stop by itself
        consumer.unsubscribe()
        consumer.assign(list(left))
        for part in left:
            consumer.seek(part, bounds[part][0])
        silent = done = 0
        while left:
            fetched = await consumer.getmany(*left, timeout_ms=_POLL_MS, max_records=_ROWS_MAX)
            silent = 0 if fetched else silent + 1
            if silent > _SILENT_POLLS_MAX:
                raise KafkaError(f"{self._topic} gives nothing before its end")
            for part, records in fetched.items():
                done += len(records)
                for record in records:
                    if record.offset < bounds[part][1] and (row := decode_row(record.value)) is not None:
                        place = RecordPlace(part.topic, part.partition, record.offset)
                        yield StoredDeadLetter(place, record.key or None, row, record.value)
            for part in list(left):
                if await consumer.position(part) >= left[part]:
                    del left[part]
            report(min(done, total), total)
            await asyncio.sleep(0)
