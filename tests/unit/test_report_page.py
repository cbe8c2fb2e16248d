"""The report of a load test: the verdict first, every name as text, nothing external, correct figures."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from msgspec import structs

from stocktide.loadtest.measure.results import Latencies, LoadTestResults, RunVerdict, StockPoint, decode, encode
from stocktide.loadtest.report.formatting import command_of, milliseconds
from stocktide.loadtest.report.hot_skus import HOT_PLOTTED_MAX, POINTS_PLOTTED_MAX, stretches, thinned
from stocktide.loadtest.report.page import (
    EVIDENCE_CHARACTERS_MAX,
    EVIDENCE_FIRST_MAX,
    EVIDENCE_LAST_MAX,
    VIOLATIONS_SHOWN_MAX,
    page_of,
    plots_of,
    policy_of,
    write_page,
)
from stocktide.loadtest.report.plots import Plot
from tests.unit.sample_results import NASTY, OVERSOLD, broken, flash_sale, nasty, not_valid, search, with_verdict

# The size of plotly.js, and the limit for the rest of a page.
PLOTLY_BYTES = 5_000_000
REST_BYTES_MAX = 1_500_000


class PageText(HTMLParser):
    """The elements and the text of a page, scripts apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._within = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """The text in its order, with single spaces."""
        return " ".join(" ".join(self.words).split())


def plot_of(results: LoadTestResults, name: str) -> Plot:
    return next(plot for plot in plots_of(results) if plot.name == name)


