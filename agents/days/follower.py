"""Follows `alerts` and `dead-letters` and counts them by day, in the worker that owns the journal.

In: the records of all partitions, from where the table says they were counted. Out: rows of `daily` with new totals,
then the row that says how far was counted; tombstones of rows of old days. Each row holds the offsets up to which it
has counted, so a record that is read again after a crash counts nothing, and `repeats` knows those that were written
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec import Struct

from stocktide.agents.days.repeats import READ_BACK_RECORDS, RepeatFilter
from stocktide.agents.days.retention import FORGET_SECONDS, FORGOTTEN_ROWS_MAX, forgotten_keys
from stocktide.agents.derive.agent import DailyTotals
from stocktide.streams.contract.daily import (
    FOLLOWED_KEY,
    LETTERS,
    SWITCHES,
    Followed,
    LetterDay,
    SwitchDay,
    added,
    day_of,
    key_of,
)
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.times import ms_of, now_ms
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN, Publisher
from stocktide.streams.kafka.transport import Record
from stocktide.streams.topics import ALERTS, Topic

logger = logging.getLogger(__name__)

# The journal has one partition, and so has `daily`.
SHARD = 0
# Every fetch of an idle system costs Kafka a millisecond; a report is a second old.
FETCH_MS = 1_000
POLL_MS = 1_000
# Some ms of work.
RECORDS_MAX = 1_000
# Between looks whether this worker owns the journal, and after an error.
PAUSE_SECONDS = 1.0
# What came while the first worker of all started.
FIRST_START_MS = 60_000
UNREADABLE = "unreadable"
_T = TypeVar("_T")


class _Switch(Struct, frozen=True):
    """An alert, as far as it is counted."""

    type: str
    id: str = ""
    channel: str | None = None
    at: datetime | None = None


class _Letter(Struct, frozen=True):
    """A row of `dead-letters`; one with `of` marks a dead letter that was sent again or dropped, and is none."""

    reason: str = UNREADABLE
    of: Any = None
    topic: str = ""
    partition: int = 0
    offset: int = OFFSET_NOT_WRITTEN
    at: str = ""


_switch = msgspec.json.Decoder(_Switch).decode
_letter = msgspec.json.Decoder(_Letter).decode
_switch_row = msgspec.json.Decoder(SwitchDay).decode
_letter_row = msgspec.json.Decoder(LetterDay).decode
_followed_row = msgspec.json.Decoder(Followed).decode


class DayFold:
    """Counts a poll. `read` gives the stored row of a key; a `place` is a topic's short name and a partition. Records
    before `floor` were counted: they only make their repeats known."""

    def __init__(self, zone: ZoneInfo, read: Callable[[str], bytes | None], repeats: RepeatFilter) -> None:
        self._zone = zone
        self._read = read
        self._repeats = repeats
        self._switches: dict[str, SwitchDay] = {}
        self._letters: dict[str, LetterDay] = {}

    def add_alerts(self, place: str, records: Iterable[Record], floor: int = 0) -> None:
        """Count the changes of mode among the alerts of a partition."""
        found: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for record in records:
            alert = _decoded(_switch, record)
            if alert is None or alert.type != "mode_switched" or not alert.channel or not alert.at:
                continue
            if self._repeats.is_new(place, alert.id or record.offset) and record.offset >= floor:
                waited = record.timestamp - ms_of(alert.at)
                found[day_of(record.timestamp, self._zone), alert.channel].append((record.offset, waited))
        for (day, channel), switches in found.items():
            key = key_of(SWITCHES, day, channel)
            row = self._switches.get(key) or self._stored(key, _switch_row) or SwitchDay(day, channel)
            counted = row.through.get(place, 0)
            waits = [waited for offset, waited in switches if offset >= counted]
            through = {**row.through, place: max(counted, switches[-1][0] + 1)}
            self._switches[key] = SwitchDay(day, channel, through, row.published_ms.with_each(waits))

    def add_letters(self, place: str, records: Iterable[Record], floor: int = 0) -> None:
        """Count the dead letters of a partition. One that was sent again and refused again is another: its time
        differs."""
        found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for record in records:
            letter = _decoded(_letter, record)
            if letter is not None and letter.of is not None:
                continue
            has_place = letter is not None and letter.offset != OFFSET_NOT_WRITTEN
            if self._repeats.is_new(place, letter if has_place else record.offset) and record.offset >= floor:
                reason = UNREADABLE if letter is None else letter.reason
                found[day_of(record.timestamp, self._zone)].append((record.offset, reason))
        for day, letters in found.items():
            key = key_of(LETTERS, day)
            row = self._letters.get(key) or self._stored(key, _letter_row) or LetterDay(day)
            counted = row.through.get(place, 0)
            more = Tally(reason for offset, reason in letters if offset >= counted)
            through = {**row.through, place: max(counted, letters[-1][0] + 1)}
            self._letters[key] = LetterDay(day, through, added(row.reasons, more))

    def rows(self) -> dict[str, SwitchDay | LetterDay]:
        """The new rows by key."""
        return {**self._switches, **self._letters}

    def _stored(self, key: str, decode: Callable[[bytes], _T]) -> _T | None:
        stored = self._read(key)
        return None if stored is None else decode(stored)


def _decoded(decode: Callable[[bytes], _T], record: Record) -> _T | None:
    try:
        return decode(record.value or b"")
    except msgspec.MsgspecError:
        return None


class DayFollower:
    """Runs in every worker that publishes, and counts in the one that owns the journal. `topics` are those that are
    followed, by full name; `open_reader` opens a consumer of all of them."""

    def __init__(
        self,
        daily: DailyTotals,
        publisher: Publisher,
        topics: Mapping[str, Topic],
        open_reader: Callable[[], AbstractAsyncContextManager[AIOKafkaConsumer]],
        owns_journal: Callable[[], bool],
    ) -> None:
        self._daily = daily
        self._publisher = publisher
        self._topics = topics
        self._open_reader = open_reader
        self._owns_journal = owns_journal
        self._repeats = RepeatFilter()
        self._forget_at = 0.0

    async def run(self) -> None:
        """Count until cancelled; errors of Kafka are retried."""
        while True:
            if self._owns_journal():
                try:
                    await self._follow(self._publisher.epoch)
                except MembershipLost:
                    pass
                except (KafkaError, OSError) as error:
                    logger.warning("alerts and dead letters are not counted now: %r; trying again", error)
                except Exception:  # a report is no reason to stop a worker
                    logger.exception("alerts and dead letters are not counted now; trying again")
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self, epoch: int) -> None:
        """Count while the epoch holds. Raises MembershipLost and KafkaError."""
        self._repeats, self._forget_at = RepeatFilter(), 0.0
        async with self._open_reader() as consumer:
            await self._seek(consumer, epoch)
            while self._publisher.holds(epoch) and self._owns_journal():
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
                if fetched:
                    await self._count(fetched, epoch)
                await self._forget(epoch)

    async def _seek(self, consumer: AIOKafkaConsumer, epoch: int) -> None:
        """Go on where was counted, and a little before: what is there is known again. What is older than the first
        start is of days of which nothing else is known."""
        through, parts = self._followed(), list(consumer.assignment())
        new = [part for part in parts if self._place(part) not in through]
        if new:
            ends = await consumer.end_offsets(new)
            found = await consumer.offsets_for_times(dict.fromkeys(new, now_ms() - FIRST_START_MS))
            through |= {self._place(part): at.offset if (at := found[part]) else ends[part] for part in new}
            await self._store({FOLLOWED_KEY.encode(): encode(Followed(through))}, epoch)
        begins = await consumer.beginning_offsets(parts)
        for part in parts:
            read_back = READ_BACK_RECORDS[self._topics[part.topic]]
            consumer.seek(part, max(begins[part], through[self._place(part)] - read_back))

    async def _count(self, fetched: Mapping[TopicPartition, list[Record]], epoch: int) -> None:
        fold = DayFold(self._daily.zone, self._read, self._repeats)
        followed = self._followed()
        through = dict(followed)
        for part, records in fetched.items():
            place = self._place(part)
            add = fold.add_alerts if self._topics[part.topic] is ALERTS else fold.add_letters
            add(place, records, followed[place])
            through[place] = max(followed[place], records[-1].offset + 1)
        await self._store({key.encode(): encode(row) for key, row in fold.rows().items()}, epoch)
        if through != followed:
            await self._store({FOLLOWED_KEY.encode(): encode(Followed(through))}, epoch)

    async def _forget(self, epoch: int) -> None:
        """Remove some of the rows of days that are over for long, if it is time."""
        if time.monotonic() < self._forget_at:
            return
        keys = forgotten_keys(self._daily.table, SHARD, day_of(now_ms(), self._daily.zone))
        await self._store(dict.fromkeys(keys), epoch)
        if len(keys) < FORGOTTEN_ROWS_MAX:
            self._forget_at = time.monotonic() + FORGET_SECONDS

    async def _store(self, rows: dict[bytes, bytes | None], epoch: int) -> None:
        if rows:
            offsets = await self._publisher.publish(
                self._daily.topic, rows.items(), epoch, to_partition=lambda _: SHARD
            )
            self._daily.table.write(SHARD, rows, offsets[SHARD])

    def _followed(self) -> dict[str, int]:
        stored = self._read(FOLLOWED_KEY)
        return {} if stored is None else dict(_followed_row(stored).through)

    def _place(self, part: TopicPartition) -> str:
        return f"{self._topics[part.topic].name}/{part.partition}"

    def _read(self, key: str) -> bytes | None:
        return self._daily.table.read(SHARD, key.encode())
