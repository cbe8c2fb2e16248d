"""The calls of operators: lists, the audit, policies, webhooks; and of the service itself."""

from __future__ import annotations

from stocktide.api.handlers.audit_log import CSV
from stocktide.api.handlers.policies import PolicyBody
from stocktide.api.handlers.webhooks import TestAnswer, WebhookAnswer, WebhookBody, WebhookPage
from stocktide.api.requests import ACTOR_HEADER
from stocktide.api.routes.route import NDJSON, Handlers, Route
from stocktide.streams.contract import documents


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
            query=("sku", "prefix", "mode", "below", "cursor", "limit"),
        ),
        Route(
            "GET",
            "/v1/audit",
            handlers.audit_log.get,
            "Who changed what, oldest first, one a line; `X-Next-Cursor` is the cursor of the next page",
            answers={200: documents.AuditEntry},
            answer_type=NDJSON,
            other_types=(CSV,),
            query=("actor", "since", "cursor", "limit", "format"),
        ),
    )


def policy_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Policies, by channel and by SKU."""
    policies = handlers.policies
    rows: list[Route] = []
    for path in ("/v1/policies/{channel}", "/v1/policies/{channel}/{sku}"):
        shown, named = {200: documents.PolicyAnswer}, (ACTOR_HEADER,)
        rows += (
            Route("GET", path, policies.get, "A policy", answers=shown),
            Route("PUT", path, policies.put, "Replace a policy whole", body=PolicyBody, answers=shown, headers=named),
            Route("DELETE", path, policies.delete, "Remove a policy", answers={204: None}, headers=named),
        )
    return tuple(rows)


def webhook_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Webhooks to shops."""
    webhooks, one = handlers.webhooks, "/v1/webhooks/{name}"
    shown = {200: WebhookAnswer}
    return (
        Route("GET", "/v1/webhooks", webhooks.page, "All webhooks and how they go", answers={200: WebhookPage}),
        Route("GET", one, webhooks.get, "A webhook and how it goes", answers=shown),
        Route(
            "PUT",
            one,
            webhooks.put,
            "Define a webhook; the answer to a new one shows its secret, only then",
            body=WebhookBody,
            answers={200: WebhookAnswer, 201: WebhookAnswer},
        ),
        Route("DELETE", one, webhooks.delete, "Remove a webhook", answers={204: None}),
        Route("POST", f"{one}/test", webhooks.test, "Make a test call at once", answers={200: TestAnswer}),
        Route(
            "POST", f"{one}/replay", webhooks.replay, "Send every SKU's state once more", answers={202: WebhookAnswer}
        ),
        Route("POST", f"{one}/rotate", webhooks.rotate, "Make a new secret; both sign for a day", answers=shown),
    )


def service_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Health, metrics and the board."""
    status = {200: documents.Status, 503: documents.Status}
    readiness = handlers.readiness
    return (
        Route("GET", "/healthz", readiness.healthz, "Liveness", answers={200: None}),
        Route("GET", "/readyz", readiness.readyz, "Readiness", answers=status),
        Route("GET", "/metrics", handlers.metrics.get, "Prometheus", answers={200: None}),
        Route("GET", "/", handlers.pages.index, "The live board", answers={200: None}),
        Route("GET", "/board/{name}", handlers.pages.file, "What the board is made of", answers={200: None}),
    )
