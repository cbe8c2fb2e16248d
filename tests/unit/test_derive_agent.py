"""From the journal to rows: only valid batches, completely, and from the stored position on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from stocktide.agents.dead_letters import BURST_DEAD_LETTERS
from stocktide.agents.derive.agent import DailyTotals, Derivation, MissingRecords
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.publication_tick import Stopwatch
from stocktide.streams.journal.record import KIND_BATCH, JournalRecord, decode_position, encode_record, marker
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.commands import Origin
from stocktide.tables.ledger.records import (
    ActedLine,
    ActionRow,
    Alert,
    ApprovalRecord,
    Effect,
    LineRecord,
    MovementRecord,
    MovementRow,
    Offer,
    OrderRecord,
    OrderRow,
    PolicyRow,
    RefusedEvent,
    Result,
    SkuRecord,
    SkuRow,
)
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.unit.fakes import FakeRecord, FakeTable, RecordingPublisher, decision_of

POSITIONS = "t-journal-positions"


def derivation_of(publisher: RecordingPublisher, positions: FakeTable, stored: Sequence[bytes] = ()) -> Derivation:
    """A derivation of a journal that holds the records `stored`."""
    daily = DailyTotals(FakeTable(), "t-daily", ZoneInfo("UTC"))  # type: ignore[arg-type]
    work, log = Stopwatch(time.monotonic), MemoryLog(MemoryJournal(values=list(stored)))
    return Derivation(positions, POSITIONS, publisher, "t", WorkerMetrics(), work, lambda _: log, daily)  # type: ignore[arg-type]


def batch(number: int, term: int = 1, owner: str = "w", results: Sequence[Result] = (), **parts: Any) -> bytes:
    payload = msgspec.msgpack.encode(decision_of(*results, batch=number, **parts))
    previous = f"token{number - 1}" if number > 1 else ""
    return encode_record(JournalRecord(KIND_BATCH, term, owner, number, f"token{number}", previous, payload))


def order(order_id: str, state: str = "reserved", changed: bool = True, **more: Any) -> OrderRow:
    lines = (LineRecord(sku="A", quantity=1, state=state, reserved=1, warehouses={"SH1": 1}),)
    record = OrderRecord(state=state, channel="jd", sequence=1, outcome="reserved", lines=lines, **more)
    return OrderRow(order_id, record, changed)


def sku(name: str, version: int, quantity: int, interval_ms: int | None = None) -> SkuRow:
    record = SkuRecord(version=version, at=1_000, counters={"on_hand@SH1": quantity}, warehouses=("SH1",))
    return SkuRow(name, record, (Offer("jd", "in_stock", quantity, 0, interval_ms),))


def journal(*values: bytes, start: int = 0) -> Chunk:
    records = tuple(FakeRecord(start + index, value) for index, value in enumerate(values))
    return Chunk("t-journal", 0, records)


def marker_of(term: int, owner: str = "w") -> bytes:
    return encode_record(marker(term, owner))


async def derived(*values: bytes) -> RecordingPublisher:
    """What is published for these records after a marker of term 1."""
    publisher = RecordingPublisher()
    await derivation_of(publisher, FakeTable()).derive(journal(marker_of(1), *values), 1)
    return publisher


def rows_of(publisher: RecordingPublisher, topic: str) -> dict[bytes, Any]:
    return {key: value and json.loads(value) for key, value in publisher.topics[f"t-{topic}"]}


async def test_events_that_wait_hide_no_order_and_are_none_themselves() -> None:
    waits = OrderRow("o1", OrderRecord(state="parked", parked=({"id": "pay"},)), True)
    named_so = order("o2", region="parked")
    values = (batch(1, orders=(order("o1"), named_so)), batch(2, orders=(waits,)))
    publisher = await derived(*values)
    rows = rows_of(publisher, "reservations")
    assert rows[b"o1"]["batch"] == 1 and rows[b"o1"]["state"] == "reserved"
    assert rows[b"o2"]["record"]["region"] == "parked"


async def test_each_row_carries_its_batch_and_the_whole_record() -> None:
    applied = MovementRecord(kind="receive", outcome="received", fingerprint="f", at=1, applied_at=2)
    parts = {
        "orders": (order("o1"),),
        "skus": (sku("A", 3, 9, 250),),
        "movements": (MovementRow("SH/1", "m", applied, True),),
    }
    publisher = await derived(batch(1, **parts))
    reservation = rows_of(publisher, "reservations")[b"o1"]
    assert reservation["batch"] == 1 and reservation["outcome"] == "reserved" and reservation["state"] == "reserved"
    assert msgspec.convert(reservation["record"], OrderRecord) == order("o1").record
    stock = rows_of(publisher, "stock")[b"A"]
    assert stock["channels"]["jd"] == {"mode": "in_stock", "quantity": 9, "preorder_remaining": 0}
    assert stock["publish_interval_ms"] == {"jd": 250}
    assert msgspec.convert(stock["record"], SkuRecord) == sku("A", 3, 9).record
    adjustment = rows_of(publisher, "adjustments")[b"SH%2F1/m"]
    assert adjustment["batch"] == 1 and msgspec.convert(adjustment["record"], MovementRecord) == applied


async def test_the_row_of_a_repromised_order_says_so_whatever_else_the_chunk_changes_of_it() -> None:
    repromised = OrderRow("o1", order("o1").record, True, repromised=True)
    publisher = await derived(batch(1, orders=(repromised, order("o2"))), batch(2, orders=(order("o1", "paid"),)))
    rows = rows_of(publisher, "reservations")
    assert (rows[b"o1"]["event"], rows[b"o1"]["state"]) == ("order.repromised", "paid")
    assert "event" not in rows[b"o2"] and "choice_due" not in rows[b"o2"]
    publisher = await derived(batch(1, orders=(order("o1"),)))
    assert "event" not in rows_of(publisher, "reservations")[b"o1"]


async def test_within_a_chunk_a_key_is_written_once_with_its_newest_state() -> None:
    publisher = await derived(*(batch(number, skus=(sku("A", number, number),)) for number in range(1, 6)))
    assert [row["version"] for row in publisher.values("t-stock")] == [5]


async def test_a_row_says_that_it_only_states_an_order_again() -> None:
    restated = (Result("restated", detail="going 1"),)
    changed = (Effect("A", 2, ("fill", "x", "o3"), {"locked@SH1": 1}),)
    publisher = await derived(
        batch(1, orders=(order("o1"),)),
        batch(2, results=restated, orders=(order("o1"), order("o2"))),
        batch(3, results=restated, orders=(order("o3"),), effects=changed),
        batch(4, results=(*restated, Result("paid")), orders=(order("o4"),)),
    )
    rows = rows_of(publisher, "reservations")
    assert rows[b"o2"]["restated"] is True
    assert [key for key, row in rows.items() if "restated" in row] == [b"o2"], "the change of o1 has no other row"


async def test_what_is_void_derives_nothing() -> None:
    publisher = await derived(
        batch(1, orders=(order("o1"),)),
        marker_of(2, "x"),
        batch(2, term=1, orders=(order("late"),)),
        b"rubbish",
        batch(3, term=2, owner="x", orders=(order("gap"),)),
        batch(2, term=2, owner="x", orders=(order("o2"),)),
    )
    assert set(rows_of(publisher, "reservations")) == {b"o1", b"o2"}


async def test_orders_that_did_not_change_and_events_that_wait_for_theirs_get_no_row() -> None:
    rows = (order("same", changed=False), order("waits", state="parked"))
    publisher = await derived(batch(1, orders=rows))
    assert not publisher.topics["t-reservations"]


async def test_a_restart_continues_at_the_stored_position() -> None:
    publisher, positions = RecordingPublisher(), FakeTable()
    values = [marker_of(1), *(batch(number, orders=(order(f"o{number}"),)) for number in (1, 2, 3))]
    await derivation_of(publisher, positions).derive(journal(*values[:3]), 1)
    publisher.topics.clear()
    # Redelivered from an older commit: derived records are skipped, new ones are judged as before.
    await derivation_of(publisher, positions).derive(journal(*values[1:], start=1), 1)
    assert set(rows_of(publisher, "reservations")) == {b"o3"}


async def test_a_failed_write_leaves_the_position_where_it_was_so_that_all_is_derived_again() -> None:
    publisher, positions = RecordingPublisher(), FakeTable()
    derivation = derivation_of(publisher, positions)
    chunk = journal(marker_of(1), batch(1, orders=(order("o1"),)))
    publisher.failures.append(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        await derivation.derive(chunk, 1)
    assert not positions.rows
    await derivation.derive(chunk, 1)
    assert set(rows_of(publisher, "reservations")) == {b"o1"}
    assert positions.rows


async def test_a_former_owner_stores_no_position() -> None:
    publisher, positions = RecordingPublisher(), FakeTable()
    publisher.membership.end()
    with pytest.raises(MembershipLost):
        await derivation_of(publisher, positions).derive(journal(marker_of(1), batch(1, orders=(order("o1"),))), 1)
    assert not positions.rows and not publisher.topics


async def test_policies_are_rows_with_an_audit_trail_and_a_removed_one_of_a_sku_ends_in_a_tombstone() -> None:
    rows = (
        PolicyRow("jd", "", {"buffer": 2}, None, "ann"),
        PolicyRow("jd", "A", None, {"buffer": 1}, "ann"),
        PolicyRow("jd", "B", (), None, "ann"),
    )
    publisher = await derived(batch(1, policies=rows))
    written = publisher.topics["t-policies"]
    assert [(key, value and json.loads(value)["policy"]) for key, value in written] == [
        (b"jd", {"buffer": 2}),
        (b"jd/A", None),
        (b"jd/A", None),
        (b"jd/B", {}),
    ]
    assert written[2] == (b"jd/A", None)
    assert [row["action"] for row in publisher.values("t-audit")] == ["policy_set", "policy_deleted", "policy_set"]


async def test_what_operators_do_to_orders_goes_into_the_audit_with_the_lines_before_and_after() -> None:
    before, after = ActedLine("A", 0, 3, 0, False), ActedLine("A", 2, 1, 0, False)
    row = ActionRow("assigned", "o1", "a1", "ann", "a promise", (before,), (after,))
    publisher = await derived(batch(1, actions=(row,)))
    ((key, value),) = publisher.topics["t-audit"]
    told = json.loads(value or b"")
    assert (key, told["action"], told["order_id"], told["id"]) == (b"ann", "assigned", "o1", "a1")
    assert (told["actor"], told["reason"], told["batch"]) == ("ann", "a promise", 1)
    assert told["before"] == [{"sku": "A", "reserved": 0, "preordered": 3, "short": 0, "held_back": False}]
    assert told["after"] == [{"sku": "A", "reserved": 2, "preordered": 1, "short": 0, "held_back": False}]


async def test_alerts_have_ids_that_a_repeat_has_too_and_refusals_are_dead_letters() -> None:
    refused = RefusedEvent("conflict", "another body", Origin("t-orders", 1, 7, '{"order_id":"o1"}'))
    value = batch(1, alerts=(Alert(type="low_stock", sku="A"), Alert(type="shortfall", sku="B")), refused=(refused,))
    publisher = await derived(value)
    assert [alert["id"] for alert in publisher.values("t-alerts")] == ["1-0", "1-1"]
    (letter,) = rows_of(publisher, "dead-letters").items()
    assert (letter[0], letter[1]["reason"], letter[1]["offset"]) == (b"o1", "conflict", 7)


async def test_a_burst_of_refusals_is_one_alert() -> None:
    publisher = RecordingPublisher()
    derivation = derivation_of(publisher, FakeTable())
    refused = tuple(RefusedEvent("conflict", "", Origin("t-orders", 0, at, "{}")) for at in range(BURST_DEAD_LETTERS))
    await derivation.derive(journal(marker_of(1), batch(1, refused=refused)), 1)
    assert not publisher.topics["t-alerts"]
    await derivation.derive(journal(batch(2, refused=refused), start=2), 1)
    assert [alert["type"] for alert in publisher.values("t-alerts")] == ["dead_letter_burst"]


async def test_a_batch_that_cannot_be_read_is_set_aside_with_an_alarm_and_the_next_is_derived() -> None:
    poison = encode_record(JournalRecord(KIND_BATCH, 1, "w", 2, "token2", "token1", b"no msgpack at all"))
    values = (batch(1, orders=(order("o1"),)), poison, batch(3, orders=(order("o3"),)))
    publisher = await derived(*values)
    assert set(rows_of(publisher, "reservations")) == {b"o1", b"o3"}
    (letter,) = publisher.values("t-dead-letters")
    assert (letter["reason"], letter["offset"]) == ("unreadable_batch", 2)
    (alert,) = publisher.values("t-alerts")
    assert alert["type"] == "unreadable_batch" and "audit" in alert["reason"]


def history_of(batches: int) -> list[bytes]:
    return [marker_of(1), *(batch(number, orders=(order(f"o{number}"),)) for number in range(1, batches + 1))]


async def test_records_that_were_not_delivered_are_read_from_the_journal() -> None:
    publisher, positions, values = RecordingPublisher(), FakeTable(), history_of(5)
    await derivation_of(publisher, positions).derive(journal(*values[:3]), 1)
    # A table that came back without its tail, or an offset that was committed too early.
    await derivation_of(publisher, positions, values).derive(journal(values[5], start=5), 1)
    assert list(rows_of(publisher, "reservations")) == [b"o1", b"o2", b"o3", b"o4", b"o5"]
    stored = decode_position(positions.read(0, b"0") or b"")
    assert (stored.batch, stored.offset) == (5, 6)


async def test_records_between_two_chunks_of_an_assignment_are_read_from_the_journal() -> None:
    publisher, values = RecordingPublisher(), history_of(4)
    derivation = derivation_of(publisher, FakeTable(), values)
    await derivation.derive(journal(*values[:2]), 1)
    await derivation.derive(journal(values[4], start=4), 1)
    assert list(rows_of(publisher, "reservations")) == [b"o1", b"o2", b"o3", b"o4"]


async def test_void_records_behind_the_position_are_read_again_after_a_restart_alone() -> None:
    publisher, positions, values = RecordingPublisher(), FakeTable(), [*history_of(2), b"rubbish", b"rubbish"]
    derivation = derivation_of(publisher, positions)  # a journal without records: a read would fail
    await derivation.derive(journal(*values[:4]), 1)
    await derivation.derive(journal(values[4], start=4), 1)
    values.append(batch(3, orders=(order("o3"),)))
    await derivation_of(publisher, positions, values).derive(journal(values[5], start=5), 1)
    assert list(rows_of(publisher, "reservations")) == [b"o1", b"o2", b"o3"]


async def test_a_journal_that_does_not_give_the_missing_records_is_an_error_that_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stocktide.agents.derive.agent.READ_SECONDS_MAX", 0.01)
    publisher, values = RecordingPublisher(), history_of(3)
    with pytest.raises(MissingRecords, match="gives nothing at offset 3, before a record at 4"):
        await derivation_of(publisher, FakeTable(), values[:3]).derive(journal(values[3], start=4), 1)


def forced(state: str, asked_in: int, decided_in: int = 0, ending: str = "", by: str | None = None) -> OrderRow:
    """A forced order, as of its newest batch."""
    approval = ApprovalRecord(
        *("anna", "for the press", 1_000, asked_in, 5_000), state=ending, decided_by=by, decided_in=decided_in
    )
    return order("o1", state, approval=approval)


async def test_a_request_and_its_end_are_audited_once_each() -> None:
    publisher = await derived(
        batch(1, orders=(forced("awaiting_approval", 1),)),
        batch(2, orders=(forced("awaiting_approval", 1),)),
        batch(3, orders=(forced("reserved", 1, 3, "approved", "ben"),)),
        batch(4, orders=(forced("paid", 1, 3, "approved", "ben"),)),
    )
    asked, given = publisher.values("t-audit")
    assert (asked["actor"], asked["action"], asked["reason"]) == ("anna", "approval_requested", "for the press")
    assert (asked["before"], asked["after"]["state"], asked["batch"]) == (None, "waiting", 1)
    assert asked["after"]["lines"] == [{"sku": "A", "quantity": 1}]
    assert (given["actor"], given["action"], given["requested_by"]) == ("ben", "approval_approved", "anna")
    assert (given["before"], given["batch"]) == ({"state": "waiting"}, 3)
    assert given["after"] == {"state": "approved", "order_state": "reserved", "outcome": "reserved"}


async def test_a_request_that_is_decided_in_its_batch_is_audited_too_and_so_is_its_end_by_time() -> None:
    publisher = await derived(
        batch(1, orders=(forced("reserved", 1, 1, "approved", "ben"),)),
        batch(2, orders=(forced("rejected", 1, 2, "expired"),)),
    )
    assert [(row["actor"], row["action"]) for row in publisher.values("t-audit")] == [
        ("anna", "approval_requested"),
        ("ben", "approval_approved"),
        ("ledger", "approval_expired"),
    ]
