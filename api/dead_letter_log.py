"""The newest dead letters, folded from their topic while somebody asks for them.

In: the topic `dead-letters`. Out: dead letters with their state, as of at most a second ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from operator import itemgetter

from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.tables.dead_letters.reader import (
    DeadLetterFold,
    DeadLetterSummary,
    DeadLetterTopic,
    StoredDeadLetter,
)

# Some 40 MB with the beginnings of their events; `stocktide dead-letters` reaches older ones.
LETTERS_MAX = 20_000
BEGINNING_BYTES = 1_024
# Boards that are open read the topic once in this time, however many they are.
FRESH_SECONDS = 1.0
# Without a call for this long, everything is forgotten.
IDLE_SECONDS = 120.0


# Where a dead letter is among all: its time, partition and offset.
Rank = tuple[str, int, int]


class NewestLetters:
    """The newest dead letters in their order, which each row changes a little: a call goes through those that it shows,
    not through all. `open_by_topic`: how many are open, by the full name of the topic of their events."""

    def __init__(self) -> None:
        self._fold = DeadLetterFold(letters_max=LETTERS_MAX, beginning=BEGINNING_BYTES)
        # Oldest first.
        self._ranked: list[tuple[Rank, DeadLetterSummary]] = []
        self.open_by_topic: Counter[str] = Counter()

    @property
    def left_out(self) -> int:
        """How many older ones are not held."""
        return self._fold.evicted

    def add(self, stored: StoredDeadLetter) -> None:
        """Take the next row."""
        change = self._fold.add(stored)
        for letter in change.gone:
            del self._ranked[self._place_of(rank_of(letter))]
            self.open_by_topic[letter.origin.topic] -= letter.state == "open"
        for letter in change.come:
            rank = rank_of(letter)
            self._ranked.insert(self._place_of(rank), (rank, letter))
            self.open_by_topic[letter.origin.topic] += letter.state == "open"

    def before(self, rank: Rank | None) -> Iterator[DeadLetterSummary]:
        """Those before this one, or all, newest first."""
        end = len(self._ranked) if rank is None else self._place_of(rank)
        return (self._ranked[at][1] for at in range(end - 1, -1, -1))

    def at(self, place: RecordPlace) -> DeadLetterSummary | None:
        """The one with its own row there."""
        found = self._fold.newest_at(place)
        return found if found is not None and found.place == place else None

    def _place_of(self, rank: Rank) -> int:
        return bisect_left(self._ranked, rank, key=itemgetter(0))


def rank_of(letter: DeadLetterSummary) -> Rank:
    """See `Rank`."""
    return letter.at, letter.place.partition, letter.place.offset


class DeadLetterLog:
    """The dead letters of one installation, shared by all calls of a process. Nothing is read before the first call."""

    def __init__(self, topic: DeadLetterTopic) -> None:
        self._topic = topic
        self.newest = NewestLetters()
        self._begin: dict[int, int] = {}
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._idle: asyncio.TimerHandle | None = None

    async def refresh(self, *, at_once: bool = False, fresh_seconds: float = FRESH_SECONDS) -> None:
        """Read what is new, if the last reading is older than `fresh_seconds`. Calls share one reader, which goes on
        where a call gives up waiting. `at_once`: read whatever was written before the call. Raises KafkaError."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._forget)
        if at_once and self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)  # it may have begun before what is asked for was written
        if self._reading is None or self._reading.done():
            if not at_once and time.monotonic() - self._read_at < fresh_seconds:
                return
            self._reading = asyncio.create_task(self._catch_up(), name="dead letters")
        await asyncio.shield(self._reading)

    async def count_open(self, topic: str, fresh_seconds: float) -> int:
        """How many events of a topic (full name) are open dead letters. Raises KafkaError."""
        await self.refresh(fresh_seconds=fresh_seconds)
        return self.newest.open_by_topic[topic]

    async def close(self) -> None:
        """Forget everything."""
        if self._idle is not None:
            self._idle.cancel()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._reading

    def _forget(self) -> None:
        if self._reading is None or self._reading.done():
            self.newest, self._begin, self._read_at = NewestLetters(), {}, -math.inf

    async def _catch_up(self) -> None:
        async for stored in self._topic.rows(begin=self._begin):
            self.newest.add(stored)
            self._begin[stored.place.partition] = stored.place.offset + 1
        self._read_at = time.monotonic()
