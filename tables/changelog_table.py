"""A Faust table whose changelog is an output topic, written in batches by a `Publisher`.

In: rows that were published and acknowledged. Out: the same rows after a restart or on another worker, restored by
Faust's recovery. So one write to the topic both informs subscribers and stores the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice, takewhile
from typing import Any

import faust
import rocksdict

from stocktide.streams import failpoints
from stocktide.streams.kafka.transport import Chunk, ChunkSchema

# Per partition and table; Faust's defaults (three buffers of 64 MiB, 2 GiB of cache) suit a single table.
WRITE_BUFFER_BYTES = 8 * 1024 * 1024
BLOCK_CACHE_BYTES = 32 * 1024 * 1024


@cache
def _without_wal() -> Any:
    """Write options without a WAL: rows and offset are in one batch, and recovery restores lost ones from the topic."""
    options = rocksdict.WriteOptions()
    options.disable_wal = True
    return options


class PublishedTable(faust.Table):  # type: ignore[misc]
    """A table of the topic's keys and values as bytes. Reads and writes name the partition."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row of `key`, or None."""
        value: bytes | None = self.data._db_for_partition(partition).get(key)
        return value

    def keys(self, partition: int, first: bytes, end: bytes, number: int) -> list[bytes]:
        """At most so many keys from `first` on, before `end`, in order."""
        following = self.data._db_for_partition(partition).keys(from_key=first)
        return list(islice(takewhile(lambda key: key < end, following), number))

    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None:
        """Store published rows, the last of them at `offset`; None removes one."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.data.offset_key, str(offset).encode())
        self.data._db_for_partition(partition).write(batch, _without_wal())

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Store the rows of the changelog's chunks during recovery."""
        for event in batch:
            failpoints.hit("in_recovery")
            chunk: Chunk = event.message.value
            rows = {record.key: record.value for record in chunk.records if record.key is not None}
            self.write(chunk.partition, rows, chunk.records[-1].offset)


def make_published_table(app: Any, name: str, topic: str, partitions: int) -> PublishedTable:
    """Register a table with the app. `topic` is the full name of an existing compacted topic of `partitions`."""
    table = PublishedTable(
        app,
        name=name,
        partitions=partitions,
        key_type=bytes,
        value_type=bytes,
        changelog_topic=app.topic(topic, schema=ChunkSchema(), acks=False, partitions=partitions),
        # Chunks are batches already. Not 1: Faust would then keep reading our own writes.
        recovery_buffer_size=2,
        options={
            "driver": "rocksdict",
            "write_buffer_size": WRITE_BUFFER_BYTES,
            "block_cache_size": BLOCK_CACHE_BYTES,
            "max_write_buffer_number": 2,
        },
    )
    app.tables.add(table)
    return table
