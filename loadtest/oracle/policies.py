"""The policies of every level, folded from requests and rows of `policies`.

In: the records of a history. Out: the policy in force by the newest rows, and whether one was ever requested or
published that restricts where a channel's waiting orders get their units.
"""

from __future__ import annotations

from typing import Any

from stocktide.loadtest.oracle.dispatcher import Handlers, Listener, PendingRequest
from stocktide.loadtest.oracle.history import PolicyPublished

Level = tuple[str, str | None]


class PolicyTracker(Listener):
    """Tracks all levels."""

    def __init__(self) -> None:
        self._rows: dict[Level, PolicyPublished] = {}
        self._restricted: set[Level] = set()
        self._completed_first: set[str | None] = set()

    def handlers(self) -> Handlers:
        return {PolicyPublished: self._on_row}

    def on_request(self, request: PendingRequest) -> None:
        """A policy may be in force before its row comes."""
        if request.kind == "policy.put":
            self._note((request.event.channel, request.event.sku), request.event.policy)

    def _on_row(self, row: PolicyPublished) -> None:
        level = (row.policy.channel, row.policy.sku)
        known = self._rows.get(level)
        if known is None or row.policy.batch >= known.policy.batch:
            self._rows[level] = row
        self._note(level, row.policy.policy)

    def _note(self, level: Level, policy: dict[str, Any] | None) -> None:
        if policy and (policy.get("warehouses") is not None or policy.get("pool_only")):
            self._restricted.add(level)
        if policy and policy.get("fill") == "complete_first":
            self._completed_first.add(level[1])

    def was_restricted(self, channel: str, sku: str) -> bool:
        """Whether the channel may ever have sold the SKU from some warehouses, or from pools, alone."""
        return (channel, None) in self._restricted or (channel, sku) in self._restricted

    def was_completed_first(self, sku: str) -> bool:
        """Whether orders of the SKU that can be filled whole may ever have gone before others."""
        return sku in self._completed_first

    def in_force(self, channel: str, sku: str) -> dict[str, Any]:
        """The fields that the newest rows set for a channel and SKU."""
        levels = (self._rows.get((channel, None)), self._rows.get((channel, sku)))
        policies = (row.policy.policy or {} for row in levels if row is not None)
        return {name: value for policy in policies for name, value in policy.items() if value is not None}
