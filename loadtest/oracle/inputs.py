"""Promise 6, bad input gets a reason and stops nothing: `input_unaccounted`.

In: every event that Kafka took, and at rest what became of it: an effect, or a dead letter with its origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from stocktide.loadtest.oracle.dispatcher import PendingRequest, hash_body, parse_event, sum_lines
from stocktide.loadtest.oracle.history import DeadLetterPublished, Response, RunQuiesced
from stocktide.loadtest.oracle.movements import MovementTracker
from stocktide.loadtest.oracle.orders import RETURNED, SHIPPED, KnownOrder, OrderSnapshot, OrderTracker
from stocktide.loadtest.oracle.verdict import Checker

# An event that comes before what it needs waits for it so long; the installation's default.
PARK_MS = 86_400_000
# After that the expiry step has a turn, and the letter is published.
PARK_GRACE_MS = 15_000

# (order or warehouse, id, kind, body): what tells one event from another, as a hash.
_Name = int


class AcceptedInput(NamedTuple):
    """An event that Kafka took. `shape`: what of its body an effect shows, as a hash; `origin`: where it lies."""

    kind: str
    key: str
    id: str
    name: _Name
    shape: int
    at: int
    origin: int | None


class InputUnaccounted(Checker):
    """Promise 6: an event that was taken, and nothing came of it: no effect, no refusal, no dead letter.

    Also a dead letter without a reason. A repeat is accounted for by the first of its kind.
    """

    name = "input_unaccounted"
    promise = "Every event that was taken has an outcome, or lies in the dead letters with its reason and origin."

    def __init__(self, orders: OrderTracker, movements: MovementTracker, park_ms: int = PARK_MS) -> None:
        super().__init__()
        self._orders = orders
        self._movements = movements
        self._park_ms = park_ms
        self._rested_at: int | None = None
        self._taken: dict[int, AcceptedInput] = {}
        self._origins: set[int] = set()
        self._letters: set[_Name] = set()

    def hears(self) -> Mapping[type, Callable[[Any], None]]:
        """Dead letters."""
        return {DeadLetterPublished: self._letter, RunQuiesced: lambda rested: setattr(self, "_rested_at", rested.at)}

    def told(self, ask: PendingRequest, told: Response) -> None:
        """Kafka took an event."""
        if told.status != 202 or ask.kind.startswith("policy."):
            return
        self.looked["events taken"] += 1
        origin = None if told.topic is None else hash((told.topic, told.partition, told.offset))
        event = ask.event
        if event is None or not event.id or not ask.kind.startswith(("order.", "stock.")):
            key, id_, name, shape = "", "", hash(("bytes", ask.number)), 0
        else:
            key, id_ = event.order_id or event.warehouse, event.id
            name = hash((key, id_, ask.kind, ask.body))
            shape = hash((event.channel or ask.kind, sum_lines(event.lines)))
        self._taken.setdefault(name, AcceptedInput(ask.kind, key, id_, name, shape, told.at, origin))

    def _letter(self, row: DeadLetterPublished) -> None:
        letter = row.letter
        self.looked["dead letters"] += 1
        self._origins.add(hash((letter.topic, letter.partition, letter.offset)))
        if not letter.reason or not letter.topic or letter.offset < 0:
            self.found(f"a dead letter without its reason or its origin: {letter}", row.at)
        sent = parse_raw_event(letter.raw)
        event = parse_event(sent) if sent else None
        if event is None or not event.id:
            return
        kind, key = str(sent.get("type", "")), event.order_id or event.warehouse
        body = hash_body(kind, event)
        self._letters.add(hash((key, event.id, kind, body)))
        for move in self._orders.order(key).moves or () if kind in (SHIPPED, RETURNED) else ():
            if (move.id, move.body) == (event.id, body):
                # Once refused, it may still be taken where it comes again: refused events are not remembered.
                move.sure = False

    def end(self) -> None:
        """Look for what became of each."""
        if self._rested_at is None:
            return
        for taken in self._taken.values():
            if taken.name in self._letters or taken.origin in self._origins:
                self.remarks["events in the dead letters"] += 1
                continue
            missing = self._missing(taken)
            if missing:
                order_id = taken.key if taken.kind.startswith("order.") else None
                warehouse = None if order_id else taken.key or None
                what = f"{taken.kind} {taken.id or 'of no id'} of {taken.key or 'nobody'} was taken, and {missing}"
                self.found(what, taken.at, order_id=order_id, warehouse=warehouse, id=taken.id or None)

    def _missing(self, taken: AcceptedInput) -> str | None:
        """What is missing of an event that is in no dead letter."""
        if not taken.id:
            if taken.origin is not None:
                return "it is no event, and in no dead letter"
            self.remarks["of no id, and Kafka did not say where it lies"] += 1
            return None
        if taken.kind.startswith("stock."):
            return self._missing_movement(taken)
        known = self._orders.orders.get(taken.key)
        content = None if known is None else known.content()
        if known is not None and content is not None:
            missing = _missing_event(taken, known, content)
            if missing is None or taken.kind != RETURNED or not self._a_return_waits(known, content):
                return missing
            self.remarks["returns that may still wait for their shipment"] += 1
            return None
        if taken.kind == "order.placed":
            return "there is no order, and no dead letter"
        if self._may_wait(taken.at):
            self.remarks["events that may still wait for their order"] += 1
            return None
        return "no order came, and no dead letter"

    def _may_wait(self, since: int) -> bool:
        assert self._rested_at is not None
        return since + self._park_ms + PARK_GRACE_MS > self._rested_at

    def _a_return_waits(self, known: KnownOrder, content: OrderSnapshot) -> bool:
        """Whether a return of the order, of more than was shipped by now, may still wait: the sum is not known then."""
        left = {line.sku: line.shipped - line.returned for line in content.lines}
        returns = [move for move in known.moves or () if move.kind == RETURNED and self._may_wait(move.at)]
        return any(line.quantity > left.get(line.sku, 0) for move in returns for line in move.lines)

    def _missing_movement(self, taken: AcceptedInput) -> str | None:
        movement = self._movements.movements.get((taken.key, taken.id))
        if movement is None or movement.content is None:
            return "there is no row of adjustments, and no dead letter"
        if not movement.lines:
            return f"the movement was {movement.outcome}, and there is no dead letter"
        if hash((movement.kind, tuple((line.sku, line.quantity) for line in movement.lines))) != taken.shape:
            return "another body has that id, and there is no dead letter"
        return None


def _missing_event(taken: AcceptedInput, known: KnownOrder, content: OrderSnapshot) -> str | None:
    kind, state = taken.kind, content.state
    if kind == "order.placed":
        lines = tuple((line.sku, line.quantity) for line in content.lines)
        if hash((content.channel, lines)) != taken.shape:
            return "another body has that order_id, and there is no dead letter"
        return None
    if kind == "order.paid":
        # Paid and then cancelled are two changes after the placing; a cancelled order that had one was never paid.
        done = state in ("paid", "shipped") or (state == "cancelled" and known.sequence > 2)
    elif kind == "order.cancelled":
        done = state == "cancelled" or (state == "shipped" and any(line.state == "cancelled" for line in content.lines))
    elif kind in (SHIPPED, RETURNED):
        moved = {line.sku: line.shipped if kind == SHIPPED else line.returned for line in content.lines}
        done = all(
            moved.get(line.sku, 0) >= known.moved(kind, line.sku)[0]
            for move in known.moves or ()
            if move.kind == kind and move.id == taken.id
            for line in move.lines
        )
    else:
        # Whether an extension moved the deadline depends on when it came; a state in which it must be refused may
        # have come later.
        done = state != "rejected"
    return None if done else f"the order is {state} at sequence {known.sequence}, and there is no dead letter"


def parse_raw_event(raw: str | None) -> dict[str, Any]:
    """The object that a dead letter's text is; empty where it is none."""
    try:
        sent = msgspec.json.decode(raw or "")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return sent if isinstance(sent, dict) else {}
