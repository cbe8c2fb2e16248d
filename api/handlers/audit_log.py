"""Who changed what, over HTTP.

In: an actor, a time and the bounds of a page. Out: rows of the topic `audit`, oldest first, as NDJSON or as CSV. Each
call reads a bounded part of the topic, so a page may be short or empty although others follow; the header
`X-Next-Cursor` has the cursor of the next page, and is left out at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Meta, Struct, UnsetType
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.csv_text import csv_bytes
from stocktide.api.cursors import encode_cursor, parse_page, parse_since
from stocktide.api.requests import check_name, parse_query, parse_time
from stocktide.api.topic_calls import POLL_RECORDS, TopicCalls, Unread
from stocktide.streams.contract.documents import AuditEntry, encode
from stocktide.streams.contract.events import Malformed
from stocktide.streams.kafka.read_topic import read_topic

PAGE_ROWS_DEFAULT = 100
PAGE_ROWS_MAX = 1_000
# Rows that one call reads, of which a filter may leave few: some 100 ms.
ROWS_READ_MAX = 20_000
# Rows are small; those of a repair hold two whole records.
PAGE_BYTES_MAX = 8 * 1024 * 1024
# A row is published after its change, by a clock that may be behind the ledger's.
CLOCKS_APART_MS = 600_000
NEXT_HEADER = "X-Next-Cursor"
NDJSON, CSV = "application/x-ndjson", "text/csv"
_FORMATS = {"ndjson": NDJSON, "csv": CSV}
_ROW = msgspec.json.Decoder(AuditEntry)
_COLUMNS = ("at", "actor", "action", "channel", "sku", "order_id", "id", "reason", "before", "after", "batch")


class OffsetCursor(Struct, frozen=True, array_like=True, tag="audit"):
    """A place in the topic: the next offset."""

    offset: Annotated[int, Meta(ge=0, le=2**62)]


class AuditFilter(Struct, frozen=True):
    """Which rows are shown; None: any. `since` in ms."""

    actor: str | None
    since: int | None

    def matches(self, entry: AuditEntry) -> bool:
        """Whether a row is shown."""
        if self.actor not in (None, entry.actor):
            return False
        return self.since is None or (parse_time(entry.at) or 0) >= self.since


class AuditLogHandler:
    """The handler of `GET /v1/audit`."""

    def __init__(self, calls: TopicCalls) -> None:
        self._calls = calls

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/audit?actor=…&since=…&cursor=…&limit=…&format=…`."""
        query = parse_query(request)
        wanted = _parse_filter(query)
        if isinstance(wanted, web.Response):
            return wanted
        page = parse_page(query, OffsetCursor, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        media_type = _media_type(request, query)
        if isinstance(media_type, web.Response):
            return media_type
        start = None if cursor is None else cursor.offset
        found = await self._calls.read(partial(_page, wanted=wanted, start=start, limit=limit))
        return found.problem() if isinstance(found, Unread) else _answer(*found, media_type)


async def _page(
    consumer: AIOKafkaConsumer, wanted: AuditFilter, start: int | None, limit: int
) -> tuple[list[AuditEntry], OffsetCursor | None]:
    (partition,) = consumer.assignment()
    end = (await consumer.end_offsets([partition]))[partition]
    first = await _first_offset(consumer, partition, wanted, start)
    if first >= end:
        return [], None
    consumer.seek(partition, first)
    return await _read_page(consumer, partition, end, wanted, limit)


async def _first_offset(
    consumer: AIOKafkaConsumer, partition: TopicPartition, wanted: AuditFilter, start: int | None
) -> int:
    if start is None and wanted.since is not None:
        found = await consumer.offsets_for_times({partition: max(0, wanted.since - CLOCKS_APART_MS)})
        if (place := found[partition]) is None:
            end: int = (await consumer.end_offsets([partition]))[partition]
            return end
        start = place.offset
    beginning: int = (await consumer.beginning_offsets([partition]))[partition]
    return max(start or 0, beginning)


async def _read_page(
    consumer: AIOKafkaConsumer, partition: TopicPartition, end: int, wanted: AuditFilter, limit: int
) -> tuple[list[AuditEntry], OffsetCursor | None]:
    """Rows from the consumer's position on, and the place after them."""
    rows: list[AuditEntry] = []
    seen: set[bytes] = set()  # after a crash the same rows are published again
    read = size = 0
    async for _, records in read_topic(consumer, {partition: end}, records_max=POLL_RECORDS):
        for record in records:
            read, value = read + 1, record.value or b""
            entry = decode_entry(value)
            if entry is None or value in seen or not wanted.matches(entry):
                continue
            if len(rows) == limit or size > PAGE_BYTES_MAX:
                return rows, OffsetCursor(record.offset)
            seen.add(value)
            rows.append(entry)
            size += len(value)
        if read >= ROWS_READ_MAX and records[-1].offset + 1 < end:
            return rows, OffsetCursor(records[-1].offset + 1)
    return rows, None


def decode_entry(value: bytes) -> AuditEntry | None:
    """A row of the topic; None for one that cannot be read."""
    try:
        return _ROW.decode(value)
    except msgspec.MsgspecError:
        return None


def _answer(rows: Sequence[AuditEntry], following: OffsetCursor | None, media_type: str) -> web.Response:
    headers = {"Content-Type": f"{media_type}; charset=utf-8"}
    if following is not None:
        headers[NEXT_HEADER] = encode_cursor(following)
    if media_type == CSV:
        headers["Content-Disposition"] = 'attachment; filename="audit.csv"'
        return web.Response(body=csv_bytes(_COLUMNS, map(_cells, rows)), headers=headers)
    return web.Response(body=b"".join(encode(row) + b"\n" for row in rows), headers=headers)


def _cells(row: AuditEntry) -> list[str]:
    reason = row.why if isinstance(row.reason, UnsetType) else row.reason
    values = {"reason": reason, "before": encode(row.before).decode(), "after": encode(row.after).decode()}
    found = [values[name] if name in values else getattr(row, name) for name in _COLUMNS]
    return ["" if value is None or isinstance(value, UnsetType) else str(value) for value in found]


def _media_type(request: web.Request, query: MultiDict[str]) -> str | web.Response:
    """What is answered: that of `format`, else CSV where it is asked for."""
    if (given := query.get("format")) is not None:
        if given not in _FORMATS:
            return problems.from_malformed(Malformed("invalid_field", "`ndjson` or `csv`", "format"))
        return _FORMATS[given]
    return CSV if CSV in request.headers.get("Accept", "").lower() else NDJSON


def _parse_filter(query: MultiDict[str]) -> AuditFilter | web.Response:
    actor, since = query.get("actor"), parse_since(query)
    if actor is not None and (invalid := check_name("actor", actor)) is not None:
        return invalid
    return since if isinstance(since, web.Response) else AuditFilter(actor, since)
