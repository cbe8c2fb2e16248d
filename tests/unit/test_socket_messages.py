"""What a client of a socket may say, and which updates a selection has."""

from __future__ import annotations

import random

import pytest

from stocktide.api.feeds.close_codes import MEANINGS, CloseCode, FeedEnded
from stocktide.api.feeds.frames import COMMON, MARK
from stocktide.api.feeds.selection import (
    EVERYTHING,
    PREFIXES_MAX,
    SELECTED_MAX,
    Selection,
    check_selection,
    check_size,
)
from stocktide.api.feeds.socket_messages import Rejected, Subscribe, Unsubscribe, read_message
from stocktide.streams.contract.documents import ChannelUpdate, encode

NAMES = ("A", "AB", "B", "ä", 'a"b', "a\\", 'a","quantity":1', "\\u0041", "日本", "Z" * 128)


def kept_row(sku: str, preorder_remaining: int = 0) -> bytes:
    """An update as a channel log keeps it."""
    update = encode(ChannelUpdate("tmall", sku, 5, "in_stock", preorder_remaining, 12, "2026-11-29T09:30:00.123Z"))
    return update.removeprefix(b'{"channel":"tmall","sku":').replace(COMMON, MARK, 1)


@pytest.mark.parametrize("sku", NAMES)
@pytest.mark.parametrize("preorder_remaining", [0, 7])
def test_a_selection_has_the_rows_of_its_names_and_prefixes_and_no_others(sku: str, preorder_remaining: int) -> None:
    row = kept_row(sku, preorder_remaining)
    for name in NAMES:
        assert Selection([name]).has(row) is (name == sku)
        assert Selection(prefixes=[name]).has(row) is sku.startswith(name)
    assert EVERYTHING.has(row)
    assert not Selection().has(row)


def test_an_update_of_another_writer_is_selected_by_its_name_too() -> None:
    whole = b'{ "version": 2, "sku": "D1", "channel": "tmall" }'
    assert Selection(["D1"]).has(whole) and Selection(prefixes=["D"]).has(whole)
    assert not Selection(["D"]).has(whole)
    for none in (b"{", b'{"version":1}', b"\xff", b""):
        assert not Selection(["D1"]).has(none)


def test_selections_add_and_subtract_and_the_whole_channel_has_no_name() -> None:
    both = Selection(["A"], ["x"]).plus(Selection(["B"], ["y"]))
    assert both == Selection(["B", "A"], ["y", "x"]) and hash(both) == hash(Selection(["A", "B"], ["x", "y"]))
    assert both.minus(Selection(["A"], ["y"])) == Selection(["B"], ["x"])
    assert len(both) == 4 and len(both.minus(both)) == 0
    assert both.plus(EVERYTHING).is_everything and both.plus(EVERYTHING).id_tail == ""
    tails = {Selection([name]).id_tail for name in NAMES} | {Selection(prefixes=[name]).id_tail for name in NAMES}
    assert len(tails) == 2 * len(NAMES), "a name is not a prefix"


def test_the_id_of_a_selection_does_not_depend_on_the_order() -> None:
    names = [f"S{number}" for number in range(100)]
    tail = Selection(names).id_tail
    random.Random(1).shuffle(names)
    assert Selection(names).id_tail == tail


@pytest.mark.parametrize(
    ("skus", "prefixes", "path"),
    [
        (["A", "B"], [""], None),
        (["A", ""], [], "skus[1]"),
        (["a b"], [], "skus[0]"),
        ([], ["x", "y\n"], "prefixes[1]"),
        (["x" * 129], [], "skus[0]"),
    ],
)
def test_a_name_that_no_sku_can_have_is_named_by_its_path(
    skus: list[str], prefixes: list[str], path: str | None
) -> None:
    wrong = check_selection(skus, prefixes)
    assert (wrong and wrong.path) == path


def test_a_selection_is_bounded() -> None:
    assert check_size(Selection(map(str, range(SELECTED_MAX)))) is None
    assert check_size(Selection(map(str, range(SELECTED_MAX)), ["x"])) is not None
    assert check_size(Selection(prefixes=map(str, range(PREFIXES_MAX)))) is None
    assert check_size(Selection(prefixes=map(str, range(PREFIXES_MAX + 1)))) is not None


def test_a_message_without_names_is_the_whole_channel_or_nothing_more() -> None:
    subscribe = read_message('{"type":"subscribe","id":"a","last_event_id":"1-2"}')
    assert subscribe == Subscribe("a", last_event_id="1-2") and subscribe.selection == EVERYTHING
    unsubscribe = read_message(b'{"type":"unsubscribe"}')
    assert unsubscribe == Unsubscribe() and len(unsubscribe.selection) == 0


def test_fields_that_later_versions_add_are_passed_over() -> None:
    assert read_message('{"type":"subscribe","skus":["A"],"more":{"a":[1]}}') == Subscribe(skus=("A",))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"type":"subscribe","id":1,"skus":[1]}', "skus[0]"),
        ('{"type":"subscribe","id":1,"prefixes":"A"}', "prefixes"),
        ('{"type":"subscribe","id":1,"skus":["a b"]}', "skus[0]"),
        ('{"type":"subscribe","id":1,"last_event_id":7}', "last_event_id"),
        ('{"type":"subscribe","id":{},"skus":["A"]}', "id"),
        ('{"type":"subscribe","id":true,"skus":["A"]}', "id"),
    ],
)
def test_a_message_that_is_wrong_in_a_field_is_answered_with_the_clients_id(text: str, path: str) -> None:
    found = read_message(text)
    assert isinstance(found, Rejected)
    assert (found.code, found.path) == ("invalid_field", path)
    assert found.id == (None if path == "id" else 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "1",
        '{"type":"place"}',
        '{"type":1}',
        b"\xff",
        b'{"type":"\xff"}',
        '{"type":"subscribe","skus":["\\ud800"]}',
    ],
)
def test_what_is_no_message_ends_the_socket(text: str | bytes) -> None:
    with pytest.raises(FeedEnded) as ended:
        read_message(text)
    assert ended.value.code is CloseCode.BAD_MESSAGE


def test_every_close_code_is_one_of_an_application_and_has_a_meaning() -> None:
    assert MEANINGS.keys() == set(CloseCode)
    assert all(4_000 <= code <= 4_999 for code in CloseCode)
