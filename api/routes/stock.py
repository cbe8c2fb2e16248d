"""The calls of events and movements, and of stock."""

from __future__ import annotations

from typing import Literal

from stocktide.api.handlers.events import MOVEMENT_PATH
from stocktide.api.handlers.history import PAGE_CHANGES_MAX
from stocktide.api.handlers.pools import PAGE_POOLS_MAX
from stocktide.api.routes.route import CURSOR, LOCATION, NDJSON, Handlers, Parameter, Route, limit
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import Event, Movement, Time
from stocktide.tables.ledger.client import PAGE_SKUS_MAX
from stocktide.tables.ledger.outcomes import Outcome

_UNKNOWN_SKU = {404: (Outcome.UNKNOWN_SKU,)}


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
            problems={413: ("too_many_lines",)},
        ),
        Route(
            "POST",
            "/v1/movements",
            handlers.events.post_movement,
            "One movement",
            body=Movement,
            answers={202: documents.MovementTaken},
            answer_headers={202: (LOCATION,)},
            problems={422: ("unknown_type", Outcome.OCCURRED_IN_FUTURE)},
        ),
        Route(
            "POST",
            "/v1/intake/{name}",
            handlers.intake.post,
            "A webhook of a platform, signed by its secret; every answer is as the platform expects it",
            body=bytes,
            body_type="*/*",
            answers={200: str},
            answer_type="*/*",
            refuses_as_answered=True,
            problems={401: ("bad_signature",), 404: ("unknown_intake",)},
        ),
    )


def read_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Stock and movements."""
    return (
        Route(
            "GET",
            MOVEMENT_PATH,
            handlers.stock.movement,
            "What a movement did, or its refusal",
            answers={200: documents.MovementAnswer},
            problems={404: (Outcome.UNKNOWN_MOVEMENT,)},
        ),
        Route(
            "GET",
            "/v1/expected",
            handlers.stock.expected,
            "Announced receipts, by page: what is to come, what came, and what came beyond it",
            answers={200: documents.AnnouncementPage},
            query=(
                Parameter("warehouse"),
                Parameter("sku"),
                Parameter("overdue", Literal["true", "false"]),
                CURSOR,
                limit(PAGE_SKUS_MAX),
            ),
        ),
        Route(
            "GET",
            "/v1/stock/{sku}",
            handlers.stock.sku,
            "A SKU, everywhere",
            answers={200: documents.StockAnswer},
            problems=_UNKNOWN_SKU,
        ),
        Route(
            "GET",
            "/v1/stock/{sku}/history",
            handlers.history.sku,
            "The changes of a SKU with their causes, newest first, by page",
            answers={200: documents.StockHistory},
            problems={**_UNKNOWN_SKU, 503: ("busy",)},
            query=(limit(PAGE_CHANGES_MAX), CURSOR, Parameter("since", Time)),
        ),
        Route(
            "GET",
            "/v1/pools",
            handlers.pools.get,
            "Units that are set aside for a purpose, by page",
            answers={200: documents.PoolPage},
            query=(Parameter("purpose"), Parameter("warehouse"), Parameter("sku"), CURSOR, limit(PAGE_POOLS_MAX)),
        ),
    )
