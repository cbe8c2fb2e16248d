"""Measurements of a load test: the parts of processes are merged exactly, and the verdict is fair."""

from __future__ import annotations

import random

import msgspec
import pytest

from stocktide.loadtest.client.contract import LineView, OrderView
from stocktide.loadtest.client.topics import TopicRecord
from stocktide.loadtest.measure.meter import HIGHEST_US, LoadMeter, Measurements
from stocktide.loadtest.measure.processes import busy_machine_notes
from stocktide.loadtest.measure.results import Latencies, ProcessUsage, ResourceSample
from stocktide.loadtest.oracle.history import HistoryClock
from stocktide.loadtest.oracle.judge import judge
from stocktide.loadtest.oracle.verdict import CheckerResult, Verdict, Violation
from stocktide.loadtest.run.conclusion import conclude
from stocktide.loadtest.run.monitor import RunMonitor
from stocktide.loadtest.run.options import FlashSaleError, FlashSaleOptions
from stocktide.loadtest.run.warehouse import hot_policies
from stocktide.loadtest.workload.scenarios import MARKETPLACE

CLEAN = Verdict((CheckerResult("oversold", 1, {"things": 3}, {}, 0, ()),))


def travelled(meter: LoadMeter) -> Measurements:
    return msgspec.json.decode(msgspec.json.encode(meter.part()), type=Measurements)


def whole_of(**totals: int) -> LoadMeter:
    meter = LoadMeter()
    meter.totals.update(totals)
    for _ in range(totals.get("accepted", 0)):
        meter.record("accepted", 1.0, 0.01)
    return LoadMeter([meter.part()])


def test_histograms_of_two_processes_are_the_histogram_of_all() -> None:
    chance = random.Random(7)
    times = [chance.expovariate(50) for _ in range(2_000)]
    one, first, second = LoadMeter(), LoadMeter(), LoadMeter()
    for index, time in enumerate(times):
        for meter in (one, (first, second)[index % 2]):
            meter.count(index / 500, "accepted")
            meter.record("accepted", index / 500, time)
    together, alone = LoadMeter([travelled(first), travelled(second)]), LoadMeter([one.part()])
    assert together.latencies("accepted") == alone.latencies("accepted")
    assert together.summaries() == alone.summaries()
    assert [moment.accepted for moment in together.summaries()] == [500, 500, 500, 500]
    exact = sorted(times)[int(0.99 * len(times))] * 1000
    assert together.latencies("accepted").p99 == pytest.approx(exact, rel=0.05)


def test_accepted_and_refused_are_measured_separately_and_together() -> None:
    meter = LoadMeter()
    meter.record("accepted", 0, 0.010)
    meter.record("refused", 0, 0.002)
    whole = LoadMeter([meter.part()])
    assert whole.latencies("accepted").max == pytest.approx(10.0, rel=0.001)
    assert whole.latencies("refused").max == pytest.approx(2.0, rel=0.001)
    assert whole.latencies("accepted", "refused").count == 2
    assert whole.latencies("lag") == Latencies()


def test_a_second_in_which_nothing_happened_is_a_second_too_and_no_time_is_too_long() -> None:
    meter = LoadMeter()
    meter.record("accepted", 0, -1.0)
    meter.record("accepted", 2, 3_600.0)
    moments = LoadMeter([meter.part()]).summaries()
    assert [moment.accepted_ms.count for moment in moments] == [1, 0, 1]
    assert moments[2].accepted_ms.max == pytest.approx(HIGHEST_US / 1000, rel=0.01)


def test_failures_are_counted_by_reason_in_their_second() -> None:
    meter = LoadMeter()
    for reason in ("timeout", "503 unsettled", "timeout"):
        meter.fail(3.2, reason)
    whole = LoadMeter([meter.part(), meter.part()])
    assert whole.errors == {"timeout": 4, "503 unsettled": 2}
    assert whole.summaries()[3].errors == {"timeout": 4, "503 unsettled": 2}
    assert whole.counted("failed", range(3, 4)) == whole.totals["failed"] == 6
    assert whole.counted("failed", range(3)) == 0


def test_recent_measurements_are_given_once() -> None:
    meter = LoadMeter()
    meter.record("lag", 0, 0.5)
    assert list(meter.recent(1.0).histograms) == ["lag"]
    assert meter.recent(1.5).histograms == {}
    assert LoadMeter([meter.part()]).latencies("lag").count == 1


def test_a_run_in_time_that_broke_nothing_is_valid_and_nothing_limited_it() -> None:
    verdict = conclude(CLEAN, whole_of(scheduled=1_000, accepted=1_000, late_sends=9), (), 100)
    assert (verdict.kept, verdict.valid, verdict.limit, verdict.why_invalid) == (True, True, "none", ())


def test_a_tester_that_sends_late_is_the_limit_and_a_very_late_one_makes_the_run_worthless() -> None:
    late = conclude(CLEAN, whole_of(scheduled=1_000, accepted=1_000, late_sends=11), (), 100)
    assert (late.valid, late.limit) == (True, "tester")
    very_late = conclude(CLEAN, whole_of(scheduled=1_000, accepted=1_000, late_sends=60, very_late_sends=60), (), 100)
    assert (very_late.kept, very_late.valid) == (True, False)
    assert "the load was not the one that was asked for" in very_late.why_invalid[0]


