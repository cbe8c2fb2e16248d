"""The usual load as a function of the seed: the scenario of the n-th order, the n-th movement and the n-th policy
change.

In: a seed and a number. Out: steps with the pauses between them. What depends on the state of the system (the location
of an order's units, the stock of a warehouse) is filled in when the step is sent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.oracle.history import InputTransport

CHANNELS = ("tmall", "jd", "pinduoduo", "own-shop")
WAREHOUSES = ("SH1", "BJ1", "GZ1")
PURPOSES = ("vip", "double-11")
FLASH = "flash"
SKUS = tuple(f"S{number:03}" for number in range(120))
# Half of all lines are of these: they sell out repeatedly.
HOT = SKUS[:6]
OPENING_UNITS = 30
# Holds end within seconds, so that a run includes their end and quiesces; or long after any run.
HOLD_SECONDS_SHORT = (1, 2, 3, 5)
HOLD_SECONDS_USUAL = 10
HOLD_SECONDS_LONG = 86_400
# How long a forced order waits for its approval.
APPROVAL_SECONDS = 5
# Units of a receipt: a little less than what is sold, so that stock is often empty.
RECEIVED_UNITS_MAX = 10
# Ids of announcements in each warehouse: so few that most events amend one.
ANNOUNCEMENTS = 12


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One event of a scenario, `pause_ms` after the one before.

    `repeats`: the transports by which the same event is sent again; `disconnects`: the client disconnects before the
    answer. `units` of a shipment or return: `all`, `some`, `rest`, filled in from the state of the order; `late_ms`:
    how long before sending it occurred.
    """

    kind: str
    event: Event
    door: InputTransport
    pause_ms: int = 0
    repeats: tuple[InputTransport, ...] = ()
    disconnects: bool = False
    units: str = ""
    late_ms: int = 0
    raw: bytes | None = None


@dataclass(slots=True)
class _ScenarioBuilder:
    """Builds the scenario of one order."""

    rng: random.Random
    order_id: str
    steps: list[ScenarioStep] = field(default_factory=list)

    def door(self) -> InputTransport:
        return self.rng.choices(("http", "kafka", "ndjson"), (38, 42, 20))[0]  # type: ignore[return-value]

    def add(self, kind: str, pause_ms: int, door: InputTransport | None = None, units: str = "", **more: Any) -> None:
        """Add a step; sometimes it is sent twice, or the client disconnects."""
        rng = self.rng
        door = door or self.door()
        if units and door == "http":
            door = "ndjson"
        repeats: tuple[InputTransport, ...] = ()
        if rng.random() < 0.12:
            repeats = (door if rng.random() < 0.5 or units else self.door(),)
        event: Event = {"order_id": self.order_id, **more}
        if kind == "order.placed" or {door, *repeats} != {"http"} or rng.random() < 0.6:
            event["id"] = f"{self.order_id}-{kind.partition('.')[2]}-{len(self.steps)}"
        disconnects = door == "http" and rng.random() < 0.03
        self.steps.append(ScenarioStep(kind, event, door, pause_ms, repeats, disconnects, units))

    def add_conflict(self) -> None:
        """Add the first step's id with another body."""
        placed = self.steps[0]
        lines = [{**line, "quantity": line["quantity"] + 1} for line in placed.event.get("lines", ())]
        if lines:
            self.steps.append(ScenarioStep(placed.kind, {**placed.event, "lines": lines}, self.door(), 200))


def order_scenario(seed: int, number: int) -> list[ScenarioStep]:
    """The scenario of order `o<number>`."""
    rng = random.Random(f"{seed}-order-{number}")
    builder = _ScenarioBuilder(rng, f"o{number}")
    outcome = rng.choices(list(_OUTCOMES), [weight for weight, _ in _OUTCOMES.values()])[0]
    body = _body(rng, number)
    body["hold_seconds"] = _hold_seconds(rng, outcome)
    _OUTCOMES[outcome][1](builder, body)
    if rng.random() < 0.03:
        builder.add_conflict()
    return builder.steps


