"""The oracle of the comparison: the responses of the clients against the received stock and the store afterwards.

It counts units from outside and is the same for every contender.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.compare.load import BenchOrder, ReserveOutcome, ResponseLog, units_by_sku


@dataclass(frozen=True, slots=True)
class ConsistencyReport:
    """Units and orders after a kill.

    `oversold_units`: held for clients beyond the received stock, over all SKUs. `lost_units`, `lost_orders`: answered
    `held`, but not held in the store. `leaked_units`: missing from the stock without a response that they are held.
    `unanswered`: orders without a response; if there are any, the leaked units mean nothing.
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
        """Whether a response does not stand, or stock is missing."""
        return bool(self.oversold_units or self.lost_orders or self.leaked_units or self.unanswered)


def check_consistency(
    orders: Sequence[BenchOrder],
    received: Mapping[str, int],
    responses: ResponseLog,
    in_store: set[str],
    left: Mapping[str, int],
) -> ConsistencyReport:
    """`received`, `left`: units by SKU, before and after; `in_store`: the ids of the orders held in the store."""
    held = {order_id for order_id, answer in responses.answers.items() if answer is ReserveOutcome.HELD}
    refused = sum(answer is ReserveOutcome.REFUSED for answer in responses.answers.values())
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
