"""From chunks to handlers: in order within a partition, concurrent across partitions, acknowledged when done."""

from __future__ import annotations

import asyncio
import time

import pytest

from stocktide.agents import partition_workers
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.agents.publication_tick import PublicationTick
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.transport import Chunk
from tests.unit.fakes import FakeEvent, FakeMembership, chunk_of


class RecordingHandler:
    """Records the chunks that it is called with. They wait while `gate` is not set, then fail with `failures`."""

    def __init__(self, *failures: Exception) -> None:
        self.chunks: list[Chunk] = []
        self.failures = list(failures)
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, chunk: Chunk, epoch: int) -> None:
        self.chunks.append(chunk)
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop()

    @property
    def offsets(self) -> list[list[int]]:
        return [[record.offset for record in chunk.records] for chunk in self.chunks]


@pytest.fixture
def handler() -> RecordingHandler:
    return RecordingHandler()


async def finish(workers: PartitionWorkers, *events: FakeEvent) -> None:
    for event in events:
        await workers.feed(event)
    await asyncio.wait_for(workers.drain(), 10)
    await workers.stop()


async def test_a_chunk_is_acked_when_its_handler_returned_and_not_before(handler: RecordingHandler) -> None:
    handler.gate.clear()
    workers = PartitionWorkers("t", handler, FakeMembership())
    event = FakeEvent(chunk_of(b"1"))
    await workers.feed(event)
    await asyncio.sleep(0.01)
    assert not event.acked
    handler.gate.set()
    await finish(workers)
    assert event.acked


async def test_a_partition_waits_for_its_own_chunks_only() -> None:
    order: list[tuple[int, int]] = []
    slow = asyncio.Event()

    async def handle(chunk: Chunk, epoch: int) -> None:
        if chunk.partition == 0 and chunk.records[0].offset == 0:
            await slow.wait()
        order.append((chunk.partition, chunk.records[0].offset))

    workers = PartitionWorkers("t", handle, FakeMembership())
    for partition, start in ((0, 0), (0, 1), (1, 0), (1, 1)):
        await workers.feed(FakeEvent(chunk_of(b"x", partition=partition, start=start)))
    await asyncio.sleep(0.01)
    assert order == [(1, 0), (1, 1)]
    slow.set()
    await finish(workers)
    assert order == [(1, 0), (1, 1), (0, 0), (0, 1)]


async def test_a_handler_that_fails_is_called_again_and_nothing_overtakes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_workers, "RETRY_SECONDS_MIN", 0.001)
    handler = RecordingHandler(RuntimeError("a bug"), RuntimeError("a bug"))
    first, second = FakeEvent(chunk_of(b"x")), FakeEvent(chunk_of(b"y", start=1))
    await finish(PartitionWorkers("t", handler, FakeMembership()), first, second)
    assert handler.offsets == [[0], [0], [0], [1]]
    assert first.acked and second.acked


async def test_a_chunk_whose_partitions_may_be_anothers_is_dropped_and_not_acked() -> None:
    event = FakeEvent(chunk_of(b"x"))
    await finish(PartitionWorkers("t", RecordingHandler(MembershipLost()), FakeMembership()), event)
    assert not event.acked


async def test_a_chunk_of_an_earlier_epoch_is_not_begun(handler: RecordingHandler) -> None:
    membership = FakeMembership()
    handler.gate.clear()
    workers = PartitionWorkers("t", handler, membership)
    await workers.feed(FakeEvent(chunk_of(b"x")))
    await asyncio.sleep(0.01)
    await workers.feed(FakeEvent(chunk_of(b"y", start=1)))
    membership.end()
    membership.begin()
    handler.gate.set()
    await finish(workers)
    assert handler.offsets == [[0]]


async def test_a_worker_that_gathers_hands_over_what_waits_as_one_chunk_and_acks_all_of_it(
    handler: RecordingHandler,
) -> None:
    workers = PartitionWorkers("t", handler, FakeMembership(), tick=PublicationTick(time.monotonic))
    events = [FakeEvent(chunk_of(b"x", start=start)) for start in range(5)]
    await workers.feed(events[0])
    await asyncio.sleep(0.01)
    await finish(workers, *events[1:])
    assert handler.offsets == [[0], [1, 2, 3, 4]]
    assert all(event.acked for event in events)


@pytest.mark.parametrize(
    ("limit", "most", "values", "sizes"),
    [("MERGED_RECORDS_MAX", 3, (b"x", b"y"), [2, 2, 2, 2]), ("MERGED_BYTES_MAX", 25, (b"x" * 10,), [2, 2])],
)
async def test_what_is_too_much_for_one_call_goes_with_the_next(
    limit: str,
    most: int,
    values: tuple[bytes, ...],
    sizes: list[int],
    handler: RecordingHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_workers, limit, most)
    workers = PartitionWorkers("t", handler, FakeMembership(), tick=PublicationTick(time.monotonic))
    await finish(workers, *(FakeEvent(chunk_of(*values, start=len(values) * number)) for number in range(4)))
    assert [offset for some in handler.offsets for offset in some] == list(range(4 * len(values)))
    assert [len(some) for some in handler.offsets] == sizes
