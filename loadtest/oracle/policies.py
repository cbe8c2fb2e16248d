"""The possible values of a policy level.

In: responses to PUT and DELETE of policies. Out: whether a read at rest is one of the values that may be in force. A
policy has no id: a request without a response may take effect at any later time.
"""

from __future__ import annotations

from typing import Any

from stocktide.loadtest.oracle.dispatcher import PendingRequest
from stocktide.loadtest.oracle.history import ReadPolicy, Response

Level = tuple[str, str | None]
Fields = dict[str, Any] | None


class PolicyLevels:
    """All requested levels. An acknowledged value is possible until a later request replaces it."""

    def __init__(self) -> None:
        # (request time, response time, fields) of those that may be the newest; the fields of unanswered requests.
        self._acknowledged: dict[Level, list[tuple[int, int, Fields]]] = {}
        self._uncertain: dict[Level, list[Fields]] = {}

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Add a PUT or DELETE; 404 to a DELETE means that the level has none."""
        if not request.kind.startswith("policy.") or request.event is None:
            return
        if response.status in (200, 201, 204) or (response.status == 404 and request.kind == "policy.delete"):
            level = (request.event.channel, request.event.sku)
            current = [other for other in self._acknowledged.get(level, ()) if other[1] >= request.at]
            self._acknowledged[level] = [*current, (request.at, response.at, _fields(request))]

    def on_no_response(self, request: PendingRequest) -> None:
        """Add a PUT or DELETE that may take effect at any time."""
        if request.kind.startswith("policy.") and request.event is not None:
            self._uncertain.setdefault((request.event.channel, request.event.sku), []).append(_fields(request))

    def find_contradiction(self, read: ReadPolicy) -> str | None:
        """Why the value read cannot be in force; None if it can."""
        level = (read.channel, read.sku)
        acknowledged = self._acknowledged.get(level)
        if not acknowledged or read.own in (
            allowed := [fields for _, _, fields in acknowledged] + self._uncertain.get(level, [])
        ):
            return None
        where = read.channel if read.sku is None else f"{read.channel}/{read.sku}"
        newest = allowed[-1] if allowed else None
        return f"the policy of {where} is {read.own} at the end, and was last told to be {newest}"


def _fields(request: PendingRequest) -> Fields:
    assert request.event is not None
    if request.kind == "policy.delete":
        return None
    return {name: value for name, value in (request.event.policy or {}).items() if value is not None}
