"""The table of all calls of the API, from which the router and the OpenAPI document are made.

In: the handlers. Out: routes with method, path, handler, and the types of bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

from stocktide.api.feeds.order_sse import OrderFeedHandler
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import FeedHandler
from stocktide.api.handlers.approvals import ApprovalHandlers
from stocktide.api.handlers.audit_log import CSV, AuditLogHandler
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.health import Readiness
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.intake import IntakeHandler
from stocktide.api.handlers.order_lists import OrderListHandler
from stocktide.api.handlers.orders import ExtendBody, OrderHandlers
from stocktide.api.handlers.policies import PolicyBody, PolicyHandlers
from stocktide.api.handlers.pools import PoolHandler
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.handlers.stock_list import StockListHandler
from stocktide.api.handlers.webhooks import TestAnswer, WebhookAnswer, WebhookBody, WebhookHandlers, WebhookPage
from stocktide.api.metrics import ApiMetrics
from stocktide.api.requests import ACTOR_HEADER
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import (
    ApproveBody,
    AssignBody,
    CancelBody,
    ChangeBody,
    Event,
    HoldBackBody,
    Movement,
    OrderBody,
    PayBody,
    RejectBody,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Handlers(Struct, frozen=True):
    """The handlers of all calls."""

    orders: OrderHandlers
    approvals: ApprovalHandlers
    order_lists: OrderListHandler
    stock: StockHandlers
    pools: PoolHandler
    history: HistoryHandler
    policies: PolicyHandlers
    events: EventHandlers
    intake: IntakeHandler
    feeds: FeedHandler
    sockets: SocketHandler
    order_feeds: OrderFeedHandler
    readiness: Readiness
    metrics: ApiMetrics
    pages: BoardHandlers
    stock_list: StockListHandler
    audit_log: AuditLogHandler
    webhooks: WebhookHandlers
    post_ticket: Handler


class Route(Struct, frozen=True):
    """A call. `answers` maps a status to the type of its body; problem documents, the same everywhere, are omitted."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: dict[int, Any]
    body: Any = None
    body_type: str = JSON
    answer_type: str = JSON
    # Other types in which the same is answered.
    other_types: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


def make_routes(handlers: Handlers) -> tuple[Route, ...]:
    """All calls."""
    changes = (*_orders(handlers), *_approvals(handlers), *_events(handlers), *_intake(handlers))
    return (
        *changes,
        *_reads(handlers),
        *_operator_reads(handlers),
        *_policies(handlers),
        *_webhooks(handlers),
        *_access(handlers),
        *_service(handlers),
    )


def _orders(handlers: Handlers) -> tuple[Route, ...]:
    orders = handlers.orders
    one, waiting = "/v1/orders/{order_id}", "/v1/preorders/{order_id}"
    found = {200: documents.Order}
    return (
        Route(
            "POST",
            "/v1/orders",
            orders.place,
            "Place an order: hold its units until they are paid or the hold ends; with `force`, once it is approved",
            body=OrderBody,
            answers={200: documents.Order, 201: documents.Order, 202: documents.Approval},
            headers=(ACTOR_HEADER,),
        ),
        Route(
            "GET",
            "/v1/orders",
            handlers.order_lists.orders,
            "Orders by page: all of them, those with short units, or those that a warehouse below zero holds",
            answers={200: documents.OrderPage},
            query=("state", "short", "at_risk", "channel", "sku", "cursor", "limit"),
        ),
        Route("GET", one, orders.get, "An order", answers=found),
        Route(
            "POST",
            f"{one}/pay",
            orders.pay,
            "Turn the hold into a commitment, or take an expired order again",
            body=PayBody,
            answers=found,
        ),
        Route(
            "POST",
            f"{one}/cancel",
            orders.cancel,
            "Give back what is held, or paid and not shipped: all of it, or units of lines",
            body=CancelBody,
            answers=found,
        ),
        Route(
            "POST",
            f"{one}/change",
            orders.change,
            "Exchange units: some go back, others are added, all in one step or none",
            body=ChangeBody,
            answers=found,
        ),
        Route("POST", f"{one}/extend", orders.extend, "Let the hold last longer", body=ExtendBody, answers=found),
        Route(
            "POST",
            f"{waiting}/hold_back",
            orders.hold_back,
            "Keep lines that wait for units from being filled, or release them",
            body=HoldBackBody,
            answers=found,
            headers=(ACTOR_HEADER,),
        ),
        Route(
            "POST",
            f"{waiting}/assign",
            orders.assign,
            "Give units from the shelf to lines that wait, all of them or none",
            body=AssignBody,
            answers=found,
            headers=(ACTOR_HEADER,),
        ),
    )