def test_a_tester_that_has_no_cpu_left_is_the_limit() -> None:
    points = tuple(ResourceSample(at, 97.0, 1) for at in range(5))
    whole = whole_of(scheduled=10, accepted=10)
    assert conclude(CLEAN, whole, (ProcessUsage("tester-1", 1, points),), 100).limit == "tester"
    assert conclude(CLEAN, whole, (ProcessUsage("worker", 1, points),), 100).limit == "none"


def test_failures_slow_answers_and_too_many_waiting_are_the_systems_limit() -> None:
    assert conclude(CLEAN, whole_of(scheduled=100, accepted=99, failed=1), (), 100).limit == "system"
    assert conclude(CLEAN, whole_of(scheduled=100, accepted=100), (), 5).limit == "system"
    meter = LoadMeter()
    meter.totals.update(scheduled=100_000, accepted=99_999)
    meter.fail(1, "too many wait")
    verdict = conclude(CLEAN, LoadMeter([meter.part()]), (), 100)
    assert any("were not sent" in note for note in verdict.notes)


def test_a_run_that_did_not_rest_or_in_which_a_checker_saw_nothing_is_not_valid() -> None:
    whole = whole_of(scheduled=10, accepted=10)
    assert conclude(CLEAN, whole, (), 100, unquiet="rows still come").why_invalid == ("rows still come",)
    blind = msgspec.structs.replace(CLEAN, checked=(*CLEAN.checked, CheckerResult("hold_leaked", 4, {}, {}, 0, ())))
    assert conclude(blind, whole, (), 100).why_invalid == ("the checker hold_leaked had nothing to check",)
    assert "no order was sent" in conclude(CLEAN, LoadMeter(), (), 100).why_invalid


def test_a_broken_promise_is_told_with_its_number_and_evidence() -> None:
    violation = Violation("oversold", "31 of 30", sku="A")
    broken = Verdict((CheckerResult("oversold", 1, {"rows": 1}, {}, 1, (violation,)),))
    verdict = conclude(broken, whole_of(scheduled=1, accepted=1), (), 100)
    assert not verdict.kept
    assert [(found.checker, found.promise) for found in verdict.violations] == [("oversold", 1)]


def test_every_checker_of_the_judge_has_its_promise_and_each_promise_its_checker() -> None:
    assert {part.promise for part in judge([]).checked} == set(range(1, 8))


def test_a_busy_machine_is_noted() -> None:
    assert busy_machine_notes({"load_before": 1.9, "cores": 2}) == []
    assert "its load average was 7.5 on 2 cores" in busy_machine_notes({"load_before": 7.5, "cores": 2})[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.0}, "--rate is 0"),
        ({"seconds": 0.5}, "--seconds is 0.5"),
        ({"hot": 300}, "--hot is 300: from 1 to 200"),
        ({"channels": 11}, "--channels is 11: from 1 to 10"),
        ({"changes": 1.5}, "--changes is 1.5: from 0 to 1"),
        ({"shape": "file"}, "--file FILE go together"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(FlashSaleError, match=message):
        FlashSaleOptions(**wrong).check()  # type: ignore[arg-type]


def test_hot_skus_sell_out_in_a_spike_whatever_its_size_unless_units_are_given() -> None:
    options = FlashSaleOptions(shape="spike", seconds=60, rate=400)
    wanted = 0.9 * options.expected() / options.hot
    assert 0.3 * wanted < options.hot_units() < 0.6 * wanted
    assert FlashSaleOptions(units=7).hot_units() == 7
    assert FlashSaleOptions(rate=1, seconds=1).hot_units() == 10


def test_the_channels_of_a_sale_end_their_shelves_in_every_way() -> None:
    policies = dict(hot_policies(("a", "b", "c", "d", "e"), 100))
    assert "a" not in policies
    ways = {policy.get("below_threshold") for policy in policies.values()}
    assert {"preorder", "suspend"} <= ways
    assert any("share" in policy for policy in policies.values())


def test_with_changes_two_channels_take_preorders_and_one_of_them_as_far_as_units_are_announced() -> None:
    policies = dict(hot_policies(("a", "b", "c", "d", "e"), 100, with_changes=True))
    preordering = [policy for policy in policies.values() if policy.get("below_threshold") == "preorder"]
    assert [policy.get("preorder_backed", False) for policy in preordering] == [False, True]
    assert all(policy["preorder_cap"] for policy in preordering)
    # The marketplace whose orders are sold already lets nobody wait by its policy.
    assert "c" in policies and policies["c"]["below_threshold"] == "suspend"
    assert list("abcde").index("c") == MARKETPLACE


def test_an_order_that_waited_counts_as_filled_once_nothing_of_it_waits() -> None:
    monitor = RunMonitor("m", (), lambda _: None, HistoryClock(), lambda _: None)

    def publish(order_id: str, state: str, sequence: int, **line: int) -> int:
        order = OrderView(f"m-{order_id}", "jd", state, (LineView("m-A", 3, **line),), sequence)  # type: ignore[arg-type]
        monitor.handlers()["reservations"](TopicRecord(0, sequence, msgspec.json.encode(order)))
        return monitor.totals["changes.orders_filled_later"]

    assert publish("preorder", "paid", 1, preordered=3) == 0
    assert publish("preorder", "paid", 2, preordered=1, reserved=2) == 0
    assert publish("preorder", "paid", 3, reserved=3) == 1
    assert publish("preorder", "shipped", 4, shipped=3) == 1
    assert publish("sold", "paid", 1, short=3) == 1
    assert publish("sold", "cancelled", 2, cancelled=3) == 1
    assert publish("held", "reserved", 1, reserved=3) == 1