def _body(rng: random.Random, number: int) -> Event:
    count = rng.choices((1, 2, 3, 6), (60, 25, 10, 5))[0]
    lines = [{"sku": _sku(rng), "quantity": rng.choices((1, 2, 5, 40), (70, 20, 9, 1))[0]} for _ in range(count)]
    body: Event = {"channel": rng.choice(CHANNELS), "lines": lines}
    if rng.random() < 0.06:
        body["priority"] = "vip"
    if (chance := rng.random()) < 0.2:
        body["accept"] = "partial" if chance < 0.15 else "sold"
    if rng.random() < 0.2:
        body["allow_preorder"] = False
    if rng.random() < 0.2:
        body["region"] = rng.choice(("310000", "100000", "510000"))
    if rng.random() < 0.08:
        body["purpose"] = rng.choice((*PURPOSES, FLASH))
    if number > 8 and rng.random() < 0.05:
        body["supersedes"] = f"o{number - rng.randint(1, 8)}"
    if rng.random() < 0.03:
        body["paid"] = True
    if rng.random() < 0.005:
        body["lines"] = [*lines, {"sku": "never-seen", "quantity": 1}]
    return body


def _sku(rng: random.Random) -> str:
    return rng.choice(HOT) if rng.random() < 0.4 else rng.choice(SKUS)


def _hold_seconds(rng: random.Random, outcome: str) -> int:
    if outcome in ("abandoned", "extended", "raced", "paid_late"):
        return rng.choice(HOLD_SECONDS_SHORT)
    return HOLD_SECONDS_LONG if rng.random() < 0.02 else HOLD_SECONDS_USUAL


def _paid(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)
    builder.add("order.paid", builder.rng.randint(20, 2_500))


def _paid_first(builder: _ScenarioBuilder, body: Event) -> None:
    door: InputTransport = builder.rng.choice(("kafka", "ndjson"))
    builder.add("order.paid", 0, door)
    builder.add("order.placed", builder.rng.randint(0, 1_500), **body)


