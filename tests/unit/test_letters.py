"""Dead letters keep what came, as far as a record can hold it."""

from __future__ import annotations

import base64
import json

from agents.letters import RAW_BYTES_MAX, letter_of_malformed, letter_of_refused
from streams.admin import RECORD_BYTES_MAX
from streams.events import Malformed
from tables.commands import Origin
from tables.records import Refused
from tests.unit.stand_ins import chunk_of

WHY = Malformed("malformed_json", "it is none")


def test_bytes_that_are_text_are_kept_as_text_and_others_as_base64() -> None:
    text = chunk_of("日本 {".encode())
    assert json.loads(letter_of_malformed(text, text.records[0], WHY)[1] or b"")["raw"] == "日本 {"
    bytes_ = chunk_of(b"\xff\x00\xfe")
    letter = json.loads(letter_of_malformed(bytes_, bytes_.records[0], WHY)[1] or b"")
    assert base64.b64decode(letter["raw_base64"]) == b"\xff\x00\xfe"


def test_the_letter_of_bytes_keeps_their_key() -> None:
    chunk = chunk_of(b"{")
    assert letter_of_malformed(chunk, chunk.records[0], WHY)[0] == b"key"


def test_what_would_be_larger_than_a_record_is_cut_and_says_so() -> None:
    chunk = chunk_of(b"\x01" * (RECORD_BYTES_MAX - 1))
    value = letter_of_malformed(chunk, chunk.records[0], WHY)[1] or b""
    assert len(value) <= RECORD_BYTES_MAX
    letter = json.loads(value)
    assert letter["raw_bytes"] == RECORD_BYTES_MAX - 1
    assert len(base64.b64decode(letter["raw_base64"])) == RAW_BYTES_MAX


def test_a_refused_movement_is_keyed_by_its_warehouse() -> None:
    refused = Refused("count_too_old", "", Origin("t-movements", 0, 1, '{"warehouse":"SH1"}'))
    assert letter_of_refused(refused, 0)[0] == b"SH1"
