"""What a receiver of alerts has done survives a restart, in the commit and its metadata."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stocktide.agents.notify.progress import METADATA_BYTES_MAX, Progress, decode_done


@settings(max_examples=200, deadline=None, database=None)
@given(first=st.integers(0, 9), held=st.sets(st.integers(0, 60)), count=st.integers(0, 60), again=st.integers(0, 60))
def test_a_successor_reads_again_exactly_what_was_not_done(first: int, held: set[int], count: int, again: int) -> None:
    progress = Progress(first)
    for offset in range(first, first + count):
        progress.read(offset, 2)
        if offset - first not in held:
            progress.finish(offset)
            progress.finish(offset)
    missing = [offset for offset in range(first, first + count) if offset - first in held]
    for _ in range(2):
        found = progress.to_commit()
        assert found is not None
        offset, metadata = found
        progress = Progress(offset, decode_done(offset, metadata))
        kept = [each for each in range(offset, first + count) if not progress.is_done(each)]
        assert kept == missing
        for each in range(offset, min(first + count, offset + again)):  # the successor also ends early
            progress.read(each, int(not progress.is_done(each)))


def test_only_a_change_is_committed() -> None:
    progress = Progress(5)
    found = progress.to_commit()
    assert found == (5, "")
    progress.committed(found)
    assert progress.to_commit() is None
    progress.read(5, 0)
    assert progress.to_commit() == (6, "")


def test_metadata_stays_below_kafkas_limit_and_that_of_others_says_nothing() -> None:
    progress = Progress(0)
    for offset in range(10_000):
        progress.read(offset, offset % 2)
    found = progress.to_commit()
    assert found is not None and found[0] == 1 and METADATA_BYTES_MAX - 10 < len(found[1]) <= METADATA_BYTES_MAX
    assert decode_done(7, "written by hand") == []
