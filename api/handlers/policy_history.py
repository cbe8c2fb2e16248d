"""The history of a level of policies, and the way back, over HTTP.

In: a level. Out: its changes in the topic `audit`, newest first; each call reads a bounded part of the topic, so a page
may be short or empty although others follow. A rollback sets again what a change of the history had set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from aiohttp import web
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from msgspec import Meta, Struct, UnsetType

from stocktide.api import problems
from stocktide.api.cursors import encode_cursor, parse_page
from stocktide.api.handlers.audit_log import ROWS_READ_MAX, decode_entry
from stocktide.api.handlers.policies import change_level, read_level
from stocktide.api.handlers.policy_body import Level
from stocktide.api.handlers.policy_changes import PolicyChanges
from stocktide.api.requests import parse_query, read_message
from stocktide.api.topic_calls import READERS_MAX, SECONDS_MAX
from stocktide.streams.contract.documents import AuditEntry, PolicyHistory, PolicyVersion
from stocktide.streams.contract.events import Name
from stocktide.streams.kafka.backward import BackwardReader
from stocktide.tables.ledger.outcomes import Outcome

PAGE_ITEMS_DEFAULT = 50
PAGE_ITEMS_MAX = 500
# Rows in a row of batches before the one that is looked for: after a crash some rows are there again, after newer ones.
OLDER_ROWS_MAX = 2_000
_ACTIONS = (Outcome.POLICY_SET, Outcome.POLICY_DELETED)


class HistoryCursor(Struct, frozen=True, array_like=True, tag="policy_history"):
    """Where older rows end: the offset after them."""

    end: Annotated[int, Meta(ge=0, le=2**62)]


class RollbackBody(Struct, frozen=True, kw_only=True):
    """A version of the level's history: what that change set is set again."""

    version: Name


class PolicyHistoryHandlers:
    """The handlers of `GET /v1/policy_history/…` and `POST /v1/policies/…/rollback`. `open_consumer` opens a reader of
    the topic `audit`."""

    def __init__(self, changes: PolicyChanges, open_consumer: Callable[[], Awaitable[AIOKafkaConsumer]]) -> None:
        self._changes = changes
        self._open_consumer = open_consumer
        self._readers = 0

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/policy_history/{channel}[/{sku}]?cursor=…&limit=…`."""
        level = read_level(request)
        if isinstance(level, web.Response):
            return level
        page = parse_page(parse_query(request), HistoryCursor, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX)
        if isinstance(page, web.Response):
            return page
        limit, cursor = page
        found = await self._read(level, None if cursor is None else cursor.end, limit, None)
        if isinstance(found, web.Response):
            return found
        items, end = found
        following = None if end is None else encode_cursor(HistoryCursor(end))
        return problems.json_response(PolicyHistory([_version(entry) for entry in items], following))

    async def rollback(self, request: web.Request) -> web.Response:
        """`POST …/rollback`: 200 as a `PUT`; 404 for a version that the history does not have."""
        level = read_level(request)
        if isinstance(level, web.Response):
            return level
        body = await read_message(request, _ROLLBACK)
        if isinstance(body, web.Response):
            return body
        entry = await self._find(level, body.version)
        if isinstance(entry, web.Response):
            return entry
        refused = await change_level(self._changes, request, level, entry.after)
        # A level that has no policy already is what was asked for.
        if refused is not None and not (entry.after is None and refused.status == 404):
            return refused
        return await self._changes.show(level)

    async def _find(self, level: Level, version: str) -> AuditEntry | web.Response:
        end: int | None = None
        while version.isascii() and version.isdigit():
            found = await self._read(level, end, PAGE_ITEMS_MAX, int(version))
            if isinstance(found, web.Response):
                return found
            items, end = found
            for entry in items:
                if str(entry.batch) == version:
                    return entry
            if end is None:
                break
        return problems.not_found("unknown_version", "The history of this policy has no such version.")

    async def _read(
        self, level: Level, end: int | None, limit: int, oldest: int | None
    ) -> tuple[list[AuditEntry], int | None] | web.Response:
        if self._readers >= READERS_MAX:
            return problems.service_unavailable("busy", "Other calls read the audit; the same call may be sent again.")
        self._readers += 1
        try:
            async with asyncio.timeout(SECONDS_MAX):
                consumer = await self._open_consumer()
                try:
                    return await _read_back(consumer, level, end, limit, oldest)
                finally:
                    await consumer.stop()
        except (KafkaError, TimeoutError) as error:
            return problems.service_unavailable("unavailable", f"The topic cannot be read now: {error}.")
        finally:
            self._readers -= 1


_ROLLBACK = msgspec.json.Decoder(RollbackBody)


async def _read_back(
    consumer: AIOKafkaConsumer, level: Level, end: int | None, limit: int, oldest: int | None
) -> tuple[list[AuditEntry], int | None]:
    """Changes of a level before the offset `end`, newest first, and where older ones end; None: there are none, or all
    are of batches before `oldest`."""
    (partition,) = consumer.assignment()
    beginning: int = (await consumer.beginning_offsets([partition]))[partition]
    last: int = (await consumer.end_offsets([partition]))[partition]
    start = max(beginning, last if end is None else min(end, last))
    reader = BackwardReader(consumer, {partition: start}, {partition: beginning})
    items: list[AuditEntry] = []
    seen: set[bytes] = set()  # after a crash the same rows are published again
    older = 0
    async for _, record in reader.records():
        value = record.value or b""
        entry = decode_entry(value)
        if entry is not None and oldest is not None:
            older = older + 1 if entry.batch < oldest else 0
        if entry is not None and value not in seen and _is_change(entry, level):
            if len(items) == limit:
                return items, record.offset + 1
            seen.add(value)
            items.append(entry)
        if older >= OLDER_ROWS_MAX:
            return items, None
        if reader.given >= ROWS_READ_MAX:
            break
    return items, None if reader.ended else reader.places[partition]


def _is_change(entry: AuditEntry, level: Level) -> bool:
    """Whether it changed the level. A request that its client sent twice may have set what was set already."""
    is_of_level = entry.channel == level.channel and (entry.sku or None) == level.sku
    return entry.action in _ACTIONS and is_of_level and entry.before != entry.after


def _version(entry: AuditEntry) -> PolicyVersion:
    asked = None if isinstance(entry.requested_by, UnsetType) else entry.requested_by
    return PolicyVersion(str(entry.batch), entry.actor, entry.at, entry.before, entry.after, asked)
