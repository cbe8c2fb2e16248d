"""The calls of events and movements, and of stock."""

from __future__ import annotations

from stocktide.api.routes.route import NDJSON, Handlers, Route
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import Event, Movement


def input_calls(handlers: Handlers) -> tuple[Route, ...]:
    """What happened: events, movements, and webhooks of platforms."""
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
        Route(
            "POST",
            "/v1/intake/{name}",
            handlers.intake.post,
            "A webhook of a platform, signed by its secret; the answer is as the platform expects it",
            answers={200: None},
        ),
    )


def read_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Stock and movements."""
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
            "/v1/pools",
            handlers.pools.get,
            "Units that are set aside for a purpose, by page",
            answers={200: documents.PoolPage},
            query=("purpose", "warehouse", "sku", "cursor", "limit"),
        ),
    )
