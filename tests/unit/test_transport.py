"""The commit rule of the chunk transport, without Kafka."""

from __future__ import annotations

import random

from stocktide.streams.kafka.transport import DeliveredChunks, split_into_chunks
from tests.unit.fakes import FakeMessage, FakeRecord


def records(count: int, start: int = 0) -> list[FakeRecord]:
    return [FakeRecord(offset, b"") for offset in range(start, start + count)]


def delivered_of(*ends: int) -> tuple[DeliveredChunks, list[FakeMessage]]:
    """Chunks of one partition that end at these offsets, delivered."""
    delivered, chunks = DeliveredChunks(), [FakeMessage(end) for end in ends]
    for chunk in chunks:
        delivered.add("a", chunk)
    return delivered, chunks


def test_a_chunk_holds_at_most_so_many_records_and_none_is_lost_or_moved() -> None:
    cut = list(split_into_chunks({"a": records(25), "b": records(3), "c": []}, 10))
    assert [(tp, len(chunk)) for tp, chunk in cut] == [("a", 10), ("b", 3), ("a", 10), ("a", 5)]
    assert [record.offset for tp, chunk in cut if tp == "a" for record in chunk] == list(range(25))


def test_nothing_is_committed_before_the_first_chunk_is_acked() -> None:
    delivered, (first, second) = delivered_of(9, 19)
    second.acked = True
    assert delivered.take_acked("a") is None
    first.acked = True
    assert delivered.take_acked("a") == 20
    assert delivered.take_acked("a") is None


def test_the_smallest_chunk_that_is_not_acked_bounds_the_commit() -> None:
    delivered, chunks = delivered_of(9, 19, 29, 39)
    chunks[0].acked = chunks[1].acked = chunks[3].acked = True
    assert delivered.take_acked("a") == 20
    chunks[2].acked = True
    assert delivered.take_acked("a") == 40


def test_partitions_do_not_bound_each_other() -> None:
    delivered = DeliveredChunks()
    slow, fast = FakeMessage(9), FakeMessage(99)
    delivered.add("a", slow)
    delivered.add("b", fast)
    fast.acked = True
    assert delivered.take_acked("a") is None
    assert delivered.take_acked("b") == 100
    assert delivered.partitions() == ["a"]


def test_an_ack_of_a_chunk_from_before_a_seek_commits_nothing_although_its_offset_comes_again() -> None:
    delivered = DeliveredChunks()
    before = FakeMessage(19)
    delivered.add("a", before)
    delivered.clear()
    whole = FakeMessage(19)  # the same last offset, with records 0 to 9 in it
    delivered.add("a", whole)
    before.acked = True
    assert delivered.take_acked("a") is None
    whole.acked = True
    assert delivered.take_acked("a") == 20


def test_whatever_the_order_of_acks_only_what_is_acked_is_committed() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for _ in range(200):
        delivered, chunks = delivered_of(*(10 * index + 9 for index in range(rng.randint(1, 20))))
        committed = 0
        for chunk in rng.sample(chunks, len(chunks)):
            chunk.acked = True
            committed = delivered.take_acked("a") or committed
            assert all(other.acked for other in chunks if other.offset < committed), f"seed {seed}"
        assert committed == chunks[-1].offset + 1, f"seed {seed}"
