"""The plan of a load test: the same seed gives the same load, and the load has the requested shape."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from stocktide.loadtest.run.controller import RateSearch
from stocktide.loadtest.run.load_worker import _file_orders
from stocktide.loadtest.run.load_worker_process import Assignment
from stocktide.loadtest.run.options import FlashSaleOptions
from stocktide.loadtest.workload.scenarios import CHANGES, Goods, Workload
from stocktide.loadtest.workload.shapes import Shape, arrivals, rate_of, sped_up


def goods(mark: str = "lt1", hot_share: float = 0.5, zipf: float = 1.1) -> Goods:
    return Goods(mark, 200, 5, hot_share, zipf, ("tmall", "jd", "own-shop"), 10)


@pytest.mark.parametrize("shape", ["steady", "ramp", "spike", "wave"])
def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others(shape: Shape) -> None:
    first = list(arrivals(shape, 20, 100, 7))
    assert first == list(arrivals(shape, 20, 100, 7))
    assert first != list(arrivals(shape, 20, 100, 8))
    assert all(0 <= before < after < 20 for before, after in pairwise(first))


@pytest.mark.parametrize("shape", ["steady", "ramp", "spike", "wave"])
def test_as_many_arrive_as_the_rate_says(shape: Shape) -> None:
    rate = rate_of(shape, 60, 200)
    wanted = sum(rate(step / 10) for step in range(600)) / 10
    # Poisson: five standard deviations.
    assert abs(len(list(arrivals(shape, 60, 200, 3))) - wanted) < 5 * wanted**0.5
    assert max(rate(step / 10) for step in range(601)) <= 200


def test_a_spike_goes_from_almost_nothing_to_its_peak_within_one_second() -> None:
    rate = rate_of("spike", 60, 400)
    assert (rate(5.9), rate(7.1)) == (20, 400)
    assert rate(30) == 400
    assert rate(59) < 60


def test_a_file_comes_in_its_order_so_many_times_as_fast() -> None:
    moments = [0.0, 0.0, 60.0, 60.0, 600.0]
    sped = list(sped_up(moments, 60, 60, 1))
    assert sped == sorted(sped) == list(sped_up(moments, 60, 60, 1))
    assert len(sped) == 5
    assert all(at / 60 <= found <= at / 60 + 1 for at, found in zip(moments, sped, strict=True))


def test_the_same_seed_gives_the_same_errands_but_for_the_mark_of_the_run() -> None:
    first, again = Workload(goods("lt1"), 7), Workload(goods("lt2"), 7)
    for number in range(200):
        assert str(first.scenario(number)).replace("lt1-", "lt2-") == str(again.scenario(number))
    assert [Workload(goods(), 8).scenario(number) for number in range(20)] != [
        first.scenario(number) for number in range(20)
    ]


def test_errands_do_everything_that_shoppers_do() -> None:
    errands = [Workload(goods(), 7).scenario(number) for number in range(3_000)]
    assert Counter(scenario.then for scenario in errands).keys() == {"pay", "cancel", "abandon"}
    assert any(scenario.again for scenario in errands)
    assert any(scenario.disconnect_after_ms for scenario in errands)
    assert any(scenario.return_ms and scenario.ship_ms for scenario in errands)
    bots = [scenario for scenario in errands if scenario.bot]
    assert bots
    assert all("-HOT-" in line["sku"] for scenario in bots for line in scenario.placed["lines"])
    assert len({scenario.order_id for scenario in errands}) == len(errands)


def test_without_changes_the_same_seed_gives_the_load_that_it_always_gave() -> None:
    with_changes = Workload(msgspec.structs.replace(goods(), changes=0.3), 7)
    plain = Workload(goods(), 7)
    changed = 0
    for number in range(500):
        scenario = with_changes.scenario(number)
        changed += scenario.change is not None
        assert scenario.change or scenario == plain.scenario(number)
    assert all(plain.scenario(number).change is None for number in range(500))
    # Bots change nothing: about 30 % of the other 94 %.
    assert 100 < changed < 180


def test_a_share_of_the_orders_is_sold_already_draws_from_the_pool_gives_units_back_or_is_paid_late() -> None:
    work = Workload(msgspec.structs.replace(goods(), changes=0.4), 7)
    changed = [scenario for number in range(2_000) if (scenario := work.scenario(number)).change]
    by_change = {change: [scenario for scenario in changed if scenario.change == change] for change in CHANGES}
    assert all(len(scenarios) > 50 for scenarios in by_change.values())
    for scenario in by_change["sold"]:
        placed = scenario.placed
        assert (placed["channel"], placed["accept"], placed["paid"]) == ("own-shop", "sold", True)
    assert all(scenario.placed["purpose"] == "flash" for scenario in by_change["pool"])
    assert all((scenario.then, scenario.ship_ms) == ("pay", None) for scenario in by_change["give_back"])
    for scenario in by_change["pay_late"]:
        assert scenario.think_ms > scenario.placed["hold_seconds"] * 1000
    assert not any(scenario.bot for scenario in changed)


def test_a_share_of_the_shoppers_wants_one_hot_sku_and_the_others_have_baskets_of_real_size() -> None:
    errands = [Workload(goods(hot_share=0.8), 7).scenario(number) for number in range(5_000)]
    lines = [scenario.placed["lines"] for scenario in errands if not scenario.bot]
    flash = [basket for basket in lines if "-HOT-" in basket[0]["sku"]]
    assert all(len(basket) == 1 for basket in flash)
    assert 0.77 < len(flash) / len(lines) < 0.83
    sizes = sorted(len(basket) for basket in lines if "-HOT-" not in basket[0]["sku"])
    # Half of the real orders have at most 14 lines, about a tenth has one.
    assert 11 <= sizes[len(sizes) // 2] <= 16
    assert 0.08 < sizes.count(1) / len(sizes) < 0.16


def test_demand_falls_with_the_rank_as_zipf_says_or_not_at_all() -> None:
    def wanted(zipf: float) -> Counter[str]:
        work = Workload(goods(hot_share=0, zipf=zipf), 7)
        return Counter(line["sku"] for number in range(2_000) for line in work.scenario(number).placed["lines"])

    uneven, even = wanted(1.1), wanted(0)
    assert uneven["lt1-SKU-0005"] > 3 * uneven["lt1-SKU-0150"]
    assert even["lt1-SKU-0005"] < 1.5 * even["lt1-SKU-0150"]


@pytest.mark.parametrize("limit", [30.0, 77.0, 333.0, 1_000.0])
def test_the_ladder_closes_in_on_the_highest_rate_that_goes_well(limit: float) -> None:
    ladder = RateSearch(400, 10)
    while (rate := ladder.next_rate()) is not None:
        ladder.report(rate, rate <= limit)
    if limit >= 400:
        assert (ladder.highest_kept, ladder.lowest_missed) == (400, None)
    else:
        assert ladder.lowest_missed is not None
        assert ladder.highest_kept <= limit < ladder.lowest_missed
        assert ladder.lowest_missed - ladder.highest_kept <= 400 / 2**5


def test_a_ladder_whose_every_step_fails_has_found_nothing() -> None:
    ladder = RateSearch(400, 4)
    while (rate := ladder.next_rate()) is not None:
        ladder.report(rate, False)
    assert ladder.highest_kept == 0


def test_a_file_is_read_in_its_format_by_controller_and_load_process(tmp_path: Path) -> None:
    file = tmp_path / "retail.csv"
    head = "Invoice;StockCode;Description;Quantity;InvoiceDate;Price;Customer ID;Country\n"
    file.write_text(f"{head}500001;10001;£2 LAMP;2;31/12/2010 8:26;1,25;;France\n", encoding="cp1252")
    options = FlashSaleOptions(shape="file", file=file, dates="dmy", encoding="cp1252")
    options.check()
    goods = options.goods("m")
    assert goods.all_skus == ("m-10001",)
    assert (options.settings()["dates"], options.settings()["encoding"]) == ("dmy", "cp1252")
    given = Assignment(
        "push", 0, 1, 1, goods, "api", "kafka", "app", "http", "history", 0.0, file=str(file), form=options.form
    )
    sent = msgspec.json.decode(msgspec.json.encode(given), type=Assignment)
    assert [lines for _, lines in _file_orders(sent)] == [[{"sku": "m-10001", "quantity": 2}]]
