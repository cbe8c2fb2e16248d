"""The same oracle for every way: what callers were told, against what was received and what the store holds afterwards.

It knows nothing of how a way works: it counts units from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.compare.load import BenchOrder, ReserveOutcome, ResponseLog, units_by_sku


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """Units and orders after a kill.

    `oversold_units`: told held beyond what was received, over all SKUs. `lost_units`, `lost_orders`: told held and not
    in the store afterwards. `leaked_units`: gone from the stock, and nobody was told that they are held.
    `unanswered`: orders whose callers gave up; with any of them the leaked units say nothing.
    """

    received_units: int
    held_orders: int
    held_units: int
    refused_orders: int
    unanswered: int
    oversold_units: int
    lost_orders: int
    lost_units: int
    leaked_units: int

    @property
    def broken(self) -> bool:
        """Whether anything that was told does not stand, or stock is gone for nothing."""
        return bool(self.oversold_units or self.lost_orders or self.leaked_units or self.unanswered)


def check_consistency(
    orders: Sequence[BenchOrder],
    received: Mapping[str, int],
    told: ResponseLog,
    in_store: set[str],
    left: Mapping[str, int],
) -> ConsistencyReport:
    """`received`, `left`: units by SKU, before and after; `in_store`: the ids of orders that the store has as held."""
    held = {order_id for order_id, answer in told.answers.items() if answer is ReserveOutcome.HELD}
    refused = sum(answer is ReserveOutcome.REFUSED for answer in told.answers.values())
    sold = units_by_sku(orders, held)
    lost = units_by_sku(orders, held - in_store)
    gone = {sku: units - left[sku] for sku, units in received.items()}
    return ConsistencyReport(
        received_units=sum(received.values()),
        held_orders=len(held),
        held_units=sum(sold.values()),
        refused_orders=refused,
        unanswered=len(orders) - len(held) - refused,
        oversold_units=sum(max(0, sold.get(sku, 0) - units) for sku, units in received.items()),
        lost_orders=len(held - in_store),
        lost_units=sum(lost.values()),
        leaked_units=sum(max(0, units - sold.get(sku, 0)) for sku, units in gone.items()),
    )
