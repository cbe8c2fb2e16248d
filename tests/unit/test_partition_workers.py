"""From chunks to handlers: in order within a partition, concurrent across partitions, acknowledged when done."""

from __future__ import annotations

import asyncio

import pytest

from stocktide.agents import partition_workers
from stocktide.agents.partition_workers import PartitionWorkers
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.transport import Chunk
from tests.unit.fakes import FakeEvent, FakeMembership, chunk_of


async def finish(workers: PartitionWorkers, *events: FakeEvent) -> None:
    """Feed the events, wait until all work is done, and stop."""
    for event in events:
        await workers.feed(event)
    await asyncio.wait_for(workers.drain(), 2)
    await workers.stop()


async def test_a_chunk_is_acked_when_its_handler_returned_and_not_before() -> None:
    done = asyncio.Event()

    async def handle(chunk: Chunk, epoch: int) -> None:
        await done.wait()

    workers = PartitionWorkers("t", handle, FakeMembership())
    event = FakeEvent(chunk_of(b"1"))
    await workers.feed(event)
    await asyncio.sleep(0.01)
    assert not event.acked
    done.set()
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
    calls: list[int] = []

    async def handle(chunk: Chunk, epoch: int) -> None:
        calls.append(chunk.records[0].offset)
        if len(calls) < 3:
            raise RuntimeError("a bug")

    workers = PartitionWorkers("t", handle, FakeMembership())
    first, second = FakeEvent(chunk_of(b"x")), FakeEvent(chunk_of(b"y", start=1))
    await finish(workers, first, second)
    assert calls == [0, 0, 0, 1]
    assert first.acked and second.acked


async def test_a_chunk_whose_partitions_may_be_anothers_is_dropped_and_not_acked() -> None:
    async def handle(chunk: Chunk, epoch: int) -> None:
        raise MembershipLost

    workers = PartitionWorkers("t", handle, FakeMembership())
    event = FakeEvent(chunk_of(b"x"))
    await finish(workers, event)
    assert not event.acked


async def test_a_chunk_of_an_earlier_epoch_is_not_begun() -> None:
    membership = FakeMembership()
    begun: list[int] = []
    hold = asyncio.Event()

    async def handle(chunk: Chunk, epoch: int) -> None:
        begun.append(chunk.records[0].offset)
        await hold.wait()

    workers = PartitionWorkers("t", handle, membership)
    await workers.feed(FakeEvent(chunk_of(b"x")))
    await asyncio.sleep(0.01)
    await workers.feed(FakeEvent(chunk_of(b"y", start=1)))
    membership.end()
    membership.begin()
    hold.set()
    await finish(workers)
    assert begun == [0]


async def test_a_worker_that_gathers_hands_over_what_waits_as_one_chunk_and_acks_all_of_it() -> None:
    sizes: list[int] = []

    async def handle(chunk: Chunk, epoch: int) -> None:
        sizes.append(len(chunk.records))

    workers = PartitionWorkers("t", handle, FakeMembership(), merge_seconds=0.05)
    events = [FakeEvent(chunk_of(b"x", start=start)) for start in range(5)]
    await workers.feed(events[0])
    await asyncio.sleep(0.01)
    await finish(workers, *events[1:])
    assert sizes == [1, 4]
    assert all(event.acked for event in events)


async def test_what_is_too_much_for_one_call_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_workers, "MERGED_RECORDS_MAX", 3)
    offsets: list[list[int]] = []

    async def handle(chunk: Chunk, epoch: int) -> None:
        offsets.append([record.offset for record in chunk.records])

    workers = PartitionWorkers("t", handle, FakeMembership(), merge_seconds=0.02)
    await finish(workers, *(FakeEvent(chunk_of(b"x", b"y", start=start)) for start in (0, 2, 4, 6)))
    assert [offset for some in offsets for offset in some] == list(range(8))
    assert max(len(some) for some in offsets) <= 3


async def calls_of(worked_each: float, waited_each: float) -> tuple[list[float], list[int]]:
    """The start times and sizes of the calls of a gathering worker that is fed six records 5 ms apart."""
    begun: list[float] = []
    sizes: list[int] = []
    worked = 0.0
    clock = asyncio.get_running_loop().time

    async def handle(chunk: Chunk, epoch: int) -> None:
        nonlocal worked
        begun.append(clock())
        sizes.append(len(chunk.records))
        worked += worked_each
        await asyncio.sleep(waited_each)

    workers = PartitionWorkers("t", handle, FakeMembership(), merge_seconds=0.001, busy_seconds=lambda: worked)
    await workers.feed(FakeEvent(chunk_of(b"x", start=0)))
    for start in range(1, 6):
        await asyncio.sleep(0.005)
        await workers.feed(FakeEvent(chunk_of(b"x", start=start)))
    await finish(workers)
    return begun, sizes


async def test_a_worker_that_gathers_rests_longer_the_longer_a_call_worked() -> None:
    worked = 0.1 / partition_workers.REST_FACTOR
    begun, sizes = await calls_of(worked_each=worked, waited_each=0.0)
    assert sizes == [1, 5], "what arrived meanwhile is one chunk"
    assert 0.1 <= begun[1] - begun[0] <= partition_workers.MERGE_SECONDS_MAX + 0.05


async def test_what_a_call_waited_for_makes_a_worker_rest_no_longer() -> None:
    begun, sizes = await calls_of(worked_each=0.0, waited_each=0.06)
    assert sizes == [1, 5]
    assert 0.06 <= begun[1] - begun[0] < 0.06 * partition_workers.REST_FACTOR


async def test_one_call_of_a_worker_that_gathers_gets_so_many_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_workers, "MERGED_BYTES_MAX", 25)
    sizes: list[int] = []

    async def handle(chunk: Chunk, epoch: int) -> None:
        sizes.append(sum(len(record.value) for record in chunk.records))

    workers = PartitionWorkers("t", handle, FakeMembership(), merge_seconds=0.02)
    await finish(workers, *(FakeEvent(chunk_of(b"x" * 10, start=start)) for start in range(6)))
    assert sizes == [20, 20, 20]
