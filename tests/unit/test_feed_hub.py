"""The hub, its channels and their readers, on made-up rows."""

from __future__ import annotations

import asyncio
import random
import re
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pytest

from stocktide.api.feeds import channel as channel_module
from stocktide.api.feeds import subscriber as subscriber_module
from stocktide.api.feeds.channel import Cursor
from stocktide.api.feeds.close_codes import ShuttingDown, TooSlow
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.offset_vector import format_offsets, parse_offsets
from stocktide.api.feeds.subscriber import FeedSubscription
from stocktide.streams.contract.documents import ChannelUpdate, encode
from stocktide.streams.topics import join_key
from tests.unit.fakes import FakeRecord

SECONDS_MAX = 5.0
Whole = Callable[[], Coroutine[Any, Any, None]]
# A partition and a record of it.
Row = tuple[int, FakeRecord]


async def at_once() -> None:
    """A snapshot that is complete."""


class FakeChannelTopic:
    """Rows of `channel-stock`."""

    def __init__(self, partitions: int = 2) -> None:
        self.log: list[list[Row]] = [[] for _ in range(partitions)]
        self.versions: dict[str, int] = {}

    def row(self, channel: str, sku: str, quantity: int = 0, version: int | None = None) -> Row:
        partition = sum(sku.encode()) % len(self.log)
        number = version or self.versions.get(sku, 0) + 1
        self.versions[sku] = number
        value = {"channel": channel, "sku": sku, "quantity": quantity, "version": number}
        key = join_key(channel, sku).encode()
        row = (partition, FakeRecord(len(self.log[partition]), orjson.dumps(value), key))
        self.log[partition].append(row)
        return row

    def newest(self, channel: str) -> dict[str, int]:
        """By SKU: the newest version of a channel."""
        updates = [orjson.loads(record.value or b"") for log in self.log for _, record in log]
        return {update["sku"]: update["version"] for update in updates if update["channel"] == channel}


def add(hub: Hub, *rows: Row) -> None:
    """Rows that the hub reads, one at a time."""
    for partition, record in rows:
        hub.add(partition, [record])


class FakeFeedClient:
    """A subscriber. `take(n)` waits for n events."""

    def __init__(self, hub: Hub, name: str, last_id: str | None = None, whole: Whole = at_once) -> None:
        self.hub = hub
        cut = parse_offsets(last_id, hub.partitions) if last_id else None
        self.reader = FeedSubscription(hub, hub.channel(name), cut, whole, heartbeat_seconds=60)
        self.events: list[dict[str, str]] = []
        self.more = asyncio.Event()
        self.task = asyncio.create_task(self.reader.run(self.write))

    async def write(self, chunk: bytes) -> None:
        for block in chunk.decode().split("\n\n"):
            if block and not block.startswith(":"):
                self.events.append(dict(line.split(": ", 1) for line in block.split("\n")))
        self.more.set()
        await asyncio.sleep(0)

    async def take(self, count: int) -> list[dict[str, str]]:
        async with asyncio.timeout(SECONDS_MAX):
            while len(self.events) < count:
                self.more.clear()
                await self.more.wait()
        return self.events

    async def finish(self) -> None:
        """Close the hub and wait for the end of the feed."""
        self.hub.close()
        with pytest.raises(ShuttingDown):
            await self.task

    async def until_synced(self) -> None:
        while not any(event["event"] == "synced" for event in self.events):
            await self.take(len(self.events) + 1)
        self.task.cancel()

    @property
    def stock(self) -> list[tuple[str, int]]:
        updates = [orjson.loads(event["data"]) for event in self.events if event["event"] == "stock"]
        return [(update["sku"], update["version"]) for update in updates]


async def test_a_subscriber_gets_a_snapshot_then_synced_then_updates() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, topic.row("tmall", "A"), topic.row("tmall", "B"), topic.row("jd", "A"))
    client = FakeFeedClient(hub, "tmall")
    events = await client.take(3)
    assert [event["event"] for event in events] == ["stock", "stock", "synced"]
    add(hub, topic.row("jd", "B"), topic.row("tmall", "A", 5))
    events = await client.take(4)
    assert orjson.loads(events[3]["data"])["quantity"] == 5
    assert events[3]["id"] == format_offsets(hub.position)
    await client.finish()