def _paid_only(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.paid", 0)


def _cancelled(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)
    builder.add("order.cancelled", builder.rng.randint(20, 2_000))
    if builder.rng.random() < 0.2:
        builder.add("order.paid", builder.rng.randint(0, 500))


def _cancelled_in_part(builder: _ScenarioBuilder, body: Event) -> None:
    _paid(builder, body)
    line = {"sku": body["lines"][0]["sku"], "quantity": 1}
    for _ in range(2):
        builder.add("order.cancelled", builder.rng.randint(20, 2_000), lines=[line])


def _changed(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)
    line = {"sku": body["lines"][0]["sku"], "quantity": 1}
    paid_first = builder.rng.random() < 0.5
    if paid_first:
        builder.add("order.paid", builder.rng.randint(20, 1_500))
    other = {"sku": _sku(builder.rng), "quantity": builder.rng.randint(1, 3)}
    builder.add("order.changed", builder.rng.randint(20, 1_500), remove=[line], add=[other])
    if not paid_first:
        builder.add("order.paid", builder.rng.randint(20, 1_500))
    builder.add("order.shipped", builder.rng.randint(600, 2_000), units="all")


def _abandoned(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)


def _raced(builder: _ScenarioBuilder, body: Event) -> None:
    """Paid, cancelled or extended when the hold ends."""
    builder.add("order.placed", 0, **body)
    at_ms = max(0, body["hold_seconds"] * 1000 + builder.rng.randint(-150, 250))
    kind = builder.rng.choice(("order.paid", "order.paid", "order.cancelled", "order.extended"))
    more = {"hold_seconds": 2} if kind == "order.extended" else {}
    builder.add(kind, at_ms, **more)


def _paid_late(builder: _ScenarioBuilder, body: Event) -> None:
    """Paid about when the hold ends, or after others had time to take the units."""
    builder.add("order.placed", 0, **body)
    at_ms = body["hold_seconds"] * 1000 + builder.rng.choice((-100, 100, 1_000, 3_000))
    builder.add("order.paid", at_ms, if_expired="take_again")
    builder.add("order.shipped", builder.rng.randint(600, 2_000), units="all")


def _extended(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)
    builder.add("order.extended", builder.rng.randint(50, 900), hold_seconds=builder.rng.randint(2, HOLD_SECONDS_USUAL))
    if builder.rng.random() < 0.6:
        builder.add("order.paid", builder.rng.randint(50, 2_000))


def _paid_and_cancelled(builder: _ScenarioBuilder, body: Event) -> None:
    _paid(builder, body)
    builder.add("order.cancelled", builder.rng.randint(50, 2_000))


def _shipped(builder: _ScenarioBuilder, body: Event) -> None:
    _paid(builder, body)
    builder.add("order.shipped", builder.rng.randint(600, 3_000), units="all")


def _shipped_in_parts(builder: _ScenarioBuilder, body: Event) -> None:
    _paid(builder, body)
    builder.add("order.shipped", builder.rng.randint(600, 2_000), units="some")
    if builder.rng.random() < 0.3:
        builder.add("order.cancelled", builder.rng.randint(600, 2_000))
    else:
        builder.add("order.shipped", builder.rng.randint(600, 2_000), units="rest")


def _returned(builder: _ScenarioBuilder, body: Event) -> None:
    _shipped(builder, body)
    condition = builder.rng.choice(("sellable", "sellable", "damaged"))
    builder.add("order.returned", builder.rng.randint(600, 2_500), units="some", condition=condition)


def _shipped_unpaid(builder: _ScenarioBuilder, body: Event) -> None:
    builder.add("order.placed", 0, **body)
    builder.add("order.shipped", builder.rng.randint(600, 2_000), units="all")


def _forced(builder: _ScenarioBuilder, body: Event) -> None:
    """Requested by Kafka, and mostly approved, now and then about when the request ends."""
    rng = builder.rng
    if body.get("accept") == "sold":
        del body["accept"]
    forced = {"force": True, "reason": "for the press", "actor": "anna"}
    builder.add("order.placed", 0, rng.choice(("kafka", "ndjson")), **body, **forced)
    kind, more = ("order.approved", {}) if rng.random() < 0.9 else ("order.unapproved", {"reason": "no"})
    pause_ms = APPROVAL_SECONDS * 1000 + rng.randint(-300, 300) if rng.random() < 0.1 else rng.randint(300, 2_500)
    repeats: tuple[InputTransport, ...] = ("http",) if rng.random() < 0.2 else ()
    if rng.random() < 0.8:
        builder.steps.append(ScenarioStep(kind, {"order_id": builder.order_id, **more}, "http", pause_ms, repeats))
    builder.add("order.paid", rng.randint(50, 1_000), rng.choice(("kafka", "ndjson")))
    builder.add("order.shipped", rng.randint(600, 2_000), units="all")


# Weights, in percent.
_OUTCOMES = {
    "paid": (24, _paid),
    "paid_first": (4, _paid_first),
    "paid_only": (0.3, _paid_only),
    "cancelled": (11, _cancelled),
    "cancelled_in_part": (4, _cancelled_in_part),
    "changed": (4, _changed),
    "abandoned": (13, _abandoned),
    "raced": (6, _raced),
    "paid_late": (6, _paid_late),
    "extended": (7, _extended),
    "paid_and_cancelled": (5, _paid_and_cancelled),
    "shipped": (17, _shipped),
    "shipped_in_parts": (6, _shipped_in_parts),
    "returned": (6, _returned),
    "shipped_unpaid": (1, _shipped_unpaid),
    "forced": (4, _forced),
}


def opening_receipts() -> Iterator[ScenarioStep]:
    """The opening stock of each warehouse."""
    for warehouse in WAREHOUSES:
        lines = [{"sku": sku, "quantity": OPENING_UNITS} for sku in SKUS]
        event = {"id": f"{warehouse}-opening", "warehouse": warehouse, "lines": lines}
        yield ScenarioStep("stock.received", event, "kafka")


def movement_scenario(seed: int, number: int) -> list[ScenarioStep]:
    """The n-th movement; sometimes repeated by another transport."""
    rng = random.Random(f"{seed}-movement-{number}")
    warehouse = rng.choice(WAREHOUSES)
    kind = rng.choices(list(_MOVEMENTS), [weight for weight, _ in _MOVEMENTS.values()])[0]
    event: Event = {"id": f"m{number}", "warehouse": warehouse, **_MOVEMENTS[kind][1](rng, warehouse)}
    door: InputTransport = rng.choices(("kafka", "ndjson", "http"), (50, 30, 20))[0]  # type: ignore[assignment]
    late_ms = rng.randint(500, 30_000) if rng.random() < 0.15 else 0
    kind = "stock.adjusted" if kind in ("damages", "scrapped") else kind
    steps = [ScenarioStep(kind, event, door, late_ms=late_ms)]
    if rng.random() < 0.1:
        steps[0] = ScenarioStep(kind, event, door, late_ms=late_ms, repeats=(rng.choice(("kafka", "ndjson", "http")),))
    if rng.random() < 0.03:
        void = {"id": f"v{number}", "warehouse": warehouse, "movement_id": event["id"]}
        steps.append(ScenarioStep("stock.voided", void, door, rng.randint(100, 3_000)))
        if rng.random() < 0.3:
            steps.append(ScenarioStep("stock.voided", {**void, "id": f"w{number}"}, door, rng.randint(100, 1_000)))
    if rng.random() < 0.02 and event["lines"]:
        other = [{**line, "quantity": line["quantity"] + 1} for line in event["lines"]]
        steps.append(ScenarioStep(kind, {**event, "lines": other}, door, 400))
    return steps


def _lines(rng: random.Random, count: int, units_max: int) -> list[dict[str, Any]]:
    skus = {_sku(rng) for _ in range(count)}
    return [{"sku": sku, "quantity": rng.randint(1, units_max)} for sku in sorted(skus)]


def _received(rng: random.Random, warehouse: str) -> Event:
    announced = {"expected_id": _announcement(rng)} if rng.random() < 0.2 else {}
    return {"lines": _lines(rng, 4, RECEIVED_UNITS_MAX), **announced}


def _expected(rng: random.Random, warehouse: str) -> Event:
    """An announcement, mostly an amendment of one; some are late already, and some are withdrawn."""
    lines = [{**line, "quantity": rng.choice((0, line["quantity"]))} for line in _lines(rng, 4, RECEIVED_UNITS_MAX)]
    eta = rng.choice(("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"))
    return {"id": _announcement(rng), "eta": eta, "lines": lines}


def _announcement(rng: random.Random) -> str:
    return f"po-{rng.randint(0, ANNOUNCEMENTS - 1)}"


def _adjusted(rng: random.Random, warehouse: str) -> Event:
    lines = [{"sku": _sku(rng), "quantity": rng.choice((-4, -2, -1, 1, 2, 3))}]
    return {"reason": "correction", "lines": lines}


def _damages(rng: random.Random, warehouse: str) -> Event:
    return {"reason": "damages", "lines": [{"sku": _sku(rng), "quantity": -rng.randint(1, 3)}]}


def _scrapped(rng: random.Random, warehouse: str) -> Event:
    return {"reason": "scrapped", "lines": [{"sku": _sku(rng), "quantity": -rng.randint(1, 3)}]}


def _transferred(rng: random.Random, warehouse: str) -> Event:
    to = rng.choice([name for name in WAREHOUSES if name != warehouse])
    return {"to_warehouse": to, "lines": _lines(rng, 2, 8)}


def _reserved(rng: random.Random, warehouse: str) -> Event:
    purpose = rng.choice((*PURPOSES, FLASH))
    # Filled in when the step is sent; a pool for FLASH always ends.
    times = {"ends_in_ms": rng.randint(500, 6_000)} if purpose == FLASH else {}
    return {"purpose": purpose, "lines": _lines(rng, 2, 6), **times}


def _released(rng: random.Random, warehouse: str) -> Event:
    return {"purpose": rng.choice(PURPOSES), "lines": _lines(rng, 1, 4)}


def _counted(rng: random.Random, warehouse: str) -> Event:
    """The lines are differences from the stock; the quantity is filled in when the step is sent."""
    skus = sorted({_sku(rng) for _ in range(3)})
    return {"lines": [{"sku": sku, "quantity": rng.choice((0, 0, 0, 0, -1, 1, -3))} for sku in skus]}


_MOVEMENTS = {
    "stock.received": (72, _received),
    "stock.adjusted": (8, _adjusted),
    "damages": (4, _damages),
    "scrapped": (2, _scrapped),
    "stock.transferred": (6, _transferred),
    "stock.counted": (8, _counted),
    "stock.expected": (6, _expected),
    "stock.reserved": (4, _reserved),
    "stock.released": (4, _released),
}

_POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"buffer": 2},
    {"share": 0.7, "safety_threshold": 5, "resume_threshold": 12},
    {"safety_threshold": 10, "below_threshold": "suspend", "dwell_seconds": 1},
    {"safety_threshold": 8, "below_threshold": "preorder", "preorder_cap": 30, "slip_days_max": 30},
    {"max_listed": 20, "split": False},
    {"primary": True, "safety_threshold": 6, "below_threshold": "suspend"},
    {"warehouses": ["SH1", "BJ1"]},
    {"publish_interval_ms": 0},
    {"purposes": ["double-11"]},
    {"purposes": ["double-11", FLASH], "pool_only": True},
)
# Holds of this channel may move. Those of the others stay where they are, so that it is known what is held where.
_REROUTING_CHANNEL = CHANNELS[-1]


