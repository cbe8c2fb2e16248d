"""A Faust table whose changelog is a topic that we write ourselves, in batches.

In: rows that were published and acknowledged. Out: the same rows after a restart or on another worker; Faust's
recovery reads the topic back. One write to the topic does both: it tells subscribers and it keeps the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import faust
import rocksdict

from stocktide.streams import failpoints
from stocktide.streams.kafka.transport import Chunk, ChunkSchema

# Per partition and table; Faust's defaults (64 MiB of buffers three times over, 2 GiB of cache) suit a server of one.
WRITE_BUFFER_BYTES = 8 * 1024 * 1024
BLOCK_CACHE_BYTES = 32 * 1024 * 1024


@cache
def _without_wal() -> Any:
    """Rows and offset lie in one batch, and the topic has them: what a crash takes of both is read back from there."""
    options = rocksdict.WriteOptions()
    options.disable_wal = True
    return options


class PublishedTable(faust.Table):  # type: ignore[misc]
    """Keys and values are the bytes of the topic's records. Reads and writes name the partition."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The row, None where there is none."""
        value: bytes | None = self.data._db_for_partition(partition).get(key)
        return value

    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None:
        """Keep rows that were published, the last of them at `offset`; None removes."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in rows.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(self.data.offset_key, str(offset).encode())
        self.data._db_for_partition(partition).write(batch, _without_wal())

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Recovery: keep the rows of chunks of the changelog."""
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
        # Chunks are batches already. Not 1: Faust would then go on to read what we ourselves write.
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
