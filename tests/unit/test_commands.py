"""Events become commands: lines are summed, and fingerprints do not depend on the transport."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from stocktide.streams.contract import events
from stocktide.streams.contract.times import ms_of
from stocktide.tables.ledger import commands, make_commands
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.make_commands import make_command, make_place

AT = datetime(2026, 11, 11, tzinfo=UTC)


def lines(*given: tuple[str, int]) -> tuple[events.OrderLine, ...]:
    return tuple(events.OrderLine(*line) for line in given)


def placed(**fields: object) -> events.OrderPlaced:
    usual = {"id": "p", "occurred_at": AT, "order_id": "o1", "channel": "tmall", "lines": lines(("A", 1), ("B", 2))}
    return events.OrderPlaced(**(usual | fields))  # type: ignore[arg-type]


def counted(at: datetime) -> events.StockCounted:
    return events.StockCounted(id="c", occurred_at=at, warehouse="SH1", lines=(events.CountedLine("A", 3),))


def expected(at: datetime, eta: datetime = AT) -> events.StockExpected:
    lines = (events.ExpectedLine("A", 3),)
    return events.StockExpected(id="po-9", occurred_at=at, warehouse="SH1", lines=lines, eta=eta)


def test_rule_18_lines_of_one_sku_are_summed_in_the_order_first_seen() -> None:
    command = make_place(placed(lines=lines(("B", 1), ("A", 2), ("B", 3))))
    assert command.lines == (("B", 4), ("A", 2))


def test_rule_34_lines_of_one_sku_are_summed_in_a_movement() -> None:
    receipt = events.StockReceived(id="m", occurred_at=AT, warehouse="SH1", lines=lines(("A", 1), ("B", 2), ("A", 3)))
    command = make_command(receipt)
    assert isinstance(command, commands.Receive)
    assert command.lines == (("A", 4), ("B", 2))


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "another", "occurred_at": AT + timedelta(hours=1)},
        {"lines": lines(("B", 2), ("A", 1))},
        {"lines": lines(("B", 1), ("A", 1), ("B", 1))},
        {"priority": "standard", "accept": "all", "allow_preorder": True, "hold_seconds": 900},
    ],
    ids=["id and time", "order of lines", "lines to sum", "defaults spelt out"],
)
def test_rule_19_what_does_not_change_the_body_does_not_change_its_fingerprint(fields: dict[str, object]) -> None:
    assert make_place(placed(**fields)).fingerprint == make_place(placed()).fingerprint


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": "jd"},
        {"lines": lines(("A", 1))},
        {"lines": lines(("A", 1), ("B", 3))},
        {"priority": "vip"},
        {"accept": "partial"},
        {"allow_preorder": False},
        {"hold_seconds": 901},
        {"region": "310000"},
        {"purpose": "vip"},
        {"supersedes": "o0"},
        {"paid": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_rule_19_every_other_field_does(fields: dict[str, object]) -> None:
    assert make_place(placed(**fields)).fingerprint != make_place(placed()).fingerprint


def test_rule_19_an_order_has_the_same_fingerprint_by_http_and_by_kafka() -> None:
    body = events.OrderBody(order_id="o1", channel="tmall", lines=lines(("A", 1), ("B", 2)))
    by_http, by_kafka = make_place(body), make_command(placed())
    assert isinstance(by_kafka, commands.Place)
    assert by_http.fingerprint == by_kafka.fingerprint
    assert (by_http.id, by_http.at) == (commands.PLACED_ID_DEFAULT, None)


def test_rule_22_events_of_other_types_never_share_a_fingerprint() -> None:
    fingerprints = {
        make_command(events.OrderPaid(id="e", occurred_at=AT, order_id="o1")).fingerprint,  # type: ignore[union-attr]
        make_command(events.OrderCancelled(id="e", occurred_at=AT, order_id="o1")).fingerprint,  # type: ignore[union-attr]
        make_commands.make_extend("o1", 900, "e").fingerprint,
    }
    assert len(fingerprints) == 3


def test_rule_51_a_cancellation_of_units_has_a_body_of_its_own() -> None:
    def cancel(*given: tuple[str, int]) -> str:
        return make_commands.make_cancel("o1", lines(*given) or None, "e").fingerprint

    assert cancel() == make_commands.fingerprint("cancel")
    assert cancel(("A", 1), ("B", 2)) == cancel(("B", 2), ("A", 1)) == cancel(("B", 1), ("A", 1), ("B", 1))
    assert len({cancel(), cancel(("A", 1)), cancel(("A", 2))}) == 3


def test_rule_52_the_lines_of_an_exchange_are_its_body() -> None:
    def change(remove: tuple[events.OrderLine, ...], add: tuple[events.OrderLine, ...]) -> commands.Change:
        return make_commands.make_change("o1", remove, add, "e")

    one, two = lines(("A", 1), ("B", 1), ("A", 1)), lines(("B", 1), ("A", 2))
    assert change(one, two).fingerprint == change(two, one).fingerprint != change(two, ()).fingerprint
    assert change(two, ()).fingerprint != change((), two).fingerprint
    assert (change(one, one).remove, change(one, one).add) == ((("A", 1), ("B", 1), ("A", 1)), (("A", 2), ("B", 1)))
    assert commands.lines_of(change(one, two)) == 5


def test_the_time_of_a_count_is_part_of_what_it_says() -> None:
    first, second = make_command(counted(AT)), make_command(counted(AT + timedelta(seconds=1)))
    assert isinstance(first, commands.Count)
    assert isinstance(second, commands.Count)
    assert first.fingerprint != second.fingerprint


def test_rule_17_the_time_of_arrival_is_part_of_an_announcement_and_when_it_was_made_is_not() -> None:
    later = AT + timedelta(seconds=1)
    first, same, other = (make_command(each) for each in (expected(AT), expected(later), expected(AT, later)))
    assert isinstance(first, commands.Expect) and isinstance(same, commands.Expect)
    assert isinstance(other, commands.Expect)
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert (first.eta, other.eta) == (ms_of(AT), ms_of(later))


def test_times_become_whole_milliseconds() -> None:
    for millisecond in range(1_000):
        command = make_command(counted(AT + timedelta(milliseconds=millisecond)))
        assert isinstance(command, commands.Count)
        assert command.at == ms_of(AT) + millisecond


ORDER_EVENT: dict[str, Any] = {"id": "e", "occurred_at": AT, "order_id": "o1"}
POOLED: dict[str, Any] = {"id": "m", "occurred_at": AT, "warehouse": "SH1", "purpose": "vip", "lines": lines(("A", 1))}
COMMANDS: dict[type, events.Event] = {
    commands.Place: placed(),
    commands.Pay: events.OrderPaid(**ORDER_EVENT, if_expired="take_again"),
    commands.Cancel: events.OrderCancelled(**ORDER_EVENT, lines=lines(("A", 1))),
    commands.Change: events.OrderChanged(**ORDER_EVENT, remove=lines(("A", 1)), add=lines(("B", 1))),
    commands.Extend: events.OrderExtended(**ORDER_EVENT),
    commands.Ship: events.OrderShipped(**ORDER_EVENT, lines=(events.ShippedLine("A", 1, "SH1"),)),
    commands.TakeBack: events.OrderReturned(**ORDER_EVENT, lines=(events.ReturnedLine("A", 1, "SH1"),)),
    commands.Count: counted(AT),
    commands.Void: events.StockVoided(id="v", occurred_at=AT, warehouse="SH1", movement_id="m"),
    commands.Expect: expected(AT),
    commands.Reserve: events.StockReserved(**POOLED),
    commands.Release: events.StockReleased(**POOLED),
}


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_command_survives_the_way_through_msgpack(kind: type) -> None:
    command = make_command(COMMANDS[kind], commands.Origin("orders", 3, 14, "raw"), 159)
    assert isinstance(command, kind)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(command), type=Command) == command
