"""Histories with and without stalls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from stocktide.loadtest.client.contract import (
    ChannelUpdateView,
    DeadLetterView,
    LineView,
    MovementView,
    OrderView,
    StockView,
)
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    DeadLetterPublished,
    FaultRecord,
    HistoryRecord,
    InputTransport,
    MovementPublished,
    OrderPublished,
    Request,
    Response,
    RunQuiesced,
    RunStarted,
    StockPublished,
    Subscribed,
    TopicsRead,
    UpdateReceived,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.loadtest.oracle.stands_still import GRACE_MS, STALL_MS
from stocktide.loadtest.oracle.verdict import CheckerResult

AT = 1_700_000_000_000
SECONDS = 40


class SteadyShop:
    """A run with an order, a movement and an update every second.

    `happens` decides for each second whether the recorder has the `topics_read`, and whether there is an `order`, its
    `order_row`, the `movement_row`, the `channel_row`, and the update that a subscriber `received`. The rows of
    channel-stock are `ahead` versions ahead of those of stock, as a recorder may read them.
    """

    def __init__(
        self,
        door: InputTransport = "kafka",
        faults: tuple[tuple[int, int], ...] = (),
        ahead: int = 0,
        **happens: Callable[[int], bool],
    ) -> None:
        self.door: InputTransport = door
        self.faults = faults
        self.ahead = ahead
        self._happens = happens

    def happens(self, what: str, second: int) -> bool:
        return what not in self._happens or self._happens[what](second)

    def history(self) -> Iterator[HistoryRecord]:
        yield RunStarted(AT, "s", 1)
        yield Subscribed(AT, "jd-1", "jd")
        for second in range(1, SECONDS):
            at = AT + 1000 * second
            for begun, healed in self.faults:
                if second == begun:
                    yield FaultRecord(at, "f")
                if second == healed:
                    yield FaultRecord(at, "f", "healed")
            if self.happens("topics_read", second):
                yield TopicsRead(at)
            yield from self._inputs(second, at)
            yield from self._rows(second, at + 500)
        yield RunQuiesced(AT + 1000 * SECONDS)

    def _inputs(self, second: int, at: int) -> Iterator[HistoryRecord]:
        if self.happens("order", second):
            line = {"sku": "A", "quantity": 1}
            event = {"order_id": f"o{second}", "channel": "jd", "id": f"o{second}", "lines": [line]}
            yield Request(at, 2 * second, self.door, "order.placed", event)
            yield Response(at + 1, 2 * second, 201 if self.door == "http" else 202)
        received = {"id": f"m{second}", "warehouse": "SH1", "lines": [{"sku": "A", "quantity": 2}]}
        yield Request(at, 2 * second + 1, "kafka", "stock.received", received)
        yield Response(at + 1, 2 * second + 1, 202)

    def _rows(self, second: int, at: int) -> Iterator[HistoryRecord]:
        if self.happens("order", second) and self.happens("order_row", second):
            order = OrderView(f"o{second}", "jd", "reserved", (LineView("A", 1),), 1, batch=second)
            yield OrderPublished(at, 0, second, order)
        if self.happens("movement_row", second):
            yield MovementPublished(
                at, 0, second, MovementView("SH1", f"m{second}", "stock.received", "applied", batch=second)
            )
        for number in range(3):
            stock = StockView("A", 3 * second + number, available=5 + 3 * second + number, batch=second)
            yield StockPublished(at, 0, 3 * second + number, stock)
        if self.happens("channel_row", second):
            update = ChannelUpdateView("jd", "A", 5 + second, "in_stock", 0, 3 * second + 2 + self.ahead)
            yield ChannelUpdatePublished(at, 0, second, update)
            if self.happens("received", second):
                yield UpdateReceived(at + 1, "jd-1", update)


def judge_stalls(shop: SteadyShop) -> CheckerResult:
    return judge(list(shop.history()), recorded_live=True).part("stands_still")


def until_ten(second: int) -> bool:
    return second < 10


def test_a_shop_in_which_everything_moves_stands_nowhere_still() -> None:
    for door in ("kafka", "http"):
        found = judge_stalls(SteadyShop(door))
        assert not found.found and found.looked["accepted"] > SECONDS and found.looked["seconds"] > SECONDS / 2


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("order_row", "row of reservations"),
        ("movement_row", "row of adjustments"),
        ("channel_row", "partition 0"),
        ("received", "jd-1"),
    ],
)
def test_a_way_that_stops_while_work_waits_is_found_once(path: str, words: str) -> None:
    found = judge_stalls(SteadyShop(**{path: until_ten}))  # type: ignore[arg-type]
    assert found.found == 1 and words in found.violations[0].what
    assert AT + 10_000 + STALL_MS <= found.violations[0].at <= AT + 10_000 + 2 * STALL_MS


def test_requests_of_which_none_is_answered_are_found() -> None:
    shop = SteadyShop("http")
    records = [
        record
        for record in shop.history()
        if not (isinstance(record, Response) and not record.number % 2 and record.number >= 20)
    ]
    found = judge(records, recorded_live=True).part("stands_still")
    assert found.found == 1 and "none is answered" in found.violations[0].what


def test_a_way_that_goes_on_after_nine_seconds_stands_not_still() -> None:
    assert not judge_stalls(SteadyShop(order_row=lambda second: second % 10 == 0)).found


def test_nothing_is_pending_where_nothing_was_asked() -> None:
    assert not judge_stalls(SteadyShop(order=until_ten)).found


@pytest.mark.parametrize(
    ("raw", "found"),
    [('{"type":"order.placed","order_id":"o%d"}', 0), ('{"type":"order.placed","order_id":"n%d"}', 1), ("%d{", 1)],
)
def test_a_dead_letter_is_a_move_where_it_refuses_what_waits_and_only_there(raw: str, found: int) -> None:
    shop = SteadyShop(order_row=until_ten)
    letters = [
        DeadLetterPublished(AT + 1000 * second + 700, 0, second, DeadLetterView("refused", "x", raw=raw % second))
        for second in range(10, SECONDS, 5)
    ]
    records = sorted([*shop.history(), *letters], key=lambda record: record.at)
    assert judge(records, recorded_live=True).part("stands_still").found == found


def test_during_a_fault_and_in_its_grace_nothing_has_to_move() -> None:
    grace = GRACE_MS // 1000
    shop = SteadyShop(faults=((8, 15),), order_row=lambda second: second < 10 or second > 15 + grace)
    assert not judge_stalls(shop).found


def test_what_stands_still_beyond_a_fault_and_its_grace_is_found() -> None:
    found = judge_stalls(SteadyShop(faults=((2, 3),), order_row=until_ten))
    assert found.found == 1
    assert found.violations[0].at >= AT + 3_000 + GRACE_MS + STALL_MS


def test_a_tester_that_did_not_look_says_nothing_of_that_time() -> None:
    shop = SteadyShop(order_row=lambda second: second < 10 or second > 25)
    unseen = [record for record in shop.history() if not AT + 11_000 <= record.at < AT + 26_000]
    assert not judge(unseen, recorded_live=True).part("stands_still").found


def test_a_watch_finds_it_while_the_run_goes_on_and_other_judges_do_not_look() -> None:
    shop = SteadyShop(movement_row=until_ten)
    live_judge = LiveJudge(recorded_live=True)
    found = [violation.checker for record in shop.history() for violation in live_judge.feed(record)]
    assert "stands_still" in found
    assert "stands_still" not in {part.checker for part in judge(list(shop.history())).checked}


def test_rows_that_the_recorder_reads_late_are_no_stall() -> None:
    def reads(second: int) -> bool:
        return second < 10 or second > 30

    assert not judge_stalls(SteadyShop(order_row=reads, topics_read=reads)).violations


def test_changes_of_stock_whose_update_was_read_before_them_do_not_wait() -> None:
    last = 3 * SECONDS
    assert not judge_stalls(SteadyShop(ahead=last, channel_row=until_ten)).found
    assert judge_stalls(SteadyShop(ahead=last // 4, channel_row=until_ten)).found
