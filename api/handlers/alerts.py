"""The alerts, over HTTP.

In: a type, a SKU, a channel, a time and the bounds of a page. Out: rows of the topic `alerts`, newest first. Each call
reads a bounded part of the topic, so a page may be short or empty although others follow.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Meta, Struct
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page, parse_since
from stocktide.api.handlers.audit_log import CLOCKS_APART_MS
from stocktide.api.requests import check_name, parse_query, parse_time
from stocktide.api.topic_calls import SharedCalls, TopicCalls, Unread
from stocktide.streams.contract.alert_types import ALERT_TYPES
from stocktide.streams.contract.documents import AlertPage, AlertTypes, PublishedAlert
from stocktide.streams.kafka.backward import BackwardReader

PAGE_ALERTS_DEFAULT = 50
PAGE_ALERTS_MAX = 500
# Rows that one call reads, of which a filter may leave few: some 100 ms.
ROWS_READ_MAX = 20_000
# Of all partitions of a topic.
_PARTITIONS_MAX = 10_000
_ROW = msgspec.json.Decoder(PublishedAlert)


class PlacesCursor(Struct, frozen=True, array_like=True, tag="places"):
    """A place in a topic: by partition the offset after the next record, going back."""

    places: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**62)], ...], Meta(max_length=_PARTITIONS_MAX)]


class AlertFilter(Struct, frozen=True):
    """Which rows are shown; empty or None: any. `since` in ms."""

    types: frozenset[str]
    sku: str | None
    channel: str | None
    since: int | None

    def matches(self, alert: PublishedAlert) -> bool:
        """Whether a row is shown."""
        if (self.types and alert.type not in self.types) or self.sku not in (None, alert.sku):
            return False
        if self.channel not in (None, alert.channel):
            return False
        return self.since is None or (parse_time(alert.at) or 0) >= self.since


class AlertsHandler:
    """The handlers of `/v1/alerts`."""

    def __init__(self, calls: TopicCalls) -> None:
        self._calls = calls
        self._shared: SharedCalls[AlertPage | Unread] = SharedCalls()

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/alerts?type=…&sku=…&channel=…&since=…&cursor=…&limit=…`."""
        query = parse_query(request)
        wanted = _parse_filter(query)
        if isinstance(wanted, web.Response):
            return wanted
        page = parse_page(query, PlacesCursor, PAGE_ALERTS_DEFAULT, PAGE_ALERTS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        read = partial(_page, wanted=wanted, cursor=cursor, limit=limit)
        found = await self._shared.get((wanted, cursor, limit), lambda: self._calls.read(read))
        return found.problem() if isinstance(found, Unread) else problems.json_response(found)

    async def types(self, request: web.Request) -> web.Response:
        """`GET /v1/alerts/types`."""
        return problems.json_response(AlertTypes(sorted(ALERT_TYPES)))


async def _page(consumer: AIOKafkaConsumer, wanted: AlertFilter, cursor: PlacesCursor | None, limit: int) -> AlertPage:
    partitions = sorted(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    floors = await _floors(consumer, partitions, ends, wanted.since)
    given = dict(enumerate(cursor.places)) if cursor is not None else {}
    places = {
        # A partition that the cursor does not know was added after it: all that is there is newer.
        part: max(floors[part], min(ends[part], ends[part] if cursor is None else given.get(part.partition, 0)))
        for part in partitions
    }
    reader = BackwardReader(consumer, places, floors)
    alerts: list[PublishedAlert] = []
    seen: set[str] = set()  # after a crash the same rows are published again
    async for _, record in reader.records():
        alert = _decode(record.value or b"")
        if alert is not None and alert.id not in seen and wanted.matches(alert):
            seen.add(alert.id)
            alerts.append(alert)
        if len(alerts) == limit or reader.given >= ROWS_READ_MAX:
            break
    if reader.ended:
        return AlertPage(alerts, None)
    return AlertPage(alerts, encode_cursor(PlacesCursor(tuple(reader.places[part] for part in partitions))))


async def _floors(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], ends: dict[TopicPartition, int], since: int | None
) -> dict[TopicPartition, int]:
    """By partition, the offset down to which rows are looked at."""
    first: dict[TopicPartition, int] = await consumer.beginning_offsets(partitions)
    if since is None:
        return first
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, since - CLOCKS_APART_MS)))
    return {part: ends[part] if (at := found[part]) is None else max(first[part], at.offset) for part in partitions}


def _decode(value: bytes) -> PublishedAlert | None:
    try:
        return _ROW.decode(value)
    except msgspec.MsgspecError:
        return None


def _parse_filter(query: MultiDict[str]) -> AlertFilter | web.Response:
    # A query has room for thousands, and each is asked for in thousands of rows.
    types, sku, channel = frozenset(query.getall("type", ())), query.get("sku"), query.get("channel")
    for name, values in (("type", types), ("sku", (sku,)), ("channel", (channel,))):
        for value in values:
            if value is not None and (invalid := check_name(name, value)) is not None:
                return invalid
    since = parse_since(query)
    return since if isinstance(since, web.Response) else AlertFilter(types, sku, channel, since)
