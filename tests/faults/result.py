"""The result of a fault run: what was injected, sent and answered.

In: the records of the history. Out: counts and times, for the report.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stocktide.loadtest.oracle.history import HistoryRecord, InputTransport, NoResponse, Request, Response


@dataclass(slots=True)
class InjectedFault:
    """A fault as it was injected, in s of the loop's clock."""

    name: str
    began: float
    ended: float = 0.0
    detail: str = ""
    failed: str = ""

    @property
    def completed(self) -> bool:
        """Whether it was injected as planned, and healed."""
        return bool(self.ended) and not self.failed


@dataclass(slots=True)
class FaultRunResult:
    """The result of a run. `unquiet` is the reason why it did not quiesce."""

    seed: int
    history: Path
    park_seconds: int
    injected: list[InjectedFault] = field(default_factory=list)
    # The times of answers with an order, in s of the loop's clock: gaps are downtime.
    answered_at: list[float] = field(default_factory=list)
    doors: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    load_seconds: float = 0.0
    rest_seconds: float = 0.0
    unquiet: str = ""
    failures: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    # By number, the transport of a request without an answer.
    _open: dict[int, InputTransport] = field(default_factory=dict)

    @property
    def commands(self) -> int:
        """How many events were sent."""
        return self.kinds.total()

    def on_record(self, record: HistoryRecord) -> None:
        """Count a request or its answer."""
        if isinstance(record, Request):
            self._open[record.number] = record.door
            self.doors[record.door] += 1
            self.kinds[record.kind] += 1
        elif isinstance(record, Response):
            self.statuses[f"{self._open.pop(record.number)} {record.status} {record.code or ''}".rstrip()] += 1
            if record.order is not None:
                self.answered_at.append(asyncio.get_running_loop().time())
        elif isinstance(record, NoResponse):
            self.statuses[f"{self._open.pop(record.number)} no answer"] += 1
