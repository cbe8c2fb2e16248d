"""The calls of daily reports and of the health score."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from stocktide.api.handlers.audit_log import CSV
from stocktide.api.handlers.reports import HTML
from stocktide.api.reports import documents
from stocktide.api.routes.route import ACTOR, Handlers, Parameter, Route
from stocktide.streams.contract.daily import DAYS_KEPT

_DAY = Parameter("day", documents.Day)
_FORMAT = Parameter("format", Literal["json", "csv"])


def report_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Reports, scores, complaints."""
    reports = handlers.reports
    return (
        Route(
            "GET",
            "/v1/health/score",
            reports.score,
            "The health score of a day, with its parts; today if none is given",
            answers={200: documents.HealthScore},
            other_types=(CSV,),
            query=(_DAY, _FORMAT),
        ),
        Route(
            "GET",
            "/v1/health/score/days",
            reports.score_days,
            "The health scores of the last days of which something is known, newest first",
            answers={200: documents.ScoreDays},
            other_types=(CSV,),
            query=(Parameter("days", Annotated[int, Meta(ge=1, le=DAYS_KEPT)]), _FORMAT),
        ),
        Route(
            "GET",
            "/v1/reports",
            reports.days,
            "The days and channels that have reports",
            answers={200: documents.ReportDays},
        ),
        Route(
            "GET",
            "/v1/reports/{channel}",
            reports.report,
            "The daily report of a channel; of today if no day is given",
            answers={200: documents.ChannelReport},
            other_types=(CSV, HTML),
            problems={404: ("unknown_report",)},
            query=(_DAY, Parameter("format", Literal["json", "csv", "html"])),
        ),
        Route(
            "PUT",
            "/v1/complaints/{channel}",
            reports.put_complaints,
            "How many complaints a channel had on a day, in all; a later number replaces it",
            body=documents.ComplaintsBody,
            answers={200: documents.ComplaintsAnswer},
            headers=(ACTOR,),
        ),
    )