async def test_an_update_is_passed_on_as_its_writer_encoded_it() -> None:
    hub = Hub(1)
    updates = [
        encode(ChannelUpdate("tmall", "A", 5, "in_stock", 0, 12, "2026-11-29T09:30:00.123Z")),
        encode(ChannelUpdate("tmall", "B", 0, "preorder", 7, 12, "2026-11-29T09:30:00.123Z")),
        b'{"channel":"tmall","sku":"C","version":1}',
        b'{ "version": 2, "channel": "tmall", "sku": "D" }',
    ]
    hub.add(0, [FakeRecord(i, update, b"tmall/%d" % i) for i, update in enumerate(updates)])
    client = FakeFeedClient(hub, "tmall")
    assert [event["data"].encode() for event in await client.take(4)][:4] == updates
    await client.finish()


async def test_an_empty_feed_is_a_feed_and_a_name_that_was_only_asked_for_is_forgotten() -> None:
    hub = Hub(2)
    client = FakeFeedClient(hub, "unheard-of")
    (event,) = await client.take(1)
    assert (event["event"], event["id"]) == ("synced", "0-0")
    await client.finish()
    assert not hub._channels


async def test_all_subscribers_get_the_same_bytes() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, topic.row("tmall", "A"))
    (first, _), (second, _) = (hub.channel("tmall").after(Cursor(0, (0, 0)), hub.position, 1000) for _ in range(2))
    assert first is second


async def test_updates_that_a_slow_reader_has_not_seen_conflate_to_the_newest() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    for quantity in range(1000):
        add(hub, topic.row("tmall", "A", quantity), topic.row("tmall", "B", quantity))
    client = FakeFeedClient(hub, "tmall")
    await client.take(3)
    assert client.stock == [("A", 1000), ("B", 1000)]
    add(hub, topic.row("tmall", "A"))
    slow = FakeFeedClient(hub, "tmall")
    await slow.take(3)
    assert slow.stock == [("B", 1000), ("A", 1001)]
    await client.finish()
    await slow.finish()


async def test_gaps_are_swept_out_and_readers_keep_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "GAPS_SWEPT_FROM", 4)
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, *(topic.row("tmall", name) for name in "ABC"))
    channel = hub.channel("tmall")
    _, cursor = channel.after(Cursor(0, (0, 0)), hub.position, 10_000)
    for quantity in range(20):
        add(hub, topic.row("tmall", "A", quantity))
    add(hub, topic.row("tmall", "D"))
    frames, cursor = channel.after(cursor, hub.position, 10_000)
    assert re.findall(rb'"sku":"(\w)"', frames) == [b"A", b"D"]
    assert cursor.position == channel.end
    assert len(channel._rows) <= 2 * len(channel) + 4


async def test_a_row_of_a_late_writer_does_not_set_a_version_back() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, topic.row("tmall", "A", version=7))
    add(hub, topic.row("tmall", "A", version=7), topic.row("tmall", "A", version=6))
    client = FakeFeedClient(hub, "tmall")
    await client.take(2)
    assert client.stock == [("A", 7)]
    assert client.events[-1]["id"] == format_offsets(hub.position)
    await client.finish()


async def test_bytes_that_are_no_update_are_left_out() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    invalid = (
        FakeRecord(0, b"\xff{", b"tmall/X"),
        FakeRecord(1, b"{}", None),
        FakeRecord(2, b'{"version":1}', b"\xff/A"),
    )
    topic.log[0] = topic.log[1] = [(0, record) for record in invalid]
    hub.add(0, invalid)
    add(hub, topic.row("tmall", "A"))
    client = FakeFeedClient(hub, "tmall")
    await client.take(2)
    assert client.stock == [("A", 1)]
    await client.finish()


