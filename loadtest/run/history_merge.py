"""The merge of all processes' histories, while they are written.

In: records of this process, and the load workers' files with the time up to which each is complete. Out: every record
in the order of its time, as soon as no source can still add an earlier one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import merge
from operator import attrgetter
from pathlib import Path

from stocktide.loadtest.oracle.history import HistoryClock, HistoryFile, HistoryRecord, decode_lines, read_history

# Bytes read from a file at a time: a load worker at full load writes less in half a second.
READ_BYTES_MAX = 16 * 1024 * 1024


class HistoryTail:
    """The growing history file of a load worker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.complete_until = 0
        self.waiting: deque[HistoryRecord] = deque()
        self._offset = 0

    def read_on(self, complete_until: int) -> None:
        """Read what was added; the worker has written everything up to `complete_until` (ms)."""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(READ_BYTES_MAX)
        end = data.rfind(b"\n") + 1
        self._offset += end
        self.waiting.extend(decode_lines(data[:end]))
        if len(data) < READ_BYTES_MAX:
            self.complete_until = complete_until


class HistoryMerge:
    """All records of a run."""

    def __init__(self, folder: Path, clock: HistoryClock) -> None:
        self._clock = clock
        self._path = folder / "history-lead.ndjson"
        self._file = HistoryFile(self._path)
        self._own: deque[HistoryRecord] = deque()
        self._tails: list[HistoryTail] = []

    def open_tail(self, path: Path) -> HistoryTail:
        """Add a load worker's file."""
        self._tails.append(HistoryTail(path))
        return self._tails[-1]

    def add(self, record: HistoryRecord) -> None:
        """Add a record of this process."""
        self._file.add(record)
        self._own.append(record)

    def emit(self, handle: Callable[[HistoryRecord], None]) -> None:
        """Pass on, in order, the records that no source can still precede."""
        until = min([self._clock.now() - 1, *(tail.complete_until for tail in self._tails)])
        # Workers come first: within a ms, a request precedes its consequences.
        sources = [*(tail.waiting for tail in self._tails), self._own]
        for record in merge(*(_pop_until(source, until) for source in sources), key=attrgetter("at")):
            handle(record)

    def close(self) -> None:
        """Close this process's file; all others are complete."""
        self._file.close()

    def records(self) -> Iterator[HistoryRecord]:
        """The whole history, from its start at every call, after `close`."""
        paths = (*(tail.path for tail in self._tails), self._path)
        return merge(*map(read_history, paths), key=attrgetter("at"))


def _pop_until(source: deque[HistoryRecord], until: int) -> Iterator[HistoryRecord]:
    while source and source[0].at <= until:
        yield source.popleft()
