"""From raw records to settled decisions: splitting, order, dead letters."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stocktide.agents.dead_letters import BURST_DEAD_LETTERS
from stocktide.agents.intake import (
    COMMANDS_MAX,
    LINES_MAX,
    MOVEMENT_LINES_MAX,
    Intake,
    split_commands,
    submit_movements,
    submit_orders,
)
from stocktide.agents.metrics import WorkerMetrics
from stocktide.streams.kafka.record_origin import RecordPlace, origin_header
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.commands import Place, Void
from tests.harness.events import lines_of, order_event, order_paid, order_placed, stock_received
from tests.unit.fakes import FakeRecord, RecordingPublisher, RecordingSubmitter, chunk_of

RECEIVED = json.dumps(stock_received("r", ("A", 1))).encode()


def placed(order_id: str, lines: int = 1, **more: Any) -> bytes:
    basket = lines_of(*((f"S{index}", 1) for index in range(lines)))
    return json.dumps(order_placed(order_id, **{"lines": basket, **more})).encode()


def intake_of(submitter: RecordingSubmitter, publisher: RecordingPublisher) -> Intake:
    return Intake(submitter, publisher, "t-dead-letters", "t-alerts", WorkerMetrics())  # type: ignore[arg-type]


def place(order_id: str, lines: int) -> Place:
    wanted = tuple((f"S{index}", 1) for index in range(lines))
    return Place(id="placed", order_id=order_id, at=0, fingerprint="f", channel="c", lines=wanted)


def test_a_piece_is_bounded_in_commands_and_in_lines() -> None:
    many = list(split_commands(iter([place(str(index), 1) for index in range(COMMANDS_MAX + 1)])))
    assert [len(piece) for piece in many] == [COMMANDS_MAX, 1]
    long = list(split_commands(iter([place(str(index), LINES_MAX // 2) for index in range(3)])))
    assert [len(piece) for piece in long] == [2, 1]


def test_an_order_with_more_lines_than_a_piece_goes_alone() -> None:
    cut = list(split_commands(iter([place("a", 1), place("b", LINES_MAX + 1), place("c", 1)])))
    assert [[command.order_id for command in piece] for piece in cut] == [["a"], ["b"], ["c"]]  # type: ignore[union-attr]


def test_a_void_goes_alone_because_its_movement_may_be_long() -> None:
    void = Void(id="v", warehouse="SH1", at=0, fingerprint="f", movement_id="m")
    assert [len(piece) for piece in split_commands(iter([place("a", 1), void, place("b", 1)]))] == [1, 1, 1]


async def test_every_event_of_a_chunk_is_settled_in_its_order() -> None:
    submitter, publisher = RecordingSubmitter(), RecordingPublisher()
    chunk = chunk_of(*(placed(f"o{index}") for index in range(1_000)))
    await submit_orders(chunk, 1, intake_of(submitter, publisher))
    assert submitter.settled == [f"o{index}-placed" for index in range(1_000)]
    assert not publisher.topics


async def test_the_handler_returns_only_when_all_is_settled() -> None:
    submitter = RecordingSubmitter()
    submitter.gate.clear()
    handling = asyncio.create_task(submit_orders(chunk_of(placed("o1")), 1, intake_of(submitter, RecordingPublisher())))
    await asyncio.sleep(0.01)
    assert submitter.submitted and not handling.done()
    submitter.gate.set()
    await asyncio.wait_for(handling, 10)


async def test_poison_goes_to_the_dead_letters_with_reason_and_origin_and_its_neighbours_go_on() -> None:
    submitter, publisher = RecordingSubmitter(), RecordingPublisher()
    poison = (b"{bad", b"\xff\xfe", None, b"", b"[]", b'{"type":"order.eaten"}', placed("o9", lines=0))
    chunk = chunk_of(placed("o1"), *poison, placed("o2"), partition=3, start=100)
    await submit_orders(chunk, 1, intake_of(submitter, publisher))
    assert submitter.settled == ["o1-placed", "o2-placed"]
    letters = publisher.values("t-dead-letters")
    assert [letter["offset"] for letter in letters] == list(range(101, 108))
    assert all(letter["reason"] and letter["detail"] for letter in letters)
    assert {(letter["topic"], letter["partition"]) for letter in letters} == {("t-orders", 3)}
    assert letters[0]["raw"] == "{bad"
    assert letters[1]["raw_base64"] == "//4="
    assert letters[5]["reason"] == "unknown_type"
    assert letters[6]["path"] == "lines"


async def test_a_movement_on_the_topic_of_orders_is_a_dead_letter_and_the_other_way_round() -> None:
    submitter, publisher = RecordingSubmitter(), RecordingPublisher()
    await submit_orders(chunk_of(RECEIVED), 1, intake_of(submitter, publisher))
    await submit_movements(chunk_of(placed("o1")), 1, intake_of(submitter, publisher))
    assert len(publisher.topics["t-dead-letters"]) == 2
    await submit_movements(chunk_of(RECEIVED), 1, intake_of(submitter, publisher))
    assert submitter.settled == ["r"]
    ((command,),) = submitter.submitted
    assert command.received_at == 1_000, "when Kafka got it"  # type: ignore[union-attr]


async def test_an_event_on_which_the_ledger_fails_is_found_and_buried_and_its_neighbours_are_settled() -> None:
    submitter, publisher = RecordingSubmitter(undecidable=["o37-placed"]), RecordingPublisher()
    chunk = chunk_of(*(placed(f"o{index}") for index in range(100)))
    await submit_orders(chunk, 1, intake_of(submitter, publisher))
    assert sorted(submitter.settled) == sorted(f"o{index}-placed" for index in range(100) if index != 37)
    (letter,) = publisher.values("t-dead-letters")
    assert letter["reason"] == "undecidable" and letter["offset"] == 37


async def test_events_that_may_park_are_kept_without_unknown_fields() -> None:
    submitter = RecordingSubmitter()
    paid = order_paid("o1")
    line = {"sku": "A", "quantity": 1, "warehouse": "SH1"}
    returned = order_event("returned", "o1", lines=[{**line, "x": "y" * 1_000}])
    events = ({**paid, "note": "x" * 1_000_000}, returned, json.loads(placed("o1", note="x")))
    await submit_orders(
        chunk_of(*(json.dumps(each).encode() for each in events)), 1, intake_of(submitter, RecordingPublisher())
    )
    kept = [json.loads(command.origin.raw) for batch in submitter.submitted for command in batch if command.origin]  # type: ignore[union-attr]
    assert kept == [
        paid,
        {**returned, "lines": [{**line, "condition": "sellable"}]},
        json.loads(placed("o1", note="x")),
    ]


async def test_nothing_overtakes_a_movement_that_takes_several_calls() -> None:
    long = json.dumps(stock_received("long", *((f"S{index}", 1) for index in range(MOVEMENT_LINES_MAX + 1)))).encode()
    events = [json.dumps(stock_received(name, ("S1", 1))).encode() for name in ("before", "after")]
    submitter = RecordingSubmitter(steps={"long": 3})
    await submit_movements(chunk_of(events[0], long, events[1]), 1, intake_of(submitter, RecordingPublisher()))
    assert [batch[0].id for batch in submitter.submitted] == ["before", *["long"] * 4, "after"]  # type: ignore[union-attr]
    assert submitter.settled == ["before", "long", "after"]


async def test_each_settled_step_of_a_chunk_counts_once_however_often_the_chunk_is_submitted() -> None:
    long = json.dumps(stock_received("long", *((f"S{index}", 1) for index in range(MOVEMENT_LINES_MAX + 1)))).encode()
    chunk = chunk_of(RECEIVED, long, partition=3, start=100)
    intake = intake_of(RecordingSubmitter(steps={"long": 3}), RecordingPublisher())
    await submit_movements(chunk, 1, intake)
    assert intake.settled_steps == {(chunk.topic, 3): (100, 5)}
    await submit_movements(chunk, 1, intake)  # its movements are repeats, of one step each
    assert intake.settled_steps == {(chunk.topic, 3): (100, 5)}
    await submit_movements(chunk_of(RECEIVED, partition=3, start=102), 1, intake)
    assert intake.settled_steps == {(chunk.topic, 3): (102, 1)}


async def test_an_event_that_was_sent_again_has_its_first_origin() -> None:
    submitter = RecordingSubmitter()
    again = FakeRecord(7, placed("o1"), b"o1", headers=(origin_header(RecordPlace("t-orders", 2, 5)),))
    chunk = Chunk("t-orders", 1, (again, FakeRecord(8, placed("o2"), b"o2")))
    await submit_orders(chunk, 1, intake_of(submitter, RecordingPublisher()))
    origins = [command.origin for batch in submitter.submitted for command in batch]  # type: ignore[union-attr]
    assert [(each.topic, each.partition, each.offset) for each in origins if each] == [
        ("t-orders", 2, 5),
        ("t-orders", 1, 8),
    ]


async def test_a_burst_of_poison_is_reported_once() -> None:
    publisher = RecordingPublisher()
    intake = intake_of(RecordingSubmitter(), publisher)
    for start in (0, 1_000):
        await submit_orders(chunk_of(*[b"{bad"] * (BURST_DEAD_LETTERS + 1), start=start), 1, intake)
    alerts = publisher.values("t-alerts")
    assert {alert["type"] for alert in alerts} == {"dead_letter_burst"}
    assert len(alerts) <= 2, "a second one only if a minute ended meanwhile"


async def test_a_piece_that_is_too_large_is_divided_and_one_event_that_is_goes_to_the_dead_letters() -> None:
    submitter, publisher = RecordingSubmitter(commands_max=10), RecordingPublisher()
    chunk = chunk_of(*(placed(f"o{index}") for index in range(100)))
    await submit_orders(chunk, 1, intake_of(submitter, publisher))
    assert sorted(submitter.settled) == sorted(f"o{index}-placed" for index in range(100))
    assert not publisher.topics["t-dead-letters"]
    await submit_orders(chunk_of(placed("o1")), 1, intake_of(RecordingSubmitter(commands_max=0), publisher))
    (letter,) = publisher.values("t-dead-letters")
    assert letter["reason"] == "too_large" and letter["offset"] == 0


async def test_a_piece_is_bounded_in_the_bytes_of_its_raw_events() -> None:
    submitter = RecordingSubmitter()
    wide = [placed(f"o{index}", note="x" * 400_000) for index in range(6)]
    await submit_orders(chunk_of(*wide), 1, intake_of(submitter, RecordingPublisher()))
    assert [len(piece) for piece in submitter.submitted] == [2, 2, 2]
