"""The units that can be in pools: for the detection of a pool that outlives its end, or that holds too much.

In: requests that set units aside or release them, and the effects of movements. Out: for each location (a SKU in a
warehouse) the units in pools, at most. Orders only draw from pools, and give back what they drew.
"""

from __future__ import annotations

from collections import Counter

from stocktide.loadtest.oracle.dispatcher import PendingRequest, time_ms
from stocktide.loadtest.oracle.movements import MovementTracker

RESERVED, RELEASED = "stock.reserved", "stock.released"
# How long after its end a pool may still hold units: the expiry step runs about every second, and publication follows.
END_GRACE_MS = 10_000


class PoolBounds:
    """Bounds of `reserved`. A movement that this run did not request, or with several bodies, bounds nothing."""

    def __init__(self, movements: MovementTracker) -> None:
        self._movements = movements
        # By warehouse and id: the purposes and ends (ms, None: none) that were sent.
        self._sent: dict[tuple[str, str], set[tuple[str, int | None]]] = {}

    def on_request(self, request: PendingRequest) -> None:
        """Add an event about a pool."""
        event = request.event
        if request.kind in (RESERVED, RELEASED) and event.id is not None:
            sent = self._sent.setdefault((event.warehouse, event.id), set())
            sent.add((event.purpose or "", time_ms(event.until)))

    def units_max(self, at_ms: int) -> dict[tuple[str, str], int | None]:
        """Units in pools at most, by SKU and warehouse, at rest; None: unknown. What is missing has none."""
        units: Counter[tuple[str, str, str]] = Counter()
        lasting: set[tuple[str, str, str]] = set()
        unknown: set[tuple[str, str]] = set()
        for movement in self._movements:
            if movement.kind not in (RESERVED, RELEASED):
                continue
            sent = self._sent.get((movement.warehouse, movement.id), set())
            for line in movement.lines:
                if len(sent) != 1:
                    unknown.add((line.sku, movement.warehouse))
                    continue
                ((purpose, ends),) = sent
                pool = (line.sku, movement.warehouse, purpose)
                units[pool] += line.quantity if movement.kind == RESERVED else -line.quantity
                if movement.kind == RESERVED and (ends is None or ends + END_GRACE_MS > at_ms):
                    lasting.add(pool)
        most: dict[tuple[str, str], int | None] = {}
        for pool, count in units.items():
            place = pool[:2]
            if pool in lasting:
                most[place] = (most.get(place) or 0) + max(0, count)
        return most | dict.fromkeys(unknown)
