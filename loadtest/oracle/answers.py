"""Promise 2, an answer stands: `answer_lost` and `answer_contradicted`.

In: observations of orders, responses, reads. Out: violations. A response shows an order at a sequence. It stands if
every later response shows that sequence or a newer one, and every response to that sequence shows the same content.
Only a GET may show an older batch, while two servers both act as the primary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stocktide.loadtest.oracle.dispatcher import OPERATOR_KINDS, Handlers, PendingRequest, sum_lines
from stocktide.loadtest.oracle.history import (
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
    Response,
    StockPublished,
)
from stocktide.loadtest.oracle.orders import APPROVED, PLACED_ID_DEFAULT, UNAPPROVED, OrderObservation, OrderTracker
from stocktide.loadtest.oracle.verdict import Checker

Level = tuple[str, str | None]
Fields = dict[str, Any] | None
# Extensions of an order; the next one is rejected (rule 42).
EXTENSIONS_MAX = 64

# The possible states in a response with 200 or 201. Other commands of the same step may have changed the state again.
_STATES_AFTER_ACCEPTANCE: Mapping[str, frozenset[str]] = {
    "order.placed": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    "order.paid": frozenset({"paid", "shipped", "cancelled"}),
    "order.cancelled": frozenset({"cancelled", "shipped"}),
    "order.extended": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    "order.changed": frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    APPROVED: frozenset({"reserved", "paid", "shipped", "cancelled", "expired"}),
    **dict.fromkeys(OPERATOR_KINDS, frozenset({"reserved", "paid", "shipped", "cancelled", "expired"})),
}
_STATES_AFTER_PARTIAL_CANCEL = frozenset({"reserved", "paid", "expired"})
# The possible states in a rejection with `already_final`.
_STATES_AFTER_ALREADY_FINAL: Mapping[str, frozenset[str]] = {
    "order.paid": frozenset({"cancelled", "expired", "rejected"}),
    "order.cancelled": frozenset({"shipped", "expired", "rejected"}),
    "order.extended": frozenset({"paid", "shipped", "cancelled", "expired", "rejected"}),
    "order.changed": frozenset({"shipped", "cancelled", "expired", "rejected"}),
    **dict.fromkeys(OPERATOR_KINDS, frozenset({"shipped", "cancelled", "expired", "rejected"})),
}


class AnswerContradicted(Checker):
    """Promise 2: two answers that cannot both be true.

    One sequence with two contents; an answer older than one that preceded its request; an outcome that does not match
    the state shown; a rejection after which the same order is accepted, or the reverse; a conflict without a different
    body, or a different body without a conflict (rules 19, 20, 22, 23, 25); a first promised date that is another one
    later, or slips that are fewer.
    """

    name = "answer_contradicted"
    promise = 2

    def __init__(self, tracker: OrderTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._published_skus: dict[str, int] = {}
        tracker.listeners.append(self._observe)

    def handlers(self) -> Handlers:
        return {StockPublished: self._on_stock_row}

    def _on_stock_row(self, row: StockPublished) -> None:
        self._published_skus.setdefault(row.stock.sku, row.at)

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Check a response by itself and against earlier responses."""
        if not request.event.order_id or not request.kind.startswith("order.") or request.door != "http":
            return
        self.looked["answers"] += 1
        order = response.order
        if response.status in (200, 201):
            self._check_accepted(request, response)
        elif response.status == 409:
            self._check_rejected(request, response)
        if order is not None and order.sequence < request.acknowledged_sequence:
            before = request.acknowledged_sequence
            what = f"was told at sequence {order.sequence}, although {before} had been told before it was asked"
            self._report(request, response, what)

    def _observe(self, observation: OrderObservation) -> None:
        self.looked["sights of orders"] += 1
        order, at = observation.order, observation.record.at
        if observation.previous_content is not None:
            before, now = observation.contents()
            what = f"order {order.order_id} was at sequence {order.sequence} “{before}”, and also “{now}”"
            self.found(what, at, order_id=order.order_id)
        elif observation.is_new and (contradiction := _find_contradiction(observation)):
            self.found(f"order {order.order_id}: {contradiction}", at, order_id=order.order_id)
        if (
            observation.source == "read"
            and self.quiesced_at is not None
            and order.sequence < observation.known.sequence
        ):
            what = (
                f"order {order.order_id} rests at sequence {order.sequence}, {order.state}, although it was seen at"
                f" {observation.known.sequence}, {observation.known.state}"
            )
            self.found(what, at, order_id=order.order_id)

    def _check_accepted(self, request: PendingRequest, response: Response) -> None:
        order, event = response.order, request.event
        if order is None and (request.kind == UNAPPROVED or event.force):
            return None  # it was answered with the request for approval
        if order is None:
            return self._report(request, response, f"was answered {response.status} without the order")
        states = _STATES_AFTER_ACCEPTANCE.get(request.kind, frozenset())
        if request.kind == "order.cancelled" and event.lines:
            states |= _STATES_AFTER_PARTIAL_CANCEL
        if order.state not in states:
            self._report(request, response, f"was answered {response.status}, and the order is {order.state}")
        if request.kind != "order.placed":
            return None
        lines = tuple((line.sku, line.quantity) for line in order.lines)
        is_same = lines == sum_lines(event.lines) or self._tracker.order(order.order_id).may_be_changed
        if order.channel != event.channel or not is_same:
            self._report(
                request, response, f"was answered {response.status} with another order: {order.channel}, {lines}"
            )
        accepted = self._tracker.order(order.order_id).accepted
        if accepted is not None and accepted != request.body:
            self._report(request, response, "was taken, although another body had been taken under that order_id")
        return None

    def _check_rejected(self, request: PendingRequest, response: Response) -> None:
        order, known = response.order, self._tracker.order(request.event.order_id)
        if response.code == "conflict":
            self._check_conflict(request, response)
        elif response.code == "already_final" and order is not None and request.kind in _STATES_AFTER_ALREADY_FINAL:
            if order.state not in _STATES_AFTER_ALREADY_FINAL[request.kind]:
                self._report(request, response, f"was refused as already_final, and the order is {order.state}")
        elif response.code == "too_many_events" and request.kind != "order.extended":
            self._report(request, response, "was refused as too_many_events, and only extensions may be")
        elif response.code == "too_many_events" and len(known.events) // 2 + known.events_without_id <= EXTENSIONS_MAX:
            self._report(request, response, "was refused as too_many_events, and fewer were ever asked")
        elif request.kind == "order.placed" and request.body == known.accepted:
            self._report(request, response, f"was refused as {response.code} after it had been taken")
        if request.kind == "order.placed" and order is not None and known.asked_at is not None:
            for line in order.lines:
                if line.reason == "unknown_sku" and self._published_skus.get(line.sku, request.at) < known.asked_at:
                    self._report(
                        request, response, f"says that {line.sku} is unknown, and it had been published before"
                    )

    def _check_conflict(self, request: PendingRequest, response: Response) -> None:
        event, known = request.event, self._tracker.order(request.event.order_id)
        if request.kind == APPROVED:
            return  # the order that it supersedes is of another channel
        if request.kind != "order.placed":
            if not known.has_other_body(event.id, request.body):
                self._report(request, response, "is called a conflict, and its id was asked for nothing else")
            return
        if request.body == known.accepted:
            self._report(request, response, "is called a conflict, and this very body had been taken")
        elif (
            known.bodies == (request.body,)
            and event.supersedes is None
            and not known.has_other_body(event.id or PLACED_ID_DEFAULT, request.body)
        ):
            self._report(request, response, "is called a conflict, and no other body was ever sent")

    def _report(self, request: PendingRequest, response: Response, what: str) -> None:
        order_id = request.event.order_id
        self.found(f"{request.kind} of {order_id} (request {request.number}) {what}", response.at, order_id=order_id)


