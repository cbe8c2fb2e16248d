"""The model's voided movements (rule 54)."""

from __future__ import annotations

from stocktide.tables.ledger.commands import Void
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_expected import arrive
from tests.ledger.model_movements import change_on_hand, finish_change, free_units, known_answer
from tests.ledger.model_state import CountHistory, ModelMovement, ModelSku, ModelState

_VOIDABLE = {Outcome.RECEIVED, Outcome.ADJUSTED, Outcome.TRANSFERRED, Outcome.ALREADY_COUNTED}


def void(state: ModelState, command: Void) -> tuple[Outcome, bool]:
    """Reverse a movement by its effects, all of its lines or none."""
    known = known_answer(state, command)
    if known is not None:
        return known
    target = state.movements.get((command.warehouse, command.movement_id))
    refusal = _refusal(state, target)
    record = ModelMovement(command.fingerprint, refusal or Outcome.VOIDED, kind="Void")
    state.movements[command.warehouse, command.id] = record
    if refusal is not None or target is None:
        if refusal == Outcome.ALREADY_COUNTED and command.origin is not None:
            state.refused.append(refusal)  # here it is a refusal, for other movements an outcome
        return record.outcome, False  # type: ignore[return-value]
    target.voided = True
    record.units = target.units
    for name, was in target.lines:
        record.lines.append((name, Outcome.ALREADY_COUNTED if was == Outcome.ALREADY_COUNTED else Outcome.VOIDED))
        if target.effects[name] or target.expected_id:
            if target.effects[name]:
                record.lines[-1] = (name, Outcome.VOIDED)
            _reverse(state, name, target, command.warehouse)
    return Outcome.VOIDED, False


def _refusal(state: ModelState, target: ModelMovement | None) -> Outcome | None:
    if target is None:
        return Outcome.UNKNOWN_MOVEMENT
    if target.kind not in {"Receive", "Adjust", "Transfer"} or target.outcome not in _VOIDABLE:
        return Outcome.NOT_VOIDABLE
    if target.voided:
        return Outcome.ALREADY_VOIDED
    if target.outcome == Outcome.ALREADY_COUNTED and not any(target.effects.values()):
        return Outcome.ALREADY_COUNTED
    for name, _ in target.lines:
        sku = state.skus.get(name, ModelSku())
        for counter in target.effects[name]:
            what, _, warehouse = counter.partition("@")
            counted_at = sku.history.get(warehouse, CountHistory()).counted_at
            if what == "on_hand" and counted_at is not None and counted_at >= target.at:
                return Outcome.ALREADY_COUNTED
        for counter, change in target.effects[name].items():
            if counter.startswith("damaged@") and target.reason == "damages" and change > max(0, sku.count(counter)):
                return Outcome.MORE_THAN_DAMAGED
    return None


def _reverse(state: ModelState, name: str, target: ModelMovement, warehouse: str) -> None:
    sku = state.skus.setdefault(name, ModelSku())
    before = free_units(sku)
    for counter, change in target.effects[name].items():
        what, _, place = counter.partition("@")
        if what == "on_hand":
            change_on_hand(state, name, place, -change, target.at)
        else:
            sku.add(counter, -change)
    if target.expected_id:
        arrive(state, name, -target.units[name], warehouse, target.expected_id)
    finish_change(state, name, before)
