"""A journal in memory, for tests of the protocol.

In: encoded records. Out: what `JournalLog` promises, with a send that a test can hold back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from stocktide.streams.journal.log import LogRecord, OutOfRange


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record of a journal in memory."""

    offset: int
    value: bytes
    timestamp: int = 0


@dataclass(slots=True)
class MemoryJournal:
    """The partition shared by `MemoryLog` clients. `first` is the offset of `values[0]`."""

    values: list[bytes] = field(default_factory=list)
    first: int = 0
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)


class MemoryLog:
    """A client of an in-memory journal. While `gate` is not set, its appends stay in flight, as if the process were
    stopped between its send and the broker."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal
        self._tail: asyncio.Task[int] | None = None
        self.next_offset: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, values: Sequence[bytes]) -> Awaitable[int]:
        """See JournalLog."""
        self._tail = asyncio.ensure_future(self._write(self._tail, list(values)))
        return self._tail

    async def _write(self, before: asyncio.Task[int] | None, values: list[bytes]) -> int:
        if before is not None:
            await asyncio.wait([before])
        await self.gate.wait()
        journal = self._journal
        async with journal.grown:
            journal.values.extend(values)
            journal.grown.notify_all()
            return journal.first + len(journal.values) - 1

    async def read(self, offset: int, wait_seconds: float) -> Sequence[LogRecord]:
        """See JournalLog. Raises OutOfRange."""
        journal = self._journal
        if not journal.first <= offset <= journal.first + len(journal.values):
            raise OutOfRange(f"the journal has no offset {offset}")
        async with journal.grown:
            if offset == journal.first + len(journal.values):
                try:
                    async with asyncio.timeout(wait_seconds):
                        await journal.grown.wait()
                except TimeoutError:
                    return ()
            start = offset - journal.first
            self.next_offset = journal.first + len(journal.values)
            return [MemoryRecord(offset + at, value) for at, value in enumerate(journal.values[start:])]

    async def bounds(self) -> tuple[int, int]:
        """See JournalLog."""
        return self._journal.first, self._journal.first + len(self._journal.values)

    async def close(self) -> None:
        """See JournalLog. Appends in flight arrive when `gate` is set."""
