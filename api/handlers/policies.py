"""Policies over HTTP: of a channel, for all of its SKUs or for one.

In: the whole policy of a level. Out: the policy of that level and the effective one; a change is answered when it is in
force and its consequences are published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from stocktide.api import problems
from stocktide.api.batching import BatchSubmitter
from stocktide.api.known_channels import sweep
from stocktide.api.requests import EVERY_CHANNEL, check_channel, check_name, read_actor, read_message
from stocktide.api.settled_reads import SettledReads
from stocktide.streams.contract.documents import PolicyAnswer
from stocktide.streams.contract.events import Malformed, Name
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import DeletePolicy, SetPolicy
from stocktide.tables.ledger.outcomes import REFUSALS, Outcome

# A sum over warehouses may exceed the limit of one line; this is exact in the doubles of Lua.
UNITS_MAX = 1_000_000_000
DWELL_SECONDS_MAX = 604_800
PUBLISH_INTERVAL_MS_MAX = 60_000
SLIP_DAYS_MAX = 3_650
# A channel with more warehouses sells from all of them.
WAREHOUSES_MAX = 256
# Each offer to the channel adds up their pools.
PURPOSES_MAX = 16
# After this a change is answered, although SKUs are still being re-evaluated: it is already in force.
PUBLISHED_SECONDS_MAX = 5.0

Units = Annotated[int, Meta(ge=0, le=UNITS_MAX)]


class PolicyBody(Struct, frozen=True, kw_only=True):
    """The policy of a level; a field that is null or missing is inherited."""

    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    buffer: Units | None = None
    max_listed: Units | None = None
    safety_threshold: Units | None = None
    resume_threshold: Units | None = None
    below_threshold: Literal["sell_through", "preorder", "suspend"] | None = None
    preorder_cap: Units | None = None
    preorder_backed: bool | None = None
    dwell_seconds: Annotated[int, Meta(ge=0, le=DWELL_SECONDS_MAX)] | None = None
    primary: bool | None = None
    split: bool | None = None
    warehouses: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=WAREHOUSES_MAX)] | None = None
    publish_interval_ms: Annotated[int, Meta(ge=0, le=PUBLISH_INTERVAL_MS_MAX)] | None = None
    # Pools from which orders of the channel draw without naming them; and whether it sells from pools alone.
    purposes: Annotated[tuple[Name, ...], Meta(max_length=PURPOSES_MAX)] | None = None
    pool_only: bool | None = None
    # Whether held units of its orders may move away from a warehouse below zero.
    reroute: bool | None = None
    # Whether the next order of the queue is filled in part, or those that can be filled whole go before it.
    fill: Literal["in_part", "complete_first"] | None = None
    # A promised date that moved by more days makes an order `choice_due`.
    slip_days_max: Annotated[int, Meta(ge=0, le=SLIP_DAYS_MAX)] | None = None
    # Unpaid units that the orders of the channel, and of each of its buyers, may hold; of a channel's level alone.
    held_units_max: Units | None = None
    buyer_units_max: Units | None = None


# Shown where they are set.
_OPTIONAL_FIELDS = ("purposes", "pool_only", "reroute", "fill", "slip_days_max", "held_units_max", "buyer_units_max")
_CHANNEL_FIELDS = ("held_units_max", "buyer_units_max")
_POLICY_BODY = msgspec.json.Decoder(PolicyBody)


def validate_policy(body: PolicyBody) -> dict[str, Any] | Malformed:
    """The fields that are set; an error if the resume threshold is not above the safety threshold."""
    safety, resume = body.safety_threshold, body.resume_threshold
    if safety is not None and resume is not None and resume <= safety:
        return Malformed("invalid_field", f"must be above safety_threshold, {safety}", "resume_threshold")
    purposes = body.purposes or ()
    for index, purpose in enumerate(purposes):
        if "@" in purpose or purpose in purposes[:index]:
            return Malformed(
                "invalid_field", "the purpose of a pool has no `@`, and is named once", f"purposes[{index}]"
            )
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not None}


def effective_view(effective: Mapping[str, Any], publish_interval_ms: int) -> dict[str, Any]:
    """The effective policy with every field of the contract in its order; the ledger omits null fields. Those
    of `_OPTIONAL_FIELDS` are shown where they are set."""
    view = {
        "share": float(effective.get("share", 1)),
        "buffer": effective.get("buffer", 0),
        "max_listed": effective.get("max_listed"),
        "safety_threshold": effective.get("safety_threshold", 0),
        "resume_threshold": effective.get("resume_threshold"),
        "below_threshold": effective.get("below_threshold", "sell_through"),
        "preorder_cap": effective.get("preorder_cap", 0),
        "preorder_backed": effective.get("preorder_backed", False),
        "dwell_seconds": effective.get("dwell_seconds", 0),
        "primary": effective.get("primary", False),
        "split": effective.get("split", True),
        "warehouses": effective.get("warehouses"),
        "publish_interval_ms": effective.get("publish_interval_ms", publish_interval_ms),
    }
    return view | {name: value for name in _OPTIONAL_FIELDS if _is_set(value := effective.get(name))}


def _is_set(value: Any) -> bool:
    return value not in (None, ()) and value is not False


class PolicyHandlers:
    """The handlers of `/v1/policies/{channel}[/{sku}]`. `publish_interval_ms` is the built-in default."""

    def __init__(
        self, submitter: BatchSubmitter, ledger: Ledger, reads: SettledReads, publish_interval_ms: int
    ) -> None:
        self._submitter = submitter
        self._ledger = ledger
        self._reads = reads
        self._publish_interval_ms = publish_interval_ms

    async def get(self, request: web.Request) -> web.Response:
        """`GET /v1/policies/{channel}[/{sku}]`; `own` is null if this level has no policy."""
        level = _level(request)
        return level if isinstance(level, web.Response) else await self._show(*level)

    async def put(self, request: web.Request) -> web.Response:
        """`PUT`: replaces the policy of the level."""
        level = _level(request)
        if isinstance(level, web.Response):
            return level
        body = await read_message(request, _POLICY_BODY)
        if isinstance(body, web.Response):
            return body
        policy = validate_policy(body)
        if isinstance(policy, dict) and "fill" in policy and level[0] != EVERY_CHANNEL:
            policy = Malformed("invalid_field", "one queue serves all channels: it is set at `*/{sku}`", "fill")
        if isinstance(policy, dict) and level[1] is not None and (wrong := policy.keys() & set(_CHANNEL_FIELDS)):
            policy = Malformed("invalid_field", "it counts the units of all SKUs: it is set for a channel", min(wrong))
        if isinstance(policy, Malformed):
            return problems.from_malformed(policy)
        actor = read_actor(request)
        if isinstance(actor, web.Response):
            return actor
        channel, sku = level
        outcome = await self._change(SetPolicy(channel=channel, sku=sku, policy=policy, actor=actor))
        return problems.from_outcome(outcome) if outcome in REFUSALS else await self._show(channel, sku)

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE`: removes the policy of the level; 404 if there is none."""
        level = _level(request)
        if isinstance(level, web.Response):
            return level
        actor = read_actor(request)
        if isinstance(actor, web.Response):
            return actor
        channel, sku = level
        outcome = await self._change(DeletePolicy(channel=channel, sku=sku, actor=actor))
        return problems.from_outcome(outcome) if outcome in REFUSALS else web.Response(status=204)

    async def _change(self, command: SetPolicy | DeletePolicy) -> str:
        """Change a level and re-evaluate its SKUs; concurrent changes of one channel wait for each other."""
        deadline = self._reads.deadline()
        while True:
            decision = await self._submitter.decide([command], deadline)
            outcome = decision.results[0].outcome
            if outcome != Outcome.SWEEP_PENDING:
                break
            if not await sweep(self._submitter, deadline):
                return outcome
        if outcome not in REFUSALS and command.sku is None:
            await sweep(self._submitter, asyncio.get_running_loop().time() + PUBLISHED_SECONDS_MAX)
        return outcome

    async def _show(self, channel: str, sku: str | None) -> web.Response:
        own, effective = await self._reads.settled(lambda: self._ledger.read_policy(channel, sku))
        shown = effective_view(effective, self._publish_interval_ms)
        # In the order of the contract, not of Lua.
        ordered = None if own is None else {name: own[name] for name in (*shown, *_OPTIONAL_FIELDS) if name in own}
        return problems.json_response(PolicyAnswer(channel, sku, ordered, shown))


def _level(request: web.Request) -> tuple[str, str | None] | web.Response:
    channel, sku = request.match_info["channel"], request.match_info.get("sku")
    # `*` is a level only with a SKU.
    invalid = check_channel(channel) if sku is None else check_name("channel", channel)
    if invalid is None and sku is not None:
        invalid = check_name("sku", sku)
    return (channel, sku) if invalid is None else invalid
