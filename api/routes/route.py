"""A call of the API, and the handlers of all calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from stocktide.api.feeds.order_sse import OrderFeedHandler
from stocktide.api.feeds.socket import SocketHandler
from stocktide.api.feeds.sse import FeedHandler
from stocktide.api.handlers.alerts import AlertsHandler
from stocktide.api.handlers.approvals import ApprovalHandlers
from stocktide.api.handlers.audit_log import AuditLogHandler
from stocktide.api.handlers.board import BoardHandlers
from stocktide.api.handlers.dead_letters import DeadLetterHandlers
from stocktide.api.handlers.events import EventHandlers
from stocktide.api.handlers.health import Readiness
from stocktide.api.handlers.history import HistoryHandler
from stocktide.api.handlers.intake import IntakeHandler
from stocktide.api.handlers.order_lists import OrderListHandler
from stocktide.api.handlers.orders import OrderHandlers
from stocktide.api.handlers.policies import PolicyHandlers
from stocktide.api.handlers.policy_history import PolicyHistoryHandlers
from stocktide.api.handlers.policy_preview import PolicyPreviewHandler
from stocktide.api.handlers.policy_requests import PolicyRequestHandlers
from stocktide.api.handlers.pools import PoolHandler
from stocktide.api.handlers.reports import ReportHandlers
from stocktide.api.handlers.stock import StockHandlers
from stocktide.api.handlers.stock_list import StockListHandler
from stocktide.api.handlers.system_health import SystemHealthHandlers
from stocktide.api.handlers.webhooks import WebhookHandlers
from stocktide.api.metrics import ApiMetrics
from stocktide.api.requests import ACTOR_HEADER
from stocktide.streams.contract.events import Name

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Parameter(Struct, frozen=True):
    """A parameter of a query or a header; `of` is its type. A list is given as `name=a&name=b`."""

    name: str
    of: Any = Name
    required: bool = False
    is_list: bool = False


class Route(Struct, frozen=True):
    """A call. `answers` maps a status to the type of its body, or to several, None without one; `problems` maps one to
    codes of the call's own refusals, without those that follow from a body, a parameter, keys or outages
    (`spec/refusals.py`)."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, Any]
    problems: Mapping[int, tuple[str, ...]] = {}
    body: Any = None
    body_type: str = JSON
    # The type of what is answered; a type that is not JSON is text, and `answers` has what its parts are.
    answer_type: str = JSON
    # Other types in which the same is answered.
    other_types: tuple[str, ...] = ()
    # Whether refusals may be of other types than problem documents.
    refuses_as_answered: bool = False
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    # Headers of answers, by status.
    answer_headers: Mapping[int, tuple[str, ...]] = {}


def limit(most: int) -> Parameter:
    """How many items a page has at most."""
    return Parameter("limit", Annotated[int, Meta(ge=1, le=most)])


CURSOR = Parameter("cursor", Annotated[str, Meta(min_length=1, description="`next` of the page before")])
ACTOR = Parameter(ACTOR_HEADER, Annotated[Name, Meta(description="Who does it, where the API runs without keys")])
LOCATION = "Location"


class Handlers(Struct, frozen=True):
    """The handlers of all calls."""

    orders: OrderHandlers
    approvals: ApprovalHandlers
    order_lists: OrderListHandler
    stock: StockHandlers
    pools: PoolHandler
    history: HistoryHandler
    policies: PolicyHandlers
    policy_preview: PolicyPreviewHandler
    policy_history: PolicyHistoryHandlers
    policy_requests: PolicyRequestHandlers
    events: EventHandlers
    intake: IntakeHandler
    feeds: FeedHandler
    sockets: SocketHandler
    order_feeds: OrderFeedHandler
    readiness: Readiness
    health: SystemHealthHandlers
    metrics: ApiMetrics
    pages: BoardHandlers
    stock_list: StockListHandler
    audit_log: AuditLogHandler
    alerts: AlertsHandler
    dead_letters: DeadLetterHandlers
    webhooks: WebhookHandlers
    reports: ReportHandlers
    post_ticket: Handler
