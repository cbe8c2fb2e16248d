"""A simulated shop that keeps every promise, with the history of its run.

In: events as the contract writes them, and the passing of time. Out: the records: requests, responses, the rows that
follow, the updates of subscribers, and the reads at rest. It decides by the model of the ledger; publication may lag,
repeat rows and conflate, like an at-least-once topic.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
from msgspec import convert, structs

from stocktide.loadtest.client import contract
from stocktide.loadtest.oracle import history
from stocktide.loadtest.oracle.dispatcher import OPERATOR_KINDS
from stocktide.streams.contract.documents import PublishedPolicy
from stocktide.streams.contract.events import AssignBody, HoldBackBody, OrderBody, decode_event
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.ledger import commands, make_commands
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome
from tests.ledger.model import advance
from tests.ledger.model_policy import current_offer
from tests.ledger.model_promises import settle_promises
from tests.ledger.model_state import ModelSku, ModelState
from tests.ledger.shop_client import OPENING_MS

_ANNOUNCED = (Outcome.EXPECTED, Outcome.AMENDED, Outcome.WITHDRAWN)
_BAD_PLACINGS = (Outcome.CONFLICT, Outcome.ALREADY_FINAL)
START_MS = 1_795_000_000_000
_TOPICS = {"order": "app-orders", "stock": "app-movements"}
_KINDS = {
    "Place": "order.placed",
    "Pay": "order.paid",
    "Cancel": "order.cancelled",
    "Change": "order.changed",
    "Extend": "order.extended",
    "HoldBack": "order.held_back",
    "Assign": "order.assigned",
    "Ship": "order.shipped",
    "TakeBack": "order.returned",
    "Receive": "stock.received",
    "Adjust": "stock.adjusted",
    "Count": "stock.counted",
    "Transfer": "stock.transferred",
    "Void": "stock.voided",
    "Expect": "stock.expected",
    "Reserve": "stock.reserved",
    "Release": "stock.released",
    "Approve": "order.approved",
    "Reject": "order.unapproved",
}


class SimulatedShop:
    """A correct run. `records` is its history so far."""

    def __init__(self) -> None:
        # What waits for approval has ended once the shop is quiet.
        self.state = ModelState(now=START_MS, approval_ms=10_000)
        self.records: list[history.HistoryRecord] = [history.RunStarted(START_MS, "app", 7)]
        self.batch = 0
        self._number = 0
        self._offset = 0
        self._versions: dict[str, int] = {}
        self._published_updates: dict[tuple[str, str], contract.ChannelUpdateView] = {}
        self._movements: dict[tuple[str, str], contract.MovementView] = {}
        self._subscribers: list[str] = []
        # Derived rows that are not published yet; only the newest one of a key, as in the product.
        self._rows: dict[tuple[str, str], Any] = {}
        self.publication_lags = False

    @property
    def now(self) -> int:
        """The time, ms since the epoch, of both the ledger and the recorder."""
        return self.state.now

    def add(self, record: history.HistoryRecord) -> history.HistoryRecord:
        self.records.append(record)
        return record

    def wait(self, ms: int) -> None:
        self.state.now += ms

    def subscribe(self, channel: str, name: str = "") -> None:
        """Add a subscriber with a snapshot; it receives all later updates."""
        name = name or f"{channel}-1"
        self._decide(commands.KnowChannel(channel=channel))
        self.add(history.Subscribed(self.now, name, channel, asked_at=self.now))
        for (of, _), update in self._published_updates.items():
            if of == channel:
                self.add(history.UpdateReceived(self.now, name, update))
        self.add(history.Synced(self.now, name))
        self._subscribers.append(name)

    # Doors

    def ask(self, kind: str, door: history.InputTransport = "http", **event: Any) -> int:
        """Record an event that is about to be sent; returns its number."""
        self._number += 1
        self.add(history.Request(self.now, self._number, door, kind, event))
        return self._number

    def send(
        self, kind: str, door: history.InputTransport = "http", silent: bool = False, lost: bool = False, **event: Any
    ) -> Any:
        """Record the request, decide, and record the response. `silent`: there is no response; `lost`: the request has
        no effect."""
        number = self.ask(kind, door, **event)
        result = None
        if not lost:
            if door == "http" and kind.startswith("order."):
                result = self._by_http(number, kind, event, silent)
            else:
                self._by_kafka(number, kind, door, event, silent)
        if silent:
            self.add(history.NoResponse(self.now, number, "hung up"))
        self.publish()
        return result

    def place(
        self, order_id: str, sku: str = "A", units: int = 1, door: history.InputTransport = "http", **more: Any
    ) -> Any:
        """Place an order of one line, for `tmall` unless said otherwise."""
        event = {"order_id": order_id, "channel": "tmall", "lines": [{"sku": sku, "quantity": units}], **more}
        if door != "http":
            event = {"id": f"{order_id}-placed", "occurred_at": rfc3339(self.now), **event}
        return self.send("order.placed", door, **event)

    def buy(self, order_id: str, units: int) -> None:
        """Place an order and pay for it."""
        assert self.place(order_id, units=units).status == 201
        assert self.event("paid", order_id).status == 200

    def event(self, what: str, order_id: str, door: history.InputTransport = "http", **more: Any) -> Any:
        """`paid`, `cancelled`, `extended`, `shipped` or `returned`."""
        event = {"id": f"{order_id}-{what}", "order_id": order_id, "occurred_at": rfc3339(self.now), **more}
        return self.send(f"order.{what}", door, **event)

    def move(self, what: str, id_: str, units: int, sku: str = "A", warehouse: str = "SH1", **more: Any) -> None:
        """`received`, `adjusted`, `counted` or `transferred`: one line, by Kafka."""
        event = {"id": id_, "warehouse": warehouse, "occurred_at": rfc3339(self.now), **more}
        self.send(f"stock.{what}", "kafka", lines=[{"sku": sku, "quantity": units}], **event)

    def policy(self, channel: str, sku: str | None = None, policy: dict[str, Any] | None = None) -> None:
        """Set a level; None removes it."""
        kind = "policy.delete" if policy is None else "policy.put"
        number = self.ask(kind, channel=channel, sku=sku, policy=policy)
        command = (
            commands.DeletePolicy(channel=channel, sku=sku)
            if policy is None
            else commands.SetPolicy(channel=channel, sku=sku, policy=policy)
        )
        outcome = self._decide(command).outcome
        if outcome in REFUSALS:
            self.add(history.Response(self.now, number, 404, outcome))
        else:
            row = PublishedPolicy(channel, sku, policy, self.batch)
            self._add_row("policy", f"{channel}/{sku}", history.PolicyPublished, row)
            self.add(history.Response(self.now, number, 204 if policy is None else 200))
        self.publish()

    def send_malformed(self) -> None:
        """Send bytes that are no event, by Kafka."""
        number = self.ask("bytes", "kafka")
        self._offset += 1
        self.add(history.Response(self.now, number, 202, topic="app-orders", partition=0, offset=self._offset))
        self._add_dead_letter("malformed_json", "app-orders", "{")

    def tick(self) -> None:
        self._decide(commands.Tick(orders_max=100))
        self.publish()

    def _by_http(self, number: int, kind: str, event: dict[str, Any], silent: bool) -> Any:
        if kind in ("order.approved", "order.unapproved"):
            return self._by_approval(number, kind, event, silent)
        body = {"id": f"http-{number}", "occurred_at": rfc3339(self.now), **event}
        if kind == "order.placed":
            body["id"] = event.get("id", commands.PLACED_ID_DEFAULT)
        answer = self._decide(_operator_command(kind, body) or _command(kind, body))
        order = self._visible_order(event["order_id"])
        if answer.outcome == Outcome.UNKNOWN_ORDER:
            response = history.Response(self.now, number, 404, "unknown_order")
        elif answer.outcome in REFUSALS:
            hides = kind == "order.placed" and (order is None or order.state != "rejected")
            hides = hides or (kind == "order.placed" and answer.outcome != self.state.orders[event["order_id"]].outcome)
            response = history.Response(
                self.now, number, 409, str(answer.outcome), answer.replayed, None if hides else order
            )
        elif answer.outcome == Outcome.PARKED:
            response = history.Response(self.now, number, 200 if answer.replayed else 202, None, answer.replayed)
        else:
            status = 201 if kind == "order.placed" and not answer.replayed else 200
            response = history.Response(self.now, number, status, None, answer.replayed, order)
        if not silent:
            self.add(response)
        return response

    def _by_approval(self, number: int, kind: str, event: dict[str, Any], silent: bool) -> Any:
        order_id, actor = event["order_id"], event["actor"]
        approval = commands.Approve(order_id=order_id, actor=actor)
        is_approval = kind == "order.approved"
        answer = self._decide(approval if is_approval else commands.Reject(order_id=order_id, actor=actor, reason="no"))
        order = self.state.orders.get(order_id)
        is_mine = order is not None and order.decided_by == actor and order.approval in ("approved", "refused")
        if answer.outcome == Outcome.UNKNOWN_ORDER:
            response = history.Response(self.now, number, 404, "unknown_approval")
        elif not is_approval or not is_mine:
            is_refused = answer.outcome in REFUSALS
            code = "same_actor" if answer.outcome == Outcome.CONFLICT else str(answer.outcome)
            status = 403 if code == "same_actor" else 409
            response = history.Response(self.now, number, status if is_refused else 200, code if is_refused else None)
        else:
            is_refused = answer.outcome in REFUSALS
            status, code = (409, str(answer.outcome)) if is_refused else (200, None)
            response = history.Response(self.now, number, status, code, answer.replayed, self._order(order_id))
        if not silent:
            self.add(response)
        return response

    def _by_kafka(
        self, number: int, kind: str, door: history.InputTransport, event: dict[str, Any], silent: bool
    ) -> None:
        topic = _TOPICS[kind.partition(".")[0]]
        self._offset += 1
        position = {"topic": topic, "partition": 0, "offset": self._offset} if door == "kafka" else {}
        if not silent:
            self.add(history.Response(self.now, number, 202, **position))
        raw = orjson.dumps({"type": kind, **event}).decode()
        origin = commands.Origin(topic, 0, self._offset, raw)
        before = {name: deepcopy(sku.counters) for name, sku in self.state.skus.items()}
        command = _command(kind, event, origin)
        known = (event.get("warehouse", ""), event["id"]) in self.state.movements
        answer = self._decide(command)
        is_announced = answer.outcome in _ANNOUNCED and not answer.replayed  # its row follows each amendment
        if kind.startswith("stock.") and (not known or is_announced):
            self._add_movement_row(command, before)
        # An order without stock or an event that is parked is no bad input.
        is_bad = answer.outcome in (REFUSALS if kind != "order.placed" else _BAD_PLACINGS)
        is_bad = is_bad or (kind == "stock.voided" and answer.outcome == Outcome.ALREADY_COUNTED)
        if is_bad:
            self._add_dead_letter(str(answer.outcome), topic, raw)

    def event_of(self, kind: str, fields: dict[str, Any], age_s: int) -> tuple[str, dict[str, Any]]:
        """A generated command of the ledger's tests as the event for it."""
        if kind in ("Approve", "Reject"):
            return _KINDS[kind], dict(fields)
        event = {"id": fields["id"], "occurred_at": rfc3339(self.now - 1000 * age_s)}
        order = ("order_id", "channel", "priority", "accept", "allow_preorder", "supersedes", "paid", "purpose")
        for name in (
            *order,
            "force",
            "actor",
            "sku",
            "held",
            "warehouse",
            "to_warehouse",
            "reason",
            "expected_id",
            "if_expired",
            "movement_id",
        ):
            if fields.get(name) is not None:
                event[name] = fields[name]
        if kind != "Place":
            event.pop("channel", None)  # the API adds it for the key of a channel only
        if "eta" in fields:
            event["eta"] = rfc3339(fields["eta"])
        for name, field in (("from", "from_at"), ("until", "until_at")):
            if fields.get(field) is not None:
                event[name] = rfc3339(fields[field] - OPENING_MS + START_MS)
        if "hold_ms" in fields:
            event["hold_seconds"] = fields["hold_ms"] // 1000
        if "lines" in fields:
            names = ("sku", "quantity", "warehouse", "condition")
            event["lines"] = [dict(zip(names, line, strict=False)) for line in fields["lines"]]
        for name in ("remove", "add"):
            if fields.get(name):
                event[name] = [{"sku": sku, "quantity": units} for sku, units in fields[name]]
        return _KINDS[kind], event

    # What follows

    def _decide(self, command: Any) -> Any:
        self.batch += 1
        orders = {order_id: repr(order) for order_id, order in self.state.orders.items()}
        skus = {name: self._visible_state(name) for name in self.state.skus}
        parked = {order_id: list(order.parked) for order_id, order in self.state.orders.items() if order.parked}
        known = self.state.orders.get(getattr(command, "order_id", ""))
        was_placed = known is not None and known.state != "parked"
        answer = advance(self.state, command, self.now)
        settle_promises(self.state)
        for order_id, order in self.state.orders.items():
            if order.state != "parked" and orders.get(order_id) != repr(order):
                self._add_row("order", order_id, history.OrderPublished, self._order(order_id, self.batch))
        if isinstance(command, commands.Place) and not was_placed:
            self._add_alerts(command.order_id)
        for order_id, events in parked.items():
            self._add_dead_letters_of_parked(order_id, events)
        for name in self.state.skus:
            if skus.get(name) != self._visible_state(name):
                self._versions[name] = self._versions.get(name, 0) + 1
                self._add_row("stock", name, history.StockPublished, self._stock(name, self.batch))
        return answer

    def _add_alerts(self, order_id: str) -> None:
        """Add the alerts about an order that was just placed."""
        for line in self.state.orders[order_id].lines if order_id in self.state.orders else ():
            if line.short:
                alert = contract.AlertView(
                    "sold_short", sku=line.sku, order_id=order_id, quantity=line.short, batch=self.batch
                )
                self._add_row("alert", f"{order_id}/{line.sku}", history.AlertPublished, alert)

    def _add_dead_letters_of_parked(self, order_id: str, events: list[Any]) -> None:
        """Add the dead letters of parked events that were rejected."""
        order = self.state.orders.get(order_id)
        still_parked = [parked.command.id for parked in order.parked] if order is not None else []
        for event in (parked.command for parked in events if parked.command.id not in still_parked):
            if order is None or event.id not in order.events:
                taken = order is not None and isinstance(event, commands.Pay) and order.state in ("paid", "shipped")
                cancelled = order is not None and isinstance(event, commands.Cancel) and order.state == "cancelled"
                if not taken and not cancelled:
                    self._add_dead_letter("unknown_order", event.origin.topic, event.origin.raw, event.origin.offset)

    def _visible_state(self, name: str) -> Any:
        sku = self.state.skus[name]
        offers = {channel: current_offer(self.state, channel, sku) for channel in self.state.channels}
        return deepcopy((sku.counters, sku.warehouses, sku.policies, offers))

    def _add_movement_row(self, command: Any, before: dict[str, dict[str, int]]) -> None:
        """Add the row of the movement that was just decided."""
        record = self.state.movements.get((command.warehouse, command.id))
        if record is None:
            return  # rejected for its time: there is no movement
        outcomes = dict(record.lines)
        lines = []
        for sku, units in record.units.items() if record.lines else ():
            before_counters, after_counters = before.get(sku, {}), self.state.skus.get(sku, ModelSku()).counters
            on_hand, damaged = f"on_hand@{command.warehouse}", f"damaged@{command.warehouse}"
            change = after_counters.get(on_hand, 0) - before_counters.get(on_hand, 0)
            damaged_change = after_counters.get(damaged, 0) - before_counters.get(damaged, 0)
            lines.append(
                contract.MovedLineView(
                    sku, units, str(outcomes[sku]), change, after_counters.get(on_hand, 0), damaged_change
                )
            )
        kind = _KINDS[type(command).__name__]
        times = (rfc3339(command.at), rfc3339(self.now))
        key = (command.warehouse, command.id)
        movement_id = getattr(command, "movement_id", None)
        movement = contract.MovementView(
            *key, kind, str(record.outcome), None, *times, tuple(lines), movement_id=movement_id
        )
        self._movements[key] = movement
        row = structs.replace(movement, batch=self.batch)
        self._add_row("movement", "/".join(key), history.MovementPublished, row)

    def _add_dead_letter(self, reason: str, topic: str, raw: str, offset: int | None = None) -> None:
        letter = contract.DeadLetterView(reason, "", topic, 0, self._offset if offset is None else offset, raw)
        self._add_row(
            "letter", f"{len(self.records)}-{len(self._rows)}-{letter.offset}", history.DeadLetterPublished, letter
        )

    def _add_row(self, kind: str, key: str, record: Any, value: Any) -> None:
        self._rows.pop((kind, key), None)
        self._rows[kind, key] = (record, value)

    def publish(self, held_back: bool = False) -> None:
        if self.publication_lags and not held_back:
            return
        rows, self._rows = self._rows, {}
        for record, value in rows.values():
            self._offset += 1
            self.add(record(self.now, 0, self._offset, value))
            if isinstance(value, contract.StockView):
                self._publish_updates(value)

    def _publish_updates(self, stock: contract.StockView) -> None:
        sku = self.state.skus[stock.sku]
        for channel in self.state.channels:
            mode, quantity, remaining = current_offer(self.state, channel, sku)
            update = contract.ChannelUpdateView(channel, stock.sku, quantity, mode, remaining, stock.version)
            previous = self._published_updates.get((channel, stock.sku))
            if previous is None or structs.replace(previous, version=update.version) != update:
                self._published_updates[channel, stock.sku] = update
                self._offset += 1
                self.add(history.ChannelUpdatePublished(self.now, 0, self._offset, update))
                for name in self._subscribers:
                    if name.rpartition("-")[0] == channel:
                        self.add(history.UpdateReceived(self.now, name, update))

    # What it says

    def _order(self, order_id: str, batch: int = 0) -> contract.OrderView | None:
        order = self.state.orders.get(order_id)
        if order is None or order.state == "parked":
            return None
        lines = tuple(
            contract.LineView(
                line.sku,
                line.quantity,
                line.state,
                line.reserved,
                line.preordered,
                line.shipped,
                line.returned,
                line.cancelled,
                dict(line.warehouses),
                None if line.reason is None else str(line.reason),
                line.short,
                line.sku in order.held_back and line.waiting > 0,
                None if line.promised_at is None else rfc3339(line.promised_at),
                None if line.first_promised_at is None else rfc3339(line.first_promised_at),
                line.slips,
            )
            for line in order.lines
        )
        expires_at = rfc3339(order.expires_at) if order.state == "reserved" and order.expires_at else None
        outcome = str(order.outcome) if batch else ""
        placed_at = rfc3339(order.placed_at)
        return contract.OrderView(
            order_id, order.channel, order.state, lines, order.sequence, placed_at, expires_at, batch, outcome
        )

    def _visible_order(self, order_id: str) -> contract.OrderView | None:
        """An order as HTTP shows it: not while it waits for approval."""
        order = self._order(order_id)
        return None if order is None or order.state == "awaiting_approval" else order

    def _stock(self, name: str, batch: int = 0) -> contract.StockView:
        sku = self.state.skus[name]
        shelves = {
            where: contract.WarehouseStockView(
                sku.count(f"on_hand@{where}"),
                sku.count(f"committed@{where}"),
                sku.count(f"locked@{where}"),
                sku.pooled(where),
                sku.free(where),
                sku.count(f"damaged@{where}"),
            )
            for where in sku.warehouses
        }
        sums = [
            sum(getattr(shelf, part) for shelf in shelves.values())
            for part in contract.WarehouseStockView.__struct_fields__
        ]
        available = sums[4] - sku.short()
        counted = (*sums[:4], available, sku.short(), sku.preordered(), sums[5])
        return contract.StockView(name, self._versions[name], *counted, shelves, batch)

    def quiesce(self) -> list[history.HistoryRecord]:
        """Quiesce, and read everything; returns the history."""
        self.publication_lags = False
        self.tick()
        self.wait(20_000)
        self.tick()
        self.add(history.RunQuiesced(self.now))
        for order_id in self.state.orders:
            self.add(history.ReadOrder(self.now, self.now, order_id, self._visible_order(order_id)))
        for name in self.state.skus:
            self.add(history.ReadStock(self.now, self.now, name, self._stock(name)))
        for channel in self.state.channels:
            items = tuple(
                contract.ChannelUpdateView(channel, name, quantity, mode, remaining, self._versions[name])
                for name, sku in self.state.skus.items()
                for mode, quantity, remaining in [current_offer(self.state, channel, sku)]
            )
            self.add(history.ReadChannel(self.now, self.now, channel, items))
            self.add(history.ReadPolicy(self.now, self.now, channel, None, self.state.channels[channel]))
        for (warehouse, id_), movement in self._movements.items():
            self.add(history.ReadMovement(self.now, self.now, warehouse, id_, movement))
        return self.records


def _command(kind: str, event: dict[str, Any], origin: commands.Origin | None = None) -> Any:
    decoded = decode_event(orjson.dumps({"type": kind, **event}))
    assert not hasattr(decoded, "code"), decoded
    assert not isinstance(decoded, OrderBody)
    return make_commands.make_command(decoded, origin)  # type: ignore[arg-type]


def _operator_command(kind: str, event: dict[str, Any]) -> Any:
    """The command of what an operator does; None for an event."""
    if kind not in OPERATOR_KINDS:
        return None
    body = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
    if kind == "order.held_back":
        return make_commands.make_hold_back(event["order_id"], convert(body, HoldBackBody), event["id"], "ann")
    return make_commands.make_assign(event["order_id"], convert(body, AssignBody), event["id"], "ann")
