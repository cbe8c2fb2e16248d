"""Orders over HTTP: place, pay, cancel, change, extend, get; and what operators do to those that wait.

In: a call of a storefront or an operator. Out: the settled order; or a problem with the reason for each refused line.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct, structs

from stocktide.api import problems
from stocktide.api.access.scopes import check_order
from stocktide.api.batching import CommandBatcher, SettledResult
from stocktide.api.requests import check_name, read_actor, read_message
from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.reads import StaleReads
from stocktide.streams.contract.events import (
    HOLD_SECONDS_DEFAULT,
    AssignBody,
    CancelBody,
    ChangeBody,
    HoldBackBody,
    HoldSeconds,
    Name,
    OrderBody,
    PayBody,
)
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Assign, Change, Command
from stocktide.tables.ledger.make_commands import (
    make_assign,
    make_cancel,
    make_change,
    make_extend,
    make_hold_back,
    make_pay,
    make_place,
)
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome
from stocktide.tables.ledger.records import AWAITING_APPROVAL, OrderRecord, Result
from stocktide.tables.views import approval_view, order_view

ORDER_PATH = "/v1/orders/{order_id}"
APPROVAL_PATH = "/v1/approvals/{id}"
_ACCEPTED = frozenset({Outcome.RESERVED, Outcome.PREORDERED, Outcome.PARTIAL})


class ExtendBody(Struct, frozen=True):
    """The body of extend."""

    id: Name | None = None
    hold_seconds: HoldSeconds = HOLD_SECONDS_DEFAULT


_ORDER_BODY = msgspec.json.Decoder(OrderBody)
_PAY_BODY = msgspec.json.Decoder(PayBody)
_CANCEL_BODY = msgspec.json.Decoder(CancelBody)
_CHANGE_BODY = msgspec.json.Decoder(ChangeBody)
_HOLD_BACK_BODY = msgspec.json.Decoder(HoldBackBody)
_ASSIGN_BODY = msgspec.json.Decoder(AssignBody)
_EXTEND_BODY = msgspec.json.Decoder(ExtendBody)
_Body = TypeVar("_Body", bound=Struct)
_ActionBody = TypeVar("_ActionBody", HoldBackBody, AssignBody)


class OrderHandlers:
    """The handlers of `/v1/orders`."""

    def __init__(self, batcher: CommandBatcher, ledger: Ledger, reads: SettledReads, stale: StaleReads) -> None:
        self._batcher = batcher
        self._ledger = ledger
        self._reads = reads
        self._stale = stale

    async def place(self, request: web.Request) -> web.Response:
        """`POST /v1/orders`: 201, 202 where it waits for approval, 200 when repeated, 409 when refused."""
        deadline = self._reads.deadline()
        body = await read_message(request, _ORDER_BODY)
        if isinstance(body, web.Response):
            return body
        if (refused := await check_order(request, body)) is not None:
            return refused
        actor = read_actor(request) if body.force else None
        if isinstance(actor, web.Response):
            return actor
        decided = await self._batcher.submit(make_place(body, actor=actor), deadline)
        result, order = decided.result, decided.order
        if result.outcome in _ACCEPTED and order is not None:
            view = order_view(body.order_id, order, result.replayed)
            if result.replayed:
                return problems.json_response(view)
            return problems.json_response(view, 201, problems.location(ORDER_PATH, order_id=body.order_id))
        if result.outcome == Outcome.PARKED and order is not None and order.approval is not None:
            request_view = approval_view(body.order_id, order, order.approval, result.replayed)
            if result.replayed:
                return problems.json_response(request_view)
            return problems.json_response(request_view, 202, problems.location(APPROVAL_PATH, id=body.order_id))
        return refuse_place(body.order_id, decided)

    async def pay(self, request: web.Request) -> web.Response:
        """`POST /v1/orders/{order_id}/pay`."""
        return await self._submit_event(
            request,
            _PAY_BODY,
            lambda body, order_id: make_pay(order_id, body.if_expired, body.id or _new_id()),
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """`POST /v1/orders/{order_id}/cancel`."""
        return await self._submit_event(
            request,
            _CANCEL_BODY,
            lambda body, order_id: make_cancel(order_id, body.lines, body.id or _new_id()),
        )

    async def change(self, request: web.Request) -> web.Response:
        """`POST /v1/orders/{order_id}/change`."""
        return await self._submit_event(
            request,
            _CHANGE_BODY,
            lambda body, order_id: make_change(order_id, body.remove, body.add, body.id or _new_id()),
        )

    async def hold_back(self, request: web.Request) -> web.Response:
        """`POST /v1/preorders/{order_id}/hold_back`."""
        return await self._submit_action(request, _HOLD_BACK_BODY, make_hold_back)

    async def assign(self, request: web.Request) -> web.Response:
        """`POST /v1/preorders/{order_id}/assign`."""
        return await self._submit_action(request, _ASSIGN_BODY, make_assign)

    async def extend(self, request: web.Request) -> web.Response:
        """`POST /v1/orders/{order_id}/extend`."""
        return await self._submit_event(
            request,
            _EXTEND_BODY,
            lambda body, order_id: make_extend(order_id, body.hold_seconds, body.id or _new_id()),
        )

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/orders/{order_id}`."""
        order_id = request.match_info["order_id"]
        if (invalid := check_name("order_id", order_id)) is not None:
            return invalid
        order, is_stale = await self._stale.read(
            partial(self._ledger.read_order, order_id), partial(self._stale.tables.order, order_id)
        )
        if order is None or order.state == AWAITING_APPROVAL:
            return problems.from_outcome(Outcome.UNKNOWN_ORDER)
        view = order_view(order_id, order, replayed=False)
        return problems.json_response(structs.replace(view, stale=True) if is_stale else view)

    async def _submit_action(
        self,
        request: web.Request,
        decoder: msgspec.json.Decoder[_ActionBody],
        make: Callable[[str, _ActionBody, str, str], Command],
    ) -> web.Response:
        """Decide the action of an operator on an order that waits."""
        actor = read_actor(request)
        if isinstance(actor, web.Response):
            return actor
        return await self._submit_event(
            request, decoder, lambda body, order_id: make(order_id, body, body.id or _new_id(), actor)
        )

    async def _submit_event(
        self,
        request: web.Request,
        decoder: msgspec.json.Decoder[_Body],
        command_of: Callable[[_Body, str], Command],
    ) -> web.Response:
        deadline = self._reads.deadline()
        body = await read_message(request, decoder, empty=b"{}")
        if isinstance(body, web.Response):
            return body
        order_id = request.match_info["order_id"]
        if (invalid := check_name("order_id", order_id)) is not None:
            return invalid
        command = command_of(body, order_id)
        decided = await self._batcher.submit(command, deadline)
        result, order = decided.result, decided.order
        if result.outcome in REFUSALS or order is None:
            more: dict[str, Any] = {} if order is None else {"order": order_view(order_id, order, result.replayed)}
            if result.reasons and order is not None:
                ordered = tuple((line.sku, line.quantity) for line in order.lines)
                more["lines"] = _reasons(result, _lines_of(command) or ordered)
            return problems.from_outcome(result.outcome, result.detail, **more)
        return problems.json_response(order_view(order_id, order, result.replayed))


