"""The calls of operators: lists, the audit, webhooks; and of the service itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from stocktide.api.handlers.alerts import PAGE_ALERTS_MAX
from stocktide.api.handlers.audit_log import CSV, NEXT_HEADER, PAGE_ROWS_MAX
from stocktide.api.handlers.dead_letters import PAGE_LETTERS_MAX
from stocktide.api.handlers.stock_list import BELOW_DIGITS_MAX, PAGE_SKUS_MAX
from stocktide.api.handlers.webhooks import WEBHOOK_PATH, TestAnswer, WebhookAnswer, WebhookBody, WebhookPage
from stocktide.api.handlers.whoami import whoami
from stocktide.api.routes.route import ACTOR, CURSOR, LOCATION, NDJSON, Handler, Handlers, Parameter, Route, limit
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import Time

# Also where a key of a channel names the webhook of another channel.
_UNKNOWN_WEBHOOK = {404: ("unknown_webhook",)}
_BELOW_MAX = 10**BELOW_DIGITS_MAX - 1
_Below = Annotated[int, Meta(ge=-_BELOW_MAX, le=_BELOW_MAX)]


def read_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Lists for operators."""
    return (
        Route(
            "GET",
            "/v1/stock",
            handlers.stock_list.get,
            "SKUs with their numbers, by page: all, those with a prefix, those that a channel has in a mode, or those"
            " of which less than a number is available",
            answers={200: documents.StockPage},
            query=(
                Parameter("sku", is_list=True),
                Parameter("prefix"),
                Parameter("mode", documents.Mode),
                Parameter("below", _Below),
                CURSOR,
                limit(PAGE_SKUS_MAX),
            ),
        ),
        Route(
            "GET",
            "/v1/audit",
            handlers.audit_log.get,
            "Who changed what, oldest first, one a line; `X-Next-Cursor` is the cursor of the next page",
            answers={200: documents.AuditEntry},
            answer_type=NDJSON,
            other_types=(CSV,),
            answer_headers={200: (NEXT_HEADER,)},
            problems={503: ("busy",)},
            query=(
                Parameter("actor"),
                Parameter("since", Time),
                CURSOR,
                limit(PAGE_ROWS_MAX),
                Parameter("format", Literal["ndjson", "csv"]),
            ),
        ),
    )


def watch_calls(handlers: Handlers) -> tuple[Route, ...]:
    """What an operator watches: alerts, dead letters, health."""
    alerts = handlers.alerts
    return (
        Route(
            "GET",
            "/v1/alerts",
            alerts.get,
            "Alerts, newest first",
            answers={200: documents.AlertPage},
            problems={503: ("busy",)},
            query=(
                Parameter("type", is_list=True),
                Parameter("sku"),
                Parameter("channel"),
                Parameter("since", Time),
                CURSOR,
                limit(PAGE_ALERTS_MAX),
            ),
        ),
        Route(
            "GET",
            "/v1/alerts/types",
            alerts.types,
            "The types that alerts may have",
            answers={200: documents.AlertTypes},
        ),
        *dead_letter_calls(handlers),
        Route(
            "GET",
            "/v1/health",
            handlers.health.get,
            "How each part of the system is, what waits, and why",
            answers={200: documents.SystemHealth},
        ),
        Route(
            "GET",
            "/v1/health/series",
            handlers.health.series,
            "What this API process did in the last 10 minutes",
            answers={200: documents.HealthSeries},
        ),
    )


def dead_letter_calls(handlers: Handlers) -> tuple[Route, ...]:
    """What was refused, and what is done with it."""
    letters = handlers.dead_letters
    path, one = "/v1/dead-letters/{partition}/{offset}", {200: documents.ListedDeadLetter}
    unknown, busy = {404: ("unknown_dead_letter",)}, {503: ("busy",)}
    refused = {**unknown, 409: ("dead_letter_closed", "not_retriable"), **busy}
    return (
        Route(
            "GET",
            "/v1/dead-letters",
            letters.page,
            "Dead letters, newest first, with the beginnings of their events",
            answers={200: documents.DeadLetterPage},
            problems=busy,
            query=(
                Parameter("reason", is_list=True),
                Parameter("state", documents.DeadLetterState),
                CURSOR,
                limit(PAGE_LETTERS_MAX),
            ),
        ),
        Route("GET", path, letters.get, "A dead letter with all of its event", one, {**unknown, **busy}),
        Route(
            "POST",
            f"{path}/retry",
            letters.retry,
            "Send the event of a dead letter again to where it came from",
            one,
            refused,
            headers=(ACTOR,),
        ),
        Route(
            "POST",
            f"{path}/drop",
            letters.drop,
            "Be done with a dead letter",
            one,
            refused,
            headers=(ACTOR,),
        ),
    )


def webhook_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Webhooks to shops."""
    webhooks = handlers.webhooks
    return (
        Route("GET", "/v1/webhooks", webhooks.page, "All webhooks and how they go", answers={200: WebhookPage}),
        _webhook("GET", "", webhooks.get, "A webhook and how it goes"),
        Route(
            "PUT",
            WEBHOOK_PATH,
            webhooks.put,
            "Define a webhook; the answer to a new one shows its secret, only then",
            body=WebhookBody,
            answers={200: WebhookAnswer, 201: WebhookAnswer},
            answer_headers={201: (LOCATION,)},
            problems={**_UNKNOWN_WEBHOOK, 409: ("too_many_webhooks",), 422: ("url_not_allowed",)},
        ),
        _webhook("DELETE", "", webhooks.delete, "Remove a webhook", 204, None),
        _webhook("POST", "/test", webhooks.test, "Make a test call at once", of=TestAnswer),
        _webhook("POST", "/replay", webhooks.replay, "Send every SKU's state once more", 202),
        _webhook("POST", "/rotate", webhooks.rotate, "Make a new secret; both sign for a day"),
    )


def _webhook(
    method: str, path: str, handler: Handler, summary: str, status: int = 200, of: Any = WebhookAnswer
) -> Route:
    """A call of a webhook that is defined."""
    return Route(method, WEBHOOK_PATH + path, handler, summary, answers={status: of}, problems=_UNKNOWN_WEBHOOK)


def service_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Who calls, health, metrics, the board, and the pages of error codes."""
    status = {200: documents.Status, 503: documents.Status}
    readiness, pages = handlers.readiness, handlers.pages
    missing = {404: ("not_found",)}
    return (
        Route("GET", "/v1/whoami", whoami, "Whose key this is, and what limits it", answers={200: documents.Holder}),
        Route("GET", "/healthz", readiness.healthz, "Liveness", answers={200: dict[str, str]}),
        Route("GET", "/readyz", readiness.readyz, "Readiness", answers=status),
        Route("GET", "/metrics", handlers.metrics.get, "Prometheus", answers={200: str}, answer_type="text/plain"),
        Route("GET", "/", pages.index, "The live board", answers={200: str}, answer_type="text/html"),
        Route(
            "GET",
            "/board/{path}",
            pages.file,
            "What the board is made of",
            answers={200: bytes},
            answer_type="*/*",
            problems=missing,
        ),
        Route(
            "GET",
            "/problems/{code}",
            pages.problem,
            "What an error code means and what to do about it: the `type` of problem documents",
            answers={200: str},
            answer_type="text/html",
            problems=missing,
        ),
    )
