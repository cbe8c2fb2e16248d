"""The verdict of a run: for each checker what it examined, what it found, and the evidence.

A checker that examined nothing makes the run invalid: it proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from stocktide.loadtest.oracle.dispatcher import Listener
from stocktide.loadtest.oracle.history import HistoryRecord

# Violations kept per checker: the first ones explain most, and a broken run has one for each order.
VIOLATIONS_KEPT_MAX = 20
# Records of evidence that a report shows for each violation.
EVIDENCE_SHOWN_MAX = 8


class Violation(Struct, frozen=True, omit_defaults=True):
    """A broken promise: the checker, what it found, when, and the keys of the order, SKU, movement or subscriber.

    `evidence` holds the records of the history about the same keys.
    """

    checker: str
    what: str
    at: int = 0
    order_id: str | None = None
    sku: str | None = None
    warehouse: str | None = None
    id: str | None = None
    channel: str | None = None
    subscriber: str | None = None
    evidence: tuple[HistoryRecord, ...] = ()


class CheckerResult(Struct, frozen=True):
    """The result of one checker: how many of which things it examined (`looked`), and what it found.

    `promise`: its number in the design; 0 for none.
    """

    checker: str
    promise: int
    looked: dict[str, int]
    remarks: dict[str, int]
    found: int
    violations: tuple[Violation, ...]

    @property
    def empty(self) -> bool:
        """Whether the checker examined nothing."""
        return not any(self.looked.values())


class Verdict(Struct, frozen=True):
    """The verdict of a run. `invalid` lists what makes the run prove nothing, except for empty checkers."""

    checked: tuple[CheckerResult, ...]
    invalid: tuple[str, ...] = ()
    records: int = 0

    @property
    def broken(self) -> bool:
        """Whether any checker found a violation."""
        return any(part.found for part in self.checked)

    @property
    def valid(self) -> bool:
        """Whether the run can prove anything: it quiesced, and every checker examined something."""
        return not self.invalid and not any(part.empty for part in self.checked)

    @property
    def ok(self) -> bool:
        """A valid run with every promise kept."""
        return self.valid and not self.broken

    def part(self, checker: str) -> CheckerResult:
        """The result of one checker. Raises KeyError."""
        for part in self.checked:
            if part.checker == checker:
                return part
        raise KeyError(checker)

    def as_json(self) -> Any:
        summary = {"ok": self.ok, "valid": self.valid, "broken": self.broken}
        return {**summary, **msgspec.to_builtins(self)}

    def lines(self) -> Iterator[str]:
        """The verdict as lines of text; the violations follow their checker."""
        for why in self.invalid:
            yield f"the run is not valid: {why}"
        for part in self.checked:
            looked = ", ".join(f"{count:,} {what}" for what, count in part.looked.items() if count)
            result = f"{part.found:,} violations" if part.found else "nothing was checked" if part.empty else "clean"
            yield f"{part.checker:24} {result:20} {looked}"
            for violation in part.violations:
                yield f"    {violation.what}"
                for record in violation.evidence[:EVIDENCE_SHOWN_MAX]:
                    yield f"        {msgspec.json.encode(record).decode()}"


class Checker(Listener):
    """The checker of one promise. Subclasses handle records (see `RecordDispatcher`) and call `found`."""

    name: ClassVar[str]
    promise: ClassVar[int] = 0

    def __init__(self) -> None:
        self.looked: Counter[str] = Counter()
        # Observations that break no promise, counted for the reader.
        self.remarks: Counter[str] = Counter()
        self.count = 0
        self.violations: list[Violation] = []

    def end(self) -> None:
        """Check what can be checked only at the end of the history."""

    def found(
        self,
        what: str,
        at: int = 0,
        *,
        order_id: str | None = None,
        sku: str | None = None,
        warehouse: str | None = None,
        id: str | None = None,
        channel: str | None = None,
        subscriber: str | None = None,
    ) -> None:
        self.count += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            about = (order_id, sku, warehouse, id, channel, subscriber)
            self.violations.append(Violation(self.name, what, at, *about))

    def checked(self) -> CheckerResult:
        looked, remarks = dict(self.looked), dict(self.remarks)
        return CheckerResult(self.name, self.promise, looked, remarks, self.count, tuple(self.violations))
