"""Daily reports and the health score over HTTP, and how many complaints there were.

In: a day, a channel. Out: JSON, CSV or a page, from copies of the topics `daily` and `complaints`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web
from aiokafka.errors import KafkaError
from msgspec import structs
from multidict import MultiDict

from stocktide.api import problems
from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.audit_log import CSV
from stocktide.api.reports.days import DayRows, Days
from stocktide.api.reports.documents import (
    ComplaintsAnswer,
    ComplaintsBody,
    ReportDay,
    ReportDays,
    ScoreDays,
)
from stocktide.api.reports.score import score_of
from stocktide.api.reports.tables import PAGE_HEADERS, report_csv, report_page, score_csv
from stocktide.api.requests import check_channel, parse_limit, parse_query, read_actor, read_message
from stocktide.streams.contract.daily import DAYS_KEPT, Complaints, day_of
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.events import Malformed
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.compacted_view import CompactedView

DAYS_DEFAULT = 30
HTML = "text/html"
_BODY = msgspec.json.Decoder(ComplaintsBody)


class ReportHandlers:
    """The handlers of `/v1/reports`, `/v1/health/score` and `/v1/complaints`. Topics are full names; `clock` gives
    ms."""

    def __init__(
        self,
        view: CompactedView,
        producer: InputEventProducer,
        daily: str,
        complaints: str,
        zone: ZoneInfo,
        seconds_max: float,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._view = view
        self._producer = producer
        self._complaints = complaints
        self._zone = zone
        self._seconds_max = seconds_max
        self._clock = clock
        self._days = Days(lambda: view.rows(daily), lambda: view.rows(complaints))

    async def score(self, request: web.Request) -> web.Response:
        """`GET /v1/health/score?day=…&format=…`."""
        query = parse_query(request)
        day, shown = self._parse_day(query.get("day")), _parse_format(query, ("json", "csv"))
        if isinstance(day, web.Response):
            return day
        if isinstance(shown, web.Response):
            return shown
        await self._catch_up()
        found = (await self._known(day, day)).get(day, DayRows())
        score = score_of(day, found.totals(day), self._zone.key, day < self._today())
        return _csv(score_csv([score]), f"score-{day}") if shown == "csv" else problems.json_response(score)

    async def score_days(self, request: web.Request) -> web.Response:
        """`GET /v1/health/score/days?days=…&format=…`."""
        query = parse_query(request)
        days = parse_limit(query.get("days"), DAYS_DEFAULT, DAYS_KEPT, "days")
        shown = _parse_format(query, ("json", "csv"))
        if isinstance(days, web.Response):
            return days
        if isinstance(shown, web.Response):
            return shown
        await self._catch_up()
        today, scores = self._today(), []
        for day, rows in (await self._known(self._first(days), today)).items():
            scores.append(score_of(day, rows.totals(day), self._zone.key, day < today))
            await asyncio.sleep(0)  # a day of a thousand channels takes some ms
        return _csv(score_csv(scores), "scores") if shown == "csv" else problems.json_response(ScoreDays(scores))

    async def days(self, request: web.Request) -> web.Response:
        """`GET /v1/reports`."""
        await self._catch_up()
        known = await self._known(self._first(DAYS_KEPT), self._today())
        days = [ReportDay(day, sorted(rows.channels)) for day, rows in known.items() if rows.channels]
        return problems.json_response(ReportDays(days))

    async def report(self, request: web.Request) -> web.Response:
        """`GET /v1/reports/{channel}?day=…&format=…`."""
        channel, query = request.match_info["channel"], parse_query(request)
        if (invalid := check_channel(channel)) is not None:
            return invalid
        day, shown = self._parse_day(query.get("day")), _parse_format(query, ("json", "csv", "html"))
        if isinstance(day, web.Response):
            return day
        if isinstance(shown, web.Response):
            return shown
        await self._catch_up()
        report = self._days.report(day, channel, self._zone.key, day < self._today())
        if report is None:
            return problems.not_found("unknown_report", "Nothing is known of this channel on this day.")
        if shown == "csv":
            return _csv(report_csv(report), f"report-{day}")
        if shown == "html":
            return web.Response(text=report_page(report), content_type=HTML, headers=PAGE_HEADERS)
        return problems.json_response(report)

    async def put_complaints(self, request: web.Request) -> web.Response:
        """`PUT /v1/complaints/{channel}`: the number of a day, in place of the one before."""
        channel = request.match_info["channel"]
        if (invalid := check_channel(channel)) is not None:
            return invalid
        actor, body = read_actor(request), await read_message(request, _BODY)
        if isinstance(actor, web.Response):
            return actor
        if isinstance(body, web.Response):
            return body
        day = self._parse_day(body.day)
        if isinstance(day, web.Response):
            return day
        row = Complaints(day, channel, body.complaints, actor, rfc3339(self._clock()))
        deadline = asyncio.get_running_loop().time() + self._seconds_max
        await self._producer.write(self._complaints, [(f"{day}/{channel}".encode(), encode(row))], deadline)
        return problems.json_response(msgspec.convert(structs.asdict(row), ComplaintsAnswer))

    async def _known(self, first: str, last: str) -> dict[str, DayRows]:
        """The days of which something is known; orders go on meanwhile."""
        return await asyncio.to_thread(self._days.known, first, last)

    async def _catch_up(self) -> None:
        try:
            await self._view.catch_up(self._seconds_max)
        except KafkaError as error:
            raise ConnectionError("the reports cannot be read") from error

    def _today(self) -> str:
        return day_of(self._clock(), self._zone)

    def _first(self, days: int) -> str:
        """The first of so many days, of which today is the last."""
        return (date.fromisoformat(self._today()) - timedelta(days=days - 1)).isoformat()

    def _parse_day(self, given: str | None) -> str | web.Response:
        """A day that is kept; today if none is given; or the problem."""
        if given is None:
            return self._today()
        first, last = self._first(DAYS_KEPT), self._today()
        if len(given) == len(last) and first <= given <= last and _is_day(given):
            return given
        return problems.from_malformed(
            Malformed("invalid_field", f"a day from {first} to {last} ({self._zone.key})", "day")
        )


def _is_day(given: str) -> bool:
    try:
        return date.fromisoformat(given).isoformat() == given
    except ValueError:
        return False


def _parse_format(query: MultiDict[str], formats: tuple[str, ...]) -> Any:
    """One of the formats, the first if none is given; or the problem."""
    given = query.get("format", formats[0])
    if given in formats:
        return given
    names = ", ".join(f"`{each}`" for each in formats)
    return problems.from_malformed(Malformed("invalid_field", f"one of {names}", "format"))


def _csv(body: bytes, name: str) -> web.Response:
    headers = {
        "Content-Type": f"{CSV}; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{name}.csv"',
    }
    return web.Response(body=body, headers=headers)
