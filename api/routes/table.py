"""All calls."""

from __future__ import annotations

from stocktide.api.routes import channels, operation, orders, policies, reports, stock
from stocktide.api.routes.route import Handlers, Route


def make_routes(handlers: Handlers) -> tuple[Route, ...]:
    """All calls."""
    return (
        *orders.order_calls(handlers),
        *orders.order_change_calls(handlers),
        *orders.waiting_calls(handlers),
        *orders.approval_calls(handlers),
        *stock.input_calls(handlers),
        *stock.read_calls(handlers),
        *channels.channel_calls(handlers),
        *channels.feed_calls(handlers),
        *operation.read_calls(handlers),
        *operation.watch_calls(handlers),
        *policies.policy_calls(handlers),
        *operation.webhook_calls(handlers),
        *reports.report_calls(handlers),
        *operation.service_calls(handlers),
    )