def policy_change(seed: int, number: int) -> ScenarioStep:
    """The n-th policy change, mostly of one SKU in one channel."""
    if number == 1:
        return ScenarioStep(
            "policy.put", {"channel": _REROUTING_CHANNEL, "sku": None, "policy": {"reroute": True}}, "http"
        )
    rng = random.Random(f"{seed}-policy-{number}")
    channel = rng.choice(CHANNELS)
    sku = None if rng.random() < 0.15 else _sku(rng)
    if rng.random() < 0.3:
        return ScenarioStep("policy.delete", {"channel": channel, "sku": sku}, "http")
    policy = rng.choice(_POLICIES)
    if channel == _REROUTING_CHANNEL:
        policy = policy | {"reroute": True}
    return ScenarioStep("policy.put", {"channel": channel, "sku": sku, "policy": policy}, "http")


def malformed_input(seed: int, number: int) -> ScenarioStep:
    """The n-th input that is no event."""
    rng = random.Random(f"{seed}-noise-{number}")
    raw = rng.choice(
        (
            b"{",
            b"\xff\xfe\x00",
            b'{"type":"order.teleported","id":"x"}',
            b'{"type":"order.placed","id":"n","occurred_at":"yesterday","order_id":"n","channel":"jd","lines":[]}',
            b'{"type":"stock.received","id":"n","occurred_at":"2026-11-24T00:00:00Z","warehouse":"SH1","lines":[{}]}',
            b"[" * 50_000,
            rng.randbytes(40).replace(b"\n", b" "),
        )
    )
    door: InputTransport = rng.choice(("kafka", "kafka", "ndjson", "http"))
    # A key of an order or a warehouse, so that the record is among its events.
    event = {"key": rng.choice((f"o{number}", *WAREHOUSES))}
    return ScenarioStep("bytes", event, door, raw=raw)
