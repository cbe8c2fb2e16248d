"""The hub of orders and its readers, on made-up rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import orjson
import pytest

from stocktide.api.feeds import order_sse
from stocktide.api.feeds.close_codes import ShuttingDown, StreamRecreated, TooSlow
from stocktide.api.feeds.frames import SSE
from stocktide.api.feeds.offset_vector import OffsetVector, dominates, format_offsets, parse_offsets
from stocktide.api.feeds.order_history import HistoryReading
from stocktide.api.feeds.order_sse import OrderSubscription
from stocktide.api.feeds.orders import OrderHub
from stocktide.streams.contract.documents import order_document
from tests.unit.fakes import FakeRecord

SECONDS_MAX = 5.0
Row = tuple[int, FakeRecord]


class FakeOrderTopic:
    """Rows of `reservations`, and the reading of what a client missed (`OrderHistory`)."""

    def __init__(self, partitions: int = 2) -> None:
        self.log: list[list[FakeRecord]] = [[] for _ in range(partitions)]
        self.sequences: dict[str, int] = {}
        self.batch = 0
        self.readings = 0

    def row(self, channel: str, order_id: str, **more: object) -> Row:
        self.batch += 1
        sequence = self.sequences[order_id] = self.sequences.get(order_id, 0) + (0 if more.get("restated") else 1)
        value = {"order_id": order_id, "channel": channel, "state": "reserved", "sequence": sequence}
        value |= {"batch": self.batch, "outcome": "reserved", "record": {"state": "reserved"}, **more}
        partition = sum(order_id.encode()) % len(self.log)
        record = FakeRecord(len(self.log[partition]), orjson.dumps(value), order_id.encode())
        self.log[partition].append(record)
        return partition, record

    @property
    def ends(self) -> OffsetVector:
        return tuple(map(len, self.log))

    async def read(self, reading: HistoryReading) -> OffsetVector:
        self.readings += 1
        offsets, until = list(reading.vector), reading._until
        for partition, log in enumerate(self.log):
            for record in log[offsets[partition] : until[partition]]:
                offsets[partition] = record.offset + 1
                if orjson.loads(record.value or b"")["channel"] == reading._channel:
                    frame_id = reading._ids.format(offsets)
                    await reading._send(SSE.event("order", order_document(record.value or b""), frame_id))
        return tuple(offsets)


def add(hub: OrderHub, *rows: Row) -> None:
    for partition, record in rows:
        hub.add(partition, [record])


class FakeOrderClient:
    """A subscriber. `take(n)` waits for n events."""

    def __init__(
        self, hub: OrderHub, topic: FakeOrderTopic, channel: str = "tmall", last_id: str | None = None
    ) -> None:
        since = parse_offsets(last_id, hub.partitions) if last_id else None
        self.subscription = OrderSubscription(hub, topic, channel, since, heartbeat_seconds=60)  # type: ignore[arg-type]
        self.events: list[dict[str, str]] = []
        self.more = asyncio.Event()
        self.task = asyncio.create_task(self.subscription.run(self.write))

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

    async def until_synced(self) -> None:
        while not any(event["event"] == "synced" for event in self.events):
            await self.take(len(self.events) + 1)
        await asyncio.sleep(0)
        self.task.cancel()

    @property
    def orders(self) -> list[tuple[str, int]]:
        orders = [orjson.loads(event["data"]) for event in self.events if event["event"] == "order"]
        return [(order["order_id"], order["sequence"]) for order in orders]


async def test_a_new_subscriber_is_synced_at_once_and_gets_only_its_channels_changes() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    add(hub, topic.row("tmall", "before"))
    client = FakeOrderClient(hub, topic)
    (synced,) = await client.take(1)
    assert (synced["event"], synced["id"]) == ("synced", format_offsets(hub.position))
    add(hub, topic.row("jd", "X"), topic.row("tmall", "A"), topic.row("tmall", "A"))
    events = await client.take(3)
    assert client.orders == [("A", 1), ("A", 2)]
    assert events[-1]["id"] == format_offsets(hub.position)
    client.task.cancel()


async def test_an_order_is_shown_with_every_field_of_its_row_but_the_ledgers_own() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    add(hub, topic.row("tmall", "A", event="order.repromised", choice_due="2026-12-01T00:00:00.000Z"))
    assert orjson.loads((await client.take(2))[1]["data"]) == {
        "order_id": "A",
        "channel": "tmall",
        "state": "reserved",
        "sequence": 1,
        "event": "order.repromised",
        "choice_due": "2026-12-01T00:00:00.000Z",
        "replayed": False,
    }
    client.task.cancel()


@pytest.mark.parametrize("seed", range(30))
async def test_a_client_cut_anywhere_that_resumes_anywhere_gets_every_change_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hubs begin anywhere in the topic, read it in different orders, and keep little; a client is cut after any event
    and resumes at any hub."""
    monkeypatch.setattr(order_sse, "WRITE_BYTES_MAX", 400)
    dice = random.Random(seed)
    topic = FakeOrderTopic(partitions=3)

    def add_row() -> Row:
        number = dice.randint(0, 40)
        return topic.row("tmall" if number % 3 else "jd", f"O{number}")

    for _ in range(dice.randint(1, 120)):
        add_row()
    seen: list[tuple[str, int]] = []
    last_id = format_offsets((0, 0, 0))
    for number in range(8):
        is_last = number == 7
        hub = _hub_somewhere(topic, dice, last_id, whole=is_last)
        client = FakeOrderClient(hub, topic, last_id=last_id)
        for _ in range(0 if is_last else dice.randint(0, 30)):
            partition, record = add_row()
            if record.offset == hub.position[partition]:
                add(hub, (partition, record))
            if dice.random() < 0.3:
                await asyncio.sleep(0)
        await client.until_synced()
        stop = len(client.events) if is_last or dice.random() < 0.5 else dice.randint(0, len(client.events))
        for event in client.events[:stop]:
            last_id = event.get("id", last_id)
            if event["event"] == "order":
                order = orjson.loads(event["data"])
                seen.append((order["order_id"], order["sequence"]))
    wanted = [orjson.loads(record.value or b"") for log in topic.log for record in log]
    assert sorted(seen) == sorted((row["order_id"], row["sequence"]) for row in wanted if row["channel"] == "tmall"), (
        f"seed {seed}"
    )