def refuse_place(order_id: str, decided: SettledResult) -> web.Response:
    """409, with the order and its lines if this body was refused, and not if another body has the id."""
    result, order = decided.result, decided.order
    if order is None or order.state != "rejected" or order.outcome != result.outcome:
        return problems.from_outcome(result.outcome, result.detail)
    return problems.from_outcome(
        result.outcome,
        result.detail,
        lines=_refused_lines(order),
        order=order_view(order_id, order, result.replayed),
        replayed=result.replayed,
    )


def _refused_lines(order: OrderRecord) -> list[dict[str, Any]]:
    return [
        {"line": index, "sku": line.sku, "quantity": line.quantity, "reason": line.reason}
        for index, line in enumerate(order.lines)
        if line.reason is not None
    ]


def _lines_of(command: Command) -> tuple[tuple[str, int], ...]:
    """The lines to which the reasons of a refused event refer; none if these are the order's."""
    if isinstance(command, Change):
        return command.add
    return command.lines if isinstance(command, Assign) else ()


def _reasons(result: Result, lines: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """The reasons against lines of an event; `lines` are (sku, units) of all to which their places refer."""
    return [
        {"line": place, "sku": lines[place][0], "quantity": lines[place][1], "reason": reason}
        for place, reason in result.reasons
    ]


def _new_id() -> str:
    return uuid.uuid4().hex
