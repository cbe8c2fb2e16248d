"""A finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """The severity of a finding; the value is its mark on the console."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `what`: the state, why it matters, what to do. `lasting`: only a changed setting mends
    it, so a process that needs it ends instead of waiting."""

    severity: Severity
    what: str
    lasting: bool = False


def good(what: str) -> Finding:
    """In order."""
    return Finding(Severity.GOOD, what)


def note(what: str) -> Finding:
    """Worth knowing; loses nothing."""
    return Finding(Severity.NOTE, what)


def wrong(what: str) -> Finding:
    """Loses data or does not work."""
    return Finding(Severity.WRONG, what)


def unfit(what: str) -> Finding:
    """Does not work and does not recover by itself."""
    return Finding(Severity.WRONG, what, lasting=True)
