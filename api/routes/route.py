"""A call of the API, and the handlers of all calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

from stocktide.api.feeds.order_sse import OrderFeedHandler
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import FeedHandler
from stocktide.api.handlers.approvals import ApprovalHandlers
from stocktide.api.handlers.audit_log import AuditLogHandler
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.health import Readiness
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.intake import IntakeHandler
from stocktide.api.handlers.order_lists import OrderListHandler
from stocktide.api.handlers.orders import OrderHandlers
from stocktide.api.handlers.policies import PolicyHandlers
from stocktide.api.handlers.pools import PoolHandler
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.handlers.stock_list import StockListHandler
from stocktide.api.handlers.webhooks import WebhookHandlers
from stocktide.api.metrics import ApiMetrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


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
