"""The newest row of each key of a compacted topic, in a temporary file; memory holds only where each row is.

In: a function that opens a Kafka consumer at the topic's beginning. Out: rows by key, and the keys in order, as of the
end of the topic at the newest refresh. Nothing is read before the first refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import IO, Any

from aiokafka import AIOKafkaConsumer

from stocktide.errors import StocktideError
from stocktide.streams.kafka.read_topic import read_topic

# Some 400 MB of memory: twice as many keys as the SKUs of the largest shop that is measured.
KEYS_MAX = 2_000_000
# Of the file, in a folder of the system: superseded rows included, as far as Kafka has not compacted them.
FILE_BYTES_MAX = 4 * 1024 * 1024 * 1024
# A place is `offset << LENGTH_BITS | length`: a record of Kafka is smaller than 16 MiB.
LENGTH_BITS = 24
_TOO_LARGE = f"the topic has more than {KEYS_MAX} keys or {FILE_BYTES_MAX} bytes"


class CopyTooLarge(StocktideError):
    """The topic has more keys or bytes than a copy may hold."""


class TopicCopy:
    """A copy of one topic, shared by all calls of a process."""

    def __init__(self, open_consumer: Callable[[], Awaitable[AIOKafkaConsumer]]) -> None:
        self._open_consumer = open_consumer
        self._consumer: AIOKafkaConsumer | None = None
        self._file: IO[bytes] | None = None
        self._size = 0
        self._places: dict[bytes, int] = {}
        self._names: list[str] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._too_large = False

    async def refresh(self) -> None:
        """Read up to the present end of the topic. Calls share one reader, which goes on where a call gives up waiting.

        Raises KafkaError, CopyTooLarge, OSError.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._catch_up())
        await asyncio.shield(self._reading)

    def get(self, key: str) -> bytes | None:
        """The newest row of a key."""
        place = self._places.get(key.encode())
        if place is None or self._file is None:
            return None
        return os.pread(self._file.fileno(), place & ((1 << LENGTH_BITS) - 1), place >> LENGTH_BITS)

    async def names(self, prefix: str, after: str, most: int) -> tuple[Sequence[str], bool]:
        """Up to `most` keys that begin with `prefix`, after the key `after` ("" from the start), and whether others
        follow."""
        if self._names is None:
            # A second for a million keys.
            self._names = await asyncio.to_thread(sorted, [key.decode() for key in self._places])
        names = self._names
        start = bisect_right(names, after) if after >= prefix and after else bisect_left(names, prefix)
        found = [name for name in names[start : start + most + 1] if name.startswith(prefix)]
        return found[:most], len(found) > most

    async def close(self) -> None:
        """Forget everything; the next refresh begins again."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._reading
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
        if self._file is not None:
            self._file.close()
        self._file, self._size, self._places, self._names, self._reading = None, 0, {}, None, None
        self._too_large = False

    async def _catch_up(self) -> None:
        if self._too_large:
            raise CopyTooLarge(_TOO_LARGE)
        if self._consumer is None:
            self._consumer = await self._open_consumer()
            self._file = tempfile.TemporaryFile(prefix="stocktide-tables-")  # noqa: SIM115
        async for _, records in read_topic(self._consumer):
            self._add(records)

    def _add(self, records: Sequence[Any]) -> None:
        assert self._file is not None
        values: list[bytes] = []
        for record in records:
            if record.key is None:
                continue
            if record.value is None:
                is_known = self._places.pop(record.key, None) is not None
                self._names = None if is_known else self._names
                continue
            if record.key not in self._places:
                self._names = None
            self._places[record.key] = self._size << LENGTH_BITS | len(record.value)
            self._size += len(record.value)
            values.append(record.value)
        self._file.write(b"".join(values))
        self._file.flush()
        if len(self._places) > KEYS_MAX or self._size > FILE_BYTES_MAX:
            self._too_large, self._places, self._names = True, {}, None
            self._file.truncate(0)
            raise CopyTooLarge(_TOO_LARGE)
