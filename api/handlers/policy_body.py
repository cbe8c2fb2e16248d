"""What a policy may be: the fields of a level, their limits, and how they are shown.

In: the body of a call, or what the ledger has. Out: the fields that are set, or what is wrong; the view of a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from stocktide.api.requests import EVERY_CHANNEL
from stocktide.streams.contract.events import Malformed, Name

# A sum over warehouses may exceed the limit of one line; this is exact in the doubles of Lua.
UNITS_MAX = 1_000_000_000
DWELL_SECONDS_MAX = 604_800
PUBLISH_INTERVAL_MS_MAX = 60_000
SLIP_DAYS_MAX = 3_650
# A channel with more warehouses sells from all of them.
WAREHOUSES_MAX = 256
# Each offer to the channel adds up their pools.
PURPOSES_MAX = 16

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


class Level(Struct, frozen=True):
    """A level of policies: a channel, or a SKU of it (`*`: of all channels)."""

    channel: str
    sku: str | None


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


def policy_of_level(body: PolicyBody, level: Level) -> dict[str, Any] | Malformed:
    """`validate_policy`, and whether the level may have each field."""
    policy = validate_policy(body)
    if isinstance(policy, Malformed):
        return policy
    if "fill" in policy and level.channel != EVERY_CHANNEL:
        return Malformed("invalid_field", "one queue serves all channels: it is set at `*/{sku}`", "fill")
    if level.sku is not None and (wrong := policy.keys() & set(_CHANNEL_FIELDS)):
        return Malformed("invalid_field", "it counts the units of all SKUs: it is set for a channel", min(wrong))
    return policy


def own_view(own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The fields of a level in the order of the contract, not of Lua."""
    return None if own is None else {name: own[name] for name in PolicyBody.__struct_fields__ if name in own}
