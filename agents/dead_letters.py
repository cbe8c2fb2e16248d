"""Dead letters: refused records with their reason and origin.

In: a reason and the original bytes. Out: rows of the topic `dead-letters` (docs/architecture.md), and of `alerts` for
bursts of them.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from msgspec import structs

from stocktide.streams.contract.documents import DeadLetter, PublishedAlert, encode
from stocktide.streams.contract.events import Malformed
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.admin import RECORD_BYTES_MAX
from stocktide.streams.kafka.publish import OFFSET_NOT_WRITTEN, OutputRow
from stocktide.streams.kafka.record_origin import RecordPlace, origin_of
from stocktide.streams.kafka.transport import Chunk, Record
from stocktide.tables.ledger.commands import Origin
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import RefusedEvent

# Bytes kept of a value that would exceed a record as JSON text or base64.
RAW_BYTES_MAX = 2 * 1024 * 1024
# The reason if the ledger fails on an event: a bug.
UNDECIDABLE = "undecidable"
# Dead letters of one reason within a minute that raise an alert: a faulty sender, not a single faulty event.
BURST_DEAD_LETTERS = 100
# The detail for a dead letter whose path names the invalid field.
_WRONG_AT: dict[str, str] = {
    Outcome.NOT_IN_ORDER: "the order has no line of this SKU",
    Outcome.MORE_THAN_OPEN: "more goes back than is still to be shipped",
    Outcome.UNKNOWN_MOVEMENT: "the warehouse has no movement of this id",
    Outcome.NOT_VOIDABLE: "only receipts, adjustments and transfers that were applied can be voided",
    Outcome.ALREADY_VOIDED: "the movement has been voided before",
    Outcome.ALREADY_COUNTED: "a count that was applied since holds its effect",
    Outcome.MORE_THAN_SHIPPED: "more comes back than was shipped or is still to be shipped",
    Outcome.MORE_THAN_AVAILABLE: "more is to be set aside than is available in this warehouse",
    Outcome.MORE_THAN_RESERVED: "more is to be released than the pool holds",
    Outcome.POOL_ENDED: "the pool would have ended already",
}
# `2026-11-24T19:26` of a time in RFC 3339.
_MINUTE_LENGTH = 16


class BurstDetector:
    """Detects bursts: many dead letters of one reason within a minute, written by this worker; one alert per burst."""

    def __init__(self, threshold: int = BURST_DEAD_LETTERS) -> None:
        self._threshold = threshold
        # By reason: its newest minute, and the dead letters in it.
        self._minutes: dict[str, tuple[str, int]] = {}

    def add(self, dead_letters: Iterable[OutputRow]) -> list[OutputRow]:
        """Count dead letters; returns the rows of `alerts` for new bursts."""
        alerts = []
        for _, value in dead_letters:
            fields = _decode_letter_fields(value or b"{}")
            minute, count = self._minutes.get(fields.reason, ("", 0))
            if fields.at[:_MINUTE_LENGTH] > minute:
                minute, count = fields.at[:_MINUTE_LENGTH], 0
            self._minutes[fields.reason] = (minute, count + 1)
            if count == self._threshold:
                alerts.append(_burst_row(fields.reason, minute, count + 1, fields.at))
        return alerts


class _LetterFields(msgspec.Struct, frozen=True):
    """The fields of a dead letter that are read here."""

    reason: str = ""
    at: str = ""


_decode_letter_fields = msgspec.json.Decoder(_LetterFields).decode


def _burst_row(reason: str, minute: str, count: int, at: str) -> OutputRow:
    return system_alert("dead_letter_burst", f"burst-{reason}-{minute}", reason, 0, at=at, quantity=count)


def system_alert(
    type_: str, id_: str, reason: str, batch: int, *, at: str | None = None, quantity: int | None = None
) -> OutputRow:
    """A row of `alerts` without a SKU; a repeat gives the same row, except for `at` if not given."""
    at = at or rfc3339(now_ms())
    return b"", encode(PublishedAlert(id=id_, type=type_, quantity=quantity, at=at, batch=batch, reason=reason))


class RefusedRowHandler:
    """Writes a dead letter and an alert for a row that Kafka refuses permanently.

    `publish` is the publisher's; `dead_letters` and `alerts` are full names of topics.
    """

    def __init__(
        self, publish: Callable[[str, list[OutputRow], int], Awaitable[object]], dead_letters: str, alerts: str
    ) -> None:
        self._publish = publish
        self._dead_letters = dead_letters
        self._alerts = alerts

    async def set_aside(self, topic: str, partition: int, row: OutputRow, error: Exception, epoch: int) -> None:
        """Write both; a row of these two topics itself is only logged. Raises MembershipLost."""
        if topic in (self._dead_letters, self._alerts):
            return
        key, value = row
        detail = f"{topic} does not take the row of {key.decode(errors='replace')}: {error}"
        place = RecordPlace(topic, partition, OFFSET_NOT_WRITTEN)
        letter = dead_letter_of_record("row_refused", detail, place, (value or b"")[:RAW_BYTES_MAX])
        await self._publish(self._dead_letters, [letter], epoch)
        await self._publish(
            self._alerts, [system_alert("row_refused", f"refused-{topic}-{now_ms()}", detail, 0)], epoch
        )


class _Key(msgspec.Struct, frozen=True):
    """The fields by which an input event is keyed."""

    order_id: str = ""
    warehouse: str = ""


_KEY = msgspec.json.Decoder(_Key)


def original_place(chunk: Chunk, record: Record) -> RecordPlace:
    """The original place of an event: of a resent dead letter its header, else its own place."""
    return (record.headers and origin_of(record.headers)) or RecordPlace(chunk.topic, chunk.partition, record.offset)


def dead_letter_of_malformed(chunk: Chunk, record: Record, why: Malformed) -> OutputRow:
    """The dead letter of bytes that are no event, with their own key."""
    letter = _encode(why.code, why.detail, why.path, original_place(chunk, record), now_ms(), record.value or b"")
    return record.key or b"", letter


def dead_letter_of_refused(refused: RefusedEvent, at_ms: int) -> OutputRow:
    """The dead letter of an event that the ledger refused."""
    origin = refused.origin
    # If a field is invalid, the ledger's detail is its path.
    starts = ("lines[", "remove[", "add[", "movement_id")
    path = refused.detail if refused.detail.startswith(starts) or refused.detail == "until" else None
    detail = _WRONG_AT.get(refused.reason, f"the ledger answered {refused.reason}") if path else refused.detail
    letter = _encode(refused.reason, detail, path, origin, at_ms, origin.raw.encode())
    return _key_of(origin.raw), letter


def dead_letter_of_rejected(origin: Origin, reason: str, detail: str) -> OutputRow:
    """The dead letter of an event that the ledger cannot decide: UNDECIDABLE or `too_large`."""
    return _key_of(origin.raw), _encode(reason, detail, None, origin, now_ms(), origin.raw.encode())


def dead_letter_of_record(reason: str, detail: str, place: RecordPlace, raw: bytes) -> OutputRow:
    """The dead letter of an internal record that cannot be decoded, or that Kafka refuses."""
    return b"", _encode(reason, detail, None, place, now_ms(), raw)


def _encode(reason: str, detail: str, path: str | None, place: RecordPlace | Origin, at_ms: int, raw: bytes) -> bytes:
    letter = DeadLetter(reason, detail, path, place.topic, place.partition, place.offset, rfc3339(at_ms))
    try:
        whole = encode(structs.replace(letter, raw=raw.decode()))
    except UnicodeDecodeError:
        whole = encode(structs.replace(letter, raw_base64=base64.b64encode(raw).decode()))
    if len(whole) <= RECORD_BYTES_MAX:
        return whole
    kept = base64.b64encode(raw[:RAW_BYTES_MAX]).decode()
    return encode(structs.replace(letter, raw_base64=kept, raw_bytes=len(raw)))


def _key_of(raw: str) -> bytes:
    try:
        key = _KEY.decode(raw)
    except (msgspec.MsgspecError, UnicodeError):
        return b""
    return (key.order_id or key.warehouse).encode()
