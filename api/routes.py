"""The table of all calls of the API, from which the router and the OpenAPI document are made.

In: the handlers. Out: routes with method, path, handler, and the types of bodies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

from stocktide.api.feeds.sse import FeedHandler
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.health import Readiness
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.orders import EventBody, ExtendBody, OrderHandlers
from stocktide.api.handlers.policies import PolicyBody, PolicyHandlers
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.metrics import ApiMetrics
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import Event, Movement, OrderBody

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Handlers(Struct, frozen=True):
    """The handlers of all calls."""

    orders: OrderHandlers
    stock: StockHandlers
    history: HistoryHandler
    policies: PolicyHandlers
    events: EventHandlers
    feeds: FeedHandler
    readiness: Readiness
    metrics: ApiMetrics
    pages: BoardHandlers


class Route(Struct, frozen=True, kw_only=True):
    """A call. `answers` maps a status to the type of its body; problem documents, the same everywhere, are omitted."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: Any = None
    body_type: str = JSON
    answers: dict[int, Any]
    answer_type: str = JSON
    query: tuple[str, ...] = ()


def make_routes(handlers: Handlers) -> tuple[Route, ...]:
    """All calls."""
    return (*_orders(handlers), *_events(handlers), *_reads(handlers), *_policies(handlers), *_service(handlers))


def _orders(handlers: Handlers) -> tuple[Route, ...]:
    orders = handlers.orders
    one = "/v1/orders/{order_id}"
    taken = {200: documents.Order, 201: documents.Order}
    return (
        Route(
            method="POST",
            path="/v1/orders",
            handler=orders.place,
            summary="Place an order: hold its units until they are paid or the hold ends",
            body=OrderBody,
            answers=taken,
        ),
        Route(method="GET", path=one, handler=orders.get, summary="An order", answers={200: documents.Order}),
        Route(
            method="POST",
            path=f"{one}/pay",
            handler=orders.pay,
            summary="Turn the hold into a commitment",
            body=EventBody,
            answers={200: documents.Order},
        ),
        Route(
            method="POST",
            path=f"{one}/cancel",
            handler=orders.cancel,
            summary="Give back what is held, or paid and not shipped",
            body=EventBody,
            answers={200: documents.Order},
        ),
        Route(
            method="POST",
            path=f"{one}/extend",
            handler=orders.extend,
            summary="Let the hold last longer",
            body=ExtendBody,
            answers={200: documents.Order},
        ),
    )


def _events(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            method="POST",
            path="/v1/events",
            handler=handlers.events.post,
            summary="Any number of input events, one a line",
            body=Event,
            body_type=NDJSON,
            answers={202: documents.EventsTaken},
        ),
        Route(
            method="POST",
            path="/v1/movements",
            handler=handlers.events.post_movement,
            summary="One movement",
            body=Movement,
            answers={202: documents.MovementTaken},
        ),
    )


def _reads(handlers: Handlers) -> tuple[Route, ...]:
    return (
        Route(
            method="GET",
            path="/v1/warehouses/{warehouse}/movements/{id}",
            handler=handlers.stock.movement,
            summary="What a movement did, or its refusal",
            answers={200: documents.MovementAnswer},
        ),
        Route(
            method="GET",
            path="/v1/stock/{sku}",
            handler=handlers.stock.sku,
            summary="A SKU, everywhere",
            answers={200: documents.StockAnswer},
        ),
        Route(
            method="GET",
            path="/v1/stock/{sku}/history",
            handler=handlers.history.sku,
            summary="The changes of a SKU with their causes, newest first, by page",
            answers={200: documents.StockHistory},
            query=("limit", "cursor", "since"),
        ),
        Route(
            method="GET",
            path="/v1/channels",
            handler=handlers.stock.channels,
            summary="All known channels",
            answers={200: documents.Channels},
        ),
        Route(
            method="GET",
            path="/v1/channels/{channel}/stock",
            handler=handlers.stock.channel,
            summary="What a channel may sell, by page",
            answers={200: documents.ChannelPage},
            query=("sku", "cursor", "limit"),
        ),
        Route(
            method="GET",
            path="/v1/channels/{channel}/feed",
            handler=handlers.feeds.feed,
            summary="What a channel may sell, as it changes: events `resumed` or `reset` after Last-Event-ID, `stock`,"
            " `synced` once every known SKU was sent, `status` and `error`",
            answers={200: documents.ChannelUpdate},
            answer_type=SSE,
            query=("last_event_id",),
        ),
    )


def _policies(handlers: Handlers) -> tuple[Route, ...]:
    policies = handlers.policies
    rows: list[Route] = []
    for path in ("/v1/policies/{channel}", "/v1/policies/{channel}/{sku}"):
        shown = {200: documents.PolicyAnswer}
        rows += (
            Route(method="GET", path=path, handler=policies.get, summary="A policy", answers=shown),
            Route(
                method="PUT",
                path=path,
                handler=policies.put,
                summary="Replace a policy whole",
                body=PolicyBody,
                answers=shown,
            ),
            Route(method="DELETE", path=path, handler=policies.delete, summary="Remove a policy", answers={204: None}),
        )
    return tuple(rows)


def _service(handlers: Handlers) -> tuple[Route, ...]:
    status = {200: documents.Status, 503: documents.Status}
    readiness = handlers.readiness
    return (
        Route(method="GET", path="/healthz", handler=readiness.healthz, summary="Liveness", answers={200: None}),
        Route(method="GET", path="/readyz", handler=readiness.readyz, summary="Readiness", answers=status),
        Route(method="GET", path="/metrics", handler=handlers.metrics.get, summary="Prometheus", answers={200: None}),
        Route(method="GET", path="/", handler=handlers.pages.index, summary="The live board", answers={200: None}),
        Route(
            method="GET",
            path="/board/{name}",
            handler=handlers.pages.file,
            summary="What the board is made of",
            answers={200: None},
        ),
    )
