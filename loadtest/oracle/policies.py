"""What a policy level may be, by what was told of it.

In: answers to PUT and DELETE of policies. Out: whether a read of a level at rest is one of those that may be in force.
A policy has no id: an ask without an answer may take effect at any later time.
"""

from __future__ import annotations

from typing import Any

from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.history import ReadPolicy, Response

Level = tuple[str, str | None]
Fields = dict[str, Any] | None


class PolicyLevels:
    """Every level that was asked for. Of those told, only what no later ask replaced may be in force."""

    def __init__(self) -> None:
        # (asked at, told at, the fields) of those that may be the newest, and the fields of silent ones.
        self._told: dict[Level, list[tuple[int, int, Fields]]] = {}
        self._silent: dict[Level, list[Fields]] = {}

    def told(self, ask: PendingRequest, told: Response) -> None:
        """A PUT or DELETE was answered; 404 to a DELETE says that there is nothing."""
        if not ask.kind.startswith("policy.") or ask.event is None:
            return
        if told.status in (200, 201, 204) or (told.status == 404 and ask.kind == "policy.delete"):
            level = (ask.event.channel, ask.event.sku)
            standing = [other for other in self._told.get(level, ()) if other[1] >= ask.at]
            self._told[level] = [*standing, (ask.at, told.at, _fields(ask))]

    def silent(self, ask: PendingRequest) -> None:
        """A PUT or DELETE that may have happened, or may yet."""
        if ask.kind.startswith("policy.") and ask.event is not None:
            self._silent.setdefault((ask.event.channel, ask.event.sku), []).append(_fields(ask))

    def wrong(self, read: ReadPolicy) -> str | None:
        """Why what was read cannot be in force; None where it can."""
        level = (read.channel, read.sku)
        told = self._told.get(level)
        if not told or read.own in (may := [fields for _, _, fields in told] + self._silent.get(level, [])):
            return None
        where = read.channel if read.sku is None else f"{read.channel}/{read.sku}"
        return f"the policy of {where} is {read.own} at the end, and was last told to be {may[-1] if may else None}"


def _fields(ask: PendingRequest) -> Fields:
    assert ask.event is not None
    if ask.kind == "policy.delete":
        return None
    return {name: value for name, value in (ask.event.policy or {}).items() if value is not None}
