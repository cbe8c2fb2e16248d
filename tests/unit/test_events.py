"""Bad input gets a reason and the path of the error; good input becomes a typed message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest

from stocktide.streams.contract import events
from stocktide.streams.contract.decode_errors import DETAIL_CHARACTERS_MAX
from stocktide.streams.contract.events import Malformed, decode_event, decode_movement, decode_order_event, decode_with

PLACED: dict[str, Any] = {
    "type": "order.placed",
    "id": "tmall-1001-placed",
    "occurred_at": "2026-11-11T00:00:00Z",
    "order_id": "tmall-1001",
    "channel": "tmall",
    "lines": [{"sku": "85123A", "quantity": 2}],
}
RECEIVED: dict[str, Any] = {
    "type": "stock.received",
    "id": "wms-7",
    "occurred_at": "2026-11-11T00:00:00Z",
    "warehouse": "SH1",
    "lines": [{"sku": "85123A", "quantity": 100}],
}
COUNTED = RECEIVED | {"type": "stock.counted"}
RETURNED = {name: PLACED[name] for name in ("id", "occurred_at", "order_id")} | {"type": "order.returned"}
EXPECTED = RECEIVED | {"type": "stock.expected", "eta": "2026-12-01T08:00:00Z"}
RESERVED = {"type": "stock.reserved", "purpose": "vip"}


def line(**fields: Any) -> list[dict[str, Any]]:
    return [{"sku": "A", "quantity": 1} | fields]


def refused(body: dict[str, Any] | bytes) -> Malformed:
    decoded = decode_event(body if isinstance(body, bytes) else msgspec.json.encode(body))
    assert isinstance(decoded, Malformed), decoded
    assert decoded.detail
    return decoded


def taken(body: dict[str, Any]) -> events.Event:
    decoded = decode_event(msgspec.json.encode(body))
    assert not isinstance(decoded, Malformed), decoded
    return decoded


def test_an_order_is_filled_with_the_defaults_of_the_contract() -> None:
    order = taken(PLACED)
    assert order == events.OrderPlaced(
        id="tmall-1001-placed",
        occurred_at=datetime(2026, 11, 11, tzinfo=UTC),
        order_id="tmall-1001",
        channel="tmall",
        lines=(events.OrderLine("85123A", 2),),
        priority="standard",
        accept="all",
        allow_preorder=True,
        hold_seconds=900,
        region=None,
        purpose=None,
        supersedes=None,
    )


def test_unknown_fields_are_ignored() -> None:
    assert taken(PLACED | {"colour": "red", "nested": {"deep": [1, {}]}}) == taken(PLACED)


@pytest.mark.parametrize("field", ["id", "occurred_at", "order_id", "channel", "lines"])
def test_a_missing_field_is_named(field: str) -> None:
    found = refused({name: value for name, value in PLACED.items() if name != field})
    assert (found.code, found.path) == ("missing_field", field)


def test_a_type_that_is_missing_or_unknown_is_named() -> None:
    assert refused({name: value for name, value in PLACED.items() if name != "type"}).path == "type"
    for body in (PLACED | {"type": "order.lost"}, RECEIVED | {"type": "stock.lost"}):
        found = refused(body)
        assert (found.code, found.path) == ("unknown_type", "type")


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (PLACED | {"lines": [*line(), {"sku": "B"}]}, "missing_field", "lines[1].quantity"),
        (PLACED | {"channel": "*"}, "invalid_field", "channel"),
        (PLACED | {"force": True}, "missing_field", "reason"),
        (PLACED | {"force": True, "reason": " "}, "missing_field", "reason"),
        (RECEIVED | {"type": "stock.transferred", "to_warehouse": "SH1"}, "invalid_field", "to_warehouse"),
        (RECEIVED | {"type": "stock.adjusted"}, "missing_field", "reason"),
        (RECEIVED | {"type": "stock.voided"}, "missing_field", "movement_id"),
        (RECEIVED | {"type": "stock.voided", "movement_id": ""}, "invalid_field", "movement_id"),
        (EXPECTED | {"eta": None}, "missing_field", "eta"),
        (EXPECTED | {"eta": "tomorrow"}, "invalid_field", "eta"),
        (EXPECTED | {"eta": "2026-11-11T00:00:00"}, "invalid_field", "eta"),
        (EXPECTED | {"lines": line(quantity=-1)}, "invalid_field", "lines[0].quantity"),
        (EXPECTED | {"lines": line(quantity=1_000_001)}, "invalid_field", "lines[0].quantity"),
        (EXPECTED | {"lines": []}, "invalid_field", "lines"),
        ({name: EXPECTED[name] for name in EXPECTED if name != "warehouse"}, "missing_field", "warehouse"),
        (RECEIVED | {"type": "stock.reserved"}, "missing_field", "purpose"),
        (RECEIVED | {"type": "stock.released", "purpose": "v@ip"}, "invalid_field", "purpose"),
        (RECEIVED | {"type": "stock.reserved", "purpose": "vip", "lines": []}, "invalid_field", "lines"),
        (RECEIVED | RESERVED | {"from": "soon"}, "invalid_field", "from"),
        (
            RECEIVED | RESERVED | {"from": "2026-11-11T00:00:00Z", "until": "2026-11-11T00:00:00Z"},
            "invalid_field",
            "until",
        ),
        (RETURNED | {"lines": line(warehouse="SH1", condition="used")}, "invalid_field", "lines[0].condition"),
        (RETURNED | {"type": "order.shipped", "lines": line()}, "missing_field", "lines[0].warehouse"),
        (RETURNED | {"type": "order.cancelled", "lines": []}, "invalid_field", "lines"),
        (RETURNED | {"type": "order.paid", "if_expired": "ship"}, "invalid_field", "if_expired"),
        (RETURNED | {"type": "order.changed"}, "missing_field", "add"),
        (RETURNED | {"type": "order.changed", "remove": [], "add": []}, "missing_field", "add"),
        (RETURNED | {"type": "order.changed", "remove": line(quantity=0)}, "invalid_field", "remove[0].quantity"),
        (RETURNED | {"type": "order.changed", "add": line(quantity=700_000) * 2}, "invalid_field", "add[1].quantity"),
        (RETURNED | {"type": "order.cancelled", "lines": line(quantity=0)}, "invalid_field", "lines[0].quantity"),
        # Rule 18: a sum over the limit. Rule 34: a repeated SKU in a count.
        (PLACED | {"lines": line(quantity=600_000) + line(quantity=400_001)}, "invalid_field", "lines[1].quantity"),
        (COUNTED | {"lines": line() + line(sku="B") + line()}, "invalid_field", "lines[2].sku"),
    ],
)
def test_what_an_event_may_not_say_is_refused_with_its_path(body: dict[str, Any], code: str, path: str) -> None:
    found = refused(body)
    assert (found.code, found.path) == (code, path)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": 7}, "id"),
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "with space"}, "id"),
        ({"order_id": "tab\there"}, "order_id"),
        ({"order_id": "nul\x00"}, "order_id"),
        ({"channel": None}, "channel"),
        ({"channel": "line\nbreak"}, "channel"),
        ({"occurred_at": "yesterday"}, "occurred_at"),
        ({"occurred_at": "2026-11-11T00:00:00"}, "occurred_at"),
        ({"occurred_at": 1_700_000_000}, "occurred_at"),
        ({"lines": []}, "lines"),
        ({"lines": {}}, "lines"),
        ({"lines": "A"}, "lines"),
        ({"lines": [7]}, "lines[0]"),
        ({"lines": line(quantity=0)}, "lines[0].quantity"),
        ({"lines": line(quantity=-1)}, "lines[0].quantity"),
        ({"lines": line(quantity=1_000_001)}, "lines[0].quantity"),
        ({"lines": line(quantity=1.5)}, "lines[0].quantity"),
        ({"lines": line(quantity="2")}, "lines[0].quantity"),
        ({"lines": line(quantity=True)}, "lines[0].quantity"),
        ({"lines": line(quantity=None)}, "lines[0].quantity"),
        ({"lines": line(sku="")}, "lines[0].sku"),
        ({"lines": line(sku="A B")}, "lines[0].sku"),
        ({"priority": "royal"}, "priority"),
        ({"accept": "some"}, "accept"),
        ({"allow_preorder": "yes"}, "allow_preorder"),
        ({"hold_seconds": 0}, "hold_seconds"),
        ({"hold_seconds": 604_801}, "hold_seconds"),
        ({"supersedes": 9}, "supersedes"),
        ({"force": "yes"}, "force"),
        ({"force": True, "reason": 7}, "reason"),
        ({"force": True, "reason": "why", "actor": "a b"}, "actor"),
        ({"force": True, "reason": "why", "accept": "sold"}, "accept"),
    ],
)
def test_an_ill_typed_field_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    found = refused(PLACED | change)
    assert (found.code, found.path) == ("invalid_field", path)


def test_the_limits_themselves_are_taken() -> None:
    order = PLACED | {"id": "x" * 128, "lines": line(quantity=1_000_000), "hold_seconds": 604_800}
    assert isinstance(taken(order), events.OrderPlaced)
    summed = PLACED | {"lines": line(quantity=600_000) + line(quantity=400_000)}  # rule 18
    assert isinstance(taken(summed), events.OrderPlaced)
    repeated = RECEIVED | {"lines": line() + line()}  # rule 34: only a count names each SKU once
    assert isinstance(taken(repeated), events.StockReceived)


RAW = msgspec.json.encode(PLACED)
NO_MESSAGES = (
    *(b"", b"   \n", b"{", b"[]", b"null", b'"text"', b"7", b"\x00\x01\x02", b'{"type":"order.paid",}'),
    *(RAW.replace(b":2}", b":%b}" % number) for number in b"NaN Infinity -Infinity 1e999 0x10 01".split()),
    RAW.replace(b":2}", b":" + b"9" * 400 + b"}"),
    RAW.replace(b"85123A", b"85\\ud8003A"),
)
NO_JSON = {
    **{f"{rest!r} behind it": RAW + rest for rest in (b"}", b"\n{}", b"x")},
    **{f"{opening!r} nested": RAW[:-1] + b',"extra":' + opening * 100_000 for opening in (b"[", b'{"a":')},
    "invalid UTF-8 in a name": RAW.replace(b"85123A", b"85\xff\xfe3A"),
    "invalid UTF-8 in an ignored field": RAW[:-1] + b',"note":"\xff"}',
}


@pytest.mark.parametrize("raw", NO_MESSAGES, ids=lambda raw: repr(raw[-60:]))
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    assert refused(raw).code in {"malformed_json", "invalid_field"}


@pytest.mark.parametrize("raw", NO_JSON.values(), ids=NO_JSON)
def test_bytes_that_are_no_json_are_refused(raw: bytes) -> None:
    assert refused(raw).code == "malformed_json"


@pytest.mark.parametrize(
    "character", "\u200b\u202e\ufeff\x7f\u0085\ue000\u00a0\u3000\u2028", ids=lambda found: f"U+{ord(found):04X}"
)
def test_a_name_with_white_space_or_a_character_that_cannot_be_printed_is_refused(character: str) -> None:
    found = refused(PLACED | {"lines": [{"sku": "A", "quantity": 1}, {"sku": f"B{character}C", "quantity": 1}]})
    assert (found.code, found.path) == ("invalid_field", "lines[1].sku")


@pytest.mark.parametrize("name", ["淘宝", "ß-1", "a/b", 'quo"te', "back\\slash", "🙂"])
def test_names_of_any_script_are_taken(name: str) -> None:
    order = taken(PLACED | {"order_id": name})
    assert isinstance(order, events.OrderPlaced)
    assert order.order_id == name


def test_two_thousand_lines_are_taken_and_one_more_is_refused() -> None:
    lines = [{"sku": f"S{number}", "quantity": 1} for number in range(2_001)]
    assert isinstance(taken(PLACED | {"lines": lines[:2_000]}), events.OrderPlaced)
    found = refused(PLACED | {"lines": lines})
    assert (found.code, found.path) == ("invalid_field", "lines")


def test_a_mebibyte_is_taken_and_one_byte_more_is_refused() -> None:
    room = events.BODY_BYTES_MAX - len(RAW)
    assert isinstance(decode_event(RAW + b" " * room), events.OrderPlaced)
    assert refused(RAW + b" " * (room + 1)).code == "too_large"


def test_a_count_may_be_zero_and_an_adjustment_negative() -> None:
    assert isinstance(taken(COUNTED | {"lines": line(quantity=0)}), events.StockCounted)
    adjusted = RECEIVED | {"type": "stock.adjusted", "reason": "lost", "lines": line(quantity=-1_000_000)}
    assert isinstance(taken(adjusted), events.StockAdjusted)
    assert refused(adjusted | {"lines": line(quantity=-1_000_001)}).path == "lines[0].quantity"
    assert refused(COUNTED | {"lines": line(quantity=-1)}).path == "lines[0].quantity"


def test_rule_41_a_count_is_of_up_to_a_thousand_million_units_and_in_up_to_a_thousand_parts() -> None:
    assert isinstance(taken(COUNTED | {"lines": line(quantity=1_000_000_000)}), events.StockCounted)
    assert refused(COUNTED | {"lines": line(quantity=1_000_000_001)}).path == "lines[0].quantity"
    assert isinstance(taken(COUNTED | {"part": 1_000, "parts": 1_000, "complete": True}), events.StockCounted)
    for wrong, path in (
        ({"part": 1, "parts": 1_001}, "parts"),
        ({"part": 0, "parts": 2}, "part"),
        ({"part": 3, "parts": 2}, "part"),
        ({"part": 1}, "parts"),
        ({"parts": 2}, "part"),
        ({"complete": "yes"}, "complete"),
    ):
        assert refused(COUNTED | wrong).path == path, wrong


def test_a_return_is_sellable_unless_it_says_otherwise() -> None:
    event = taken(RETURNED | {"lines": line(warehouse="SH1")})
    assert isinstance(event, events.OrderReturned)
    assert event.lines[0].condition == "sellable"


def test_each_topic_takes_only_its_own_events() -> None:
    order, movement = msgspec.json.encode(PLACED), msgspec.json.encode(RECEIVED)
    assert isinstance(decode_order_event(order), events.OrderPlaced)
    assert isinstance(decode_movement(movement), events.StockReceived)
    for decoded in (decode_order_event(movement), decode_movement(order)):
        assert isinstance(decoded, Malformed)
        assert decoded.code == "unknown_type"


def test_a_time_with_another_offset_is_the_same_moment() -> None:
    there = taken(PLACED | {"occurred_at": "2026-11-11T08:00:00+08:00"})
    assert there == taken(PLACED)


@pytest.mark.parametrize(
    ("time", "hint"),
    [
        ('"2016-12-31T23:59:60Z"', "leap second"),
        ('"2026-11-11T00:00:00,5Z"', "a point, not a comma"),
        ('"2026-11-11T24:00:00Z"', "of the next day"),
        ('"2026-11-11T00:00Z"', "seconds are missing"),
        ('"2026-11-11"', "time of day is missing"),
        ('"2026-11-11T00:00:00"', "offset is missing"),
        ('"2026-11-11T00:00:00 08:00"', "`%2B`"),
        ('"11/11/2026 00:00"', "RFC 3339"),
        ("1790000000", "in quotes"),
    ],
)
def test_a_time_that_is_none_is_explained(time: str, hint: str) -> None:
    raw = f'{{"type":"order.paid","id":"1","order_id":"o","occurred_at":{time}}}'
    malformed = decode_event(raw.encode())
    assert isinstance(malformed, Malformed)
    assert (malformed.code, malformed.path) == ("invalid_field", "occurred_at")
    assert hint in malformed.detail
    assert "2026-11-11T00:00:00.000Z" in malformed.detail


def test_a_byte_order_mark_says_nothing_and_utf_16_is_called_by_its_name() -> None:
    raw = b'{"type":"order.paid","id":"1","order_id":"o","occurred_at":"2026-11-11T00:00:00Z"}'
    assert not isinstance(decode_event(b"\xef\xbb\xbf" + raw), Malformed)
    malformed = decode_event(raw.decode().encode("utf-16"))
    assert isinstance(malformed, Malformed)
    assert malformed.detail == "UTF-16, not UTF-8"


def test_an_announcement_that_withdraws_every_line_needs_no_time_of_arrival() -> None:
    withdrawn = {name: EXPECTED[name] for name in EXPECTED if name != "eta"} | {"lines": line(quantity=0)}
    found = taken(withdrawn)
    assert isinstance(found, events.StockExpected) and found.eta is None


@pytest.mark.parametrize("field", ["type", "priority"])
def test_what_is_said_about_a_value_does_not_grow_with_it(field: str) -> None:
    fields = {"type": "order.placed", "id": "1", "order_id": "o", "channel": "c", field: "x" * 100_000}
    malformed = decode_event(msgspec.json.encode(fields))
    assert isinstance(malformed, Malformed) and malformed.path == field
    assert len(malformed.detail) <= DETAIL_CHARACTERS_MAX and "xxx" in malformed.detail


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"priority": "gold"}, "priority", "Invalid enum value 'gold': one of standard, vip"),
        ({"type": "order.plced"}, "type", "Invalid value 'order.plced': one of order.placed, order.paid, "),
        ({"accept": "x - at `$.type`"}, "accept", "Invalid enum value 'x - at `$.type`': one of all, partial, sold"),
        (RETURNED | {"lines": line(condition="new")}, "lines[0].condition", "'new': one of damaged, sellable"),
    ],
)
def test_a_value_that_is_not_listed_is_refused_with_those_that_are(
    changed: dict[str, Any], path: str, said: str
) -> None:
    malformed = decode_event(msgspec.json.encode(PLACED | changed))
    assert isinstance(malformed, Malformed) and malformed.path == path
    assert said in malformed.detail


def test_a_field_whose_values_depend_on_what_else_is_sent_is_refused_without_a_list() -> None:
    class One(msgspec.Struct, tag="one"):
        size: Literal["s"]

    class Two(msgspec.Struct, tag="two"):
        size: Literal["m"]

    malformed = decode_with(msgspec.json.Decoder(One | Two), b'{"type": "one", "size": "m"}')
    assert malformed == Malformed("invalid_field", "Invalid enum value 'm'", "size")
