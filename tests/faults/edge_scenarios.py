"""Large, early and badly dated inputs as a function of the seed, on SKUs of their own, so that their effects on stock
do not weaken the checkers elsewhere.

In: a seed, a number, sizes. Out: steps, as in `scenarios`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from stocktide.loadtest.client.events import Event
from stocktide.loadtest.oracle.history import InputTransport
from tests.faults.scenarios import CHANNELS, HOLD_SECONDS_LONG, ScenarioStep

# The longest name and text that the contract allows (rule 45).
NAME_LENGTH = 128
TEXT_LENGTH = 256
# The size of an unknown field; a body is limited to 1 MiB.
UNKNOWN_BYTES_MAX = 900_000
UNKNOWN_BYTES_USUAL = 20_000
# How far a clock may be ahead (rule 40), less a margin for slow runs; beyond it a movement is rejected.
AHEAD_MS_MAX = 9 * 60_000
BEHIND_MS_MAX = 20 * 60_000
TOO_FAR_AHEAD_MS = 11 * 60_000
FAR_SKUS = tuple(f"F{number}" for number in range(3))
SKEWED_SKUS = tuple(f"C{number:02}" for number in range(10))
LATER_SKU = "later"
WIDE_WAREHOUSE = "WIDE"
FAR_UNITS = 20


@dataclass(frozen=True, slots=True)
class EdgeSizes:
    """Wide orders have `lines` of `skus` SKUs, `warehouses` hold each far SKU, and an order comes up to `early_seconds`
    after its payment."""

    skus: int = 400
    lines: int = 300
    warehouses: int = 24
    early_seconds: float = 6.0


# For the long runs: the limits of the contract, except for the time that an event is parked.
FULL = EdgeSizes(skus=2_000, lines=2_000, warehouses=200, early_seconds=100.0)


def far_warehouse(number: int) -> str:
    """A warehouse with the longest possible name."""
    return f"far-{number:04}-".ljust(NAME_LENGTH, "w")


def wide_sku(number: int) -> str:
    """A SKU of wide orders; each tenth has the longest possible name."""
    return f"W{number:04}".ljust(NAME_LENGTH if number % 10 == 0 else 0, "x")


def edge_skus(sizes: EdgeSizes) -> Iterator[str]:
    """All SKUs of these scenarios."""
    yield from (*FAR_SKUS, *SKEWED_SKUS)
    yield from (wide_sku(number) for number in range(sizes.skus))


def edge_opening_receipts(sizes: EdgeSizes) -> Iterator[ScenarioStep]:
    """The opening stock of these SKUs."""
    wide = [{"sku": wide_sku(number), "quantity": 1_000} for number in range(sizes.skus)]
    skewed = [{"sku": sku, "quantity": 200} for sku in SKEWED_SKUS]
    yield _received(WIDE_WAREHOUSE, wide)
    yield _received("SH1", skewed, "SH1-skewed-opening")
    for number in range(sizes.warehouses):
        yield _received(far_warehouse(number), [{"sku": sku, "quantity": FAR_UNITS} for sku in FAR_SKUS])


def _received(warehouse: str, lines: list[Event], id_: str = "") -> ScenarioStep:
    event = {"id": id_ or f"{warehouse[:20]}-opening", "warehouse": warehouse, "lines": lines}
    return ScenarioStep("stock.received", event, "kafka")


def wide_order_scenario(seed: int, number: int, sizes: EdgeSizes) -> list[ScenarioStep]:
    """An order of hundreds of lines, with units in many warehouses; most of them expire, several at once."""
    rng = random.Random(f"{seed}-wide-{number}")
    count = rng.randint(sizes.lines // 2, sizes.lines)
    skus = rng.sample(range(sizes.skus), min(count, sizes.skus) - 1)
    lines = [{"sku": wide_sku(sku), "quantity": 1} for sku in skus]
    # More than any warehouse has: a sixth of the warehouses supply the line.
    lines.append({"sku": rng.choice(FAR_SKUS), "quantity": sizes.warehouses // 6 * FAR_UNITS})
    order_id = f"w{number}"
    body = {"order_id": order_id, "id": f"{order_id}-placed", "channel": rng.choice(CHANNELS), "lines": lines}
    steps = [ScenarioStep("order.placed", {**body, "hold_seconds": rng.choice((3, 5, 5))}, _random_transport(rng))]
    if rng.random() < 0.3:
        steps.append(
            ScenarioStep("order.cancelled", {"order_id": order_id, "id": f"{order_id}-cancelled"}, "kafka", 1_000)
        )
    return steps


def large_fields_scenario(seed: int, number: int) -> list[ScenarioStep]:
    """An order or an adjustment in which every field has the maximum length, with an unknown field."""
    rng = random.Random(f"{seed}-large-{number}")
    size = UNKNOWN_BYTES_MAX if rng.random() < 0.1 else rng.randint(1_000, UNKNOWN_BYTES_USUAL)
    unknown = {"note": "n" * size}
    if rng.random() < 0.3:
        lines = [{"sku": rng.choice(SKEWED_SKUS), "quantity": rng.choice((-2, -1, 1, 3))}]
        reason = f"correction {number} ".ljust(TEXT_LENGTH, "r")
        event = {"id": f"l{number}".ljust(NAME_LENGTH, "i"), "warehouse": "SH1", "reason": reason, "lines": lines}
        return [ScenarioStep("stock.adjusted", {**event, **unknown}, rng.choice(("kafka", "ndjson")))]
    order_id = f"l{number}-".ljust(NAME_LENGTH, "o")
    body = {"order_id": order_id, "id": f"p{number}".ljust(NAME_LENGTH, "i"), "channel": rng.choice(CHANNELS)}
    line = {"sku": wide_sku(10 * rng.randrange(10)), "quantity": 1}
    placed = {**body, "lines": [line], "region": "g" * NAME_LENGTH, "hold_seconds": 10, **unknown}
    paid = {"order_id": order_id, "id": f"q{number}".ljust(NAME_LENGTH, "i"), **unknown}
    return [
        ScenarioStep("order.placed", placed, rng.choice(("kafka", "ndjson"))),
        ScenarioStep("order.paid", paid, "kafka", 500),
    ]


def early_event_scenario(seed: int, number: int, sizes: EdgeSizes) -> list[ScenarioStep]:
    """A payment, and sometimes a shipment, seconds before its order: it is parked (rule 43)."""
    rng = random.Random(f"{seed}-early-{number}")
    order_id = f"e{number}"
    early_ms = int(1000 * rng.uniform(sizes.early_seconds / 3, sizes.early_seconds))
    steps = [
        ScenarioStep("order.paid", {"order_id": order_id, "id": f"{order_id}-paid"}, rng.choice(("kafka", "ndjson")))
    ]
    line = {"sku": rng.choice(SKEWED_SKUS), "quantity": 1}
    if rng.random() < 0.3:
        shipped = {"order_id": order_id, "id": f"{order_id}-shipped", "tracking": "t" * TEXT_LENGTH}
        steps.append(ScenarioStep("order.shipped", {**shipped, "lines": [{**line, "warehouse": "SH1"}]}, "kafka", 200))
    placed = {"order_id": order_id, "id": f"{order_id}-placed", "channel": rng.choice(CHANNELS), "lines": [line]}
    steps.append(
        ScenarioStep("order.placed", {**placed, "hold_seconds": HOLD_SECONDS_LONG}, _random_transport(rng), early_ms)
    )
    return steps


def skewed_clock_scenario(seed: int, number: int) -> list[ScenarioStep]:
    """A movement or a count by a clock that is minutes behind or ahead; sometimes further ahead than allowed, so that
    it is rejected."""
    rng = random.Random(f"{seed}-skewed-{number}")
    door = rng.choice(("kafka", "ndjson"))
    if rng.random() < 0.2:
        lines = [{"sku": LATER_SKU, "quantity": 1}]
        event = {"id": f"later{number}", "warehouse": "SH1", "lines": lines}
        ahead_ms = rng.choice((TOO_FAR_AHEAD_MS, 8 * 3_600_000, 70 * 365 * 86_400_000))
        return [ScenarioStep("stock.received", event, door, late_ms=-ahead_ms)]
    late_ms = rng.randint(-AHEAD_MS_MAX, BEHIND_MS_MAX)
    sku, id_ = rng.choice(SKEWED_SKUS), f"c{number}"
    if rng.random() < 0.25:
        line = {"sku": sku, "quantity": rng.choice((-1, 0, 1))}
        return [ScenarioStep("stock.counted", {"id": id_, "warehouse": "SH1", "lines": [line]}, door, late_ms=late_ms)]
    event = {"id": id_, "warehouse": "SH1", "lines": [{"sku": sku, "quantity": rng.randint(1, 3)}]}
    return [ScenarioStep("stock.received", event, door, late_ms=late_ms)]


def _random_transport(rng: random.Random) -> InputTransport:
    return rng.choice(("http", "kafka", "ndjson"))
