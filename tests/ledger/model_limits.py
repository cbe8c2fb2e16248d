"""The model's limits of unpaid units (rule 21a): counted anew from all orders, as often as they are asked for."""

from __future__ import annotations

import math
from typing import TypeVar

from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_state import ModelOrder, ModelState

_T = TypeVar("_T")
LIMITS = ("held_units_max", "buyer_units_max")


def limits_of(state: ModelState, channel: str) -> dict[str, int]:
    """The limits that a channel has."""
    level = state.channels.get(channel) or {}
    return {name: level[name] for name in LIMITS if level.get(name) is not None}


def held_room(state: ModelState, order: ModelOrder, limits: dict[str, int]) -> float:
    """The unpaid units that an order may hold more."""
    rooms = [math.inf]
    if "held_units_max" in limits:
        rooms.append(limits["held_units_max"] - unpaid_units(state, order.channel))
    if "buyer_units_max" in limits and order.buyer is not None:
        rooms.append(limits["buyer_units_max"] - unpaid_units(state, order.channel, order.buyer))
    return min(rooms)


def unpaid_units(state: ModelState, channel: str, buyer: str | None = None) -> int:
    """The unpaid units of a channel, or of one of its buyers, that count."""
    counted = (each for each in state.orders.values() if each.bounded and each.state == "reserved")
    lines = (line for each in counted if each.channel == channel and buyer in (None, each.buyer) for line in each.lines)
    return sum(line.outstanding for line in lines)


def within(room: float, found: list[_T | Outcome], units: list[int]) -> list[_T | Outcome]:
    """Refuse the lines for which there is no room, in their order."""
    decided: list[_T | Outcome] = []
    for each, wanted in zip(found, units, strict=True):
        if isinstance(each, Outcome):
            decided.append(each)
        elif wanted > room:
            decided.append(Outcome.TOO_MANY_HELD)
        else:
            room -= wanted
            decided.append(each)
    return decided