def _hub_somewhere(topic: FakeOrderTopic, dice: random.Random, last_id: str, whole: bool) -> OrderHub:
    """A hub that began anywhere and has read at least what its client has seen."""
    hub = OrderHub(3, bytes_max=dice.choice((2_000, 20_000, 1_000_000)))
    needed = parse_offsets(last_id, 3)
    assert needed is not None
    ends = [len(log) if whole else dice.randint(least, len(log)) for least, log in zip(needed, topic.log, strict=True)]
    at = [dice.randint(0, end) for end in ends]
    hub.begin(tuple(at))
    while at != ends:
        partition = dice.randrange(3)
        stop = min(at[partition] + dice.randint(1, 5), ends[partition])
        if stop > at[partition]:
            hub.add(partition, topic.log[partition][at[partition] : stop])
        at[partition] = stop
    assert dominates(hub.position, needed)
    return hub


async def test_a_client_that_returns_soon_is_served_from_memory() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    add(hub, topic.row("tmall", "A"))
    last_id = format_offsets(hub.position)
    add(hub, topic.row("tmall", "B"), topic.row("jd", "C"))
    client = FakeOrderClient(hub, topic, last_id=last_id)
    await client.until_synced()
    assert (client.orders, topic.readings) == ([("B", 1)], 0)


async def test_what_is_kept_is_bounded_in_bytes_and_counted() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2, bytes_max=20_000)
    for number in range(1_000):
        add(hub, topic.row(f"channel-{number % 7}", f"O{number}"))
    assert 15_000 < hub.bytes <= 20_000
    assert hub.bytes == sum(row.size for channel in hub._channels.values() for row in channel._rows)
    assert len(hub._newest) == len(hub._kept) == sum(map(len, hub._channels.values()))
    assert not hub.covers((0, 0))
    assert hub.covers(hub.position)


async def test_a_client_behind_what_is_kept_is_disconnected() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2, bytes_max=3_000)
    subscription = OrderSubscription(hub, topic, "tmall", None)  # type: ignore[arg-type]
    is_blocked, go_on = asyncio.Event(), asyncio.Event()

    async def write(chunk: bytes) -> None:
        is_blocked.set()
        await go_on.wait()

    task = asyncio.create_task(subscription.run(write))
    await is_blocked.wait()
    for number in range(20):
        add(hub, topic.row("tmall", f"O{number}"))
    go_on.set()
    with pytest.raises(TooSlow, match="more changes than are kept"):
        await task
    assert hub.readers == 0