@pytest.mark.parametrize("nonsense", ["", "x", "1", "1-2-3", "-1-2", "1--2", "１-2", "9" * 7000, f"{2**63}-0"])
def test_an_id_that_is_nonsense_is_no_cut(nonsense: str) -> None:
    assert parse_offsets(nonsense, 2) is None


def test_a_cut_is_read_as_it_is_written() -> None:
    assert parse_offsets(format_offsets((12, 0, 33)), 3) == (12, 0, 33)


async def test_a_hub_that_is_behind_what_a_client_has_seen_is_waited_for() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    record = topic.row("tmall", "A")
    cut = (1, 0) if record[0] == 0 else (0, 1)
    waiting = asyncio.create_task(hub.reached(cut, SECONDS_MAX))
    await asyncio.sleep(0)
    assert not waiting.done()
    add(hub, record)
    assert await waiting
    assert not await hub.reached((99, 99), 0.01)


@pytest.mark.parametrize("seed", range(20))
async def test_a_client_cut_anywhere_that_resumes_anywhere_gets_exactly_what_it_missed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hubs read the same topic in different orders, and not all of it; a client is cut after any event and resumes at
    any hub."""
    monkeypatch.setattr(channel_module, "GAPS_SWEPT_FROM", 4)
    monkeypatch.setattr(subscriber_module, "WRITE_BYTES_MAX", 200)
    dice = random.Random(seed)
    topic = FakeChannelTopic(partitions=3)

    def add_row() -> Row:
        return topic.row(dice.choice(("tmall", "tmall", "jd")), f"S{dice.randint(0, 12)}")

    for _ in range(dice.randint(1, 120)):
        add_row()
    seen: dict[str, int] = {}
    last_id: str | None = None
    for number in range(8):
        is_last = number == 7
        hub = _read_in_some_order(topic, dice, last_id, whole=is_last)
        client = FakeFeedClient(hub, "tmall", last_id)
        for _ in range(0 if is_last else dice.randint(0, 30)):
            row = add_row()
            if row[1].offset == hub.position[row[0]]:
                add(hub, row)
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        await client.until_synced()
        stop = len(client.events) if is_last or dice.random() < 0.5 else dice.randint(0, len(client.events))
        for event in client.events[:stop]:
            last_id = event.get("id", last_id)
            if event["event"] == "stock":
                update = orjson.loads(event["data"])
                sku, version = update["sku"], update["version"]
                assert version > seen.get(sku, 0), f"seed {seed}: {sku} {version} came again"
                seen[sku] = version
    assert seen == topic.newest("tmall"), f"seed {seed}"


def _read_in_some_order(topic: FakeChannelTopic, dice: random.Random, last_id: str | None, whole: bool) -> Hub:
    """A hub that has read everything, or a part with everything below the id of its client."""
    hub = Hub(len(topic.log))
    needed = parse_offsets(last_id, len(topic.log)) if last_id else hub.position
    assert needed is not None
    ends = [len(log) if whole else dice.randint(least, len(log)) for least, log in zip(needed, topic.log, strict=True)]
    at = [0] * len(topic.log)
    while at != ends:
        partition = dice.randrange(len(topic.log))
        stop = min(at[partition] + dice.randint(1, 5), ends[partition])
        add(hub, *topic.log[partition][at[partition] : stop])
        at[partition] = stop
    return hub


async def test_a_client_gets_the_rows_of_a_topic_that_lost_its_tail() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, *(topic.row("tmall", "A") for _ in range(5)))
    client = FakeFeedClient(hub, "tmall")
    await client.take(2)
    partition = topic.row("tmall", "A")[0]
    del topic.log[partition][3:]
    add(hub, topic.row("tmall", "A"))
    await client.take(3)
    assert client.stock == [("A", 5), ("A", 7)]
    assert client.events[-1]["id"] == format_offsets(hub.position)
    await client.finish()


async def test_an_update_takes_few_bytes() -> None:
    """1,000,000 SKUs in 5 channels may take 1.2 GB with the process, which has 100 MB when it is empty."""
    hub, channels = Hub(1), ("tmall", "jd", "pinduoduo", "douyin", "shopify")
    tracemalloc.start()
    try:
        for first in range(0, 4_000, 100):
            skus = [f"S{number:06}" for number in range(first, first + 100)]
            keys = [(channel, sku) for sku in skus for channel in channels]
            updates = [ChannelUpdate(*key, 25, "in_stock", 0, 12, "2026-11-29T09:30:00.123Z") for key in keys]
            rows = zip(keys, updates, strict=True)
            records = [
                FakeRecord(hub.rows + i, encode(row), join_key(*key).encode()) for i, (key, row) in enumerate(rows)
            ]
            hub.add(0, records)
        del skus, keys, updates, rows, records
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert hub.rows == 20_000
    assert used / hub.rows < 220


async def test_a_client_that_reads_nothing_is_dropped_and_blocks_no_other() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    add(hub, topic.row("tmall", "A"))
    stuck = FeedSubscription(hub, hub.channel("tmall"), None, at_once, stall_seconds_max=0.05)

    async def never(_: bytes) -> None:
        await asyncio.Event().wait()

    with pytest.raises(TooSlow):
        await stuck.run(never)
    assert hub.readers == 0


async def test_a_quiet_feed_sends_heartbeats() -> None:
    hub = Hub(1)
    reader = FeedSubscription(hub, hub.channel("tmall"), None, at_once, heartbeat_seconds=0.01)
    chunks: list[bytes] = []

    async def write(chunk: bytes) -> None:
        chunks.append(chunk)
        if len(chunks) == 3:
            hub.close()

    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(ShuttingDown):
            await reader.run(write)
    assert chunks[1].startswith(b":") and chunks[1].endswith(b"\n\n")


async def test_a_notice_goes_to_the_readers_of_all_channels() -> None:
    hub = Hub(1)
    clients = [FakeFeedClient(hub, "tmall"), FakeFeedClient(hub, "jd")]
    for client in clients:
        await client.take(1)
    hub.notify("status", {"ready": False})
    for client in clients:
        events = await client.take(2)
        assert events[1] == {"event": "status", "data": '{"ready":false}'}
    for client in clients:
        await client.finish()


async def test_synced_waits_until_the_snapshot_is_whole_and_updates_do_not() -> None:
    topic, hub = FakeChannelTopic(), Hub(2)
    gate = asyncio.Event()

    async def whole() -> None:
        await gate.wait()

    add(hub, topic.row("tmall", "A"))
    client = FakeFeedClient(hub, "tmall", whole=whole)
    await client.take(1)
    add(hub, topic.row("tmall", "B"), topic.row("tmall", "A", 5))
    events = await client.take(3)
    assert [event["event"] for event in events] == ["stock"] * 3
    add(hub, topic.row("tmall", "C"))
    gate.set()
    events = await client.take(5)
    assert [event["event"] for event in events[3:]] == ["stock", "synced"]
    assert events[-1]["id"] == format_offsets(hub.position)
    await client.finish()


async def test_the_id_of_synced_covers_no_update_that_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "WRITE_BYTES_MAX", 1)
    topic, hub = FakeChannelTopic(1), Hub(1)
    add(hub, *(topic.row("tmall", sku) for sku in "ABC"))
    client = FakeFeedClient(hub, "tmall")
    await client.take(2)
    add(hub, topic.row("tmall", "D"))
    events = await client.take(5)
    assert [(event["event"], event["id"]) for event in events[2:]] == [("stock", "3"), ("synced", "3"), ("stock", "4")]
    await client.finish()


async def test_a_check_that_fails_ends_the_feed_and_is_not_called_synced() -> None:
    async def whole() -> None:
        raise ValueError("a fault of ours")

    client = FakeFeedClient(Hub(1), "tmall", whole=whole)
    with pytest.raises(ValueError, match="a fault of ours"):
        await client.task
    assert client.events == []
