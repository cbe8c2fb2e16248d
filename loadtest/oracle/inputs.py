"""Promise 6, bad input gets a reason and stops nothing: `input_unaccounted`.

In: every event that Kafka acknowledged. Out: at rest, the events without an effect and without a dead letter.
"""

from __future__ import annotations

from typing import NamedTuple

from stocktide.loadtest.oracle.dispatcher import Handlers, PendingRequest, hash_body, parse_event, sum_lines
from stocktide.loadtest.oracle.history import DeadLetterPublished, Response
from stocktide.loadtest.oracle.movements import EXPECTED, VOIDED, MovementTracker
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderSnapshot, OrderTracker
from stocktide.loadtest.oracle.verdict import Checker

# How long an event that precedes its order is parked; the default of an installation.
PARK_MS = 86_400_000
# Then the expiry step runs, and the dead letter is published.
PARK_GRACE_MS = 15_000

# The hash of (order or warehouse, id, kind, body), which identifies an event.
_EventHash = int


class AcceptedInput(NamedTuple):
    """An event that Kafka acknowledged. `effect_hash`: the part of its body that an effect shows; `origin`: the hash of
    its topic, partition and offset."""

    kind: str
    key: str
    id: str
    event_hash: _EventHash
    effect_hash: int
    at: int
    origin: int | None


