"""A reader of every public topic, and subscribers of the channels' feeds.

In: Kafka's address, the APIs' addresses. Out: records of rows and updates when they arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from stocktide.loadtest.client.contract import (
    AlertView,
    ChannelUpdateView,
    DeadLetterView,
    MovementView,
    OrderView,
    StockView,
)
from stocktide.loadtest.oracle.history import (
    AlertPublished,
    ChannelUpdatePublished,
    DeadLetterPublished,
    HistoryRecord,
    MovementPublished,
    OrderPublished,
    PolicyPublished,
    StockPublished,
    Subscribed,
    Synced,
    UnreadableRow,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.streams.contract.documents import PublishedPolicy
from tests.faults.recording_clients import RunRecorder

POLL_MS = 200
ROWS_MAX = 1_000
FETCH_BYTES_MAX = 4 * 1024 * 1024
CATCH_UP_SECONDS_MAX = 120.0
RECONNECT_SECONDS = 0.3
# The feed sends a heartbeat every 15 s; without one the connection is dead.
SILENCE_SECONDS_MAX = 20.0
LINE_BYTES_MAX = 1024 * 1024

_KINDS: dict[str, tuple[Any, Any]] = {
    "reservations": (OrderPublished, OrderView),
    "adjustments": (MovementPublished, MovementView),
    "stock": (StockPublished, StockView),
    "channel-stock": (ChannelUpdatePublished, ChannelUpdateView),
    "policies": (PolicyPublished, PublishedPolicy),
    "dead-letters": (DeadLetterPublished, DeadLetterView),
    "alerts": (AlertPublished, AlertView),
}
_UPDATE = msgspec.json.Decoder(ChannelUpdateView)


class RecordingTopicReader:
    """Reads the public topics from their beginning. `on_record` is called for each record."""

    def __init__(
        self,
        kafka: str,
        topic: Callable[[str], str],
        partitions: int,
        recorder: RunRecorder,
        on_record: Callable[[HistoryRecord], None],
    ) -> None:
        self._recorder = recorder
        self._on_record = on_record
        self._decoders = {topic(name): (name, row, msgspec.json.Decoder(kind)) for name, (row, kind) in _KINDS.items()}
        self._partitions = [
            TopicPartition(topic(name), number)
            for name in _KINDS
            for number in range(1 if name == "policies" else partitions)
        ]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=kafka,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        self._task: asyncio.Task[None] | None = None
        self.rows = 0

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        self._task = asyncio.create_task(self._read())

    def check(self) -> None:
        """Raise the error that ended the reader, if any."""
        if self._task is not None and self._task.done():
            self._task.result()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # `stop` raises CancelledError for its own pending fetch.
        await asyncio.gather(self._consumer.stop(), return_exceptions=True)

    async def catch_up(self) -> None:
        """Wait until everything up to now was read."""
        async with asyncio.timeout(CATCH_UP_SECONDS_MAX):
            ends = await self._consumer.end_offsets(self._partitions)
            for partition, end in ends.items():
                while await self._consumer.position(partition) < end:
                    self.check()
                    await asyncio.sleep(0.1)

    async def _read(self) -> None:
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=ROWS_MAX)
            except KafkaError:
                await asyncio.sleep(POLL_MS / 1000)
                continue
            for partition, rows in fetched.items():
                for row in rows:
                    if row.value is not None:  # otherwise a tombstone
                        self._take(partition, row)
            await asyncio.sleep(0)

    def _take(self, partition: TopicPartition, row: Any) -> None:
        name, kind, decoder = self._decoders[partition.topic]
        self.rows += 1
        now, record = self._recorder.now, None
        try:
            record = kind(now, partition.partition, row.offset, decoder.decode(row.value))
        except msgspec.DecodeError as error:
            record = UnreadableRow(now, partition.partition, row.offset, name, str(error))
        self._recorder.add(record)
        self._on_record(record)


class ReconnectingSubscriber:
    """A subscriber of one channel. It reconnects to the next API, with its last event id."""

    def __init__(self, name: str, channel: str, apis: Sequence[str], recorder: RunRecorder) -> None:
        self.name = name
        self._channel = channel
        self._apis = list(apis)
        self._recorder = recorder
        self._last_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Unsubscribe for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._recorder.add(Unsubscribed(self._recorder.now, self.name, "the run is over", left=True))

    async def _follow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=SILENCE_SECONDS_MAX)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LINE_BYTES_MAX) as session:
            while True:
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await self._read(session)
                self._apis.append(self._apis.pop(0))
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        asked_at = self._recorder.now
        headers = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
        url = f"{self._apis[0]}/v1/channels/{self._channel}/feed"
        async with session.get(url, headers=headers) as response:
            if response.status != 200:
                return
            recorder = self._recorder
            recorder.add(Subscribed(recorder.now, self.name, self._channel, self._last_id, asked_at))
            why = "the feed ended"
            try:
                await self._frames(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                why = repr(error)
            finally:
                recorder.add(Unsubscribed(recorder.now, self.name, why))

    async def _frames(self, response: aiohttp.ClientResponse) -> None:
        fields: dict[bytes, bytes] = {}
        while line := await response.content.readline():
            line = line.rstrip(b"\n")
            if line:
                name, _, value = line.partition(b": ")
                fields[name] = value
                continue
            self._take(fields)
            fields = {}

    def _take(self, fields: dict[bytes, bytes]) -> None:
        recorder = self._recorder
        kind = fields.get(b"event")
        if kind == b"stock":
            recorder.add(UpdateReceived(recorder.now, self.name, _UPDATE.decode(fields[b"data"])))
        elif kind == b"synced":
            recorder.add(Synced(recorder.now, self.name))
        # Only a complete frame advances the position.
        if (seen := fields.get(b"id")) is not None:
            self._last_id = seen.decode()
