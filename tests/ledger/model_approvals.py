"""The model's forced orders, which wait for a second person (rule 58)."""

from __future__ import annotations

from msgspec import structs

from stocktide.tables.ledger.commands import Approve, Place, Reject
from stocktide.tables.ledger.outcomes import Outcome
from tests.ledger.model_orders import decide, new_order
from tests.ledger.model_state import ModelOrder, ModelState


def request(state: ModelState, command: Place) -> Outcome:
    """Nothing is held until a second person approves."""
    order = new_order(state, command)
    order.state = order.approval = "awaiting_approval"
    order.expires_at, order.outcome = state.now + state.approval_ms, Outcome.PARKED
    _set_lines(order, "awaiting_approval")
    state.orders[command.order_id] = order
    state.alerts.append(("approval_waiting", command.order_id))
    return Outcome.PARKED


def expire_if_due(state: ModelState, order_id: str, order: ModelOrder) -> bool:
    """The request ends unapproved by the ledger's time."""
    if order.state != "awaiting_approval" or order.expires_at is None or state.now < order.expires_at:
        return False
    _end(order, "expired", None)
    state.alerts.append(("approval_expired", order_id))
    return True


def approve(state: ModelState, order: ModelOrder, command: Approve | Reject) -> tuple[Outcome, bool]:
    """Decide a request that is not over. Events that waited for the order are the caller's to apply."""
    is_rejection, ends = isinstance(command, Reject), {"rejected"}
    if not is_rejection:
        ends = {"approved", "refused"}
        if command.actor == order.placing.actor:
            return Outcome.CONFLICT, False
    if order.approval != "awaiting_approval":
        if order.approval in ends and order.decided_by == command.actor:
            return (Outcome.CANCELLED if is_rejection else Outcome(order.outcome)), True
        return Outcome.ALREADY_FINAL, False
    if is_rejection:
        _end(order, "rejected", command.actor)
        return Outcome.CANCELLED, False
    order.state, order.placed_at, order.expires_at = "rejected", state.now, None
    order.sequence += 1
    _set_lines(order, "rejected")
    outcome = decide(state, order.placing, order)
    order.placing = structs.replace(order.placing, force=False)  # later additions are by the channel's rules
    order.approval, order.decided_by = ("refused" if order.state == "rejected" else "approved"), command.actor
    return outcome, False


def _end(order: ModelOrder, ending: str, actor: str | None) -> None:
    order.state, order.expires_at = "rejected", None
    order.sequence += 1
    order.approval, order.decided_by = ending, actor
    _set_lines(order, "rejected", "not_approved")


def _set_lines(order: ModelOrder, state: str, reason: str | None = None) -> None:
    for line in order.lines:
        line.state, line.reason = state, reason
