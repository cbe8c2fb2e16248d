"""The journal for commands that ask about one SKU: from its oldest record forward, or from the newest back.

In: Kafka's address. Out: matches of a SKU. The checkpoints, or for a part of the journal the record times, give the
position at which reading begins.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from stocktide.streams.journal.log import KafkaLog
from stocktide.streams.journal.record import JournalReader, Position
from stocktide.streams.topics import JOURNAL
from stocktide.tables.history.journal_search import (
    BackwardSearch,
    JournalCursor,
    Match,
    ReadBudget,
    oldest_readable,
    search_forward,
)
from stocktide.tables.recovery.checkpoints import Checkpoints, read_checkpoints
from stocktide.tables.recovery.journal_scan import LostTail, follow, newest_position_in

# The allowed difference between the relay's clock (record times) and the ledger's clock (decision times).
_CLOCKS_DIFFER_MS = 600_000


class JournalAccess:
    """One shard's journal as it was when `open` was called. Every method raises KafkaError, TakeoverError."""

    def __init__(self, kafka: str, app_id: str, access: dict[str, Any], shard: int = 0) -> None:
        self._kafka = kafka
        self._app_id = app_id
        self._access = access
        self._partition = TopicPartition(JOURNAL.full_name(app_id), shard)
        self._log = KafkaLog(kafka, self._partition.topic, shard, **access)
        self._checkpoints = Checkpoints()
        self._end = 0
        self.is_untrimmed = False

    async def open(self) -> None:
        """Read the journal's bounds and checkpoints."""
        beginning, self._end = await self._log.bounds()
        self.is_untrimmed = beginning == 0
        self._checkpoints = await read_checkpoints(self._kafka, self._app_id, self._partition.partition, **self._access)

    async def close(self) -> None:
        """Disconnect from Kafka."""
        await self._log.close()

    async def search_forward(self, sku: str, since_ms: int | None = None) -> AsyncIterator[Match]:
        """Each match, oldest first, from the oldest readable record, or from a position before `since_ms`."""
        positions = self._checkpoints.all()
        start: Position | None = None
        if since_ms is not None:
            offset = await self._offset_at(since_ms - _CLOCKS_DIFFER_MS)
            before = tuple(position for position in positions if position.offset <= offset)
            start = await newest_position_in(self._log, before) if before else None
        start = start or await oldest_readable(self._log, positions)
        if start is None:
            raise LostTail("the journal's head has aged out, and journal-positions does not say what lay before")
        async for match in search_forward(self._log, JournalReader(start), self._end, sku):
            yield match

    async def backward(self, sku: str, until_ms: int | None = None) -> BackwardSearch:
        """The matches, newest first, from the end, or from a position after `until_ms`."""
        anchor: JournalCursor | None = None
        if until_ms is not None:
            offset = await self._offset_at(until_ms + _CLOCKS_DIFFER_MS)
            behind = (position for position in self._checkpoints.all() if offset <= position.offset <= self._end)
            anchor = next((JournalCursor.of(position) for position in behind), None)
        return BackwardSearch(
            self._log, anchor or JournalCursor.of(await self._newest()), sku, ReadBudget(math.inf, math.inf)
        )

    async def _newest(self) -> Position:
        """The position after the last record."""
        reader = JournalReader(await newest_position_in(self._log, self._checkpoints.all()))
        async for _ in follow(self._log, reader, self._end):
            pass
        return reader.position

    async def _offset_at(self, ms: int) -> int:
        """The first offset whose record is not older; the end where all are older."""
        async with AIOKafkaConsumer(bootstrap_servers=self._kafka, group_id=None, **self._access) as consumer:
            consumer.assign([self._partition])
            found = (await consumer.offsets_for_times({self._partition: max(0, ms)}))[self._partition]
        return self._end if found is None else int(found.offset)
