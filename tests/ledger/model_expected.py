"""The model's announced receipts (rules 5, 14 and 17)."""

from __future__ import annotations

from stocktide.tables.ledger.commands import Expect
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_queue import evaluate
from tests.ledger.model_state import FUTURE_MS_MAX, ModelAnnouncement, ModelMovement, ModelSku, ModelState


def expect(state: ModelState, command: Expect) -> tuple[Outcome, bool]:
    """Announce a receipt, or amend the announcement: the newest time wins, and its lines are replaced whole."""
    key = (command.warehouse, command.id)
    known, before = state.movements.get(key), state.announcements.get(key)
    if known is not None and (before is None or before.at == command.at):
        same = known.fingerprint == command.fingerprint
        return (Outcome(known.outcome), True) if same else (Outcome.CONFLICT, False)
    if before is not None and command.at < before.at:
        return Outcome.EXPECTED_SUPERSEDED, False
    if command.at > state.now + FUTURE_MS_MAX:
        return Outcome.OCCURRED_IN_FUTURE, False
    if _is_over_limit(state, command, before):
        if before is None:
            state.movements[key] = ModelMovement(command.fingerprint, Outcome.TOO_MANY_EXPECTED)
            state.announcements[key] = ModelAnnouncement(command.at, is_refused=True)
        return Outcome.TOO_MANY_EXPECTED, False
    is_amended = before is not None and not before.is_refused
    now = ModelAnnouncement(command.at, command.eta, dict(command.lines), is_amended=is_amended)
    if is_amended and before is not None:
        now.received = before.received
        now.eta = before.eta if command.eta is None else command.eta
        now.overdue = before.overdue and now.eta == before.eta
    now.eta = command.at if now.eta is None else now.eta
    state.announcements[key] = now
    for name in {**now.announced, **(before.announced if before else {})}:
        was = before.incoming(name) if before else 0
        units = now.incoming(name) - was
        is_moved = is_amended and was > 0 and before is not None and now.eta != before.eta
        _change(state, name, command.id, units, is_moved)
        if units < 0 and state.skus[name].preordered() > state.skus[name].incoming():
            state.alerts.append(("preorders_unbacked", name))
    outcome = Outcome.WITHDRAWN
    if any(now.announced.values()):
        outcome = Outcome.AMENDED if is_amended else Outcome.EXPECTED
    state.movements[key] = ModelMovement(command.fingerprint, outcome)
    return outcome, False


def _is_over_limit(state: ModelState, command: Expect, before: ModelAnnouncement | None) -> bool:
    for name, units in command.lines:
        was, received = (before.incoming(name), before.received.get(name, 0)) if before else (0, 0)
        others = sum(each.incoming(name) > 0 for each in state.announcements.values())
        if units > received and not was and others >= state.expected_per_sku_max:
            return True
    return False


def _change(state: ModelState, name: str, id_: str, units: int, is_moved: bool = False) -> None:
    """Change the units to come of a SKU; `is_moved`: the time of those that were to come changes."""
    if units or is_moved:
        sku = state.skus.setdefault(name, ModelSku())
        sku.add(f"incoming#{id_}", units)
        evaluate(state, name)


def is_announced(state: ModelState, warehouse: str, expected_id: str | None) -> bool:
    known = state.announcements.get((warehouse, expected_id or ""))
    return known is not None and not known.is_refused


def arrive(state: ModelState, name: str, units: int, warehouse: str, expected_id: str | None) -> None:
    """Units of a receipt that names an announcement, below 0 where it is voided; another id changes nothing."""
    known = state.announcements.get((warehouse, expected_id or ""))
    if known is None or not is_announced(state, warehouse, expected_id):
        return
    was = known.incoming(name)
    known.received[name] = max(0, known.received.get(name, 0) + units)
    if not known.received[name]:
        del known.received[name]  # voided: nothing came
    state.skus[name].add(f"incoming#{expected_id}", known.incoming(name) - was)


def report_overdue(state: ModelState) -> bool:
    """Alert once for each time of arrival that has passed; returns whether there was one."""
    found = False
    for known in state.announcements.values():
        due = [name for name in {**known.announced, **known.received} if known.incoming(name)]
        if due and not known.overdue and known.eta is not None and state.now >= known.eta:
            known.overdue = found = True
            state.alerts.append(("receipt_overdue", due[0] if len(due) == 1 else ""))
    return found