class AnswerLost(Checker):
    """Promise 2: an answer is lost.

    At rest every order that a response or GET has shown exists at that sequence or a newer one, in GET and among the
    rows of `reservations`; no response says that a known order is unknown; a known SKU or movement stays known. The
    last policy that was set is in force.
    """

    name = "answer_lost"
    promise = 2

    def __init__(self, tracker: OrderTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._known_skus: set[str] = set()
        self._known_movements: set[tuple[str, str]] = set()
        # The sequence of each order at rest; 0 if it is unknown.
        self._final_sequences: dict[str, int] = {}
        self._policies = PolicyLevels()

    def handlers(self) -> Handlers:
        return {
            ReadOrder: self._on_read_order,
            ReadStock: self._on_read_stock,
            ReadMovement: self._on_read_movement,
            ReadPolicy: self._on_read_policy,
            StockPublished: lambda row: self._known_skus.add(row.stock.sku),
        }

    def on_no_response(self, request: PendingRequest) -> None:
        self._policies.on_no_response(request)

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """A known order is never unknown."""
        self._policies.on_response(request, response)
        is_of_order = request.kind.startswith("order.") and request.kind not in (APPROVED, UNAPPROVED)
        if response.status == 404 and request.acknowledged_sequence and is_of_order:
            order_id = request.event.order_id
            what = (
                f"{request.kind} of {order_id} (request {request.number})"
                f" was answered 404 after the order had been told"
            )
            self.found(what, response.at, order_id=order_id)

    def _on_read_order(self, read: ReadOrder) -> None:
        if self.quiesced_at is not None:
            self._final_sequences[read.order_id] = 0 if read.order is None else read.order.sequence

    def _on_read_policy(self, read: ReadPolicy) -> None:
        if self.quiesced_at is not None and (contradiction := self._policies.find_contradiction(read)):
            self.found(contradiction, read.at, channel=read.channel, sku=read.sku)

    def _on_read_stock(self, read: ReadStock) -> None:
        if read.stock is not None:
            self._known_skus.add(read.sku)
        elif self.quiesced_at is not None and read.sku in self._known_skus:
            self.found(f"SKU {read.sku} was published, and is unknown at the end", read.at, sku=read.sku)

    def _on_read_movement(self, read: ReadMovement) -> None:
        key = (read.warehouse, read.id)
        if read.movement is not None:
            self._known_movements.add(key)
        elif self.quiesced_at is not None and key in self._known_movements:
            what = f"movement {read.id} of {read.warehouse} was told, and is unknown at the end"
            self.found(what, read.at, warehouse=read.warehouse, id=read.id)

    def end(self) -> None:
        """Compare the responses with the state at rest."""
        if self.quiesced_at is None:
            return
        for known in self._tracker:
            if not known.acknowledged_sequence:
                continue
            order_id, final = known.order_id, self._final_sequences.get(known.order_id)
            if known.row_newest < known.acknowledged_sequence:
                what = (
                    f"order {order_id} was told at sequence {known.acknowledged_sequence}, and the topic reservations"
                    f" ends at {known.row_newest or 'none'}"
                )
                self.found(what, order_id=order_id)
            if final is None:
                self.remarks["told orders that nobody read at rest"] += 1
                continue
            self.looked["orders that were told"] += 1
            if final < known.acknowledged_sequence:
                where = f"rests at {final}" if final else "is unknown at the end"
                self.found(
                    f"order {order_id} was told at sequence {known.acknowledged_sequence}, and {where}",
                    order_id=order_id,
                )


def _find_contradiction(observation: OrderObservation) -> str | None:
    """What is wrong with an order at a new sequence."""
    partial = _find_partial_line(observation) if observation.order.state == "reserved" else None
    return partial or _find_forgotten_promise(observation)


def _find_partial_line(observation: OrderObservation) -> str | None:
    """What is wrong with the lines of a hold: each is held in full or not at all, less what was cancelled (rules 21,
    51)."""
    for line in observation.order.lines:
        held = line.reserved + line.preordered + line.short
        if held + line.cancelled not in (0, line.quantity):
            return f"a hold of {held} of the {line.quantity} {line.sku} that were asked"
        if sum(line.warehouses.values()) != line.reserved:
            return f"{line.reserved} {line.sku} are reserved, at the warehouses {line.warehouses}"
    return None


def _find_forgotten_promise(observation: OrderObservation) -> str | None:
    """What the sight before or after it says of a line's first promised date or its slips, and this one does not."""
    known, now = observation.known, {line.sku: line for line in observation.order.lines}
    if not any(line.first_promised_at for line in now.values()):
        return None
    for index, is_earlier in ((observation.index - 1, True), (observation.index + 1, False)):
        if not 0 <= index < len(known.sequences):
            continue
        other = known.content(known.sequences[index])
        for line in () if other is None else other.lines:
            first, second = (line, now.get(line.sku, line)) if is_earlier else (now.get(line.sku, line), line)
            if first.first_promised_at not in (None, second.first_promised_at):
                return f"{line.sku} was promised {first.first_promised_at} first, and then {second.first_promised_at}"
            if second.slips < first.slips:
                return f"{line.sku} had {first.slips} slips, and then {second.slips}"
    return None


class PolicyLevels:
    """All requested levels of policies. An acknowledged value is possible until a later request replaces it.

    A policy has no id: a request without a response may take effect at any later time.
    """

    def __init__(self) -> None:
        # (request time, response time, fields) of those that may be the newest; the fields of unanswered requests.
        self._acknowledged: dict[Level, list[tuple[int, int, Fields]]] = {}
        self._uncertain: dict[Level, list[Fields]] = {}

    def on_response(self, request: PendingRequest, response: Response) -> None:
        """Add a PUT or DELETE; 404 to a DELETE means that the level has none."""
        if not request.kind.startswith("policy."):
            return
        if response.status in (200, 201, 204) or (response.status == 404 and request.kind == "policy.delete"):
            level = (request.event.channel, request.event.sku)
            current = [other for other in self._acknowledged.get(level, ()) if other[1] >= request.at]
            self._acknowledged[level] = [*current, (request.at, response.at, _fields(request))]

    def on_no_response(self, request: PendingRequest) -> None:
        """Add a PUT or DELETE that may take effect at any time."""
        if request.kind.startswith("policy."):
            self._uncertain.setdefault((request.event.channel, request.event.sku), []).append(_fields(request))

    def find_contradiction(self, read: ReadPolicy) -> str | None:
        """Why the value read cannot be in force; None if it can."""
        level = (read.channel, read.sku)
        acknowledged = self._acknowledged.get(level)
        if not acknowledged or read.own in (
            allowed := [fields for _, _, fields in acknowledged] + self._uncertain.get(level, [])
        ):
            return None
        where = read.channel if read.sku is None else f"{read.channel}/{read.sku}"
        newest = allowed[-1] if allowed else None
        return f"the policy of {where} is {read.own} at the end, and was last told to be {newest}"


def _fields(request: PendingRequest) -> Fields:
    if request.kind == "policy.delete":
        return None
    return {name: value for name, value in (request.event.policy or {}).items() if value is not None}
