"""The histories of all processes of a run as one, while they are written: for the watch, and for what is asked later.

In: records of this process, files of the testers and up to when each is whole. Out: every record in the order of its
time, as soon as nobody can come with an earlier one, to whoever listens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import merge
from operator import attrgetter
from pathlib import Path

from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryFile,
    HistoryRecord,
    decode_lines,
    merge_histories,
    read_history,
)

# Of a file at a time: half a second of a tester at full load is less.
READ_BYTES_MAX = 16 * 1024 * 1024


class HistoryTail:
    """A tester's file, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole_until = 0
        self.waiting: deque[HistoryRecord] = deque()
        self._offset = 0

    def read_on(self, whole_until: int) -> None:
        """Take in what was added; the tester says that everything up to `whole_until` (ms) is in it."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(READ_BYTES_MAX)
        end = data.rfind(b"\n") + 1
        self._offset += end
        self.waiting.extend(decode_lines(data[:end]))
        if len(data) < READ_BYTES_MAX:
            self.whole_until = whole_until


class HistoryMerge:
    """All of a run's records."""

    def __init__(self, folder: Path, clock: HistoryClock) -> None:
        self._clock = clock
        self._path = folder / "history-lead.ndjson"
        self._file = HistoryFile(self._path)
        self._own: deque[HistoryRecord] = deque()
        self._testers: list[HistoryTail] = []

    def tester(self, path: Path) -> HistoryTail:
        """Another source."""
        self._testers.append(HistoryTail(path))
        return self._testers[-1]

    def add(self, record: HistoryRecord) -> None:
        """A record of this process."""
        self._file.add(record)
        self._own.append(record)

    def turn(self, hear: Callable[[HistoryRecord], None]) -> None:
        """Give on, in order, what nobody can come before any more."""
        until = min([self._clock.now() - 1, *(tester.whole_until for tester in self._testers)])
        # Testers first: of the same ms, what was asked comes before what came of it.
        sources = [*(tester.waiting for tester in self._testers), self._own]
        for record in merge(*(_taken(source, until) for source in sources), key=attrgetter("at")):
            hear(record)

    def close(self) -> None:
        """All is written."""
        self._file.close()

    def all(self) -> Iterator[HistoryRecord]:
        """The whole history, as often as asked, once all is written."""
        return merge_histories([*(read_history(tester.path) for tester in self._testers), read_history(self._path)])


def _taken(source: deque[HistoryRecord], until: int) -> Iterator[HistoryRecord]:
    while source and source[0].at <= until:
        yield source.popleft()
