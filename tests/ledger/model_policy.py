"""The model's policies: how levels merge, what a channel is offered, on which side of its threshold it is.

Rules 1 to 14, implemented from their text and not from the Lua.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from hashlib import sha1
from typing import NamedTuple

from tests.ledger.model_state import ModelSku, ModelState, ThresholdSide


@dataclass(frozen=True)
class EffectivePolicy:
    """A merged policy; the defaults are those of rule 1."""

    share: float = 1.0
    buffer: int = 0
    max_listed: int | None = None
    safety_threshold: int = 0
    resume_threshold: int | None = None
    below_threshold: str = "sell_through"
    preorder_cap: int = 0
    preorder_backed: bool = False
    dwell_seconds: float = 0
    primary: bool = False
    split: bool = True
    warehouses: tuple[str, ...] | None = None
    publish_interval_ms: int = 100
    purposes: tuple[str, ...] = ()
    pool_only: bool = False
    reroute: bool = False
    slip_days_max: int | None = None

    @property
    def below(self) -> str:
        """What happens below the threshold; a primary channel reads `suspend` as `sell_through` (rule 8)."""
        if self.primary and self.below_threshold == "suspend":
            return "sell_through"
        return self.below_threshold

    @property
    def resume(self) -> int:
        """The stock at which the channel returns to the shelf (rules 1 and 3)."""
        if self.resume_threshold is None or self.resume_threshold <= self.safety_threshold:
            return self.safety_threshold + 1
        return self.resume_threshold

    def keeps_selling(self, available: int) -> bool:
        """Whether the threshold leaves the channel on the shelf."""
        return self.below == "sell_through" or available > self.safety_threshold


class OfferState(NamedTuple):
    """What a channel may sell, as a channel update states it."""

    mode: str
    quantity: int
    preorder_remaining: int


def policy_digest(policy: Mapping[str, object] | None) -> str:
    """By which a caller says which policy of a level it has read."""
    if policy is None:
        text = "none"
    else:
        text = "policy\n" + "\n\n".join(sorted(f"{name}\n{_text_of(value)}" for name, value in policy.items()))
    return sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.17g}"
    return value if isinstance(value, str) else "\n".join(value)  # type: ignore[call-overload]


_FIELDS = frozenset(item.name for item in fields(EffectivePolicy))


def effective_policy(state: ModelState, channel: str, sku: ModelSku) -> EffectivePolicy:
    """Rule 2: built-in < channel < channel/sku, field by field; null inherits."""
    merged: dict[str, object] = {}
    for level in (state.channels.get(channel), sku.policies.get(channel)):
        merged |= {name: value for name, value in (level or {}).items() if name in _FIELDS and value is not None}
    return EffectivePolicy(**merged)  # type: ignore[arg-type]


def sources(sku: ModelSku, policy: EffectivePolicy) -> list[str]:
    """The warehouses that a channel sells from, in the SKU's order."""
    return [name for name in sku.warehouses if policy.warehouses is None or name in policy.warehouses]


def available(sku: ModelSku, policy: EffectivePolicy) -> int:
    """Rule 6: summed over the channel's warehouses, a negative one included; rule 49: short units are promised."""
    return sum(sku.free(name) for name in sources(sku, policy)) - sku.short()


def offered_quantity(sku: ModelSku, policy: EffectivePolicy) -> int:
    """Rules 6 and 1: what the channel may take from the shelf in one line."""
    if policy.pool_only:
        return 0
    if policy.split:
        base = available(sku, policy)
    else:
        base = min(available(sku, policy), max((sku.free(name) for name in sources(sku, policy)), default=0))
    amount = max(0, math.floor(Fraction(str(policy.share)) * (base - policy.buffer)))
    return amount if policy.max_listed is None else min(amount, policy.max_listed)


def pool_name(purpose: str, warehouse: str) -> str:
    """The counter of a pool."""
    return f"reserved#{purpose}@{warehouse}"


def in_pool(sku: ModelSku, purpose: str, warehouse: str) -> int:
    """Units of a pool that orders may draw: it is open."""
    times = sku.pool_times.get(f"{purpose}@{warehouse}")
    is_open = times is None or not (times.ended or times.begins)
    return sku.count(pool_name(purpose, warehouse)) if is_open else 0


def drawable(sku: ModelSku, policy: EffectivePolicy, purposes: Sequence[str]) -> dict[str, int]:
    """The units in pools that orders of a channel may draw, by warehouse, most first. What a count did not find cannot
    be drawn."""
    units = {
        where: min(sum(in_pool(sku, each, where) for each in purposes), sku.unheld(where))
        for where in sources(sku, policy)
    }
    # sorted() is stable: of two with as many, the one that appeared first.
    return {where: units[where] for where in sorted(units, key=lambda where: -units[where]) if units[where] > 0}


def remaining_preorders(sku: ModelSku, channel: str, policy: EffectivePolicy) -> int:
    """Rule 14, for a channel that is below its threshold and takes preorders."""
    left = policy.preorder_cap - sku.count(f"preordered@{channel}")
    over_all = sku.policies.get("*", {}).get("preorder_cap")
    if over_all is not None:
        left = min(left, over_all - sku.preordered())
    if policy.preorder_backed:
        left = min(left, sku.incoming() - sku.preordered())
    return max(0, left)


def evaluate(
    state: ModelState, sku: ModelSku, waived: str | None = None, channels: Iterable[str] | None = None
) -> None:
    """Put every known channel, or only `channels`, on its side. `waived`: the channel with a new policy."""
    if not sku.warehouses:
        return  # nothing has moved, so there is no side yet
    for channel in state.channels if channels is None else channels:
        policy = effective_policy(state, channel, sku)
        stock, offer = available(sku, policy), offered_quantity(sku, policy)
        side = sku.sides.get(channel)
        if side is None:
            sku.sides[channel] = ThresholdSide(below=not (policy.keeps_selling(stock) and offer > 0))
        elif not side.below:
            if offer == 0 or not policy.keeps_selling(stock):
                sku.sides[channel] = ThresholdSide(below=True, left_at=state.now)
        else:
            rested = waived == channel or state.now >= side.left_at + policy.dwell_seconds * 1000
            sells_through = policy.below == "sell_through" and stock <= policy.safety_threshold
            if (stock >= policy.resume or sells_through) and offer > 0 and rested:
                sku.sides[channel] = ThresholdSide(below=False)


def current_offer(state: ModelState, channel: str, sku: ModelSku) -> OfferState:
    """What the channel may sell of the SKU now: from the shelf, and from the pools of its policy (rule 28)."""
    policy, shelf = effective_policy(state, channel, sku), shelf_offer(state, channel, sku)
    places = drawable(sku, policy, policy.purposes)
    if not places:
        return shelf
    if policy.split:
        return OfferState("in_stock", shelf.quantity + sum(places.values()), 0)
    where, units = next(iter(places.items()))
    of_one = units + min(shelf.quantity, max(0, sku.free(where)))
    return OfferState("in_stock", max(of_one, shelf.quantity), 0)


def shelf_offer(state: ModelState, channel: str, sku: ModelSku) -> OfferState:
    """What the channel may sell from the shelf (rules 7, 8 and 14)."""
    policy = effective_policy(state, channel, sku)
    side = sku.sides.get(channel, ThresholdSide(below=True))
    if not side.below:
        return OfferState("in_stock", offered_quantity(sku, policy), 0)
    if policy.below == "suspend":
        return OfferState("suspended", 0, 0)
    if policy.below == "preorder" and (left := remaining_preorders(sku, channel, policy)):
        return OfferState("preorder", 0, left)
    return OfferState("sold_out", 0, 0)
