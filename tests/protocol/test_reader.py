"""Valid or void: the rule that all readers of the journal share."""

from __future__ import annotations

import pytest

from stocktide.streams.journal.record import (
    KIND_BATCH,
    JournalReader,
    JournalRecord,
    Position,
    RecordVerdict,
    decode_position,
    decode_record,
    encode_position,
    encode_record,
    marker,
)


def batch(number: int, token: str, previous: str, term: int = 1, owner: str = "a") -> JournalRecord:
    return JournalRecord(KIND_BATCH, term, owner, number, token, previous, b"payload")


def verdicts(*records: JournalRecord | None, start: Position | None = None) -> list[RecordVerdict]:
    reader = JournalReader(start)
    offset = reader.next_offset
    return [reader.feed(offset + at, record) for at, record in enumerate(records)]


M, B, V = RecordVerdict.MARKER, RecordVerdict.BATCH, RecordVerdict.VOID
A1 = marker(1, "a")
ONE, TWO, THREE = batch(1, "t1", ""), batch(2, "t2", "t1"), batch(3, "t3", "t2")
BY_B = batch(1, "t1", "", term=2, owner="b")
# Records and their verdicts.
CHAINS: dict[str, tuple[list[JournalRecord], list[RecordVerdict]]] = {
    "a chain of batches after a marker is valid": ([A1, ONE, TWO], [M, B, B]),
    "a batch before any marker is void": ([ONE], [V]),
    "a late relay's batch after a higher marker is void": ([A1, marker(2, "b"), ONE, BY_B], [M, M, V, B]),
    "a record of the right term by another owner is void": ([A1, batch(1, "t1", "", owner="b")], [M, V]),
    "of two markers of one term the first is valid": (
        [A1, marker(1, "b"), batch(1, "t1", "", owner="b"), ONE],
        [M, V, V, B],
    ),
    "a marker of a lower term is void": ([marker(2, "b"), A1, BY_B], [M, V, B]),
    "a wrong previous token is void": ([A1, ONE, batch(2, "t2", "x"), TWO], [M, B, V, B]),
    "a batch after a gap is void until the missing one has come": ([A1, ONE, THREE, TWO, THREE], [M, B, V, B, B]),
    "a batch that was sent twice is valid once": ([A1, ONE, ONE, TWO], [M, B, V, B]),
    "an unknown kind is void": ([JournalRecord(7, 9, "z", 0, "", "", b"")], [V]),
}


@pytest.mark.parametrize(("records", "expected"), CHAINS.values(), ids=CHAINS)
def test_a_record_is_valid_or_void_by_those_before_it(
    records: list[JournalRecord], expected: list[RecordVerdict]
) -> None:
    assert verdicts(*records) == expected


@pytest.mark.parametrize("value", [None, b"", b"\xc1", b"{}", b"\x93\x01\x02\x03"])
def test_bytes_that_are_no_record_are_void(value: bytes | None) -> None:
    assert decode_record(value) is None
    assert verdicts(A1, None, ONE) == [M, V, B]


def test_a_record_that_was_fed_before_changes_nothing() -> None:
    reader = JournalReader()
    reader.feed(0, A1)
    reader.feed(1, ONE)
    before = reader.position
    assert reader.feed(1, TWO) is RecordVerdict.VOID
    assert reader.position == before


def test_void_records_move_the_next_offset_and_not_the_position() -> None:
    reader = JournalReader()
    reader.feed(0, A1)
    reader.feed(1, batch(5, "t5", "t4"))
    assert reader.position == Position(1, 1, "a", 0, "")
    assert reader.next_offset == 2


def test_a_reader_that_starts_in_the_middle_judges_as_one_that_read_all() -> None:
    records = [
        marker(1, "a"),
        batch(1, "t1", ""),
        batch(1, "x", ""),
        marker(3, "b"),
        batch(2, "late", "t1"),
        batch(2, "t2", "t1", term=3, owner="b"),
        marker(2, "c"),
        batch(3, "t3", "t2", term=3, owner="b"),
    ]
    whole = JournalReader()
    for offset, record in enumerate(records):
        whole.feed(offset, record)
        middle = JournalReader(decode_position(encode_position(whole.position)))
        for later in range(middle.next_offset, len(records)):
            middle.feed(later, records[later])
        judged = JournalReader()
        for at, each in enumerate(records):
            judged.feed(at, each)
        assert middle.position == judged.position


def test_a_record_survives_its_encoding() -> None:
    record = batch(7, "t7", "t6")
    assert decode_record(encode_record(record)) == record
