"""The model's pools: units that are set aside for a purpose (rules 28 and 37)."""

from __future__ import annotations

from stocktide.tables.ledger.commands import Release, Reserve
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_state import ModelSku


def pool_name(purpose: str, warehouse: str) -> str:
    """The counter of a pool."""
    return f"reserved#{purpose}@{warehouse}"


def pool_refusal(sku: ModelSku | None, units: int, command: Reserve | Release) -> Outcome | None:
    """Rule 37, for one line."""
    if sku is None:
        return Outcome.UNKNOWN_SKU
    if isinstance(command, Release):
        return Outcome.MORE_THAN_RESERVED if units > sku.count(_pool_of(command)) else None
    return Outcome.MORE_THAN_AVAILABLE if units > sku.free(command.warehouse) else None


def set_aside(sku: ModelSku, units: int, command: Reserve | Release) -> None:
    """Move units between the shelf and a pool."""
    sku.add(_pool_of(command), units if isinstance(command, Reserve) else -units)


def _pool_of(command: Reserve | Release) -> str:
    return pool_name(command.purpose, command.warehouse)
