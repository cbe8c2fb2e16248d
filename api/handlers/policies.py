"""Policies over HTTP: of a channel, for all of its SKUs or for one.

In: the whole policy of a level, and the tag of the one that it replaces. Out: the policy of that level and the
effective one; a change is answered when it is in force and its consequences are published.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from stocktide.api import problems
from stocktide.api.handlers.policy_body import Level, PolicyBody, policy_of_level
from stocktide.api.handlers.policy_changes import PolicyChanges, read_if_match, refuse
from stocktide.api.requests import check_channel, check_name, read_actor, read_message
from stocktide.streams.contract.events import Malformed
from stocktide.tables.ledger.commands import DeletePolicy, SetPolicy

_POLICY_BODY = msgspec.json.Decoder(PolicyBody)
_POLICY_OR_NULL = msgspec.json.Decoder(PolicyBody | None)


class PolicyHandlers:
    """The handlers of `/v1/policies/{channel}[/{sku}]`."""

    def __init__(self, changes: PolicyChanges) -> None:
        self._changes = changes

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/policies/{channel}[/{sku}]`; `own` is null if this level has no policy."""
        level = read_level(request)
        return level if isinstance(level, web.Response) else await self._changes.show(level)

    async def put(self, request: web.Request) -> web.Response:
        """`PUT`: replaces the policy of the level."""
        level = read_level(request)
        if isinstance(level, web.Response):
            return level
        body = await read_message(request, _POLICY_BODY)
        if isinstance(body, web.Response):
            return body
        policy = policy_of_level(body, level)
        if isinstance(policy, Malformed):
            return problems.from_malformed(policy)
        return await change_level(self._changes, request, level, policy) or await self._changes.show(level)

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE`: removes the policy of the level; 404 if there is none."""
        level = read_level(request)
        if isinstance(level, web.Response):
            return level
        return await change_level(self._changes, request, level, None) or web.Response(status=204)


async def change_level(
    changes: PolicyChanges, request: web.Request, level: Level, policy: dict[str, Any] | None
) -> web.Response | None:
    """Set or remove (None) the policy of a level as the request asks. -> None, or what refuses it."""
    actor, expected = read_actor(request), read_if_match(request)
    for invalid in (actor, expected):
        if isinstance(invalid, web.Response):
            return invalid
    if (refused := await changes.needs_approval(level, policy)) is not None:
        return refused
    result = await changes.decide(command_of(level, policy, actor=actor, expected=expected))
    return refuse(result) if result.is_refused else None


def command_of(level: Level, policy: dict[str, Any] | None, **fields: Any) -> SetPolicy | DeletePolicy:
    """The command that sets or removes (None) the policy of a level."""
    if policy is None:
        return DeletePolicy(channel=level.channel, sku=level.sku, **fields)
    return SetPolicy(channel=level.channel, sku=level.sku, policy=policy, **fields)


async def read_policy_or_null(request: web.Request, level: Level) -> dict[str, Any] | web.Response | None:
    """The policy in the body, as a `PUT` takes it; None for `null`, the removal."""
    body = await read_message(request, _POLICY_OR_NULL)
    if body is None or isinstance(body, web.Response):
        return body
    policy = policy_of_level(body, level)
    return problems.from_malformed(policy) if isinstance(policy, Malformed) else policy


def read_level(request: web.Request) -> Level | web.Response:
    """The level that the path names."""
    channel, sku = request.match_info["channel"], request.match_info.get("sku")
    # `*` is a level only with a SKU.
    invalid = check_channel(channel) if sku is None else check_name("channel", channel)
    if invalid is None and sku is not None:
        invalid = check_name("sku", sku)
    return Level(channel, sku) if invalid is None else invalid