class InputUnaccounted(Checker):
    """Promise 6: an accepted event has no effect, no rejection and no dead letter; or a dead letter has no reason or
    origin.

    A repeated event is accounted for once.
    """

    name = "input_unaccounted"
    promise = 6

    def __init__(self, orders: OrderTracker, movements: MovementTracker, park_ms: int = PARK_MS) -> None:
        super().__init__()
        self._orders = orders
        self._movements = movements
        self._park_ms = park_ms
        self._accepted: dict[int, AcceptedInput] = {}
        self._origins: set[int] = set()
        self._dead_letters: set[_EventHash] = set()

    def handlers(self) -> Handlers:
        return {DeadLetterPublished: self._on_dead_letter}

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Add an event that Kafka acknowledged."""
        if response.status != 202 or request.kind.startswith("policy."):
            return
        self.looked["events taken"] += 1
        origin = None if response.topic is None else hash((response.topic, response.partition, response.offset))
        event = request.event
        if not event.id or not request.kind.startswith(("order.", "stock.")):
            key, id_, event_hash, effect_hash = "", "", hash(("bytes", request.number)), 0
        else:
            key, id_ = event.order_id or event.warehouse, event.id
            event_hash = hash((key, id_, request.kind, request.body))
            effect_hash = hash((event.channel or request.kind, sum_lines(event.lines)))
        self._accepted.setdefault(
            event_hash, AcceptedInput(request.kind, key, id_, event_hash, effect_hash, response.at, origin)
        )

    def _on_dead_letter(self, row: DeadLetterPublished) -> None:
        dead_letter = row.letter
        self.looked["dead letters"] += 1
        self._origins.add(hash((dead_letter.topic, dead_letter.partition, dead_letter.offset)))
        if not dead_letter.reason or not dead_letter.topic or dead_letter.offset < 0:
            self.found(f"a dead letter without its reason or its origin: {dead_letter}", row.at)
        sent = dead_letter.event()
        event = parse_event(sent)
        if event is None or not event.id:
            return
        kind, key = str(sent.get("type", "")), event.order_id or event.warehouse
        body = hash_body(kind, event)
        self._dead_letters.add(hash((key, event.id, kind, body)))
        for move in self._orders.order(key).moves or () if kind in (SHIPPED, RETURNED) else ():
            if (move.id, move.body) == (event.id, body):
                # A rejected event is not remembered: it may be accepted if it is sent again.
                move.certain = False

    def end(self) -> None:
        """Look for the result of each accepted event."""
        if self.quiesced_at is None:
            return
        for accepted in self._accepted.values():
            if accepted.event_hash in self._dead_letters or accepted.origin in self._origins:
                self.remarks["events in the dead letters"] += 1
                continue
            missing = self._find_missing(accepted)
            if missing:
                order_id = accepted.key if accepted.kind.startswith("order.") else None
                warehouse = None if order_id else accepted.key or None
                event = f"{accepted.kind} {accepted.id or 'of no id'} of {accepted.key or 'nobody'}"
                what = f"{event} was taken, and {missing}"
                self.found(what, accepted.at, order_id=order_id, warehouse=warehouse, id=accepted.id or None)

    def _find_missing(self, accepted: AcceptedInput) -> str | None:
        """What is missing for an event that is in no dead letter."""
        if not accepted.id:
            if accepted.origin is not None:
                return "it is no event, and in no dead letter"
            self.remarks["of no id, and Kafka did not say where it lies"] += 1
            return None
        if accepted.kind.startswith("stock."):
            return self._find_missing_movement(accepted)
        known = self._orders.orders.get(accepted.key)
        content = None if known is None else known.content()
        if known is not None and content is not None:
            missing = _find_missing_event(accepted, known, content)
            if missing is None or accepted.kind != RETURNED or not self._has_parked_return(known, content):
                return missing
            self.remarks["returns that may still wait for their shipment"] += 1
            return None
        if accepted.kind == "order.placed":
            return "there is no order, and no dead letter"
        if self._may_be_parked(accepted.at):
            self.remarks["events that may still wait for their order"] += 1
            return None
        return "no order came, and no dead letter"

    def _may_be_parked(self, since: int) -> bool:
        assert self.quiesced_at is not None
        return since > parked_since(self.quiesced_at, self._park_ms)

    def _has_parked_return(self, known: KnownOrder, content: OrderSnapshot) -> bool:
        """Whether a return of more units than were shipped may still be parked; the sum of returns is then unknown."""
        left = {line.sku: line.shipped - line.returned for line in content.lines}
        returns = [move for move in known.moves or () if move.kind == RETURNED and self._may_be_parked(move.at)]
        return any(line.quantity > left.get(line.sku, 0) for move in returns for line in move.lines)

    def _find_missing_movement(self, accepted: AcceptedInput) -> str | None:
        movement = self._movements.movements.get((accepted.key, accepted.id))
        if movement is None or movement.content is None:
            return "there is no row of adjustments, and no dead letter"
        if accepted.kind == movement.kind == EXPECTED:
            return None  # its row shows the newest amendment alone
        if not movement.lines:
            return f"the movement was {movement.outcome}, and there is no dead letter"
        if movement.kind == VOIDED:
            return None  # its lines are those of the movement that it voids
        if hash((movement.kind, tuple((line.sku, line.quantity) for line in movement.lines))) != accepted.effect_hash:
            return "another body has that id, and there is no dead letter"
        return None


def parked_since(quiesced_at: int, park_ms: int) -> int:
    """An event that came later may still be parked at rest (ms since the epoch)."""
    return quiesced_at - park_ms - PARK_GRACE_MS


def _find_missing_event(accepted: AcceptedInput, known: KnownOrder, content: OrderSnapshot) -> str | None:
    kind, state = accepted.kind, content.state
    if kind == "order.placed":
        lines = tuple((line.sku, line.quantity) for line in content.lines)
        if not known.may_be_changed and hash((content.channel, lines)) != accepted.effect_hash:
            return "another body has that order_id, and there is no dead letter"
        return None
    if kind == "order.paid":
        # Payment and cancellation are two changes after the placement, which may be the payment too.
        changes = known.sequence + known.placed_paid
        done = state in ("paid", "shipped") or (state == "cancelled" and changes > 2)
    elif kind == "order.cancelled" and accepted.effect_hash != hash((kind, ())):
        done = any(line.cancelled for line in content.lines)
    elif kind == "order.cancelled":
        done = state == "cancelled" or (state == "shipped" and any(line.state == "cancelled" for line in content.lines))
    elif kind in (SHIPPED, RETURNED):
        moved = {line.sku: line.shipped if kind == SHIPPED else line.returned for line in content.lines}
        done = all(
            moved.get(line.sku, 0) >= known.requested_units(kind, line.sku)[0]
            for move in known.moves or ()
            if move.kind == kind and move.id == accepted.id
            for line in move.lines
        )
    else:
        # Whether an extension moved the deadline depends on its time; later states do not show it.
        done = state != "rejected"
    return None if done else f"the order is {state} at sequence {known.sequence}, and there is no dead letter"
