"""The calls of orders, of what waits for units, and of approvals."""

from __future__ import annotations

from stocktide.api.handlers.orders import ExtendBody
from stocktide.api.requests import ACTOR_HEADER
from stocktide.api.routes.route import Handlers, Route
from stocktide.streams.contract import documents
from stocktide.streams.contract.events import (
    ApproveBody,
    AssignBody,
    CancelBody,
    ChangeBody,
    HoldBackBody,
    OrderBody,
    PayBody,
    RejectBody,
)


def order_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Orders: place, read, and change them."""
    orders = handlers.orders
    one = "/v1/orders/{order_id}"
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
    )


def waiting_calls(handlers: Handlers) -> tuple[Route, ...]:
    """What operators do to orders that wait."""
    orders, found = handlers.orders, {200: documents.Order}
    waiting = "/v1/preorders/{order_id}"
    return (
        Route(
            "GET",
            "/v1/preorders",
            handlers.order_lists.queue,
            "The orders that wait for units of a SKU, the next to be filled first, by page",
            answers={200: documents.QueuePage},
            query=("sku", "cursor", "limit"),
        ),
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


def approval_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Requests that a second person decides."""
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
