"""The load of the fault suite: inputs up to the limits, early and badly dated events, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from stocktide.loadtest.oracle.dispatcher import OPERATOR_KINDS
from stocktide.streams.contract.events import (
    BODY_BYTES_MAX,
    LINES_MAX,
    NAME_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    Malformed,
    decode_event,
)
from tests.faults.edge_scenarios import (
    AHEAD_MS_MAX,
    FULL,
    NAME_LENGTH,
    TEXT_LENGTH,
    EdgeSizes,
    early_event_scenario,
    edge_opening_receipts,
    large_fields_scenario,
    skewed_clock_scenario,
    wide_order_scenario,
)
from tests.faults.queue_scenarios import queue_scenario
from tests.faults.scenarios import ScenarioStep

NUMBERS = range(1, 200)


def raw(step: ScenarioStep) -> bytes:
    return msgspec.json.encode({"type": step.kind, "occurred_at": "2026-11-24T00:00:00.000Z", **step.event})


def test_names_and_texts_are_as_long_as_the_contract_allows() -> None:
    assert (NAME_LENGTH, TEXT_LENGTH) == (NAME_LENGTH_MAX, TEXT_LENGTH_MAX)


def test_all_generated_events_are_legal() -> None:
    breadth = replace(FULL, skus=LINES_MAX)
    steps = [*edge_opening_receipts(breadth)]
    for number in NUMBERS:
        steps += [*wide_order_scenario(1, number, breadth), *large_fields_scenario(1, number)]
        steps += [*early_event_scenario(1, number, breadth), *skewed_clock_scenario(1, number)]
        steps += [step for step in queue_scenario(1, number) if step.kind not in ("policy.put", *OPERATOR_KINDS)]
    for step in steps:
        if step.kind == "stock.counted":
            continue  # its counts are filled in when the step runs
        decoded = decode_event(raw(step))
        assert not isinstance(decoded, Malformed), (step.kind, decoded)
        assert len(raw(step)) < BODY_BYTES_MAX


def test_wide_orders_have_as_many_lines_as_there_may_be_and_units_from_many_warehouses() -> None:
    orders = [wide_order_scenario(1, number, FULL)[0].event for number in NUMBERS]
    assert max(len(order["lines"]) for order in orders) > 0.95 * LINES_MAX
    assert all(len({line["sku"] for line in order["lines"]}) == len(order["lines"]) for order in orders)
    assert all(order["lines"][-1]["quantity"] >= 30 * 20 for order in orders)


def test_an_early_payment_comes_before_its_order_and_an_order_follows_in_time() -> None:
    for number in NUMBERS:
        first, *_, last = early_event_scenario(1, number, EdgeSizes())
        assert (first.kind, last.kind) == ("order.paid", "order.placed")
        assert 2_000 <= last.pause_ms <= 6_000


def test_clocks_are_minutes_off_either_way_and_now_and_then_further_ahead_than_is_allowed() -> None:
    late = [skewed_clock_scenario(1, number)[0].late_ms for number in NUMBERS]
    assert any(0 < -ms <= AHEAD_MS_MAX for ms in late) and any(ms > 60_000 for ms in late)
    assert any(-ms > 600_000 for ms in late)


def test_the_same_seed_tells_the_same() -> None:
    assert wide_order_scenario(3, 7, FULL) == wide_order_scenario(3, 7, FULL) != wide_order_scenario(4, 7, FULL)


def test_orders_ask_for_more_of_the_queued_skus_than_comes_so_that_some_always_wait() -> None:
    units = {"order.placed": 0, "stock.received": 0}
    for number in NUMBERS:
        for step in queue_scenario(1, number):
            if step.kind in units:
                units[step.kind] += step.event["lines"][0]["quantity"]
    assert 1.2 < units["order.placed"] / units["stock.received"] < 2
