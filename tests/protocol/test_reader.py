"""Valid or void: the rule that every reader of the journal shares."""

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


def test_a_chain_of_batches_behind_a_marker_counts() -> None:
    assert verdicts(marker(1, "a"), batch(1, "t1", ""), batch(2, "t2", "t1")) == [M, B, B]


def test_a_batch_before_any_marker_is_void() -> None:
    assert verdicts(batch(1, "t1", "")) == [V]


def test_what_a_late_relay_writes_after_a_higher_marker_is_void() -> None:
    late, new = batch(1, "t1", "", term=1), batch(1, "t1", "", term=2, owner="b")
    assert verdicts(marker(1, "a"), marker(2, "b"), late, new) == [M, M, V, B]


def test_a_record_of_the_right_term_by_another_owner_is_void() -> None:
    assert verdicts(marker(1, "a"), batch(1, "t1", "", owner="b")) == [M, V]


def test_of_two_markers_of_one_term_the_first_counts() -> None:
    assert verdicts(marker(1, "a"), marker(1, "b"), batch(1, "t", "", owner="b"), batch(1, "t", "")) == [M, V, V, B]


def test_a_marker_of_a_lower_term_is_void() -> None:
    assert verdicts(marker(2, "b"), marker(1, "a"), batch(1, "t", "", term=2, owner="b")) == [M, V, B]


def test_a_wrong_previous_token_is_void() -> None:
    assert verdicts(marker(1, "a"), batch(1, "t1", ""), batch(2, "t2", "x"), batch(2, "t2", "t1")) == [M, B, V, B]


def test_a_gap_is_void_until_what_is_missing_has_come() -> None:
    one, two, three = batch(1, "t1", ""), batch(2, "t2", "t1"), batch(3, "t3", "t2")
    assert verdicts(marker(1, "a"), one, three, two, three) == [M, B, V, B, B]


def test_a_batch_that_was_sent_twice_counts_once() -> None:
    assert verdicts(marker(1, "a"), batch(1, "t1", ""), batch(1, "t1", ""), batch(2, "t2", "t1")) == [M, B, V, B]


@pytest.mark.parametrize("value", [None, b"", b"\xc1", b"{}", b"\x93\x01\x02\x03"])
def test_bytes_that_are_no_record_are_void(value: bytes | None) -> None:
    assert decode_record(value) is None
    assert verdicts(marker(1, "a"), None, batch(1, "t1", "")) == [M, V, B]


def test_an_unknown_kind_is_void() -> None:
    assert verdicts(JournalRecord(7, 9, "z", 0, "", "", b"")) == [V]


def test_a_record_that_was_fed_before_changes_nothing() -> None:
    reader = JournalReader()
    reader.feed(0, marker(1, "a"))
    reader.feed(1, batch(1, "t1", ""))
    before = reader.position
    assert reader.feed(1, batch(2, "t2", "t1")) is RecordVerdict.VOID
    assert reader.position == before


def test_void_records_move_the_next_offset_and_not_the_position() -> None:
    reader = JournalReader()
    reader.feed(0, marker(1, "a"))
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