def data_of(page: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(PageText(page).scripts[0])
    return found


@pytest.mark.parametrize(
    ("results", "word", "state"),
    [
        (flash_sale(), "✓ Promises kept", "kept"),
        (broken(), "✗ Promise broken", "broken"),
        (not_valid(), "? Not valid", "not-valid"),
    ],
)
def test_the_verdict_comes_first_with_symbol_and_colour(results: LoadTestResults, word: str, state: str) -> None:
    page = page_of(results)
    text = PageText(page).text
    assert f'class="verdict {state}"' in page
    assert text.index(f" {word} ") < text.index("In figures") < text.index("Over time") < text.index("In detail")
    assert text.startswith(f"{word}: spike load test")


def test_a_broken_promise_shows_its_first_evidence_and_says_how_many_more_there_are() -> None:
    seen = PageText(page_of(broken(count=VIOLATIONS_SHOWN_MAX + 5)))
    for part in (OVERSOLD.what, "Promise 1, No oversell", *OVERSOLD.evidence):
        assert seen.text.index(part) < seen.text.index("In figures")
    assert f"{VIOLATIONS_SHOWN_MAX + 4} more" in seen.text
    assert "5 more are in the JSON report" in seen.text
    assert seen.text.count(OVERSOLD.what) == VIOLATIONS_SHOWN_MAX


def test_long_evidence_shows_its_beginning_and_its_end_and_says_what_it_leaves_out() -> None:
    lines = tuple(f"record {number}: {'x' * 10_000}" for number in range(40))
    text = PageText(page_of(broken(structs.replace(OVERSOLD, evidence=lines)))).text
    shown = [number for number in range(40) if f"record {number}: x" in text]
    assert shown == [*range(EVIDENCE_FIRST_MAX), *range(40 - EVIDENCE_LAST_MAX, 40)]
    assert f"{40 - len(shown)} more lines are in the JSON report" in text
    assert "x" * (EVIDENCE_CHARACTERS_MAX + 1) not in text


def test_a_run_that_is_not_valid_says_why_and_that_the_tester_was_the_limit() -> None:
    text = PageText(page_of(not_valid())).text
    assert "this run proves nothing" in text
    assert "4.2 % of the orders were sent late by the load generator" in text
    assert "The load generator's machine was the limit" in text


def test_a_broken_promise_is_broken_also_in_a_run_that_is_not_valid() -> None:
    text = PageText(page_of(with_verdict(broken(), valid=False))).text
    assert text.startswith("✗ Promise broken")
    assert "This run is not valid: no reason was given" in text


def test_the_figures_are_those_of_the_run() -> None:
    sale = flash_sale()
    text = PageText(page_of(sale)).text
    accepted = sum(moment.accepted for moment in sale.moments)
    best = max(sale.moments, key=lambda moment: moment.accepted)
    assert f"Accepted, peak {best.accepted:,}/s at 0:{best.at:02}" in text
    assert f"Accepted {accepted:,} of" in text
    assert "Latency p50 4.2 ms" in text
    assert "Latency p99 38.5 ms" in text
    assert "Latency p99.9 92.1 ms" in text
    assert "Publication lag p99 41.0 ms 48,210 updates measured" in text
    assert f"Oversold 0 {accepted:,} checked" in text


def test_a_checker_without_records_is_not_shown_as_clean() -> None:
    text = PageText(page_of(with_verdict(flash_sale(), checked={"oversold": 0, "answer_lost": 12}))).text
    assert "Oversold not checked" in text
    assert "Updates lost or out of order not checked" in text
    assert "nothing is oversold 0 ? not checked" in text
    assert "no answer is lost 12 ✓ none" in text


def test_a_name_from_the_run_is_text_everywhere_and_never_markup() -> None:
    page = page_of(nasty())
    seen = PageText(page)
    assert [attributes for tag, attributes in seen.tags if tag == "script"] == [
        {"type": "application/json", "id": "plots"},
        {},
        {},
    ]
    assert NASTY in seen.text
    assert page.count("alert(1)</script>") == 0
    assert not any(tag in ("b", "i", "img") for tag, _ in seen.tags)
    assert not any(name.startswith("on") for _, attributes in seen.tags for name in attributes)
    assert all(mark not in seen.scripts[0] for mark in "<>&")


def test_plotly_gets_every_name_escaped_since_it_reads_texts_as_markup() -> None:
    plots = data_of(page_of(nasty()))
    texts = [trace["name"] for plot in plots for trace in plot["data"]]
    texts += [name for plot in plots for name in plot["layout"].get("yaxis2", {}).get("ticktext", [])]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in texts
    assert "&lt;i&gt;jd&lt;/i&gt;" in texts
    assert not any("<" in text for text in texts)


def test_the_page_refers_to_nothing_outside_and_forbids_it_too() -> None:
    page = page_of(flash_sale())
    seen = PageText(page)
    addresses = [
        value for _, attributes in seen.tags for name, value in attributes.items() if name in ("src", "href") and value
    ]
    assert addresses == ["data:,"]
    policy = next(attributes["content"] for tag, attributes in seen.tags if "http-equiv" in attributes)
    assert policy == policy_of(*seen.scripts[1:])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_every_plot_has_a_place_a_title_and_axes_with_units_and_plotly_knows_all_its_words() -> None:
    page = page_of(search())
    seen = PageText(page)
    labels = {attributes.get("id"): attributes.get("aria-label") for _, attributes in seen.tags}
    plots = data_of(page)
    assert {"ladder", "rate", "latency", "lag", "errors", "cpu", "memory", "hot-1"} <= {plot["name"] for plot in plots}
    for plot in plots:
        assert labels[f"plot-{plot['name']}"] == plot["title"]
        coloured = json.loads(re.sub(r"var\(--[a-z0-9-]+\)", "#123456", json.dumps(plot)))
        go.Figure(data=coloured["data"], layout=coloured["layout"])
        assert plot["layout"]["xaxis"]["title"]["text"]
        assert plot["layout"]["yaxis"]["title"]["text"]


def test_every_colour_of_a_plot_is_one_that_the_style_sheet_has_in_light_and_dark() -> None:
    style = (files("stocktide.loadtest.report") / "page_files" / "page.css").read_text()
    drawn = json.dumps([[plot.data, plot.layout] for results in (nasty(), search()) for plot in plots_of(results)])
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", drawn))
    assert len(used) > 10
    for name in used:
        assert len(re.findall(rf"{name}: #", style)) == 2, name


def test_latencies_that_span_decades_are_drawn_on_a_log_scale_and_others_are_not() -> None:
    sale = flash_sale()
    flat = Latencies(10, 4.0, 5.0, 6.0, 7.0, 8.0)
    steady = structs.replace(sale, moments=tuple(structs.replace(moment, accepted_ms=flat) for moment in sale.moments))
    stall = structs.replace(sale.moments[-1], accepted_ms=structs.replace(flat, max=9000.0))
    stalled = structs.replace(steady, moments=(*steady.moments[:-1], stall))
    axes = [plot_of(results, "latency").layout["yaxis"] for results in (steady, stalled)]
    assert "type" not in axes[0]
    assert axes[1]["type"] == "log"
    assert axes[1]["title"]["text"] == "ms (log scale)"
    assert 1000 in axes[1]["tickvals"]


def test_a_second_without_answers_is_a_gap_and_not_a_good_latency() -> None:
    sale = flash_sale()
    moments = list(sale.moments)
    moments[20] = structs.replace(moments[20], accepted=0, accepted_ms=Latencies())
    plot = plot_of(structs.replace(sale, moments=tuple(moments)), "latency")
    assert [trace["y"][20] for trace in plot.data] == [None] * 4
    assert plot.data[0]["mode"] == "lines+markers"


def test_there_are_plots_of_the_first_hot_skus_only() -> None:
    many = flash_sale(skus=tuple(f"flash-{number}" for number in range(HOT_PLOTTED_MAX + 5)))
    hot = [plot.name for plot in plots_of(many) if plot.name.startswith("hot-")]
    assert hot == [f"hot-{number}" for number in range(1, HOT_PLOTTED_MAX + 1)]


def test_a_process_goes_by_its_name_and_by_its_number_too_where_there_are_several_of_it() -> None:
    sale = flash_sale()
    twice = (*sale.processes, structs.replace(sale.processes[0], pid=5000))
    names = [trace["name"] for trace in plot_of(structs.replace(sale, processes=twice), "cpu").data]
    assert names == ["worker (4100)", "api", "kafka", "redis", "tester-1", "worker (5000)"]


def test_a_strip_shows_each_stretch_of_a_mode_up_to_the_end() -> None:
    points = [StockPoint(0, 5, "in_stock", 1), StockPoint(2, 3, "in_stock", 2), StockPoint(4, 0, "sold_out", 3)]
    assert stretches([*points, StockPoint(7, 9, "in_stock", 4)], 10) == [
        (0, 4, "in_stock"),
        (4, 3, "sold_out"),
        (7, 3, "in_stock"),
    ]
    assert stretches([], 10) == []


def test_the_title_of_a_hot_sku_says_when_it_closed_and_not_that_it_was_empty_before_its_receipt() -> None:
    sale = flash_sale()
    points = [(0, 0, "sold_out"), (0, 9, "in_stock"), (4, 0, "sold_out")]
    tmall = tuple(StockPoint(at, left, mode, version) for version, (at, left, mode) in enumerate(points))
    titles = []
    for channel in (tmall, tmall[:2]):
        hot = (structs.replace(sale.hot[0], units=9, channels={"tmall": channel}),)
        titles.append(plot_of(structs.replace(sale, hot=hot), "hot-1").title)
    assert titles == [
        "flash-1: 9 units at the start, the first channel closed at 0:04",
        "flash-1: 9 units at the start, 9 left at the end",
    ]


def test_a_line_marks_the_end_of_the_load_where_answers_came_after_it() -> None:
    sale = flash_sale()
    marked = {plot.name for plot in plots_of(structs.replace(sale, load_seconds=30.0)) if "shapes" in plot.layout}
    assert marked == {plot.name for plot in plots_of(sale)}
    assert not any("shapes" in plot.layout for plot in plots_of(sale))


def test_a_long_history_is_thinned_and_keeps_its_ends_and_every_change_of_mode() -> None:
    points = [StockPoint(at / 10, 5, "sold_out" if at in (7777, 7778) else "in_stock", at) for at in range(50_000)]
    kept = thinned(points)
    assert len(kept) <= POINTS_PLOTTED_MAX + 4
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert {7777, 7779} <= {point.version for point in kept}
    assert thinned(points[:100]) == points[:100]


def test_half_an_hour_makes_a_page_of_limited_size() -> None:
    assert len(page_of(flash_sale(seconds=1800)).encode()) < PLOTLY_BYTES + REST_BYTES_MAX


def test_a_run_without_anything_in_it_has_a_page_too() -> None:
    verdict, none = RunVerdict(kept=True, valid=False, limit="none", why_invalid=("nothing was sent",)), Latencies()
    page = page_of(LoadTestResults({}, {}, "2026-11-11T00:00:00Z", 0.0, verdict, {}, none, none, none, ()))
    assert data_of(page) == []
    assert "Latency p99 none" in PageText(page).text


def test_the_page_is_written_from_what_the_json_report_holds(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_page(decode(encode(flash_sale())), file)
    assert file.read_text("utf-8") == page_of(flash_sale())


def test_the_command_repeats_the_run() -> None:
    settings = {"shape": "spike", "goal_ms": 50.0, "seed": 7, "file": "a b.csv"}
    assert command_of(settings) == "stocktide loadtest --shape spike --goal-ms 50 --seed 7 --file 'a b.csv'"


def test_times_are_written_as_people_read_them() -> None:
    assert [milliseconds(value) for value in (0.42, 8.13, 120.4, 12_345)] == ["0.42 ms", "8.1 ms", "120 ms", "12.3 s"]


def test_preorders_pools_and_changes_have_a_table_of_their_own() -> None:
    totals = {"paid": 7, "changes.orders_preordered": 12, "changes.late_receipts": 1}
    page = page_of(structs.replace(flash_sale(), totals=totals))
    tables = {found[1]: found[2] for found in re.finditer(r"<caption>(.*?)</caption>(.*?)</table>", page, re.DOTALL)}
    changes, sums = tables["Preorders, pools and changes"], tables["Sums"]
    assert re.search(r"orders preordered</th><td[^>]*>12<", changes) and "late receipts" in changes
    assert "paid" in sums and "changes." not in sums and "preordered" not in sums
    assert "Preorders, pools and changes" not in page_of(structs.replace(flash_sale(), totals={"paid": 7}))
