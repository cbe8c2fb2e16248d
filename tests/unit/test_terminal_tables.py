"""Tables at the widths of terminals: nothing misleads, and no name breaks inside a word."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from msgspec import structs
from rich.console import Console

from stocktide import text_wrapping
from stocktide.loadtest.replay.report import ReplayReport
from stocktide.loadtest.replay.stock_model import StockDifference
from stocktide.loadtest.report.compare import compare
from stocktide.loadtest.report.compare import show as show_comparison
from stocktide.loadtest.report.formatting import LIMITS
from stocktide.loadtest.report.live import LiveSnapshot, LiveView
from stocktide.loadtest.report.terminal import show_results
from stocktide.ops import topics
from stocktide.ops.dead_letters.render import render_dead_letters
from stocktide.ops.explain.render import HistoryTable
from stocktide.ops.explain.snapshot import SkuSnapshot, render_snapshot
from stocktide.streams.kafka.admin import TopicStatus
from stocktide.streams.kafka.record_origin import RecordPlace
from stocktide.streams.topics import TOPICS
from stocktide.tables.dead_letters.reader import DeadLetterSummary
from stocktide.tables.ledger.records import Offer, SkuRecord
from tests.unit.sample_results import OVERSOLD, broken, flash_sale, not_valid, with_verdict

WIDTHS = (80, 100, 120)
SKU = "CONSOLE-X-LIMITED-EDITION-BLK1"
PLACE = "hangzhou-bonded-warehouse-no-1"
CHANNEL = "tmall-flagship-store-shanghai1"
LONG = "a-word-" * 18 + "12"
NAMES = (SKU, PLACE, CHANNEL)


def on(width: int, draw: Callable[[Console], None], terminal: bool = True) -> list[str]:
    """The lines on a terminal of that width, which breaks wider lines."""
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
    with console.capture() as capture:
        draw(console)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capture.get())
    return [piece for line in text.splitlines() for piece in pieces(line.rstrip(), width)]


def pieces(line: str, width: int) -> Iterator[str]:
    yield line[:width]
    for start in range(width, len(line), width):
        yield line[start : start + width]


def load_test(name: str) -> Callable[[Console], None]:
    notes = (f"the names of this run begin with {name}", "p99 of all was 1 ms")
    return partial(show_results, with_verdict(flash_sale(skus=(name,)), notes=notes))


def live(name: str) -> Callable[[Console], None]:
    shot = LiveSnapshot(seconds=5, planned_seconds=60, rates={}, hot=((name, 12, "in_stock"), ("mug", 0, "sold_out")))
    return lambda console: console.print(LiveView(console).view(shot))


def replay(name: str) -> Callable[[Console], None]:
    report = ReplayReport("online-retail.csv", "kafka", "paid", 100, skipped={f"fee {name}": 3, "no quantity": 1})
    report.differences = [StockDifference(name, "on_hand", 5, 4)]
    report.missing, report.changed = [name, "order-2"], True
    return report.show


def comparison(name: str) -> Callable[[Console], None]:
    sale = flash_sale()
    other = structs.replace(sale, settings={**sale.settings, "door": name}, machine={**sale.machine, "host": name})
    return partial(show_comparison, compare(sale, other))


def standing(name: str) -> Callable[[Console], None]:
    counters = {f"on_hand@{name}": 1_234_567, "on_hand@SH1": 12, "committed@SH1": 3}
    record = SkuRecord(7, 1_000, counters, (name, "SH1"))
    offers = (Offer(name, "in_stock", 1_234_567, 0), Offer("jd", "preorder", 0, 20))
    return lambda console: render_snapshot(console, name, SkuSnapshot(record, 3, offers, 7), None)


def story(name: str) -> Callable[[Console], None]:
    def draw(console: Console) -> None:
        table = HistoryTable(console, name)
        table.heading()
        table.numbers(f"where it stood at {name}", SkuRecord(7, 1_000, {f"on_hand@{name}": 12}, (name,)))
        table.offers((Offer(name, "in_stock", 12, 0),))

    return draw


def letters(name: str) -> Callable[[Console], None]:
    place = RecordPlace("stocktide-orders", 2, 1_234)
    detail = f"no order {name} is known, and the event waited for it as long as it may"
    letter = DeadLetterSummary(
        place, name.encode(), "unknown_order", detail, None, place, "2026-11-11T00:00:00.000Z", 99
    )
    return lambda console: render_dead_letters(console, [letter], lambda where: f"{where.topic}/{where.offset}", True)


TABLES = (load_test, live, replay, comparison, standing, story, letters)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", TABLES)
def test_a_name_of_30_characters_breaks_after_hyphens(
    table: Callable[[str], Callable[[Console], None]], width: int
) -> None:
    for name in NAMES:
        words = set(re.findall("[^-]+-?", name))
        text = "\n".join(on(width, table(name)))
        whole = text.replace(name, "")
        assert text != whole or all(word in text for word in words), text
        for word in words:
            # No line of a cell ends with the beginning of a word.
            for end in range(3, len(word.rstrip("-"))):
                assert not re.search(rf"(^|[\s│-]){re.escape(word[:end])}\s*(│|$)", whole, re.MULTILINE), whole


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", TABLES)
def test_a_name_of_128_characters_leaves_numbers_whole(
    table: Callable[[str], Callable[[Console], None]], width: int
) -> None:
    assert len(LONG) == 128
    plain = on(width, table("mug"))
    numbers = {number for line in plain for number in re.findall(r"(?<=\s)\d[\d,.]{2,}(?=\s)", line)}
    text = " \n ".join(on(width, table(LONG)))
    assert [number for number in numbers if not re.search(rf"\s{re.escape(number)}\s", text)] == [], text


def topic_lines(width: int | None) -> list[str]:
    rows = [TopicStatus(topic, f"a-shop-with-a-long-name-{topic.name}", 4, 1) for topic in TOPICS]
    cells = [("topic", "key", "partitions", "replicas", "kept", "written by", "holds"), *map(topics._cells, rows)]
    return list(topics.format_table(cells, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_topics_fit_the_terminal_word_by_word(width: int) -> None:
    lines = topic_lines(width)
    assert max(map(len, lines)) <= width
    words = " ".join(topic_lines(None)).split()
    assert set(words) <= set(" ".join(lines).replace(";", "").split()) | set(words[:8])
    assert len(topic_lines(None)) == len(TOPICS) + 1


@pytest.mark.parametrize("width", [40, *WIDTHS])
def test_a_wrapped_line_keeps_its_words_and_its_margin(width: int) -> None:
    line = f"  note   maxmemory is not set: the server {SKU} ends when memory runs out; set it below what there is"
    first, *rest = text_wrapping.wrapped(line, width, indent=9)
    assert first.startswith("  note   maxmemory")
    assert all(each.startswith(" " * 9) and not each.startswith(" " * 10) for each in rest)
    assert " ".join([first, *(each.strip() for each in rest)]) == line
    assert max(map(len, (first, *rest))) <= width
    assert text_wrapping.wrapped(line, None) == [line]


def test_only_a_word_that_is_wider_than_the_terminal_is_broken_and_nothing_of_it_is_lost() -> None:
    lines = text_wrapping.wrapped("key " + "x" * 128, 40, indent=4)
    assert "".join(line.strip() for line in lines).removeprefix("key") == "x" * 128
    assert max(map(len, lines)) <= 40
    assert text_wrapping.name_lines(PLACE, 12) == ["hangzhou-", "bonded-", "warehouse-", "no-1"]
    assert "".join(text_wrapping.name_lines("天" * 30, 13)) == "天" * 30


def test_the_end_of_a_load_test_cannot_be_taken_for_violations() -> None:
    text = "\n".join(on(100, partial(show_results, flash_sale())))
    rows = [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in text.splitlines()]
    checked = f"{flash_sale().verdict.checked['oversold']:,}"
    assert ["what has to hold", "checked", "violations"] in rows
    assert ["nothing is oversold", checked, "0"] in rows
    assert "no promise was broken" in text
    assert "looked at" not in text
    assert "oversold " + checked not in text


def test_a_violation_is_counted_beside_what_has_to_hold() -> None:
    text = "\n".join(on(100, partial(show_results, broken(count=3))))
    assert re.search(r"nothing is oversold +│ +[\d,]+ │ +3 │", text)
    assert "a promise was broken: 3 violations; the first:" in text
    assert "no promise was broken" not in text
    assert OVERSOLD.what in text


def test_what_no_checker_saw_is_not_called_clean_and_a_run_that_is_not_valid_proves_nothing() -> None:
    results = with_verdict(not_valid(), checked={"oversold": 0, "some_new_checker": 4})
    text = "\n".join(on(100, partial(show_results, results)))
    assert re.search(r"nothing is oversold +│ not checked │ +│", text)
    assert re.search(r"some new checker +│ +4 │ +0 │", text)
    assert "no promise was broken, but the run is not valid and proves nothing" in text


def test_the_limit_is_said_in_the_same_words_on_the_console_and_in_the_readme_s_terms() -> None:
    for limit, sentence in LIMITS.items():
        assert sentence in " ".join(on(200, partial(show_results, with_verdict(flash_sale(), limit=limit))))
    assert "load generator's machine" in LIMITS["tester"]


def test_a_replay_tells_its_dates_and_the_ragged_rows_line_by_line() -> None:
    report = ReplayReport(
        "r.csv", "kafka", "paid", None, first_at="2010-12-01T08:26:00+00:00", last_at="2011-12-09T12:50"
    )
    report.ragged_rows, report.ragged_first = 12, [f"line {n}: 7 fields; expected 8" for n in range(10)]
    text = "\n".join(on(80, report.show))
    assert "2010-12-01 to 2011-12-09" in text
    assert "12, read nevertheless:" in text
    assert "line 9: 7 fields; expected 8" in text
    assert "and 2 more" in text
