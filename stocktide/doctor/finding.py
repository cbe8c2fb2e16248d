"""What the doctor says of one thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How a finding stands; the value is its mark on the console."""

    GOOD = "ok"
    NOTE = "note"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `what` says how it is, why that matters, and what to do. `lasting`: it stays wrong
    until a person changes a setting, so that a process that needs it may end instead of waiting."""

    verdict: Severity
    what: str
    lasting: bool = False


def good(what: str) -> Finding:
    """As it should be."""
    return Finding(Severity.GOOD, what)


def note(what: str) -> Finding:
    """Worth knowing; nothing is lost by it."""
    return Finding(Severity.NOTE, what)


def wrong(what: str) -> Finding:
    """Something may be lost by it, or does not work."""
    return Finding(Severity.WRONG, what)


def unfit(what: str) -> Finding:
    """Nothing works with it, however long one waits."""
    return Finding(Severity.WRONG, what, lasting=True)
