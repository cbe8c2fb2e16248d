"""The newest dead letters of an API: in their order after each row, and a page that does not go through all of them."""

from __future__ import annotations

import sys
import time
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktide.api import dead_letter_log
from stocktide.api.dead_letter_log import DeadLetterLog, NewestLetters, rank_of
from stocktide.api.handlers.dead_letters import DeadLetterHandlers
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.tables.dead_letters.reader import ALL_STATES, DeadLetterFold, StoredDeadLetter, decode_row


def stored(offset: int, partition: int, event: int, at_ms: int, of: int | None = None) -> StoredDeadLetter:
    """A dead letter, or the mark of the one at `of`."""
    place = {"topic": f"t-{event % 2}", "partition": partition, "offset": event, "at": rfc3339(at_ms)}
    kind: dict[str, Any] = {"reason": "conflict", "raw": "{}"}
    if of is not None:
        kind = {"reason": "retried", "raw": "", "of": {"partition": partition, "offset": of}}
    row = decode_row(orjson.dumps({**place, **kind}))
    assert row is not None
    return StoredDeadLetter(RecordPlace("t-dead-letters", partition, offset), b"k", row, b"")


# Partition, event, seconds, and how many rows before it the dead letter is that a mark names.
ROWS = st.tuples(st.integers(0, 1), st.integers(-1, 4), st.integers(0, 3), st.none() | st.integers(1, 6))


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(ROWS, max_size=30), st.integers(1, 8))
def test_after_each_row_the_order_and_the_counts_are_those_of_all_letters(rows: list[Any], letters_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dead_letter_log, "LETTERS_MAX", letters_max)
        newest, fold = NewestLetters(), DeadLetterFold(letters_max=letters_max, beginning=1_024)
    for offset, (partition, event, seconds, back) in enumerate(rows):
        row = stored(offset, partition, event, 1_000 * seconds, None if back is None else offset - back)
        newest.add(row)
        fold.add(row)
        expected = sorted(fold.letters(ALL_STATES), key=rank_of, reverse=True)
        assert list(newest.before(None)) == expected and newest.left_out == fold.evicted
        for letter in expected[:3]:
            assert list(newest.before(rank_of(letter))) == [
                each for each in expected if rank_of(each) < rank_of(letter)
            ]
        for topic in ("t-0", "t-1"):
            is_open = [letter.origin.topic == topic and letter.state == "open" for letter in expected]
            assert newest.open_by_topic[topic] == sum(is_open)


async def calls_of_a_page(letters: int) -> int:
    """How many functions run for a page, and for the number that `/v1/health` asks for."""
    log = DeadLetterLog(topic=None)  # type: ignore[arg-type]
    for number in range(letters):
        log.newest.add(stored(number, 0, number, now_ms()))
    log._read_at = time.monotonic()  # what is fresh is not read
    handlers = DeadLetterHandlers(log, None, "t-dead-letters", None)  # type: ignore[arg-type]
    request = make_mocked_request("GET", "/v1/dead-letters?state=open&limit=10")
    events: list[str] = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        answer = await handlers.page(request)
        count = await log.count_open("t-0", 60.0)
    finally:
        sys.setprofile(None)
        await log.close()
    page = orjson.loads(answer.body)  # type: ignore[arg-type]
    assert [each["offset"] for each in page["items"]] == [*range(letters - 1, letters - 11, -1)] and page["next"]
    assert count == letters // 2
    return len(events)


async def test_a_page_of_many_letters_takes_no_more_work_than_one_of_few() -> None:
    await calls_of_a_page(100)  # caches
    few, many = await calls_of_a_page(100), await calls_of_a_page(5_000)
    assert many < few + 50
