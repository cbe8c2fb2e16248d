"""The open model: shoppers arrive on time whatever the system does, and each is counted once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from stocktide.loadtest.client.contract import LineView, OrderView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import Response
from stocktide.loadtest.run import load_generator
from stocktide.loadtest.run.load_generator import Arrival, LoadGenerator, Placement
from stocktide.loadtest.workload.scenarios import Scenario


class ScriptedDoor:
    """Answers after `seconds` with these statuses in turn, then always with the last one."""

    def __init__(self, *statuses: int, seconds: float = 0.0) -> None:
        self.asked: list[tuple[float, str, Event]] = []
        self._statuses = list(statuses or (201,))
        self._seconds = seconds

    async def ask(self, kind: str, event: Event, disconnect_after_ms: int | None = None) -> Response | str:
        self.asked.append((time.monotonic(), kind, event))
        if disconnect_after_ms is not None:
            return "hung up"
        await asyncio.sleep(self._seconds)
        if kind != "order.placed":
            return Response(0, 1, 202 if kind in ("order.shipped", "order.returned") else 200)
        status = self._statuses[0] if len(self._statuses) == 1 else self._statuses.pop(0)
        return "timeout" if status == 0 else Response(0, 1, status)

    async def placed(self, order_id: str, response: Response) -> Placement:
        if response.status in (200, 201):
            return Placement(
                True, order=OrderView(order_id, "jd", "reserved", (LineView("A", 2, warehouses={"SH1": 2}),), 1)
            )
        return (
            Placement(False, "insufficient_stock") if response.status == 409 else Placement(None, str(response.status))
        )

    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.asked]


def scenario(number: int = 1, **more: Any) -> Scenario:
    placed = {"order_id": f"o{number}", "id": f"o{number}-placed", "channel": "jd", "lines": []}
    return Scenario(placed, more.pop("then", "abandon"), more.pop("think_ms", 0), **more)


async def push(door: ScriptedDoor, *errands: Scenario, apart: float = 0.0, late: float = 0.0) -> LoadMeter:
    """Push these errands, `apart` seconds apart, the first `late` seconds late; the measurements."""
    meter = LoadMeter()
    zero = time.monotonic() + 0.02 - late
    load_generator = [Arrival(zero + apart * index, each) for index, each in enumerate(errands)]
    await LoadGenerator((door,), door, meter).push(load_generator, zero)
    return LoadMeter([meter.part()])


async def test_no_shopper_waits_for_the_answer_of_another() -> None:
    door = ScriptedDoor(seconds=1.0)
    whole = await push(door, *(scenario(number) for number in range(20)), apart=0.005)
    assert door.asked[-1][0] - door.asked[0][0] < 0.95
    assert (whole.totals["scheduled"], whole.totals["accepted"], whole.totals["abandoned"]) == (20, 20, 20)


async def test_latency_counts_from_the_time_at_which_a_shopper_was_due() -> None:
    whole = await push(ScriptedDoor(seconds=0.05), scenario(), late=0.4)
    assert whole.latencies("accepted").p50 >= 420
    assert (whole.totals["late_sends"], whole.totals["very_late_sends"]) == (1, 1)


async def test_accepted_refused_and_failed_are_counted_each_in_its_place() -> None:
    whole = await push(ScriptedDoor(201, 409, 503, 0), *(scenario(number) for number in range(4)), apart=0.05)
    assert (whole.totals["accepted"], whole.totals["refused"], whole.totals["failed"]) == (1, 1, 2)
    assert whole.refusals == {"insufficient_stock": 1}
    assert whole.errors == {"503": 1, "timeout": 1}
    assert whole.latencies("accepted", "refused").count == 2


async def test_a_refused_shopper_pays_nothing_and_an_accepted_one_continues() -> None:
    assert (door := ScriptedDoor(409)) and await push(door, scenario(then="pay"))
    assert door.kinds() == ["order.placed"]
    assert (door := ScriptedDoor()) and await push(door, scenario(then="cancel"))
    assert door.kinds() == ["order.placed", "order.cancelled"]


async def test_what_is_paid_is_shipped_from_where_it_is_held_and_some_of_it_comes_back() -> None:
    door = ScriptedDoor()
    whole = await push(door, scenario(then="pay", ship_ms=0, return_ms=0, damaged=True))
    assert door.kinds() == ["order.placed", "order.paid", "order.shipped", "order.returned"]
    assert door.asked[2][2]["lines"] == [{"sku": "A", "quantity": 2, "warehouse": "SH1"}]
    assert door.asked[3][2]["lines"] == [{"sku": "A", "quantity": 1, "warehouse": "SH1", "condition": "damaged"}]
    assert (whole.totals["paid"], whole.totals["shipped"], whole.totals["returned"]) == (1, 1, 1)


async def test_an_order_that_is_sold_already_is_not_paid_again_and_is_shipped() -> None:
    door = ScriptedDoor()
    whole = await push(door, scenario(then="pay", change="sold", ship_ms=0))
    assert door.kinds() == ["order.placed", "order.shipped"]
    assert whole.totals["changes.orders_sold_already"] == 1


async def test_a_late_payment_asks_for_its_units_again() -> None:
    door = ScriptedDoor()
    whole = await push(door, scenario(then="pay", change="pay_late"))
    assert [event.get("if_expired") for _, _, event in door.asked] == [None, "take_again"]
    assert (whole.totals["changes.orders_paid_late"], whole.totals["paid"]) == (1, 0)


async def test_a_unit_of_a_paid_order_is_given_back() -> None:
    door = ScriptedDoor()
    errand = scenario(then="pay", change="give_back")
    errand.placed["lines"].append({"sku": "A", "quantity": 2})
    whole = await push(door, errand)
    assert door.kinds() == ["order.placed", "order.paid", "order.cancelled"]
    assert door.asked[2][2]["lines"] == [{"sku": "A", "quantity": 1}]
    assert (whole.totals["changes.orders_cancelled_in_part"], whole.totals["cancelled"]) == (1, 0)


async def test_an_impatient_shopper_sends_the_same_again_and_counts_once() -> None:
    door = ScriptedDoor()
    whole = await push(door, scenario(again=True))
    assert [event for _, _, event in door.asked] == [scenario().placed] * 2
    assert (whole.totals["scheduled"], whole.totals["accepted"], whole.totals["repeats"]) == (1, 1, 1)


async def test_a_shopper_that_hangs_up_asks_again_and_is_measured_from_then() -> None:
    door = ScriptedDoor()
    whole = await push(door, scenario(disconnect_after_ms=1, retry_after_ms=200))
    assert door.kinds() == ["order.placed"] * 2
    assert door.asked[1][0] - door.asked[0][0] >= 0.19
    assert (whole.totals["hang_ups"], whole.totals["scheduled"], whole.totals["accepted"]) == (1, 1, 1)
    assert whole.latencies("accepted").max < 150


async def test_beyond_the_limit_of_waiting_shoppers_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "WAITING_MAX", 3)
    door = ScriptedDoor(seconds=2.0)  # all of them are there before the first has its answer
    whole = await push(door, *(scenario(number) for number in range(5)), apart=0.02)
    assert len(door.asked) == 3
    assert (whole.totals["scheduled"], whole.totals["accepted"], whole.errors["too many wait"]) == (5, 3, 2)


async def test_a_bug_in_a_shopper_is_raised_and_not_counted_away() -> None:
    class Broken(ScriptedDoor):
        async def placed(self, order_id: str, response: Response) -> Placement:
            raise KeyError(order_id)

    with pytest.raises(KeyError):
        await push(Broken(), scenario())
