"""The calls of channels and of their feeds."""

from __future__ import annotations

from stocktide.api.routes.route import CURSOR, SSE, Handlers, Parameter, Route, limit
from stocktide.streams.contract import documents
from stocktide.tables.ledger.client import PAGE_SKUS_MAX

_RESUMES = (Parameter("last_event_id", str), Parameter("ticket", str))
_RESUMES_BY_HEADER = (Parameter("Last-Event-ID", str),)
_SELECTS = (Parameter("sku", is_list=True), Parameter("prefix", str, is_list=True))
_REFUSED = {
    422: ("too_many_subscriptions",),
    503: ("too_many_subscribers",),
}


def channel_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Channels and what they may sell."""
    return (
        Route("GET", "/v1/channels", handlers.stock.channels, "All known channels", answers={200: documents.Channels}),
        Route(
            "GET",
            "/v1/channels/{channel}/stock",
            handlers.stock.channel,
            "What a channel may sell, by page",
            answers={200: documents.ChannelPage},
            query=(Parameter("sku", is_list=True), CURSOR, limit(PAGE_SKUS_MAX)),
        ),
    )


def feed_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Feeds, and the tickets that open them."""
    return (
        Route(
            "GET",
            "/v1/channels/{channel}/feed",
            handlers.feeds.feed,
            "What a channel may sell, as it changes: events `resumed` or `reset` after Last-Event-ID, `stock`,"
            " `synced` once every known SKU was sent, `status` and `error`",
            answers={200: documents.ChannelUpdate},
            answer_type=SSE,
            problems=_REFUSED,
            query=(*_RESUMES, *_SELECTS),
            headers=_RESUMES_BY_HEADER,
        ),
        Route(
            "GET",
            "/v1/channels/{channel}/socket",
            handlers.sockets.socket,
            "The same over a WebSocket, with subscriptions by SKU and prefix",
            answers={101: None},
            problems={**_REFUSED, 426: ("upgrade_required",)},
            query=(*_RESUMES, *_SELECTS),
        ),
        Route(
            "GET",
            "/v1/channels/{channel}/orders/feed",
            handlers.order_feeds.feed,
            "A channel's orders as they change: events `resumed` or `reset` after Last-Event-ID, `order`, `synced` once"
            " everything missed was sent, `status` and `error`",
            answers={200: documents.OrderUpdate},
            answer_type=SSE,
            problems={503: ("too_many_subscribers",)},
            query=_RESUMES,
            headers=_RESUMES_BY_HEADER,
        ),
        Route(
            "POST",
            "/v1/feeds/tickets",
            handlers.post_ticket,
            "A one-use ticket with which a browser opens a feed, as `?ticket=`",
            answers={201: documents.Ticket},
        ),
    )
