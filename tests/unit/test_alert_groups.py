"""Routes, groups and quiet times of alerts, by a clock that the test sets."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktide.agents.notify import groups as groups_module
from stocktide.agents.notify.config import Match, QuietTime, Route
from stocktide.agents.notify.groups import Groups, Message
from stocktide.agents.notify.routing import Alert, held_until, taken_by
from stocktide.streams.contract.times import ms_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
EVERY_DAY = frozenset(range(7))
NIGHT = QuietTime("night", EVERY_DAY, 22 * 60, 7 * 60, SHANGHAI, frozenset({"critical"}))


def at(text: str) -> int:
    """A moment of Shanghai, such as `11-11 22:00`."""
    return ms_of(datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=SHANGHAI))


def route(**fields: Any) -> Route:
    times: dict[str, Any] = {"group_wait": 30.0, "group_interval": 300.0, "repeat_interval": 14_400.0}
    labels = ("type", "channel")
    whole = {"receiver": "duty", "match": Match(), "goes_on": False, "group_by": labels, "quiet": (), **times}
    return Route(**{**whole, **fields})


def alert(sku: str = "A", type: str = "low_stock", **fields: Any) -> Alert:
    return Alert(**{"id": sku, "at": "", "channel": "jd", "quantity": 1, **fields}, type=type, sku=sku)


class Clock:
    """Groups of one route with their moment; each alert has the next offset."""

    def __init__(self, *routes: Route, now: int = 0) -> None:
        self.groups = Groups(routes or (route(),))
        self.now = now
        self.offset = -1

    def add(self, *alerts: Alert) -> list[bool]:
        kept = []
        for each in alerts:
            self.offset += 1
            kept.append(self.groups.add(0, each, (0, self.offset), self.now))
        return kept

    def due(self, seconds: float = 0) -> Message | None:
        self.now += round(seconds * 1000)
        self.groups.forget_idle(self.now)
        return self.groups.due(self.now)

    def send(self, seconds: float = 0) -> str:
        """The SKUs of the message that is due after so many seconds; it is taken."""
        message = self.due(seconds)
        if message is None:
            return ""
        self.groups.sent(message, len(message.waiting), self.now)
        return "".join(each.alert.sku for each in message.waiting)


@pytest.mark.parametrize(
    ("match", "given", "takes"),
    [
        (Match(), alert(), True),
        (Match(types=("low_stock",)), alert(type="drift"), False),
        (Match(severities=("critical",)), alert(type="drift"), True),
        (Match(severities=("critical",)), alert(), False),
        (Match(channels=("jd",), sku_prefixes=("B", "A")), alert(), True),
        (Match(channels=("tmall",)), alert(), False),
        (Match(sku_prefixes=("B",)), alert(), False),
        (Match(warehouses=("SH1",)), alert(), False),
        (Match(warehouses=("SH1",)), alert(warehouse="SH1"), True),
    ],
)
def test_a_route_takes_what_meets_all_of_its_conditions(match: Match, given: Alert, takes: bool) -> None:
    assert taken_by([route(match=match)], given) == [0] * takes


def test_the_first_route_takes_an_alert_and_only_one_that_goes_on_leaves_it_to_the_next() -> None:
    never = route(match=Match(channels=("x",)))
    assert taken_by([never, route(goes_on=True), never, route(), route()], alert()) == [1, 3]


def test_alerts_of_a_group_wait_for_each_other_and_then_for_the_interval() -> None:
    clock = Clock()
    clock.add(alert("A"))
    assert clock.due(10) is None
    clock.add(alert("B"), alert("X", type="drift"))
    assert clock.send(20) == "AB" and clock.send() == ""
    assert clock.send(10) == "X", "another group has its own time"
    clock.add(alert("C"))
    assert clock.send(280) == "" and clock.send(10) == "C"
    clock.due(301)
    clock.add(alert("D"))
    assert clock.send(29) == "" and clock.send(1) == "D", "a group that was idle begins anew"


def test_what_says_nothing_new_is_counted_until_the_interval_of_repeats_is_over() -> None:
    clock = Clock()
    assert clock.add(alert("A"), alert("A")) == [True, False]
    message = clock.due(30)
    assert message is not None and message.repeats == 1 and clock.send() == "A"
    assert clock.add(alert("A"), alert("A", quantity=0), alert("A")) == [False, True, True], "it has said otherwise"
    assert clock.send(300) == "AA"
    clock.due(14_400)
    assert clock.add(alert("A")) == [True]


def test_the_last_word_about_a_thing_is_never_left_out() -> None:
    clock = Clock(route(group_by=()))
    switch = [alert(type="mode_switched", mode=mode) for mode in ("sold_out", "in_stock", "sold_out")]
    stall = [alert(type=kind, part="outbox", detail="d") for kind in ("stalled", "stall_over", "stalled")]
    assert clock.add(*switch, *stall) == [True] * 6


def test_a_message_that_was_sent_late_does_not_hide_the_last_word() -> None:
    clock = Clock(route(group_wait=0.0))
    clock.add(alert("A", quantity=1))
    message = clock.due()
    assert message is not None
    clock.add(alert("A", quantity=2))  # while it is being sent
    clock.groups.sent(message, 1, clock.now)
    assert clock.add(alert("A", quantity=1), alert("A", quantity=1)) == [True, False]


def test_a_group_begins_anew_although_nobody_looked_at_the_clock_while_nothing_waited() -> None:
    clock = Clock()
    clock.add(alert("A"))
    assert clock.send(30) == "A"
    clock.now += 3_600_000
    clock.add(alert("B"))
    assert clock.send() == "" and clock.send(29) == "", "it waits for what comes with it"
    clock.add(alert("C"))
    assert clock.send(1) == "BC"


def test_a_row_that_is_raised_twice_is_sent_once_whatever_was_said_between() -> None:
    clock = Clock()
    keys = [alert("", "key_expiring", id=f"key-{name}", detail=f"the key {name} expires") for name in "ab"]
    switches = [alert(type="mode_switched", id=f"mode-{mode}", mode=mode) for mode in ("sold_out", "in_stock")]
    for rows in (keys, switches):  # of two processes; of a worker that was killed
        assert clock.add(*rows, *rows) == [True, True, False, False]


def test_a_receiver_that_takes_a_part_is_not_failing() -> None:
    clock = Clock(route(group_wait=0.0))
    clock.add(alert("A"), alert("B"))
    message = clock.due()
    assert message is not None
    clock.groups.failed(message, clock.now, clock.now)
    message = clock.due()
    assert message is not None and message.group.failing_since is not None
    clock.groups.sent(message, 1, clock.now)
    assert message.group.failing_since is None


def test_what_was_given_up_is_no_repeat() -> None:
    clock = Clock(route(group_wait=0.0))
    clock.add(alert("A"))
    message = clock.due()
    assert message is not None
    assert clock.groups.give_up(message) == [(0, 0)] and len(clock.groups) == 0
    assert clock.add(alert("A")) == [True]


def test_quiet_times_hold_back_what_does_not_pass_and_release_it_as_one_message() -> None:
    clock = Clock(route(quiet=(NIGHT,), group_by=()), now=at("11-11 21:59"))
    clock.add(alert("A"))
    assert clock.send(30) == "A"
    clock.add(alert("B"))
    assert clock.send(300) == "", "quiet has begun"
    clock.add(alert("C"), alert("X", type="shortfall"))
    assert clock.send(300) == "X", "what is urgent does not wait for the morning"
    assert clock.groups.next_due() == at("11-12 07:00") or clock.send(300) == ""
    assert clock.groups.next_due() == at("11-12 07:00")
    clock.now = at("11-12 07:00")
    assert clock.send() == "BC" and len(clock.groups) == 0


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("11-11 21:59", None),
        ("11-11 22:00", "11-12 07:00"),
        ("11-12 06:59", "11-12 07:00"),
        ("11-12 07:00", None),
        ("11-13 23:00", "11-16 07:00"),
    ],
)
def test_a_night_goes_over_into_the_next_day_and_a_weekend_joins_its_nights(now: str, until: str | None) -> None:
    weekend = QuietTime("weekend", frozenset({5, 6}), 0, 24 * 60, SHANGHAI, frozenset())
    assert held_until((NIGHT, weekend), "info", at(now)) == (until and at(until))
    assert held_until((NIGHT,), "critical", at(now)) is None


def test_a_quiet_time_follows_the_clocks_of_its_zone() -> None:
    berlin = QuietTime("night", EVERY_DAY, 22 * 60, 7 * 60, ZoneInfo("Europe/Berlin"), frozenset())
    before = ms_of(datetime(2026, 3, 28, 22, 0, tzinfo=UTC))  # the clocks go forward in this night
    assert held_until((berlin,), "info", before) == ms_of(datetime(2026, 3, 29, 5, 0, tzinfo=UTC))
    for minute in range(0, 240, 7):  # and back in this one: 2:00 to 3:00 is there twice
        short = QuietTime("short", EVERY_DAY, 130, 170, ZoneInfo("Europe/Berlin"), frozenset())
        moment = ms_of(datetime(2026, 10, 24, 23, 0, tzinfo=UTC)) + minute * 60_000
        assert (held_until((short,), "info", moment) or moment + 1) > moment


def test_it_may_always_be_quiet() -> None:
    always = QuietTime("always", EVERY_DAY, 0, 24 * 60, SHANGHAI, frozenset())
    assert (held_until((always,), "info", 0) or 0) > 7 * 86_400_000


def test_a_group_that_fails_goes_behind_the_others_and_loses_nothing() -> None:
    clock = Clock()
    clock.add(alert("A"), alert("B", channel="tmall"))
    message = clock.due(30)
    assert message is not None
    clock.groups.failed(message, clock.now + 60_000, clock.now)
    assert clock.send() == "B" and clock.send() == ""
    assert clock.send(60) == "A"


def test_there_are_bounds_and_what_exceeds_them_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "ALERTS_MAX", 3)
    monkeypatch.setattr(groups_module, "GROUPS_MAX", 2)
    clock = Clock(route(group_by=("sku",)))
    assert clock.add(*map(alert, "ABCDE")) == [True, True, True, False, False]
    message = clock.due(30)
    assert message is not None and clock.send() == "A" and clock.send() == "B"
    message = clock.due()
    assert message is not None and message.group.labels == () and message.more == 2 and clock.send() == "C"
    assert clock.due() is None and len(clock.groups) == 0


def large(number: int, bytes_: int) -> Alert:
    return alert(f"S{number}", detail="x" * bytes_)


@pytest.mark.parametrize("receivers", [1, 20])
def test_alerts_that_wait_are_bounded_in_bytes_of_which_each_receiver_has_its_share(receivers: int) -> None:
    clock = Clock()
    clock.groups = Groups((route(),), receivers)
    share = groups_module.WAITING_BYTES_MAX // receivers
    size = share // 5
    assert clock.add(*(large(each, size) for each in range(8))) == [True] * 4 + [False] * 4
    message = clock.due(30)
    assert message is not None and (len(message.waiting), message.more) == (4, 4)
    clock.groups.sent(message, 1, clock.now)
    assert clock.add(large(8, size), large(9, size)) == [True, False], "what was sent gives its room back"


def test_an_alert_that_is_larger_than_the_share_waits_alone() -> None:
    clock = Clock()
    clock.groups = Groups((route(),), 20)
    assert clock.add(*(large(each, groups_module.WAITING_BYTES_MAX) for each in range(2))) == [True, False]


def test_what_was_said_is_remembered_without_its_texts() -> None:
    clock = Clock(route(group_wait=0.0))
    tracemalloc.start()
    try:
        for number in range(20):
            clock.add(large(number, 100_000))
            assert clock.send(300)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    assert clock.add(large(1, 100_000), large(1, 99_999)) == [False, True]


def test_numbers_that_python_hashes_alike_are_no_repeats() -> None:
    assert hash(-1) == hash(-2)
    assert Clock().add(alert(quantity=-1), alert(quantity=-2)) == [True, True]


@pytest.mark.parametrize("receivers", [1, 20])
def test_the_oldest_thing_that_was_said_is_forgotten_first(receivers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups_module, "SUBJECTS_MAX", 3 * receivers)
    clock = Clock()
    clock.groups = Groups((route(),), receivers)
    assert clock.add(*map(alert, "ABCDBA")) == [True, True, True, True, False, True]


@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from(["ok", "fail", "part", "wait"])), max_size=60))
def test_every_alert_that_is_kept_is_sent_once(steps: list[tuple[str, str]]) -> None:
    clock = Clock(route(group_by=("sku",), repeat_interval=0.0, group_interval=1.0))
    kept, done = [], []
    for number, (sku, step) in enumerate(steps):
        assert clock.add(alert(sku, quantity=number)) == [True]
        kept.append((0, clock.offset))
        message = None if step == "wait" else clock.due(10)
        if message is not None and step == "fail":
            clock.groups.failed(message, clock.now + 5_000, clock.now)
        elif message is not None:
            count = len(message.waiting) if step == "ok" else 1
            done += clock.groups.sent(message, count, clock.now)
    for _ in range(200):
        if message := clock.due(10):
            done += clock.groups.sent(message, len(message.waiting), clock.now)
    assert sorted(done) == kept and len(clock.groups) == 0
