"""The calls of orders, of what waits for units, and of approvals."""

from __future__ import annotations

from typing import Literal

from stocktide.api.handlers.approvals import KINDS, LISTED_STATE
from stocktide.api.handlers.approvals import PAGE_MAX as PAGE_APPROVALS_MAX
from stocktide.api.handlers.order_lists import PAGE_ORDERS_MAX
from stocktide.api.handlers.orders import APPROVAL_PATH, ORDER_PATH, ExtendBody
from stocktide.api.handlers.policy_changes import POLICY_CHANGED
from stocktide.api.handlers.policy_requests import SAME_ACTOR
from stocktide.api.routes.route import ACTOR, CURSOR, LOCATION, Handlers, Parameter, Route, limit
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
from stocktide.tables.ledger.outcomes import REFUSALS_OF_LINES, Outcome

_LINES = tuple(sorted(REFUSALS_OF_LINES))
_EVENT = (Outcome.ALREADY_FINAL, Outcome.CONFLICT)
_UNKNOWN = {404: (Outcome.UNKNOWN_ORDER,)}
_YES = Literal["true"]
_FOUND = {200: documents.Order}


def order_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Orders: place, read and list them."""
    return (
        Route(
            "POST",
            "/v1/orders",
            handlers.orders.place,
            "Place an order: hold its units until they are paid or the hold ends; with `force`, once it is approved",
            body=OrderBody,
            answers={200: (documents.Order, documents.Approval), 201: documents.Order, 202: documents.Approval},
            answer_headers={201: (LOCATION,), 202: (LOCATION,)},
            problems={
                **_UNKNOWN,
                409: (*_LINES, *_EVENT, Outcome.TOO_MANY_CHANNELS, Outcome.TOO_OLD),
                422: (Outcome.OCCURRED_IN_FUTURE,),
            },
            headers=(ACTOR,),
        ),
        Route(
            "GET",
            "/v1/orders",
            handlers.order_lists.orders,
            "Orders by page: all of them, those with short units, or those that a warehouse below zero holds",
            answers={200: documents.OrderPage},
            query=(
                Parameter("state", documents.OrderState, is_list=True),
                Parameter("short", _YES),
                Parameter("at_risk", _YES),
                Parameter("channel"),
                Parameter("sku"),
                CURSOR,
                limit(PAGE_ORDERS_MAX),
            ),
        ),
        Route("GET", ORDER_PATH, handlers.orders.get, "An order", answers=_FOUND, problems=_UNKNOWN),
    )


def order_change_calls(handlers: Handlers) -> tuple[Route, ...]:
    """What happens to an order."""
    one, orders = ORDER_PATH, handlers.orders
    return (
        Route(
            "POST",
            f"{one}/pay",
            orders.pay,
            "Turn the hold into a commitment, or take an expired order again",
            body=PayBody,
            answers=_FOUND,
            problems={**_UNKNOWN, 409: _EVENT},
        ),
        Route(
            "POST",
            f"{one}/cancel",
            orders.cancel,
            "Give back what is held, or paid and not shipped: all of it, or units of lines",
            body=CancelBody,
            answers=_FOUND,
            problems={**_UNKNOWN, 409: (*_EVENT, Outcome.NOT_IN_ORDER, Outcome.MORE_THAN_OPEN)},
        ),
        Route(
            "POST",
            f"{one}/change",
            orders.change,
            "Exchange units: some go back, others are added, all in one step or none",
            body=ChangeBody,
            answers=_FOUND,
            problems={**_UNKNOWN, 409: (*_LINES, *_EVENT, Outcome.NOT_IN_ORDER, Outcome.MORE_THAN_OPEN)},
        ),
        Route(
            "POST",
            f"{one}/extend",
            orders.extend,
            "Let the hold last longer",
            body=ExtendBody,
            answers=_FOUND,
            problems={**_UNKNOWN, 409: (*_EVENT, Outcome.TOO_MANY_EVENTS)},
        ),
    )


def waiting_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Orders that wait for units, and what operators do to them."""
    one, orders = "/v1/preorders/{order_id}", handlers.orders
    return (
        Route(
            "GET",
            "/v1/preorders",
            handlers.order_lists.queue,
            "The orders that wait for units of a SKU, the next to be filled first, by page",
            answers={200: documents.QueuePage},
            problems={404: (Outcome.UNKNOWN_SKU,)},
            query=(Parameter("sku", required=True), CURSOR, limit(PAGE_ORDERS_MAX)),
        ),
        Route(
            "POST",
            f"{one}/hold_back",
            orders.hold_back,
            "Keep lines that wait for units from being filled, or release them",
            body=HoldBackBody,
            answers=_FOUND,
            problems={**_UNKNOWN, 409: (*_EVENT, Outcome.NOT_IN_ORDER)},
            headers=(ACTOR,),
        ),
        Route(
            "POST",
            f"{one}/assign",
            orders.assign,
            "Give units from the shelf to lines that wait, all of them or none",
            body=AssignBody,
            answers=_FOUND,
            problems={
                **_UNKNOWN,
                409: (*_EVENT, Outcome.INSUFFICIENT_STOCK, Outcome.NOT_IN_ORDER, Outcome.MORE_THAN_OPEN),
            },
            headers=(ACTOR,),
        ),
    )


def approval_calls(handlers: Handlers) -> tuple[Route, ...]:
    """Requests that a second person decides."""
    approvals = handlers.approvals
    one = APPROVAL_PATH
    found = {200: (documents.Approval, documents.PolicyApproval)}
    unknown = {404: ("unknown_approval",)}
    return (
        Route(
            "GET",
            "/v1/approvals",
            approvals.page,
            "Requests that wait for a second person, by page",
            answers={200: documents.ApprovalPage},
            query=(
                Parameter("kind", Literal[KINDS]),
                Parameter("state", Literal[LISTED_STATE]),
                CURSOR,
                limit(PAGE_APPROVALS_MAX),
            ),
        ),
        Route(
            "GET",
            one,
            approvals.get,
            "A request that a second person decides, and its end",
            answers=found,
            problems=unknown,
        ),
        Route(
            "POST",
            f"{one}/approve",
            approvals.approve,
            "Approve the request of another actor: the order is decided, or the policy set",
            body=ApproveBody,
            answers={200: (documents.Order, documents.PolicyApproval)},
            problems={
                404: ("unknown_approval", Outcome.UNKNOWN_POLICY),
                403: (SAME_ACTOR,),
                409: (*_LINES, *_EVENT, POLICY_CHANGED, Outcome.TOO_MANY_CHANNELS),
                503: (Outcome.SWEEP_PENDING,),
            },
            headers=(ACTOR,),
        ),
        Route(
            "POST",
            f"{one}/reject",
            approvals.reject,
            "Reject a request",
            body=RejectBody,
            answers=found,
            problems={**unknown, 409: _EVENT},
            headers=(ACTOR,),
        ),
    )
