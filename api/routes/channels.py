"""The calls of channels and of their feeds."""

from __future__ import annotations

from stocktide.api.routes.route import SSE, Handlers, Route
from stocktide.streams.contract import documents


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
            query=("sku", "cursor", "limit"),
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
        Route(
            "POST",
            "/v1/feeds/tickets",
            handlers.post_ticket,
            "A one-use ticket with which a browser opens a feed, as `?ticket=`",
            answers={201: documents.Ticket},
        ),
    )
