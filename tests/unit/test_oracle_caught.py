"""Histories in which one promise is broken: its checker must report it, with evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial, wraps
from typing import Any, TypeVar

import pytest
from msgspec import structs

from stocktide.loadtest.client.contract import ChannelUpdateView, LineView, OrderView
from stocktide.loadtest.oracle import history
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.streams.contract.times import rfc3339
from tests.ledger.ledgers import PARK_MS
from tests.unit.oracle_shop import SimulatedShop

History = list[history.HistoryRecord]
_R = TypeVar("_R")
# By the checker that has to find what is broken.
BROKEN_HISTORIES: dict[str, list[Callable[[], History]]] = defaultdict(list)


def shop_with(units: int = 10) -> SimulatedShop:
    """A shop with orders in several states."""
    shop = SimulatedShop()
    shop.subscribe("tmall")
    shop.move("received", "opening", units)
    shop.place("held", units=1, hold_seconds=600)
    shop.buy("bought", 2)
    shop.event("shipped", "bought", "kafka", lines=[{"sku": "A", "quantity": 1, "warehouse": "SH1"}])
    shop.place("gone", units=1)
    shop.event("cancelled", "gone")
    return shop


def breaks(checker: str) -> Callable[[Callable[..., History | None]], Callable[[], History]]:
    """Register a function that breaks the promise of this checker in a shop: it returns the history, or leaves that to
    the shop."""

    def register(change: Callable[..., History | None]) -> Callable[[], History]:
        @wraps(change)
        def make_history() -> History:
            shop = shop_with()
            return change(shop) or shop.quiesce()

        BROKEN_HISTORIES[checker].append(make_history)
        return make_history

    return register


def changed(shop: SimulatedShop, change: Callable[[Any], Iterable[history.HistoryRecord]]) -> History:
    """The history of a correct run, with each record replaced by the result of `change`."""
    return [changed for record in shop.quiesce() for changed in change(record)]


def with_part(record: Any, part: str, **fields: Any) -> Any:
    """The record with other fields in its `part`."""
    return structs.replace(record, **{part: structs.replace(getattr(record, part), **fields)})


def without(shop: SimulatedShop, kind: type[history.HistoryRecord]) -> History:
    return changed(shop, lambda record: () if isinstance(record, kind) else (record,))


def with_earlier(records: History, *earlier: history.HistoryRecord) -> History:
    """The history with more records shortly before its end."""
    return [*records[:-9], *earlier, *records[-9:]]


def with_next(records: History, record: history.HistoryRecord, following: history.HistoryRecord) -> History:
    at = records.index(record) + 1
    return [*records[:at], following, *records[at:]]


def records_of(records: Iterable[history.HistoryRecord], kind: type[_R]) -> list[_R]:
    return [record for record in records if isinstance(record, kind)]


def first_response(records: History, order_id: str) -> history.Response:
    return next(
        r for r in records_of(records, history.Response) if r.order is not None and r.order.order_id == order_id
    )


def with_other_line(shop: SimulatedShop, **line: Any) -> History:
    """The history with other fields in the only line of the first response about `bought`."""
    records = shop.quiesce()
    response = first_response(records, "bought")
    assert response.order is not None
    lines = (structs.replace(response.order.lines[0], **line),)
    other = with_part(response, "order", lines=lines)
    return [other if record is response else record for record in records]


@breaks("oversold")
def units_that_no_warehouse_gave(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("on_hand@SH1", 5)
    shop.place("o1", units=9)


@breaks("oversold")
def the_last_units_to_two_callers_after_a_lost_tail(shop: SimulatedShop) -> None:
    before = deepcopy(shop.state)
    shop.place("o1", units=7)
    shop.state = before
    shop.place("o2", units=7)


@breaks("oversold")
def less_than_nothing_without_a_fact(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("locked@SH1", 20)
    shop.place("o1", units=1)
    shop.event("paid", "held")


@breaks("oversold")
def less_than_nothing_by_more_than_a_count_explains(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("committed@SH1", 8)
    shop.move("counted", "c1", 8)


@breaks("answer_lost")
def an_order_that_is_unknown_at_the_end(shop: SimulatedShop) -> History:
    return changed(shop, lambda r: (structs.replace(r, order=None) if isinstance(r, history.ReadOrder) else r,))


@breaks("answer_lost")
def a_payment_that_is_forgotten(shop: SimulatedShop) -> None:
    before = deepcopy(shop.state)
    shop.event("paid", "held")
    shop.state = before


@breaks("answer_lost")
def an_order_that_pay_does_not_know(shop: SimulatedShop) -> None:
    shop.state.orders.pop("held")
    shop.event("paid", "held")


@breaks("answer_lost")
def an_order_that_the_topic_never_told_of(shop: SimulatedShop) -> History:
    shop.event("paid", "held")
    return changed(shop, lambda r: () if isinstance(r, history.OrderPublished) and r.order.state == "paid" else (r,))


@breaks("answer_lost")
def a_sku_that_is_unknown_at_the_end(shop: SimulatedShop) -> History:
    return changed(shop, lambda r: (structs.replace(r, stock=None) if isinstance(r, history.ReadStock) else r,))


@breaks("answer_lost")
def a_movement_that_was_told_and_is_unknown(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    read = records_of(records, history.ReadMovement)[-1]
    return [*records, structs.replace(read, movement=None)]


@breaks("answer_lost")
def a_policy_that_is_not_in_force(shop: SimulatedShop) -> History:
    shop.policy("tmall", None, {"buffer": 1})
    shop.wait(5)
    shop.policy("tmall", None, {"buffer": 2})
    return changed(shop, lambda r: (structs.replace(r, own={"buffer": 1}) if isinstance(r, history.ReadPolicy) else r,))


@breaks("answer_contradicted")
def a_refusal_after_which_the_order_is_taken(shop: SimulatedShop) -> None:
    before = deepcopy(shop.state)
    shop.place("o1", units=20)
    shop.state = before
    shop.move("received", "more", 20)
    shop.place("o1", units=20)


@breaks("answer_contradicted")
def one_sequence_with_two_contents(shop: SimulatedShop) -> History:
    return with_other_line(shop, warehouses={"BJ1": 2})


def with_promises(shop: SimulatedShop, field: str, *values: Any) -> History:
    """The history in which the lines of `bought` have these values of a field, by sequence."""

    def promised(record: Any) -> tuple[Any]:
        order = getattr(record, "order", None)
        if order is None or order.order_id != "bought":
            return (record,)
        fields = {"first_promised_at": "2026-12-01T00:00:00.000Z", field: values[min(order.sequence, len(values)) - 1]}
        lines = tuple(structs.replace(line, **fields) for line in order.lines)
        return (with_part(record, "order", lines=lines),)

    return changed(shop, promised)


@breaks("answer_contradicted")
def a_first_promise_that_is_another_one_later(shop: SimulatedShop) -> History:
    return with_promises(shop, "first_promised_at", "2026-12-01T00:00:00.000Z", "2026-12-02T00:00:00.000Z")


@breaks("answer_contradicted")
def a_slip_that_is_forgotten(shop: SimulatedShop) -> History:
    return with_promises(shop, "slips", 1, 0)


@breaks("answer_contradicted")
def an_answer_that_is_older_than_what_was_told_before(shop: SimulatedShop) -> None:
    response = shop.place("bought", units=2)
    old = first_response(shop.records, "bought")
    shop.records[shop.records.index(response)] = structs.replace(response, order=old.order)


@breaks("answer_contradicted")
def a_payment_that_was_taken_for_an_order_that_expired(shop: SimulatedShop) -> None:
    shop.place("o1", hold_seconds=1)
    shop.wait(2_000)
    response = shop.event("paid", "o1")
    shop.records[shop.records.index(response)] = structs.replace(response, status=200, code=None)


@breaks("answer_contradicted")
def a_conflict_with_nothing(shop: SimulatedShop) -> None:
    number = shop.ask("order.placed", order_id="o9", channel="tmall", lines=[{"sku": "A", "quantity": 1}])
    shop.add(history.Response(shop.now, number, 409, "conflict"))


@breaks("answer_contradicted")
def a_conflict_with_itself(shop: SimulatedShop) -> None:
    lines = [{"sku": "A", "quantity": 2}]
    number = shop.ask("order.placed", order_id="bought", channel="tmall", lines=lines)
    shop.add(history.Response(shop.now, number, 409, "conflict"))


@breaks("answer_contradicted")
def another_order_than_was_asked_for(shop: SimulatedShop) -> None:
    response = shop.place("bought", units=2)
    number = shop.ask("order.placed", order_id="bought", channel="tmall", lines=[{"sku": "A", "quantity": 3}])
    shop.add(structs.replace(response, number=number))


@breaks("answer_contradicted")
def an_unknown_sku_that_was_published(shop: SimulatedShop) -> None:
    shop.wait(10)
    lines = (LineView("A", 1, "rejected", reason="unknown_sku"),)
    number = shop.ask("order.placed", order_id="o9", channel="tmall", lines=[{"sku": "A", "quantity": 1}])
    order = OrderView("o9", "tmall", "rejected", lines, 1)
    shop.add(history.Response(shop.now, number, 409, "unknown_sku", order=order))


@breaks("answer_contradicted")
def an_order_that_rests_behind_what_was_published(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    row = next(r for r in records_of(records, history.OrderPublished) if r.order.order_id == "held")
    return with_next(records, row, with_part(row, "order", sequence=2, state="paid", expires_at=None))


@breaks("answer_contradicted")
def half_a_line_that_is_held(shop: SimulatedShop) -> History:
    return with_other_line(shop, reserved=1, warehouses={"SH1": 1})


@breaks("counted_twice")
def a_movement_with_two_outcomes(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    row = records_of(records, history.MovementPublished)[0]
    line = structs.replace(row.movement.lines[0], on_hand=20)
    return with_earlier(records, with_part(row, "movement", lines=(line,), batch=99))


@breaks("counted_twice")
def a_receipt_that_counts_twice(shop: SimulatedShop) -> None:
    shop.move("received", "more", 5)
    shop.state.skus["A"].add("on_hand@SH1", 5)
    shop.event("paid", "held")


@breaks("counted_twice")
def a_shipment_that_lowers_on_hand_twice(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("on_hand@SH1", -1)
    shop.event("paid", "held")


@breaks("counted_twice")
def more_shipped_than_was_ever_told(shop: SimulatedShop) -> None:
    shop.state.orders["bought"].lines[0].shipped += 1
    shop.state.orders["bought"].sequence += 1
    shop.place("other")


@breaks("counted_twice")
def a_damaged_return_that_counts_twice(shop: SimulatedShop) -> None:
    back = [{"sku": "A", "quantity": 1, "warehouse": "SH1", "condition": "damaged"}]
    shop.event("returned", "bought", "kafka", lines=back)
    shop.state.skus["A"].add("damaged@SH1", 1)
    shop.event("paid", "held")


@breaks("counted_twice")
def an_order_with_more_changes_than_events(shop: SimulatedShop) -> None:
    shop.state.orders["held"].sequence += 5
    shop.event("paid", "held")


@breaks("hold_leaked")
def units_that_are_locked_for_nobody(shop: SimulatedShop) -> None:
    shop.event("cancelled", "held")
    shop.state.skus["A"].add("locked@SH1", 1)
    shop.move("received", "more", 1)


@breaks("hold_leaked")
def units_that_were_promised_and_are_free(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("committed@SH1", -1)
    shop.move("received", "more", 1)


@breaks("hold_leaked")
def a_hold_that_outlives_its_time(shop: SimulatedShop) -> History:
    shop.place("o1", hold_seconds=600)
    order = shop.state.orders["o1"]
    records = shop.quiesce()
    late = (order.expires_at or 0) + 60_000
    return [structs.replace(r, at=late) if isinstance(r, history.RunQuiesced) else r for r in records]


@breaks("hold_leaked")
def preorders_for_nobody(shop: SimulatedShop) -> None:
    shop.state.skus["A"].add("preordered@tmall", 2)
    shop.move("received", "more", 1)


@breaks("hold_leaked")
def a_pool_that_outlives_its_end(shop: SimulatedShop) -> History:
    shop.move("reserved", "pool", 3, purpose="flash", until=rfc3339(shop.now + 1_000))
    return changed(shop, partial(with_pool, units=3))


@breaks("hold_leaked")
def more_in_a_pool_than_was_set_aside(shop: SimulatedShop) -> History:
    shop.move("reserved", "pool", 3, purpose="vip")
    return changed(shop, partial(with_pool, units=4))


def with_pool(record: history.HistoryRecord, units: int) -> tuple[history.HistoryRecord, ...]:
    """A read of A with units in pools."""
    if not isinstance(record, history.ReadStock) or record.stock is None:
        return (record,)
    shelf = structs.replace(record.stock.warehouses["SH1"], reserved=units)
    return (with_part(record, "stock", warehouses={"SH1": shelf}),)


@breaks("hold_ended_twice")
def paid_after_it_expired(shop: SimulatedShop) -> None:
    shop.place("o1", hold_seconds=1)
    shop.wait(2_000)
    shop.tick()
    order = shop.state.orders["o1"]
    order.state = "paid"
    order.sequence += 1
    shop.move("received", "more", 1)
    shop._add_row("order", "o1", history.OrderPublished, shop._order("o1", shop.batch))
    shop.publish()


@breaks("hold_ended_twice")
def back_from_paid_to_reserved(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    rows = records_of(records, history.OrderPublished)
    row = next(r for r in rows if (r.order.order_id, r.order.state) == ("bought", "paid"))
    return with_earlier(records, with_part(row, "order", state="reserved", sequence=9))


@breaks("hold_ended_twice")
def an_expired_order_that_is_paid_without_the_option(shop: SimulatedShop) -> History:
    shop.place("late", units=1, hold_seconds=5)
    shop.wait(5_000)
    shop.tick()
    shop.event("paid", "late", if_expired="take_again")
    for record in shop.records:
        if isinstance(record, history.Request):
            record.event.pop("if_expired", None)
    return shop.quiesce()


FORCED = {"force": True, "reason": "why", "actor": "anna"}


@breaks("hold_ended_twice")
def a_forced_order_that_nobody_was_asked_to_approve(shop: SimulatedShop) -> History:
    shop.place("forced", **FORCED)
    shop.send("order.approved", order_id="forced", actor="ben")
    records = shop.quiesce()
    return [each for each in records if not isinstance(each, history.Request) or each.kind != "order.approved"]


@breaks("hold_ended_twice")
def a_forced_order_that_does_not_wait(shop: SimulatedShop) -> History:
    shop.place("forced", **FORCED)

    def is_request(record: history.HistoryRecord) -> bool:
        return isinstance(record, history.OrderPublished) and record.order.state == "awaiting_approval"

    return changed(shop, lambda r: (with_part(r, "order", state="reserved") if is_request(r) else r,))


@breaks("counted_twice")
def a_movement_that_is_voided_twice(shop: SimulatedShop) -> None:
    shop.move("received", "r", 5)
    for number in (1, 2):
        event = {"id": f"v{number}", "warehouse": "SH1", "movement_id": "r", "occurred_at": "2026-11-18T11:06:40Z"}
        shop.state.movements["SH1", "r"].voided = False
        shop.send("stock.voided", "kafka", **event)


@breaks("answer_contradicted")
def a_hold_of_which_a_line_is_cancelled_and_still_held(shop: SimulatedShop) -> History:
    shop.place("part", units=3)
    shop.event("cancelled", "part", lines=[{"sku": "A", "quantity": 1}])

    def kept(record: history.HistoryRecord) -> tuple[history.HistoryRecord, ...]:
        order = getattr(record, "order", None)
        if not isinstance(order, OrderView) or order.order_id != "part" or order.sequence < 2:
            return (record,)
        line = structs.replace(order.lines[0], reserved=3, warehouses={"SH1": 3})
        return (with_part(record, "order", lines=(line,)),)

    return changed(shop, kept)


@breaks("hold_ended_twice")
def cancelled_before_it_was_paid_told_late(shop: SimulatedShop) -> History:
    def is_paid(record: history.HistoryRecord) -> bool:
        order = record.order if isinstance(record, history.OrderPublished | history.Response) else None
        return order is not None and (order.order_id, order.sequence) == ("bought", 2)

    return changed(shop, lambda r: (with_part(r, "order", state="cancelled") if is_paid(r) else r,))


@breaks("version_went_back")
def an_older_update_after_a_newer_one(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    first = records_of(records, history.UpdateReceived)[0]
    return with_earlier(records, first)


@breaks("version_went_back")
def one_version_with_two_updates(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    last = records_of(records, history.UpdateReceived)[-1]
    return with_earlier(records, with_part(last, "update", quantity=last.update.quantity + 1), last)


@breaks("version_went_back")
def one_version_with_two_rows(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    last = records_of(records, history.ChannelUpdatePublished)[-1]
    return with_earlier(records, with_part(last, "update", mode="sold_out"), last)


def end_with_an_older_row(shop: SimulatedShop, kind: type[Any]) -> None:
    shop.event("paid", "held")
    rows = records_of(shop.records, kind)
    shop.add(next(row for row in rows if kind is not history.OrderPublished or row.order.order_id == "held"))


for row_kind in (history.StockPublished, history.ChannelUpdatePublished, history.OrderPublished):
    breaks("version_went_back")(partial(end_with_an_older_row, kind=row_kind))


@breaks("version_went_back")
def a_sku_that_rests_at_an_older_version(shop: SimulatedShop) -> History:
    return changed(shop, lambda r: (with_part(r, "stock", version=1) if isinstance(r, history.ReadStock) else r,))


@breaks("channel_not_converged")
def a_lost_update(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    last = records_of(records, history.UpdateReceived)[-1]
    return [record for record in records if record is not last]


@breaks("channel_not_converged")
def a_sku_that_a_subscriber_never_had(shop: SimulatedShop) -> History:
    return without(shop, history.UpdateReceived)


@breaks("channel_not_converged")
def a_sku_that_nobody_knows(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    saw = records_of(records, history.UpdateReceived)[-1]
    return with_earlier(records, with_part(saw, "update", sku="ghost"))


@breaks("channel_not_converged")
def a_subscriber_that_never_got_everything(shop: SimulatedShop) -> History:
    return without(shop, history.Synced)


@breaks("channel_not_converged")
def a_subscriber_that_comes_back_and_misses_something(shop: SimulatedShop) -> None:
    shop.add(history.Unsubscribed(shop.now, "tmall-1", "the line broke"))
    begin = len(shop.records)
    shop.place("o1", units=2)
    shop.records[begin:] = [record for record in shop.records[begin:] if not isinstance(record, history.UpdateReceived)]
    shop.wait(60_000)
    shop.add(history.Subscribed(shop.now, "tmall-1", "tmall", "3-4"))
    shop.add(history.Synced(shop.now, "tmall-1"))
    shop.place("o2", units=1)


@breaks("channel_not_converged")
def a_new_channel_that_is_synced_before_its_snapshot(shop: SimulatedShop) -> None:
    shop.wait(1)
    shop.add(history.Subscribed(shop.now, "new-1", "new", asked_at=shop.now))
    shop.add(history.Synced(shop.now, "new-1"))


@breaks("channel_not_converged")
def a_topic_that_is_not_what_the_channel_says(shop: SimulatedShop) -> History:
    def other(record: history.HistoryRecord) -> tuple[history.HistoryRecord, ...]:
        if isinstance(record, history.ReadChannel):
            items = tuple(structs.replace(item, quantity=item.quantity + 1) for item in record.items)
            return (structs.replace(record, items=items),)
        return (record,)

    return changed(shop, other)


@breaks("log_does_not_explain")
def a_row_of_stock_that_is_missing(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    last = records_of(records, history.StockPublished)[-1]
    return [record for record in records if record is not last]


@breaks("log_does_not_explain")
def a_row_of_an_order_that_is_missing(shop: SimulatedShop) -> History:
    return changed(shop, lambda r: () if isinstance(r, history.OrderPublished) and r.order.order_id == "held" else (r,))


@breaks("log_does_not_explain")
def a_row_of_a_movement_that_is_missing(shop: SimulatedShop) -> History:
    return without(shop, history.MovementPublished)


@breaks("log_does_not_explain")
def a_row_of_a_policy_that_is_missing(shop: SimulatedShop) -> History:
    shop.policy("tmall", None, {"buffer": 1})
    return without(shop, history.PolicyPublished)


@breaks("log_does_not_explain")
def a_version_with_two_sets_of_numbers(shop: SimulatedShop) -> History:
    records = shop.quiesce()
    row = records_of(records, history.StockPublished)[-1]
    return with_next(records, row, with_part(row, "stock", damaged=3))


@breaks("log_does_not_explain")
def a_row_that_nobody_can_read(shop: SimulatedShop) -> None:
    shop.add(history.UnreadableRow(shop.now, 0, 4, "stock", "no JSON"))


def accept_without_effect(shop: SimulatedShop, kind: str, door: history.InputTransport, event: dict[str, Any]) -> None:
    number = shop.ask(kind, door, **event)
    position = {"topic": "app-orders", "partition": 0, "offset": 77} if door == "kafka" else {}
    shop.add(history.Response(shop.now, number, 202, **position))  # type: ignore[arg-type]


LINE = {"sku": "A", "quantity": 1}
ACCEPTED: tuple[tuple[str, history.InputTransport, dict[str, Any]], ...] = (
    ("order.paid", "kafka", {"id": "p1", "order_id": "held"}),
    ("order.placed", "ndjson", {"id": "p1", "order_id": "o9", "channel": "tmall", "lines": [LINE]}),
    ("order.shipped", "ndjson", {"id": "s9", "order_id": "bought", "lines": [{**LINE, "warehouse": "SH1"}]}),
    ("order.cancelled", "kafka", {"id": "c9", "order_id": "held"}),
    ("stock.received", "http", {"id": "r9", "warehouse": "SH1", "lines": [LINE]}),
)
for accepted in ACCEPTED:
    breaks("input_unaccounted")(
        partial(accept_without_effect, **dict(zip(("kind", "door", "event"), accepted, strict=True)))
    )


@breaks("input_unaccounted")
def a_second_body_that_came_to_nothing(shop: SimulatedShop) -> History:
    shop.move("received", "opening", 3)
    return without(shop, history.DeadLetterPublished)


@breaks("input_unaccounted")
def bytes_that_are_in_no_dead_letter(shop: SimulatedShop) -> History:
    shop.send_malformed()
    return without(shop, history.DeadLetterPublished)


@breaks("input_unaccounted")
def a_payment_that_waited_for_its_order_and_was_forgotten(shop: SimulatedShop) -> History:
    shop.event("paid", "nobody", "kafka")
    shop.wait(120_000)
    return without(shop, history.DeadLetterPublished)


@breaks("input_unaccounted")
def a_return_that_waited_for_its_shipment_and_was_forgotten(shop: SimulatedShop) -> History:
    back = [{"sku": "A", "quantity": 2, "warehouse": "SH1"}]
    shop.event("returned", "bought", "kafka", lines=back)
    shop.wait(120_000)
    return without(shop, history.DeadLetterPublished)


@breaks("input_unaccounted")
def a_dead_letter_without_a_reason(shop: SimulatedShop) -> History:
    shop.send_malformed()
    return changed(
        shop, lambda r: (with_part(r, "letter", reason="") if isinstance(r, history.DeadLetterPublished) else r,)
    )


def sell_short(shop: SimulatedShop, **more: Any) -> None:
    """Sell 5 units of A more than there are."""
    shop.place("sold", units=12, accept="sold", **more)


@breaks("short_not_told")
def a_short_order_without_an_alert(shop: SimulatedShop) -> History:
    sell_short(shop)
    return without(shop, history.AlertPublished)


@breaks("short_not_told")
def an_alert_about_another_order(shop: SimulatedShop) -> History:
    sell_short(shop)
    return changed(
        shop, lambda r: (with_part(r, "alert", order_id="held"),) if isinstance(r, history.AlertPublished) else (r,)
    )


def offered_beside_short_units(shop: SimulatedShop, is_row_late: bool) -> History:
    sell_short(shop)
    records = shop.quiesce()
    row = next(r for r in records_of(records, history.StockPublished) if r.stock.short)
    update = contract_update(row.stock.sku, row.stock.version, quantity=1)
    offer = history.ChannelUpdatePublished(row.at, 0, 9_999, update)
    if is_row_late:
        records.insert(records.index(row), offer)
        return records
    return with_next(records, row, offer)


for late in (False, True):
    breaks("short_not_told")(partial(offered_beside_short_units, is_row_late=late))


def contract_update(sku: str, version: int, quantity: int) -> ChannelUpdateView:
    return ChannelUpdateView("jd", sku, quantity, "in_stock", 0, version)


@breaks("short_not_told")
def free_units_while_an_order_is_short_of_them(shop: SimulatedShop) -> None:
    sell_short(shop)
    shop.state.skus["A"].add("on_hand@SH1", 3)
    shop.state.skus["A"].note_free()
    shop.tick()


def wait_in_the_queue(shop: SimulatedShop, **first: Any) -> None:
    """Two preorders, the second after the first."""
    for channel in ("tmall", "jd"):
        shop.policy(channel, None, {"safety_threshold": 20, "below_threshold": "preorder", "preorder_cap": 50})
    for order_id, more in (("first", first), ("second", {})):
        assert shop.place(order_id, units=4, **more).status == 201
        shop.wait(1)


@breaks("queue_order")
def a_later_preorder_that_is_filled_first(shop: SimulatedShop) -> None:
    wait_in_the_queue(shop)
    shop.state.orders["first"].queued = 1_000
    shop.move("received", "more", 17)


@breaks("queue_order")
def a_later_preorder_that_is_filled_while_the_first_is_filled_in_part(shop: SimulatedShop) -> None:
    wait_in_the_queue(shop)
    shop.move("received", "more", 14)
    assert shop.state.orders["first"].lines[0].preordered == 3
    shop.state.orders["first"].queued = 1_000
    shop.move("received", "again", 1)
    shop.event("paid", "first")


@breaks("queue_order")
def a_vip_that_is_filled_after_an_older_preorder(shop: SimulatedShop) -> None:
    wait_in_the_queue(shop)
    shop.place("vip", units=30, priority="vip")
    shop.state.orders["vip"].priority = "standard"
    shop.move("received", "more", 17)


def short_units_that_are_filled_after_a_preorder(shop: SimulatedShop, channel: str) -> None:
    wait_in_the_queue(shop, channel=channel)
    sell_short(shop, allow_preorder=False)
    shop.state.orders["sold"].lines[0].preordered, shop.state.orders["sold"].lines[0].short = 5, 0
    shop.state.skus["A"].add("short@tmall", -5)
    shop.move("received", "more", 30)


for of_channel in ("tmall", "jd"):
    breaks("queue_order")(partial(short_units_that_are_filled_after_a_preorder, channel=of_channel))


WITHOUT_EVIDENCE = (a_row_that_nobody_can_read, bytes_that_are_in_no_dead_letter, a_dead_letter_without_a_reason)


@pytest.mark.parametrize(
    ("checker", "make_history"),
    [(checker, make_history) for checker, histories in BROKEN_HISTORIES.items() for make_history in histories],
)
def test_the_checker_finds(checker: str, make_history: Callable[[], History]) -> None:
    result = judge(make_history(), park_ms=PARK_MS).part(checker)
    assert result.found, result
    if make_history not in WITHOUT_EVIDENCE:
        assert result.violations[0].evidence


def test_the_shop_that_the_others_change_is_fair() -> None:
    verdict = judge(shop_with().quiesce())
    assert not verdict.broken, "\n".join(verdict.lines())


@pytest.mark.parametrize("checker", ["oversold", "hold_ended_twice"])
def test_a_watch_finds_it_while_the_run_goes_on(checker: str) -> None:
    for make_history in BROKEN_HISTORIES[checker]:
        live_judge, found = LiveJudge(), []
        for record in make_history():
            if isinstance(record, history.RunQuiesced):
                break
            found += live_judge.feed(record)
        assert checker in {violation.checker for violation in found}, make_history
        assert found[0].evidence


def test_a_watch_tells_each_finding_once() -> None:
    live_judge = LiveJudge()
    found = [violation for record in one_version_with_two_updates() for violation in live_judge.feed(record)]
    assert [violation.checker for violation in found] == ["version_went_back"]


def test_an_update_is_told_with_its_numbers() -> None:
    violation = judge(an_older_update_after_a_newer_one()).part("version_went_back").violations[0]
    assert violation.subscriber == "tmall-1" and violation.sku == "A"
    assert "at version" in violation.what
