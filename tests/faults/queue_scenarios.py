"""Orders that wait for units, as a function of the seed, on SKUs of their own of which there is never enough: preorders
and orders that are sold already, paid, cancelled or abandoned, some held back or given units by an operator, with a
small receipt behind each.

In: a seed, a number. Out: steps, as in `scenarios`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.oracle.history import InputTransport
from tests.faults.scenarios import CHANNELS, HOLD_SECONDS_LONG, ScenarioStep

QUEUED_SKUS = tuple(f"Q{number}" for number in range(4))
# Less than what the orders ask for, so that some always wait.
RECEIVED_UNITS = (1, 2, 2, 3)
ORDERED_UNITS = (1, 2, 3, 6)
HOLD_SECONDS_SHORT = 3
_POLICY = {"below_threshold": "preorder", "preorder_cap": 10_000}
# Of one SKU, orders that can be filled whole go first.
_POLICIES = [(channel, sku, _POLICY) for channel in CHANNELS for sku in QUEUED_SKUS]
_POLICIES.append(("*", QUEUED_SKUS[-1], {"fill": "complete_first"}))


def queue_opening_receipts() -> Iterator[ScenarioStep]:
    """The opening stock of these SKUs."""
    lines = [{"sku": sku, "quantity": 2} for sku in QUEUED_SKUS]
    yield ScenarioStep("stock.received", {"id": "queue-opening", "warehouse": "SH1", "lines": lines}, "kafka")


def queue_scenario(seed: int, number: int) -> list[ScenarioStep]:
    """An order, what becomes of it, and a receipt; the first ones let a channel take preorders of a SKU."""
    rng = random.Random(f"{seed}-queue-{number}")
    order_id, sku = f"q{number}", rng.choice(QUEUED_SKUS)
    end = rng.choices(("paid", "abandoned", "cancelled", "paid_and_cancelled"), (65, 15, 10, 10))[0]
    body: Event = {"order_id": order_id, "id": f"{order_id}-placed", "channel": rng.choice(CHANNELS)}
    body |= {"lines": [{"sku": sku, "quantity": rng.choice(ORDERED_UNITS)}], "hold_seconds": HOLD_SECONDS_LONG}
    if end == "abandoned":
        body["hold_seconds"] = HOLD_SECONDS_SHORT
    if (chance := rng.random()) < 0.25:
        body |= {"accept": "sold", "allow_preorder": chance < 0.05}
    elif chance < 0.35:
        body["priority"] = "vip"
    steps = [ScenarioStep("order.placed", body, _transport(rng))]
    if number <= len(_POLICIES):
        channel, of, policy = _POLICIES[number - 1]
        steps.insert(0, ScenarioStep("policy.put", {"channel": channel, "sku": of, "policy": policy}, "http"))
    if rng.random() < 0.1:
        steps += _operations(rng, order_id)
    for what in ("paid", "cancelled"):
        if what in end:
            event = {"order_id": order_id, "id": f"{order_id}-{what}"}
            steps.append(ScenarioStep(f"order.{what}", event, _transport(rng), rng.randint(50, 2_500)))
    line = {"sku": rng.choice(QUEUED_SKUS), "quantity": rng.choice(RECEIVED_UNITS)}
    receipt = {"id": f"{order_id}-received", "warehouse": rng.choice(("SH1", "BJ1")), "lines": [line]}
    steps.append(ScenarioStep("stock.received", receipt, rng.choice(("kafka", "ndjson")), rng.randint(0, 2_000)))
    return steps


def _operations(rng: random.Random, order_id: str) -> Iterator[ScenarioStep]:
    """An operator holds the order back, gives it what it waits for, and releases it."""
    for what, more in (("held_back", {}), ("assigned", {}), ("held_back", {"held": False})):
        event: Event = {"order_id": order_id, "id": f"{order_id}-{what}-{len(more)}", "reason": "asked for", **more}
        yield ScenarioStep(f"order.{what}", event, "http", rng.randint(50, 1_500))


def _transport(rng: random.Random) -> InputTransport:
    return rng.choice(("http", "kafka", "ndjson"))
