"""What a judgement says: each checker with what it looked at, what it found, and the evidence.

A checker that looked at nothing has proved nothing: that is a defect of the run, never a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from stocktide.loadtest.oracle.history import HistoryRecord

# What is kept of a checker's findings: the first ones tell most, and a broken run has one for each order.
VIOLATIONS_KEPT_MAX = 20
# Evidence that a report shows of one finding.
EVIDENCE_SHOWN_MAX = 8


class Violation(Struct, frozen=True, omit_defaults=True):
    """A promise that was broken: by whom it was seen, what was found, when, and about what.

    `evidence` are the records of the history that tell of the same order, SKU, movement or subscriber.
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
    """One checker's part: how many of which things it looked at, and what it found."""

    checker: str
    promise: str
    looked: dict[str, int]
    remarks: dict[str, int]
    found: int
    violations: tuple[Violation, ...]

    @property
    def empty(self) -> bool:
        """Whether it looked at nothing."""
        return not any(self.looked.values())


class Verdict(Struct, frozen=True):
    """The judgement of a run. `invalid` says what makes it worth nothing, beside checkers that saw nothing."""

    checked: tuple[CheckerResult, ...]
    invalid: tuple[str, ...] = ()
    records: int = 0

    @property
    def broken(self) -> bool:
        """Whether any promise was seen broken."""
        return any(part.found for part in self.checked)

    @property
    def valid(self) -> bool:
        """Whether the run can prove anything: it came to rest, and every checker had something to look at."""
        return not self.invalid and not any(part.empty for part in self.checked)

    @property
    def ok(self) -> bool:
        """A valid run with every promise kept."""
        return self.valid and not self.broken

    def part(self, checker: str) -> CheckerResult:
        """What one checker says. Raises KeyError."""
        for part in self.checked:
            if part.checker == checker:
                return part
        raise KeyError(checker)

    def as_json(self) -> Any:
        """Plain data for a report."""
        told = {"ok": self.ok, "valid": self.valid, "broken": self.broken}
        return {**told, **msgspec.to_builtins(self)}

    def lines(self) -> Iterator[str]:
        """The judgement as text, a line each; the findings follow their checker."""
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


class Checker:
    """One promise, watched. Subclasses hear records (see `Stream`) and call `found`."""

    name: ClassVar[str]
    promise: ClassVar[str]

    def __init__(self) -> None:
        self.looked: Counter[str] = Counter()
        # Oddities that break no promise, counted for the reader.
        self.remarks: Counter[str] = Counter()
        self.count = 0
        self.violations: list[Violation] = []

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """The records that this one wants, each with who takes it."""
        return {}

    def end(self) -> None:
        """The history is over: judge what can be judged only now."""

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
        """A promise is broken."""
        self.count += 1
        if len(self.violations) < VIOLATIONS_KEPT_MAX:
            about = (order_id, sku, warehouse, id, channel, subscriber)
            self.violations.append(Violation(self.name, what, at, *about))

    def checked(self) -> CheckerResult:
        """What there is to say by now."""
        return CheckerResult(
            self.name,
            self.promise,
            dict(self.looked),
            dict(self.remarks),
            self.count,
            tuple(self.violations),
        )
