"""Requests for other policies over HTTP: asked for by one person, decided by a second one.

In: the policy of a level as a `PUT` takes it, or null, with a reason; later a decision. Out: the request as an
approval; the change, which only applies to the policy that was there when it was asked for.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from aiohttp import web
from msgspec import Struct

from stocktide.api import problems
from stocktide.api.handlers.orders import APPROVAL_PATH
from stocktide.api.handlers.policies import command_of, read_level
from stocktide.api.handlers.policy_body import Level, PolicyBody, policy_of_level
from stocktide.api.handlers.policy_changes import POLICY_CHANGED, PolicyChanges, PolicyResult, read_if_match, refuse
from stocktide.api.policy_requests import (
    ID_PREFIX,
    Asked,
    Decided,
    Done,
    PolicyRequest,
    PolicyRequests,
    new_id,
)
from stocktide.api.requests import read_actor, read_message
from stocktide.streams.contract.events import Malformed, Reason
from stocktide.streams.contract.times import now_ms
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.settlement.stalls import describe_error

log = logging.getLogger(__name__)

SAME_ACTOR = "same_actor"
# A person decides each: more is a fault of a script.
WAITING_MAX = 200
# How often a process looks for approved changes that another one has not made, and after which time it makes them.
RESUME_SECONDS = 5.0
RESUME_AFTER_MS = 15_000


class PolicyRequestBody(Struct, frozen=True, kw_only=True):
    """A request for another policy of the level; null: for its removal."""

    policy: PolicyBody | None
    reason: Reason


class PolicyRequestHandlers:
    """The handler of `POST …/request`, and the part of `/v1/approvals` that is about policies. `approval_ms`: how
    long a request waits."""

    def __init__(self, changes: PolicyChanges, requests: PolicyRequests, approval_ms: int) -> None:
        self._changes = changes
        self._requests = requests
        self._approval_ms = approval_ms

    async def post(self, request: web.Request) -> web.Response:
        """`POST /v1/policies/{channel}[/{sku}]/request`: 202 with the request; 200 if the same one waits already."""
        level = read_level(request)
        if isinstance(level, web.Response):
            return level
        body = await read_message(request, _BODY)
        if isinstance(body, web.Response):
            return body
        after = None if body.policy is None else policy_of_level(body.policy, level)
        if isinstance(after, Malformed):
            return problems.from_malformed(after)
        actor, expected = read_actor(request), read_if_match(request)
        for invalid in (actor, expected):
            if isinstance(invalid, web.Response):
                return invalid
        before, _, digest = await self._changes.read(level)
        if expected not in (None, digest):
            return refuse(PolicyResult(Outcome.CONFLICT, POLICY_CHANGED))
        if before is None and after is None:
            return problems.from_outcome(Outcome.UNKNOWN_POLICY)
        now = now_ms()
        asked = Asked(
            id=new_id(),
            channel=level.channel,
            sku=level.sku,
            by=str(actor),
            reason=body.reason,
            before=before,
            after=after,
            digest=digest,
            at=now,
            ends_at=now + self._approval_ms,
        )
        waiting = await self.waiting()
        for each in waiting:
            if _is_same(each.asked, asked):
                return problems.json_response(each.view(replayed=True))
        if len(waiting) >= WAITING_MAX:
            return problems.problem_response(409, "too_many_waiting", f"{WAITING_MAX} requests wait already.")
        headers = problems.location(APPROVAL_PATH, id=asked.id)
        return problems.json_response((await self._requests.ask(asked)).view(), 202, headers)

    async def waiting(self) -> list[PolicyRequest]:
        """All requests that wait."""
        now = now_ms()
        return [each for each in (await self._requests.all()).values() if each.state(now) == "waiting"]

    async def find(self, request_id: str) -> PolicyRequest | None:
        """The request of an id; None: it is of no policy."""
        return (await self._requests.all()).get(request_id) if request_id.startswith(ID_PREFIX) else None

    async def approve(self, found: PolicyRequest, actor: str) -> web.Response:
        """Approve a request: 200 with it, also on a repeat by the same actor."""
        replayed = found.decided is not None
        if not replayed:
            if actor == found.asked.by:
                detail = "Whoever asked for it does not approve it; a second person does."
                return problems.problem_response(403, SAME_ACTOR, detail)
            mine = Decided(id=found.asked.id, approved=True, by=actor, at=now_ms())
            found = await self._requests.write(mine)
        decided = found.decided
        if decided is None or decided.by != actor or not decided.approved:
            return problems.from_outcome(Outcome.ALREADY_FINAL)
        if found.is_due:
            found = await self._carry_out(found)
        if found.done is None:
            return problems.from_outcome(Outcome.SWEEP_PENDING)
        if found.state(now_ms()) == "approved":
            return problems.json_response(found.view(replayed))
        if found.done.outcome == POLICY_CHANGED:
            return problems.problem_response(409, POLICY_CHANGED, "The policy was changed since it was asked for.")
        return problems.from_outcome(found.done.outcome)

    async def reject(self, found: PolicyRequest, actor: str, reason: str) -> web.Response:
        """Reject a request: 200 with it, also on a repeat by the same actor."""
        replayed = found.decided is not None
        if not replayed:
            rejected = Decided(id=found.asked.id, approved=False, by=actor, at=now_ms(), comment=reason)
            found = await self._requests.write(rejected)
        decided = found.decided
        if decided is None or decided.by != actor or decided.approved:
            return problems.from_outcome(Outcome.ALREADY_FINAL)
        return problems.json_response(found.view(replayed))

    async def resume(self) -> None:
        """Make approved changes whose process stopped before it had made them; until cancelled."""
        while True:
            await asyncio.sleep(RESUME_SECONDS)
            for found in self._requests.known().values():
                if found.is_due and found.decided and found.decided.at < now_ms() - RESUME_AFTER_MS:
                    await self._try_to_carry_out(found)

    async def _try_to_carry_out(self, found: PolicyRequest) -> None:
        """One that fails holds up no other."""
        try:
            await self._carry_out(found)
        except Exception as error:
            log.warning("the approved %s is not in force yet, retrying: %s", found.asked.id, describe_error(error))

    async def _carry_out(self, found: PolicyRequest) -> PolicyRequest:
        """Make the change of an approved request. If another process does it too, the second finds it made."""
        asked, decided = found.asked, found.decided
        assert decided is not None
        result = await self._changes.decide(
            command_of(
                Level(asked.channel, asked.sku),
                asked.after,
                actor=decided.by,
                expected=asked.digest,
                requested_by=asked.by,
                reason=asked.reason,
                id=asked.id,
            )
        )
        if result.outcome == Outcome.SWEEP_PENDING:
            return found
        outcome = POLICY_CHANGED if result.detail == POLICY_CHANGED else result.outcome
        return await self._requests.write(Done(id=asked.id, outcome=outcome))


_BODY = msgspec.json.Decoder(PolicyRequestBody)


def _is_same(waiting: Asked, asked: Asked) -> bool:
    """Whether it is a repeat of a request that waits."""
    both = (msgspec.structs.replace(each, id="", reason="", at=0, ends_at=0, before=None) for each in (waiting, asked))
    first, second = (msgspec.json.encode(each) for each in both)
    return first == second