async def test_a_row_that_only_states_an_order_again_is_no_change() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    add(hub, topic.row("tmall", "A"), topic.row("tmall", "A", restated=True), topic.row("tmall", "B"))
    await client.take(3)
    assert client.orders == [("A", 1), ("B", 1)]
    client.task.cancel()


async def test_a_row_that_states_an_order_again_after_a_gap_is_a_change() -> None:
    """Compaction removed the row of the change before this process read it."""
    topic, hub = FakeOrderTopic(1), OrderHub(1)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    topic.row("tmall", "A")
    add(hub, topic.row("tmall", "A", restated=True))
    await client.take(2)
    assert client.orders == [("A", 1)]
    client.task.cancel()


async def test_a_client_that_resumes_gets_the_row_that_states_an_order_again() -> None:
    topic, hub = FakeOrderTopic(1), OrderHub(1)
    last_id = format_offsets(hub.position)
    add(hub, topic.row("tmall", "A", restated=True))
    client = FakeOrderClient(hub, topic, last_id=last_id)
    await client.until_synced()
    assert client.orders == [("A", 0)]


async def test_a_row_of_a_late_writer_and_a_repeat_are_left_out() -> None:
    topic, hub = FakeOrderTopic(1), OrderHub(1)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    rows = [topic.row("tmall", "A"), topic.row("tmall", "A")]
    again = [FakeRecord(offset, record.value, record.key) for offset, (_, record) in enumerate(rows, 2)]
    hub.add(0, [record for _, record in rows])
    hub.add(0, again)
    topic.log[0] += again
    add(hub, topic.row("tmall", "B"))
    await client.take(4)
    assert client.orders == [("A", 1), ("A", 2), ("B", 1)]
    client.task.cancel()


async def test_bytes_that_are_no_order_and_removed_orders_are_left_out() -> None:
    topic, hub = FakeOrderTopic(1), OrderHub(1)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    topic.log[0] += [FakeRecord(0, b"\xff{"), FakeRecord(1, None), FakeRecord(2, b"{}")]
    hub.add(0, topic.log[0])
    add(hub, topic.row("tmall", "A"))
    await client.take(2)
    assert client.orders == [("A", 1)]
    client.task.cancel()


async def test_a_hub_that_begins_anew_ends_its_subscriptions() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    client = FakeOrderClient(hub, topic)
    await client.take(1)
    hub.begin((0, 0))
    with pytest.raises(StreamRecreated):
        await asyncio.wait_for(client.task, SECONDS_MAX)
    assert hub.readers == 0


async def test_a_name_that_was_only_asked_for_is_forgotten() -> None:
    topic, hub = FakeOrderTopic(), OrderHub(2)
    client = FakeOrderClient(hub, topic, "unheard-of")
    await client.take(1)
    hub.close()
    with pytest.raises(ShuttingDown):
        await client.task
    assert not hub._channels


async def _heartbeats(hub: OrderHub, topic: FakeOrderTopic, count: int, each: Callable[[], None]) -> list[bytes]:
    subscription = OrderSubscription(hub, topic, "tmall", None, heartbeat_seconds=0.01)  # type: ignore[arg-type]
    chunks: list[bytes] = []

    async def write(chunk: bytes) -> None:
        if chunk.startswith(b":"):
            chunks.append(chunk)
            each()
        if len(chunks) == count:
            hub.close()

    async with asyncio.timeout(SECONDS_MAX):
        with pytest.raises(ShuttingDown):
            await subscription.run(write)
    return chunks


async def test_a_heartbeat_moves_the_id_of_a_quiet_channels_client() -> None:
    topic, hub = FakeOrderTopic(1), OrderHub(1)
    chunks = await _heartbeats(hub, topic, 3, lambda: add(hub, topic.row("jd", f"O{topic.batch}")))
    ids = [int(chunk.split(b"id: ")[1]) for chunk in chunks]
    assert all(before < after for before, after in pairwise(ids))
    assert all(chunk.endswith(b"\n\n") and b"data" not in chunk for chunk in chunks)
