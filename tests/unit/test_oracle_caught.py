"""Histories in which one promise is broken: its checker must report it, with evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, TypeVar

import pytest
from msgspec import structs

from stocktide.loadtest.client.contract import ChannelUpdateView, LineView, OrderView
from stocktide.loadtest.oracle.history import (
    ChannelUpdatePublished,
    DeadLetterPublished,
    HistoryRecord,
    InputTransport,
    MovementPublished,
    OrderPublished,
    PolicyPublished,
    ReadChannel,
    ReadMovement,
    ReadOrder,
    ReadPolicy,
    ReadStock,
    Response,
    RunQuiesced,
    StockPublished,
    Subscribed,
    Synced,
    UnreadableRow,
    Unsubscribed,
    UpdateReceived,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from tests.ledger.ledgers import PARK_MS
from tests.unit.oracle_shop import SimulatedShop

MakeHistory = Callable[[], list[HistoryRecord]]
_R = TypeVar("_R")


def shop_with(units: int = 10) -> SimulatedShop:
    """A shop with orders in several states."""
    shop = SimulatedShop()
    shop.subscribe("tmall")
    shop.move("received", "opening", units)
    shop.place("held", units=1, hold_seconds=600)
    shop.place("bought", units=2)
    shop.event("paid", "bought")
    shop.event("shipped", "bought", "kafka", lines=[{"sku": "A", "quantity": 1, "warehouse": "SH1"}])
    shop.place("gone", units=1)
    shop.event("cancelled", "gone")
    return shop


def changed_history(
    change: Callable[[HistoryRecord], Iterable[HistoryRecord]] = lambda record: (record,),
    shop: SimulatedShop | None = None,
) -> Any:
    """The history of a correct run, with each record replaced by the result of `change`."""
    return [changed for record in (shop or shop_with()).quiesce() for changed in change(record)]


def records_of(records: Iterable[HistoryRecord], kind: type[_R]) -> list[_R]:
    return [record for record in records if isinstance(record, kind)]


def without(records: list[HistoryRecord], last: HistoryRecord) -> list[HistoryRecord]:
    return [record for record in records if record is not last]


def replace_record(records: list[HistoryRecord], old: HistoryRecord, new: HistoryRecord) -> list[HistoryRecord]:
    return [new if record is old else record for record in records]


# oversold


def units_that_no_warehouse_gave() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("on_hand@SH1", 5)
    shop.place("o1", units=9)
    return shop.quiesce()


def the_last_units_to_two_callers_after_a_lost_tail() -> list[HistoryRecord]:
    shop = shop_with()
    before = deepcopy(shop.state)
    shop.place("o1", units=7)
    shop.state = before
    shop.place("o2", units=7)
    return shop.quiesce()


def less_than_nothing_without_a_fact() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("locked@SH1", 20)
    shop.place("o1", units=1)
    shop.event("paid", "held")
    return shop.quiesce()


def less_than_nothing_by_more_than_a_count_explains() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("committed@SH1", 8)
    shop.move("counted", "c1", 8)
    return shop.quiesce()


# answer_lost


def an_order_that_is_unknown_at_the_end() -> list[HistoryRecord]:
    return changed_history(lambda r: (structs.replace(r, order=None) if isinstance(r, ReadOrder) else r,))


def a_payment_that_is_forgotten() -> list[HistoryRecord]:
    shop = shop_with()
    before = deepcopy(shop.state)
    shop.event("paid", "held")
    shop.state = before
    return shop.quiesce()


def an_order_that_pay_does_not_know() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.orders.pop("held")
    shop.event("paid", "held")
    return shop.quiesce()


def an_order_that_the_topic_never_told_of() -> list[HistoryRecord]:
    shop = shop_with()
    shop.event("paid", "held")
    return changed_history(lambda r: () if isinstance(r, OrderPublished) and r.order.state == "paid" else (r,), shop)


def a_sku_that_is_unknown_at_the_end() -> list[HistoryRecord]:
    return changed_history(lambda r: (structs.replace(r, stock=None) if isinstance(r, ReadStock) else r,))


def a_movement_that_was_told_and_is_unknown() -> list[HistoryRecord]:
    records = changed_history()
    read = records_of(records, ReadMovement)[-1]
    return [*records, structs.replace(read, movement=None)]


def a_policy_that_is_not_in_force() -> list[HistoryRecord]:
    shop = shop_with()
    shop.policy("tmall", None, {"buffer": 1})
    shop.wait(5)
    shop.policy("tmall", None, {"buffer": 2})
    return changed_history(lambda r: (structs.replace(r, own={"buffer": 1}) if isinstance(r, ReadPolicy) else r,), shop)


# answer_contradicted


def a_refusal_after_which_the_order_is_taken() -> list[HistoryRecord]:
    shop = shop_with()
    before = deepcopy(shop.state)
    shop.place("o1", units=20)
    shop.state = before
    shop.move("received", "more", 20)
    shop.place("o1", units=20)
    return shop.quiesce()


def one_sequence_with_two_contents() -> list[HistoryRecord]:
    records = changed_history()
    response = next(r for r in records_of(records, Response) if r.order is not None and r.order.order_id == "bought")
    assert response.order is not None
    line = structs.replace(response.order.lines[0], warehouses={"BJ1": 2})
    return replace_record(
        records, response, structs.replace(response, order=structs.replace(response.order, lines=(line,)))
    )


def an_answer_that_is_older_than_what_was_told_before() -> list[HistoryRecord]:
    shop = shop_with()
    response = shop.place("bought", units=2)
    old = next(r for r in records_of(shop.records, Response) if r.order is not None and r.order.order_id == "bought")
    shop.records[shop.records.index(response)] = structs.replace(response, order=old.order)
    return shop.quiesce()


def a_payment_that_was_taken_for_an_order_that_expired() -> list[HistoryRecord]:
    shop = shop_with()
    shop.place("o1", hold_seconds=1)
    shop.wait(2_000)
    response = shop.event("paid", "o1")
    shop.records[shop.records.index(response)] = structs.replace(response, status=200, code=None)
    return shop.quiesce()


def a_conflict_with_nothing() -> list[HistoryRecord]:
    shop = shop_with()
    number = shop.ask("order.placed", order_id="o9", channel="tmall", lines=[{"sku": "A", "quantity": 1}])
    shop.add(Response(shop.now, number, 409, "conflict"))
    return shop.quiesce()


def a_conflict_with_itself() -> list[HistoryRecord]:
    shop = shop_with()
    lines = [{"sku": "A", "quantity": 2}]
    number = shop.ask("order.placed", order_id="bought", channel="tmall", lines=lines)
    shop.add(Response(shop.now, number, 409, "conflict"))
    return shop.quiesce()


def another_order_than_was_asked_for() -> list[HistoryRecord]:
    shop = shop_with()
    response = shop.place("bought", units=2)
    number = shop.ask("order.placed", order_id="bought", channel="tmall", lines=[{"sku": "A", "quantity": 3}])
    shop.add(structs.replace(response, number=number))
    return shop.quiesce()


def an_unknown_sku_that_was_published() -> list[HistoryRecord]:
    shop = shop_with()
    shop.wait(10)
    lines = (LineView("A", 1, "rejected", reason="unknown_sku"),)
    number = shop.ask("order.placed", order_id="o9", channel="tmall", lines=[{"sku": "A", "quantity": 1}])
    order = OrderView("o9", "tmall", "rejected", lines, 1)
    shop.add(Response(shop.now, number, 409, "unknown_sku", order=order))
    return shop.quiesce()


def an_order_that_rests_behind_what_was_published() -> list[HistoryRecord]:
    records = changed_history()
    row = next(r for r in records_of(records, OrderPublished) if r.order.order_id == "held")
    newer = structs.replace(row.order, sequence=2, state="paid", expires_at=None)
    at = records.index(row)
    return [*records[: at + 1], structs.replace(row, order=newer), *records[at + 1 :]]


def half_a_line_that_is_held() -> list[HistoryRecord]:
    records = changed_history()
    response = next(r for r in records_of(records, Response) if r.order is not None and r.order.order_id == "bought")
    assert response.order is not None
    line = structs.replace(response.order.lines[0], reserved=1, warehouses={"SH1": 1})
    return replace_record(
        records, response, structs.replace(response, order=structs.replace(response.order, lines=(line,)))
    )


# counted_twice


def a_movement_with_two_outcomes() -> list[HistoryRecord]:
    records = changed_history()
    row = records_of(records, MovementPublished)[0]
    line = structs.replace(row.movement.lines[0], on_hand=20)
    again = structs.replace(row, movement=structs.replace(row.movement, lines=(line,), batch=99))
    return [*records[:-9], again, *records[-9:]]


def a_receipt_that_counts_twice() -> list[HistoryRecord]:
    shop = shop_with()
    shop.move("received", "more", 5)
    shop.state.skus["A"].add("on_hand@SH1", 5)
    shop.event("paid", "held")
    return shop.quiesce()


def a_shipment_that_lowers_on_hand_twice() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("on_hand@SH1", -1)
    shop.event("paid", "held")
    return shop.quiesce()


def more_shipped_than_was_ever_told() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.orders["bought"].lines[0].shipped += 1
    shop.state.orders["bought"].sequence += 1
    shop.place("other")
    return shop.quiesce()


def a_damaged_return_that_counts_twice() -> list[HistoryRecord]:
    shop = shop_with()
    back = [{"sku": "A", "quantity": 1, "warehouse": "SH1", "condition": "damaged"}]
    shop.event("returned", "bought", "kafka", lines=back)
    shop.state.skus["A"].add("damaged@SH1", 1)
    shop.event("paid", "held")
    return shop.quiesce()


def an_order_with_more_changes_than_events() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.orders["held"].sequence += 5
    shop.event("paid", "held")
    return shop.quiesce()


# hold_leaked


def units_that_are_locked_for_nobody() -> list[HistoryRecord]:
    shop = shop_with()
    shop.event("cancelled", "held")
    shop.state.skus["A"].add("locked@SH1", 1)
    shop.move("received", "more", 1)
    return shop.quiesce()


def units_that_were_promised_and_are_free() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("committed@SH1", -1)
    shop.move("received", "more", 1)
    return shop.quiesce()


def a_hold_that_outlives_its_time() -> list[HistoryRecord]:
    shop = shop_with()
    shop.place("o1", hold_seconds=600)
    order = shop.state.orders["o1"]
    records = shop.quiesce()
    late = (order.expires_at or 0) + 60_000
    return [structs.replace(r, at=late) if isinstance(r, RunQuiesced) else r for r in records]


def preorders_for_nobody() -> list[HistoryRecord]:
    shop = shop_with()
    shop.state.skus["A"].add("preordered@tmall", 2)
    shop.move("received", "more", 1)
    return shop.quiesce()


# hold_ended_twice


def paid_after_it_expired() -> list[HistoryRecord]:
    shop = shop_with()
    shop.place("o1", hold_seconds=1)
    shop.wait(2_000)
    shop.tick()
    order = shop.state.orders["o1"]
    order.state = "paid"
    order.sequence += 1
    shop.move("received", "more", 1)
    shop._add_row("order", "o1", OrderPublished, shop._order("o1", shop.batch))
    shop.publish()
    return shop.quiesce()


def back_from_paid_to_reserved() -> list[HistoryRecord]:
    records = changed_history()
    row = next(
        r for r in records_of(records, OrderPublished) if r.order.order_id == "bought" and r.order.state == "paid"
    )
    again = structs.replace(row, order=structs.replace(row.order, state="reserved", sequence=9))
    return [*records[:-9], again, *records[-9:]]


def cancelled_before_it_was_paid_told_late() -> list[HistoryRecord]:
    def cancelled(record: HistoryRecord) -> tuple[HistoryRecord, ...]:
        order = record.order if isinstance(record, OrderPublished | Response) else None
        if order is not None and (order.order_id, order.sequence) == ("bought", 2):
            return (structs.replace(record, order=structs.replace(order, state="cancelled")),)
        return (record,)

    return changed_history(cancelled)


# version_went_back


def an_older_update_after_a_newer_one() -> list[HistoryRecord]:
    records = changed_history()
    first = records_of(records, UpdateReceived)[0]
    return [*records[:-9], first, *records[-9:]]


def one_version_with_two_updates() -> list[HistoryRecord]:
    records = changed_history()
    last = records_of(records, UpdateReceived)[-1]
    other = structs.replace(last, update=structs.replace(last.update, quantity=last.update.quantity + 1))
    return [*records[:-9], other, last, *records[-9:]]


def one_version_with_two_rows() -> list[HistoryRecord]:
    records = changed_history()
    last = records_of(records, ChannelUpdatePublished)[-1]
    other = structs.replace(last, update=structs.replace(last.update, mode="sold_out"))
    return [*records[:-9], other, last, *records[-9:]]


def a_topic_that_ends_with_an_older_row(kind: type[Any]) -> MakeHistory:
    def make_history() -> list[HistoryRecord]:
        shop = shop_with()
        shop.event("paid", "held")
        key = {OrderPublished: lambda r: r.order.order_id == "held"}.get(kind, lambda r: True)
        first = next(record for record in records_of(shop.records, kind) if key(record))
        shop.add(first)
        return shop.quiesce()

    make_history.__name__ = f"the_topic_of_{kind.__name__}_ends_with_an_older_row"
    return make_history


def a_sku_that_rests_at_an_older_version() -> list[HistoryRecord]:
    def older(record: HistoryRecord) -> tuple[HistoryRecord, ...]:
        if isinstance(record, ReadStock) and record.stock is not None:
            return (structs.replace(record, stock=structs.replace(record.stock, version=1)),)
        return (record,)

    return changed_history(older)


# channel_not_converged


def a_lost_update() -> list[HistoryRecord]:
    records = changed_history()
    return without(records, records_of(records, UpdateReceived)[-1])


def a_sku_that_a_subscriber_never_had() -> list[HistoryRecord]:
    return changed_history(lambda r: () if isinstance(r, UpdateReceived) else (r,))


def a_sku_that_nobody_knows() -> list[HistoryRecord]:
    records = changed_history()
    saw = records_of(records, UpdateReceived)[-1]
    ghost = structs.replace(saw, update=structs.replace(saw.update, sku="ghost"))
    return [*records[:-9], ghost, *records[-9:]]


def a_subscriber_that_never_got_everything() -> list[HistoryRecord]:
    return changed_history(lambda r: () if isinstance(r, Synced) else (r,))


def a_subscriber_that_comes_back_and_misses_something() -> list[HistoryRecord]:
    shop = shop_with()
    shop.add(Unsubscribed(shop.now, "tmall-1", "the line broke"))
    begin = len(shop.records)
    shop.place("o1", units=2)
    shop.records[begin:] = [record for record in shop.records[begin:] if not isinstance(record, UpdateReceived)]
    shop.wait(60_000)
    shop.add(Subscribed(shop.now, "tmall-1", "tmall", "3-4"))
    shop.add(Synced(shop.now, "tmall-1"))
    shop.place("o2", units=1)
    return shop.quiesce()


def a_new_channel_that_is_synced_before_its_snapshot() -> list[HistoryRecord]:
    shop = shop_with()
    shop.wait(1)
    shop.add(Subscribed(shop.now, "new-1", "new", asked_at=shop.now))
    shop.add(Synced(shop.now, "new-1"))
    return shop.quiesce()


def a_topic_that_is_not_what_the_channel_says() -> list[HistoryRecord]:
    def other(record: HistoryRecord) -> tuple[HistoryRecord, ...]:
        if isinstance(record, ReadChannel):
            items = tuple(structs.replace(item, quantity=item.quantity + 1) for item in record.items)
            return (structs.replace(record, items=items),)
        return (record,)

    return changed_history(other)


# log_does_not_explain


def a_row_of_stock_that_is_missing() -> list[HistoryRecord]:
    records = changed_history()
    return without(records, records_of(records, StockPublished)[-1])


def a_row_of_an_order_that_is_missing() -> list[HistoryRecord]:
    return changed_history(lambda r: () if isinstance(r, OrderPublished) and r.order.order_id == "held" else (r,))


def a_row_of_a_movement_that_is_missing() -> list[HistoryRecord]:
    return changed_history(lambda r: () if isinstance(r, MovementPublished) else (r,))


def a_row_of_a_policy_that_is_missing() -> list[HistoryRecord]:
    shop = shop_with()
    shop.policy("tmall", None, {"buffer": 1})
    return changed_history(lambda r: () if isinstance(r, PolicyPublished) else (r,), shop)


def a_version_with_two_sets_of_numbers() -> list[HistoryRecord]:
    records = changed_history()
    row = records_of(records, StockPublished)[-1]
    other = structs.replace(row, stock=structs.replace(row.stock, damaged=3))
    at = records.index(row)
    return [*records[: at + 1], other, *records[at + 1 :]]


def a_row_that_nobody_can_read() -> list[HistoryRecord]:
    shop = shop_with()
    shop.add(UnreadableRow(shop.now, 0, 4, "stock", "no JSON"))
    return shop.quiesce()


# input_unaccounted


def accepted_without_effect(kind: str, door: InputTransport, **event: Any) -> list[HistoryRecord]:
    """A history with an accepted event that has no effect."""
    shop = shop_with()
    number = shop.ask(kind, door, **event)
    position = {"topic": "app-orders", "partition": 0, "offset": 77} if door == "kafka" else {}
    shop.add(Response(shop.now, number, 202, **position))  # type: ignore[arg-type]
    return shop.quiesce()


def a_payment_that_came_to_nothing() -> list[HistoryRecord]:
    return accepted_without_effect("order.paid", "kafka", id="p1", order_id="held")


def an_order_that_came_to_nothing() -> list[HistoryRecord]:
    lines = [{"sku": "A", "quantity": 1}]
    return accepted_without_effect("order.placed", "ndjson", id="p1", order_id="o9", channel="tmall", lines=lines)


def a_shipment_that_came_to_nothing() -> list[HistoryRecord]:
    lines = [{"sku": "A", "quantity": 1, "warehouse": "SH1"}]
    return accepted_without_effect("order.shipped", "ndjson", id="s9", order_id="bought", lines=lines)


def a_cancellation_that_came_to_nothing() -> list[HistoryRecord]:
    return accepted_without_effect("order.cancelled", "kafka", id="c9", order_id="held")


def a_receipt_that_came_to_nothing() -> list[HistoryRecord]:
    lines = [{"sku": "A", "quantity": 1}]
    return accepted_without_effect("stock.received", "http", id="r9", warehouse="SH1", lines=lines)


def a_second_body_that_came_to_nothing() -> list[HistoryRecord]:
    shop = shop_with()
    shop.move("received", "opening", 3)
    return changed_history(lambda r: () if isinstance(r, DeadLetterPublished) else (r,), shop)


def bytes_that_are_in_no_dead_letter() -> list[HistoryRecord]:
    shop = shop_with()
    shop.send_malformed()
    return changed_history(lambda r: () if isinstance(r, DeadLetterPublished) else (r,), shop)


def a_payment_that_waited_for_its_order_and_was_forgotten() -> list[HistoryRecord]:
    shop = shop_with()
    shop.event("paid", "nobody", "kafka")
    shop.wait(120_000)
    return changed_history(lambda r: () if isinstance(r, DeadLetterPublished) else (r,), shop)


def a_return_that_waited_for_its_shipment_and_was_forgotten() -> list[HistoryRecord]:
    shop = shop_with()
    back = [{"sku": "A", "quantity": 2, "warehouse": "SH1"}]
    shop.event("returned", "bought", "kafka", lines=back)
    shop.wait(120_000)
    return changed_history(lambda r: () if isinstance(r, DeadLetterPublished) else (r,), shop)


def a_dead_letter_without_a_reason() -> list[HistoryRecord]:
    shop = shop_with()
    shop.send_malformed()

    def bare(record: HistoryRecord) -> tuple[HistoryRecord, ...]:
        if isinstance(record, DeadLetterPublished):
            return (structs.replace(record, letter=structs.replace(record.letter, reason="")),)
        return (record,)

    return changed_history(bare, shop)


BROKEN_HISTORIES: dict[str, tuple[MakeHistory, ...]] = {
    "oversold": (
        units_that_no_warehouse_gave,
        the_last_units_to_two_callers_after_a_lost_tail,
        less_than_nothing_without_a_fact,
        less_than_nothing_by_more_than_a_count_explains,
    ),
    "answer_lost": (
        an_order_that_is_unknown_at_the_end,
        a_payment_that_is_forgotten,
        an_order_that_pay_does_not_know,
        an_order_that_the_topic_never_told_of,
        a_sku_that_is_unknown_at_the_end,
        a_movement_that_was_told_and_is_unknown,
        a_policy_that_is_not_in_force,
    ),
    "answer_contradicted": (
        a_refusal_after_which_the_order_is_taken,
        one_sequence_with_two_contents,
        an_answer_that_is_older_than_what_was_told_before,
        a_payment_that_was_taken_for_an_order_that_expired,
        a_conflict_with_nothing,
        a_conflict_with_itself,
        another_order_than_was_asked_for,
        an_unknown_sku_that_was_published,
        an_order_that_rests_behind_what_was_published,
        half_a_line_that_is_held,
    ),
    "counted_twice": (
        a_movement_with_two_outcomes,
        a_receipt_that_counts_twice,
        a_shipment_that_lowers_on_hand_twice,
        more_shipped_than_was_ever_told,
        a_damaged_return_that_counts_twice,
        an_order_with_more_changes_than_events,
    ),
    "hold_leaked": (
        units_that_are_locked_for_nobody,
        units_that_were_promised_and_are_free,
        a_hold_that_outlives_its_time,
        preorders_for_nobody,
    ),
    "hold_ended_twice": (
        paid_after_it_expired,
        back_from_paid_to_reserved,
        cancelled_before_it_was_paid_told_late,
    ),
    "version_went_back": (
        an_older_update_after_a_newer_one,
        one_version_with_two_updates,
        one_version_with_two_rows,
        a_topic_that_ends_with_an_older_row(StockPublished),
        a_topic_that_ends_with_an_older_row(ChannelUpdatePublished),
        a_topic_that_ends_with_an_older_row(OrderPublished),
        a_sku_that_rests_at_an_older_version,
    ),
    "channel_not_converged": (
        a_lost_update,
        a_sku_that_a_subscriber_never_had,
        a_sku_that_nobody_knows,
        a_subscriber_that_never_got_everything,
        a_subscriber_that_comes_back_and_misses_something,
        a_new_channel_that_is_synced_before_its_snapshot,
        a_topic_that_is_not_what_the_channel_says,
    ),
    "log_does_not_explain": (
        a_row_of_stock_that_is_missing,
        a_row_of_an_order_that_is_missing,
        a_row_of_a_movement_that_is_missing,
        a_row_of_a_policy_that_is_missing,
        a_version_with_two_sets_of_numbers,
        a_row_that_nobody_can_read,
    ),
    "input_unaccounted": (
        a_payment_that_came_to_nothing,
        an_order_that_came_to_nothing,
        a_shipment_that_came_to_nothing,
        a_cancellation_that_came_to_nothing,
        a_receipt_that_came_to_nothing,
        a_second_body_that_came_to_nothing,
        bytes_that_are_in_no_dead_letter,
        a_payment_that_waited_for_its_order_and_was_forgotten,
        a_return_that_waited_for_its_shipment_and_was_forgotten,
        a_dead_letter_without_a_reason,
    ),
}
_FOUND_LIVE = ("oversold", "hold_ended_twice")


@pytest.mark.parametrize(
    ("checker", "make_history"),
    [
        (checker, make_history)
        for checker, make_histories in BROKEN_HISTORIES.items()
        for make_history in make_histories
    ],
)
def test_the_checker_finds(checker: str, make_history: MakeHistory) -> None:
    result = judge(make_history(), park_ms=PARK_MS).part(checker)
    assert result.found, result
    if make_history not in (
        a_row_that_nobody_can_read,
        bytes_that_are_in_no_dead_letter,
        a_dead_letter_without_a_reason,
    ):
        assert result.violations[0].evidence


def test_the_shop_that_the_others_change_is_fair() -> None:
    verdict = judge(changed_history())
    assert not verdict.broken, "\n".join(verdict.lines())


@pytest.mark.parametrize("checker", _FOUND_LIVE)
def test_a_watch_finds_it_while_the_run_goes_on(checker: str) -> None:
    for make_history in BROKEN_HISTORIES[checker]:
        live_judge, found = LiveJudge(), []
        for record in make_history():
            if isinstance(record, RunQuiesced):
                break
            found += live_judge.feed(record)
        assert checker in {violation.checker for violation in found}, make_history
        assert found[0].evidence and live_judge.first == found[0]


def test_a_watch_tells_each_finding_once() -> None:
    live_judge = LiveJudge()
    found = [violation for record in one_version_with_two_updates() for violation in live_judge.feed(record)]
    assert [violation.checker for violation in found] == ["version_went_back"]


def test_an_update_is_told_with_its_numbers() -> None:
    update = ChannelUpdateView("tmall", "A", 3, "in_stock", 0, 4)
    violation = judge(an_older_update_after_a_newer_one()).part("version_went_back").violations[0]
    assert violation.subscriber == "tmall-1" and violation.sku == update.sku
    assert "at version" in violation.what
