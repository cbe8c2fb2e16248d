"""Dead letters keep the original event as far as a record can hold it."""

from __future__ import annotations

import base64
import json

from stocktide.agents.dead_letters import (
    BURST_DEAD_LETTERS,
    RAW_BYTES_MAX,
    BurstDetector,
    dead_letter_of_malformed,
    dead_letter_of_refused,
)
from stocktide.streams.contract.events import Malformed
from stocktide.streams.kafka.admin import RECORD_BYTES_MAX
from stocktide.streams.kafka.record_origin import ORIGIN_HEADER, RecordPlace, origin_header, origin_of
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.commands import Origin
from stocktide.tables.ledger.records import RefusedEvent
from tests.unit.fakes import FakeRecord, chunk_of

WHY = Malformed("malformed_json", "it is none")


def test_bytes_that_are_text_are_kept_as_text_and_others_as_base64() -> None:
    text = chunk_of("日本 {".encode())
    key, value = dead_letter_of_malformed(text, text.records[0], WHY)
    assert (key, json.loads(value or b"")["raw"]) == (b"key", "日本 {")
    bytes_ = chunk_of(b"\xff\x00\xfe")
    letter = json.loads(dead_letter_of_malformed(bytes_, bytes_.records[0], WHY)[1] or b"")
    assert base64.b64decode(letter["raw_base64"]) == b"\xff\x00\xfe"


def test_an_event_larger_than_a_record_is_truncated_and_marked() -> None:
    chunk = chunk_of(b"\x01" * (RECORD_BYTES_MAX - 1))
    value = dead_letter_of_malformed(chunk, chunk.records[0], WHY)[1] or b""
    assert len(value) <= RECORD_BYTES_MAX
    letter = json.loads(value)
    assert letter["raw_bytes"] == RECORD_BYTES_MAX - 1
    assert len(base64.b64decode(letter["raw_base64"])) == RAW_BYTES_MAX


def test_a_refused_movement_is_keyed_by_its_warehouse() -> None:
    refused = RefusedEvent("count_too_old", "", Origin("t-movements", 0, 1, '{"warehouse":"SH1"}'))
    assert dead_letter_of_refused(refused, 0)[0] == b"SH1"


def test_a_refusal_at_a_field_has_its_path_and_a_sentence() -> None:
    for reason, path in (("more_than_open", "lines[1].quantity"), ("not_voidable", "movement_id")):
        letter = json.loads(dead_letter_of_refused(RefusedEvent(reason, path, Origin("t", 0, 1, "{}")), 0)[1] or b"")
        assert letter["path"] == path and " " in letter["detail"]


def test_the_letter_of_an_event_that_was_sent_again_has_its_first_origin() -> None:
    record = FakeRecord(9, b"{", b"key", headers=(("other", b"x"), origin_header(RecordPlace("t-orders", 2, 5))))
    letter = json.loads(dead_letter_of_malformed(Chunk("t-orders", 0, (record,)), record, WHY)[1] or b"")
    assert (letter["topic"], letter["partition"], letter["offset"]) == ("t-orders", 2, 5)


def test_a_header_that_is_no_place_is_none() -> None:
    for value in (b"", b"t-orders", b"t-orders/x/1", b"t orders/1/1", b"t/1/1\n", b"t/1/" + b"1" * 40, None):
        assert origin_of([(ORIGIN_HEADER, value)]) is None
    assert origin_of([(ORIGIN_HEADER, b"t/1/2")]) == RecordPlace("t", 1, 2)


def refused_at(reason: str, second: int) -> tuple[bytes, bytes | None]:
    """A dead letter at that second of the epoch."""
    return dead_letter_of_refused(RefusedEvent(reason, "", Origin("t-orders", 0, 1, "{}")), second * 1000)


def test_a_burst_of_one_reason_is_reported_once_a_minute() -> None:
    bursts = BurstDetector()
    assert not bursts.add([refused_at("conflict", 1)] * BURST_DEAD_LETTERS)
    (alert,) = bursts.add([refused_at("conflict", 59), refused_at("unknown_order", 59)])
    reported = json.loads(alert[1] or b"")
    assert (reported["type"], reported["reason"], reported["quantity"]) == (
        "dead_letter_burst",
        "conflict",
        BURST_DEAD_LETTERS + 1,
    )
    assert reported["id"] == "burst-conflict-1970-01-01T00:00"
    assert not bursts.add([refused_at("conflict", 59)] * BURST_DEAD_LETTERS * 2)
    assert len(bursts.add([refused_at("conflict", 60)] * BURST_DEAD_LETTERS * 2)) == 1


def test_letters_that_come_slowly_are_no_burst() -> None:
    bursts = BurstDetector(threshold=2)
    assert not any(bursts.add([refused_at("conflict", 31 * at)]) for at in range(20))