def _approvals(handlers: Handlers) -> tuple[Route, ...]:
    approvals = handlers.approvals
    one = "/v1/approvals/{id}"
    found = {200: documents.Approval}
    return (
        Route(
            "GET",
            "/v1/approvals",
            approvals.page,
            "Requests that wait for a second person, by page",
            answers={200: documents.ApprovalPage},
            query=("state", "cursor", "limit"),
        ),
        Route("GET", one, approvals.get, "A request that a second person decides, and its end", answers=found),
        Route(
            "POST",
            f"{one}/approve",
            approvals.approve,
            "Approve the request of another actor: the order is decided",
            body=ApproveBody,
            answers={200: documents.Order},
            headers=(ACTOR_HEADER,),
        ),
        Route(
            "POST",
            f"{one}/reject",
            approvals.reject,
            "Reject a request",
            body=RejectBody,
            answers=found,
            headers=(ACTOR_HEADER,),
        ),
    )


def _events(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/v1/events",
            handlers.events.post,
            "Any number of input events, one a line",
            body=Event,
            body_type=NDJSON,
            answers={202: documents.EventsTaken},
        ),
        Route(
            "POST",
            "/v1/movements",
            handlers.events.post_movement,
            "One movement",
            body=Movement,
            answers={202: documents.MovementTaken},
        ),
    )


def _intake(handlers: Handlers) -> tuple[Route, ...]:
    summary = "A webhook of a platform, signed by its secret; the answer is as the platform expects it"
    return (Route("POST", "/v1/intake/{name}", handlers.intake.post, summary, answers={200: None}),)


def _reads(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "GET",
            "/v1/warehouses/{warehouse}/movements/{id}",
            handlers.stock.movement,
            "What a movement did, or its refusal",
            answers={200: documents.MovementAnswer},
        ),
        Route(
            "GET",
            "/v1/expected",
            handlers.stock.expected,
            "Announced receipts, by page: what is to come, what came, and what came beyond it",
            answers={200: documents.AnnouncementPage},
            query=("warehouse", "sku", "overdue", "cursor", "limit"),
        ),
        Route("GET", "/v1/stock/{sku}", handlers.stock.sku, "A SKU, everywhere", answers={200: documents.StockAnswer}),
        Route(
            "GET",
            "/v1/stock/{sku}/history",
            handlers.history.sku,
            "The changes of a SKU with their causes, newest first, by page",
            answers={200: documents.StockHistory},
            query=("limit", "cursor", "since"),
        ),
        Route(
            "GET",
            "/v1/preorders",
            handlers.order_lists.queue,
            "The orders that wait for units of a SKU, the next to be filled first, by page",
            answers={200: documents.QueuePage},
            query=("sku", "cursor", "limit"),
        ),
        Route(
            "GET",
            "/v1/pools",
            handlers.pools.get,
            "Units that are set aside for a purpose, by page",
            answers={200: documents.PoolPage},
            query=("purpose", "warehouse", "sku", "cursor", "limit"),
        ),
        Route("GET", "/v1/channels", handlers.stock.channels, "All known channels", answers={200: documents.Channels}),
        Route(
            "GET",
            "/v1/channels/{channel}/stock",
            handlers.stock.channel,
            "What a channel may sell, by page",
            answers={200: documents.ChannelPage},
            query=("sku", "cursor", "limit"),
        ),
        Route(
            "GET",
            "/v1/channels/{channel}/feed",
            handlers.feeds.feed,
            "What a channel may sell, as it changes: events `resumed` or `reset` after Last-Event-ID, `stock`,"
            " `synced` once every known SKU was sent, `status` and `error`",
            answers={200: documents.ChannelUpdate},
            answer_type=SSE,
            query=("last_event_id", "sku", "prefix", "ticket"),
        ),
        Route(
            "GET",
            "/v1/channels/{channel}/socket",
            handlers.sockets.socket,
            "The same over a WebSocket, with subscriptions by SKU and prefix",
            answers={101: None},
            query=("last_event_id", "sku", "prefix", "ticket"),
        ),
        Route(
            "GET",
            "/v1/channels/{channel}/orders/feed",
            handlers.order_feeds.feed,
            "A channel's orders as they change: events `resumed` or `reset` after Last-Event-ID, `order`, `synced` once"
            " everything missed was sent, `status` and `error`",
            answers={200: documents.OrderUpdate},
            answer_type=SSE,
            query=("last_event_id", "ticket"),
        ),
    )


def _operator_reads(handlers: Handlers) -> tuple[Route, ...]:
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


def _policies(handlers: Handlers) -> tuple[Route, ...]:
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


def _webhooks(handlers: Handlers) -> tuple[Route, ...]:
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


def _access(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/v1/feeds/tickets",
            handlers.post_ticket,
            "A one-use ticket with which a browser opens a feed, as `?ticket=`",
            answers={201: documents.Ticket},
        ),
    )


def _service(handlers: Handlers) -> tuple[Route, ...]:
    status = {200: documents.Status, 503: documents.Status}
    readiness = handlers.readiness
    return (
        Route("GET", "/healthz", readiness.healthz, "Liveness", answers={200: None}),
        Route("GET", "/readyz", readiness.readyz, "Readiness", answers=status),
        Route("GET", "/metrics", handlers.metrics.get, "Prometheus", answers={200: None}),
        Route("GET", "/", handlers.pages.index, "The live board", answers={200: None}),
        Route("GET", "/board/{name}", handlers.pages.file, "What the board is made of", answers={200: None}),
    )
