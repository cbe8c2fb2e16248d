"""The model's counts in parts and complete counts (rule 41).

The ledger applies such a count in steps; the model applies it whole after the batch that brought its last part.
"""

from __future__ import annotations

from stocktide.tables.ledger.commands import Count
from stocktide.tables.ledger.make_commands import fingerprint
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_movements import apply_line, count_refusal
from tests.ledger.model_promises import settle_promises
from tests.ledger.model_state import COUNT_MS_MAX, FUTURE_MS_MAX, ModelMovement, ModelState

WHOLE = "parts"


def take_part(state: ModelState, part: Count) -> tuple[Outcome, bool]:
    key = (part.warehouse, part.id)
    known, parts = state.movements.get(key), state.parts.get(key, {})
    if known is not None:
        first = next(iter(parts.values()), None)
        same = first is not None and _common(first) == _common(part)
        if not same or (part.part in parts and parts[part.part].fingerprint != part.fingerprint):
            return Outcome.CONFLICT, False
        if part.part in parts or known.outcome != Outcome.PARTS_MISSING:
            return Outcome(known.outcome), part.part in parts
    if part.at > state.now + FUTURE_MS_MAX:
        return Outcome.OCCURRED_IN_FUTURE, False
    if part.at < state.now - COUNT_MS_MAX:
        return Outcome.COUNT_TOO_OLD, False
    listed = {sku for other in parts.values() for sku, _ in other.lines}
    if listed & {sku for sku, _ in part.lines}:
        return Outcome.CONFLICT, False
    parts = state.parts.setdefault(key, parts)
    parts[part.part] = part
    outcome = Outcome.COUNTING if len(parts) == part.parts else Outcome.PARTS_MISSING
    state.movements[key] = ModelMovement(WHOLE, outcome)
    return outcome, False


def _common(part: Count) -> str:
    return fingerprint(part.at, part.parts, part.complete)


def finish_counts(state: ModelState) -> None:
    """Do what all the steps after a batch do."""
    for key, parts in state.parts.items():
        movement = state.movements[key]
        whole = next(iter(parts.values()))
        if movement.outcome == Outcome.PARTS_MISSING and state.now >= whole.at + COUNT_MS_MAX:
            movement.outcome = Outcome.COUNT_TOO_OLD
            state.refused += [Outcome.PARTS_MISSING for part in parts.values() if part.origin is not None]
        elif movement.outcome == Outcome.COUNTING:
            movement.outcome = _apply_whole(state, whole, parts)


def _apply_whole(state: ModelState, whole: Count, parts: dict[int, Count]) -> str:
    outcomes = [_apply_part(state, parts[number]) for number in sorted(parts)]
    applied = [outcome for lines in outcomes for outcome in lines]
    if whole.complete:
        for name, sku in state.skus.items():
            history = sku.history.get(whole.warehouse)
            counted_at = None if history is None else history.counted_at
            since = sum(change for at, change in history.moves if at > whole.at) if history else 0
            if whole.warehouse not in sku.warehouses or (counted_at is not None and counted_at >= whole.at):
                continue
            if sku.count(f"on_hand@{whole.warehouse}") != since:
                applied.append(apply_line(state, name, 0, whole))
                settle_promises(state)
    if set(applied) == {Outcome.COUNTED}:
        return Outcome.COUNTED
    return Outcome.COUNTED_IN_PART if Outcome.COUNTED in applied else applied[0]


def _apply_part(state: ModelState, part: Count) -> list[Outcome]:
    """Apply the lines of a part. None is too old: that was decided when the part arrived."""
    outcomes = []
    for name, units in part.lines:
        refusal = count_refusal(state, name, part)
        superseded = refusal == Outcome.COUNT_SUPERSEDED
        outcomes.append(Outcome.COUNT_SUPERSEDED if superseded else apply_line(state, name, units, part))
        settle_promises(state)
    return outcomes
