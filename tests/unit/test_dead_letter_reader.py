"""The fold of dead letters: which are open, what a mark covers, and which events may be sent again."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from stocktide.ops.dead_letters.render import escape_unprintable, format_bytes
from stocktide.streams.contract.documents import DeadLetter
from stocktide.streams.contract.times import rfc3339
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.tables.dead_letters import reader
from stocktide.tables.dead_letters.reader import (
    ALL_STATES,
    DeadLetterFilter,
    DeadLetterFold,
    DeadLetterSummary,
    StoredDeadLetter,
    decode_row,
)
from stocktide.tables.dead_letters.retry import RETRY_WITHIN_MS, retry_refusal

NOW_MS = 1_900_000_000_000
# 2030-01-01T00:00:00Z.
OPENED_MS = 1_893_456_000_000


def row(place: int, reason: str = "conflict", **more: Any) -> StoredDeadLetter:
    """A row at that offset of `dead-letters`, by default about the event `t-orders/0/1`."""
    given = {
        "reason": reason,
        "topic": "t-orders",
        "partition": 0,
        "offset": 1,
        "at": rfc3339(OPENED_MS + 1000 * place),
    }
    value = orjson.dumps({**given, "detail": "", "path": None, "raw": "{}", **more})
    decoded = decode_row(value)
    assert decoded is not None
    return StoredDeadLetter(RecordPlace("t-dead-letters", 0, place), b"o1", decoded, value)


def mark(place: int, of: int, state: str = "retried", of_partition: int = 0, event: int = 1) -> StoredDeadLetter:
    """A row that marks the dead letter at `of`, and so its event."""
    return row(place, state, offset=event, of={"partition": of_partition, "offset": of}, by="mei", raw="")


def folded(*rows: StoredDeadLetter, wanted: DeadLetterFilter | None = None) -> DeadLetterFold:
    fold = DeadLetterFold((wanted or DeadLetterFilter()).matches)
    for each in rows:
        fold.add(each)
    return fold


def states(fold: DeadLetterFold) -> list[tuple[int, str]]:
    return [(letter.place.offset, letter.state) for letter in fold.letters(ALL_STATES)]


def test_a_mark_removes_a_letter_from_the_list_and_names_its_author() -> None:
    fold = folded(row(0), mark(1, of=0, state="dropped"))
    assert fold.letters(("open",)) == []
    (letter,) = fold.letters(ALL_STATES)
    assert (letter.state, letter.by, letter.done_at) == ("dropped", "mei", "2030-01-01T00:00:01.000Z")


def test_a_letter_that_comes_after_the_mark_is_open() -> None:
    assert states(folded(row(0), mark(1, of=0), row(2))) == [(0, "retried"), (2, "open")]


def test_a_letter_that_came_before_its_mark_but_after_the_retry_is_open() -> None:
    assert states(folded(row(0), row(1), mark(2, of=0))) == [(0, "retried"), (1, "open")]


def test_a_letter_that_was_written_twice_is_listed_once_and_marked_whole() -> None:
    assert states(folded(row(0), row(1))) == [(1, "open")]
    assert folded(row(0), row(1), mark(2, of=1)).letters(("open",)) == []


def test_a_mark_covers_no_letter_of_another_event_or_partition() -> None:
    assert states(folded(row(0), row(1, offset=9), mark(2, of=1, event=9))) == [(0, "open"), (1, "retried")]
    assert states(folded(row(0), mark(1, of=5, of_partition=1))) == [(0, "open")]


def test_rows_that_kafka_refused_are_dead_letters_of_their_own() -> None:
    refused = [row(at, "row_refused", topic="t-stock", offset=OFFSET_NOT_WRITTEN) for at in range(3)]
    assert states(folded(*refused)) == [(0, "open"), (1, "open"), (2, "open")]
    dropped = mark(3, of=1, state="dropped", event=OFFSET_NOT_WRITTEN)
    assert states(folded(*refused, dropped)) == [(0, "open"), (1, "dropped"), (2, "open")]


def test_filters_leave_what_they_name() -> None:
    rows = (row(0), row(1, "unknown_order", offset=2), row(2, topic="t-movements", offset=3))

    def offsets(**wanted: Any) -> list[int]:
        return [letter.place.offset for letter in folded(*rows, wanted=DeadLetterFilter(**wanted)).letters(("open",))]

    assert offsets(reasons=("conflict",)) == [0, 2]
    assert offsets(topics=("t-movements",)) == [2]
    assert offsets(since=OPENED_MS + 1000) == [1, 2]
    assert offsets(until=OPENED_MS + 1000) == [0, 1]


def test_of_too_many_letters_the_newest_are_kept_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LETTERS_MAX", 3)
    fold = folded(*(row(at, offset=at) for at in range(5)))
    assert states(fold) == [(2, "open"), (3, "open"), (4, "open")] and fold.evicted == 2


def test_a_value_that_is_no_dead_letter_is_skipped() -> None:
    for value in (None, b"", b"{", b"[]", b'{"reason":"x"}'):
        assert decode_row(value) is None
    base = {"reason": "x", "topic": "t", "partition": 0, "offset": 0, "at": ""}
    assert decode_row(orjson.dumps({**base, "raw_base64": "%%%"})) is None


def test_the_event_is_as_it_came() -> None:
    def event(**raw: Any) -> bytes:
        return DeadLetter("x", "", None, "t", 0, 0, "", **raw).event

    assert event(raw="日本 {") == "日本 {".encode()
    assert event(raw_base64=base64.b64encode(b"\xff\x00").decode()) == b"\xff\x00"


def letter(
    reason: str = "conflict", topic: str = "t-orders", age_ms: int = 0, is_cut: bool = False
) -> DeadLetterSummary:
    at = rfc3339(NOW_MS - age_ms)
    return DeadLetterSummary(
        RecordPlace("t-dead-letters", 0, 0), None, reason, "", None, RecordPlace(topic, 0, 1), at, 2, is_cut
    )


def test_an_event_is_sent_again_only_where_it_cannot_count_twice() -> None:
    assert retry_refusal(letter(), "t", NOW_MS) is None
    assert retry_refusal(letter("malformed_json", "t-movements"), "t", NOW_MS) is None
    assert "count twice" in (retry_refusal(letter(age_ms=RETRY_WITHIN_MS + 1), "t", NOW_MS) or "")
    assert "counted already" in (retry_refusal(letter("too_old", "t-movements"), "t", NOW_MS) or "")
    assert "under its id" in (retry_refusal(letter("unknown_sku", "t-movements"), "t", NOW_MS) or "")
    assert "kept whole" in (retry_refusal(letter(is_cut=True), "t", NOW_MS) or "")


def test_nothing_is_sent_to_a_topic_that_takes_no_events() -> None:
    for topic in ("t-journal", "t-dead-letters", "other-orders", "orders"):
        assert "no topic for input events" in (retry_refusal(letter(topic=topic), "t", NOW_MS) or "")


def test_a_terminal_is_sent_nothing_that_it_would_obey() -> None:
    assert format_bytes('{"sku":"日本"}'.encode()) == ['{"sku":"日本"}']
    assert format_bytes(b"a\x1b[31m") == [f"00000000  {'61 1b 5b 33 31 6d':<48} a.[31m"]
    assert format_bytes(b"ab\xe6\x97") == ["ab"], "cut within a character"
    assert escape_unprintable("a\x1b[2J") == "a\\x1b[2J"


def test_a_row_without_detail_and_path_is_a_dead_letter_too() -> None:
    row = {"reason": "conflict", "topic": "orders", "partition": 1, "offset": 7, "at": rfc3339(0), "raw": "{}"}
    decoded = decode_row(orjson.dumps(row))
    assert decoded is not None and (decoded.detail, decoded.path, decoded.event) == ("", None, b"{}")


def test_what_is_held_of_a_dead_letter_is_bounded_whatever_its_row_says() -> None:
    huge = "x" * 100_000
    stored = row(5, detail=huge, path=huge, raw=huge)
    fold = DeadLetterFold(beginning=10)
    fold.add(StoredDeadLetter(stored.place, huge.encode(), stored.row, stored.value))
    (letter,) = fold.letters(ALL_STATES)
    held = (letter.key or b"", letter.detail, letter.path or "", letter.beginning)
    assert sum(map(len, held)) < 3_000 and letter.size == 100_000 and not letter.is_cut
