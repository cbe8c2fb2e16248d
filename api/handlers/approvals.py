"""Approvals over HTTP: of forced orders and of policies, by a second person.

In: the decision of an operator, whom a header names. Out: the order that was decided, or the request.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from stocktide.api import problems
from stocktide.api.batching import CommandBatcher
from stocktide.api.handlers.orders import refuse_place
from stocktide.api.handlers.policy_requests import SAME_ACTOR, PolicyRequestHandlers
from stocktide.api.policy_requests import PolicyRequest
from stocktide.api.requests import check_name, parse_limit, parse_query, read_actor, read_message
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import Approval, ApprovalPage, PolicyApproval
from stocktide.streams.contract.events import ApproveBody, Malformed, RejectBody
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Approve, Reject
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome
from stocktide.tables.ledger.records import ApprovalRecord, Result
from stocktide.tables.views import approval_view, order_view

PAGE_DEFAULT = 100
# Each may be an order of 2,000 lines.
PAGE_MAX = 1_000
# The only requests that are listed: the others are in the topic `audit`, and found by their id while their order is.
LISTED_STATE = "waiting"
ORDER, POLICY = "order", "policy"
KINDS = (ORDER, POLICY)

_APPROVE_BODY = msgspec.json.Decoder(ApproveBody)
_REJECT_BODY = msgspec.json.Decoder(RejectBody)


class ApprovalHandlers:
    """The handlers of `/v1/approvals`."""

    def __init__(
        self, batcher: CommandBatcher, ledger: Ledger, reads: SettledReads, policies: PolicyRequestHandlers
    ) -> None:
        self._batcher = batcher
        self._ledger = ledger
        self._reads = reads
        self._policies = policies

    async def approve(self, request: web.Request) -> web.Response:
        """`POST /v1/approvals/{id}/approve`: 200 with the order, or the request for a policy, also on a repeat."""
        deadline = self._reads.deadline()
        body = await read_message(request, _APPROVE_BODY, empty=b"{}")
        if isinstance(body, web.Response):
            return body
        named = _names(request)
        if isinstance(named, web.Response):
            return named
        order_id, actor = named
        if (policy := await self._policies.find(order_id)) is not None:
            return await self._policies.approve(policy, actor)
        decided = await self._batcher.submit(Approve(order_id=order_id, actor=actor), deadline)
        result, order = decided.result, decided.order
        if order is None or not _is_approved(order.approval, actor):
            return _refuse(result)
        if result.outcome in REFUSALS:
            return refuse_place(order_id, decided)
        return problems.json_response(order_view(order_id, order, result.replayed))

    async def reject(self, request: web.Request) -> web.Response:
        """`POST /v1/approvals/{id}/reject`: 200 with the request, also on a repeat."""
        deadline = self._reads.deadline()
        body = await read_message(request, _REJECT_BODY)
        if isinstance(body, web.Response):
            return body
        named = _names(request)
        if isinstance(named, web.Response):
            return named
        order_id, actor = named
        if (policy := await self._policies.find(order_id)) is not None:
            return await self._policies.reject(policy, actor, body.reason)
        decided = await self._batcher.submit(Reject(order_id=order_id, actor=actor, reason=body.reason), deadline)
        result, order = decided.result, decided.order
        if order is None or order.approval is None or result.outcome in REFUSALS:
            return _refuse(result)
        return problems.json_response(approval_view(order_id, order, order.approval, result.replayed))

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/approvals/{id}`."""
        order_id = request.match_info["id"]
        if (invalid := check_name("id", order_id)) is not None:
            return invalid
        if (policy := await self._policies.find(order_id)) is not None:
            return problems.json_response(policy.view())
        order = await self._reads.settled(lambda: self._ledger.read_order(order_id))
        if order is None or order.approval is None:
            return _unknown()
        return problems.json_response(approval_view(order_id, order, order.approval))

    async def page(self, request: web.Request) -> web.Response:
        """`GET /v1/approvals?kind=…&state=waiting&cursor=…&limit=…`."""
        query = parse_query(request)
        if query.get("state", LISTED_STATE) != LISTED_STATE:
            return problems.from_malformed(Malformed("invalid_field", f"only `{LISTED_STATE}` is listed", "state"))
        if (kind := query.get("kind")) not in (None, *KINDS):
            return problems.from_malformed(Malformed("invalid_field", "`order` or `policy`", "kind"))
        cursor = query.get("cursor", "")
        if cursor and (invalid := check_name("cursor", cursor)) is not None:
            return invalid
        limit = parse_limit(query.get("limit"), PAGE_DEFAULT, PAGE_MAX)
        if isinstance(limit, web.Response):
            return limit
        orders: list[Approval] = []
        policies: list[PolicyApproval] = []
        following: str | None = None
        if kind != POLICY:
            rows, following = await self._reads.settled(lambda: self._ledger.read_approvals(cursor, limit))
            orders = [approval_view(order_id, order, order.approval) for order_id, order in rows if order.approval]
        if kind != ORDER:
            policies = [each.view() for each in await self._policies.waiting() if _is_on_page(each, cursor, following)]
        items: list[Approval | PolicyApproval] = sorted([*orders, *policies], key=_place)
        if len(items) > limit:
            items, following = items[:limit], items[limit - 1].id
        return problems.json_response(ApprovalPage(items, following))


def _place(item: Approval | PolicyApproval) -> bytes:
    """The ledger lists ids by their bytes."""
    return item.id.encode()


def _is_on_page(request: PolicyRequest, cursor: str, following: str | None) -> bool:
    place = request.asked.id.encode()
    return place > cursor.encode() and (following is None or place <= following.encode())


def _names(request: web.Request) -> tuple[str, str] | web.Response:
    """The id of the request, which is that of its order, and the actor that decides."""
    order_id, actor = request.match_info["id"], read_actor(request)
    if (invalid := check_name("id", order_id)) is not None:
        return invalid
    return actor if isinstance(actor, web.Response) else (order_id, actor)


def _is_approved(approval: ApprovalRecord | None, actor: str) -> bool:
    """Whether `actor` has approved the request, now or before: the outcome is then that of the order."""
    return approval is not None and approval.decided_by == actor and approval.state in ("approved", "refused")


def _refuse(result: Result) -> web.Response:
    if result.outcome == Outcome.UNKNOWN_ORDER:
        return _unknown()
    if result.detail == SAME_ACTOR:
        detail = "Whoever asked for it does not approve it; a second person does."
        return problems.problem_response(403, SAME_ACTOR, detail)
    return problems.from_outcome(result.outcome, result.detail)


def _unknown() -> web.Response:
    return problems.not_found("unknown_approval", "No request of this id needs an approval.")
