"""All outcomes of the ledger. Lua gets the same list from here (`tables/ledger/codes.py`).

Expected refusals are outcomes, never exceptions.
"""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The ledger's decision on a command, or on one line of it. Records hold its place in this list: a new outcome goes
    to the end, and none is removed."""

    # accepted
    RESERVED = "reserved"
    PREORDERED = "preordered"
    PARTIAL = "partial"
    PAID = "paid"
    CANCELLED = "cancelled"
    EXTENDED = "extended"
    SHIPPED = "shipped"
    RETURNED = "returned"
    EXPIRED = "expired"
    RECEIVED = "received"
    ADJUSTED = "adjusted"
    COUNTED = "counted"
    COUNTED_IN_PART = "counted_in_part"
    COUNTING = "counting"
    PARTS_MISSING = "parts_missing"
    TRANSFERRED = "transferred"
    ALREADY_COUNTED = "already_counted"
    COUNT_SUPERSEDED = "count_superseded"
    POLICY_SET = "policy_set"
    POLICY_DELETED = "policy_deleted"
    CHANNEL_KNOWN = "channel_known"
    SWEPT = "swept"
    RESTATED = "restated"
    REPAIRED = "repaired"
    MOVED_ON = "moved_on"
    PARKED = "parked"
    NOTHING_DUE = "nothing_due"
    # refused lines of an order
    INSUFFICIENT_STOCK = "insufficient_stock"
    CHANNEL_SUSPENDED = "channel_suspended"
    UNKNOWN_SKU = "unknown_sku"
    PREORDER_CAP_REACHED = "preorder_cap_reached"
    # refused events
    CONFLICT = "conflict"
    ALREADY_FINAL = "already_final"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_POLICY = "unknown_policy"
    TOO_MANY_EVENTS = "too_many_events"
    NOT_IN_ORDER = "not_in_order"
    MORE_THAN_SHIPPED = "more_than_shipped"
    MORE_THAN_DAMAGED = "more_than_damaged"
    COUNT_TOO_OLD = "count_too_old"
    TOO_OLD = "too_old"
    OCCURRED_IN_FUTURE = "occurred_in_future"
    SWEEP_PENDING = "sweep_pending"
    TOO_LARGE = "too_large"
    WRITTEN_WHOLE = "written_whole"
    TOO_MANY_CHANNELS = "too_many_channels"
    APPLYING = "applying"
    MORE_THAN_OPEN = "more_than_open"
    VOIDED = "voided"
    UNKNOWN_MOVEMENT = "unknown_movement"
    NOT_VOIDABLE = "not_voidable"
    ALREADY_VOIDED = "already_voided"
    CHANGED = "changed"
    EXPECTED = "expected"
    AMENDED = "amended"
    WITHDRAWN = "withdrawn"
    EXPECTED_SUPERSEDED = "expected_superseded"
    TOO_MANY_EXPECTED = "too_many_expected"
    RELEASED = "released"
    MORE_THAN_AVAILABLE = "more_than_available"
    MORE_THAN_RESERVED = "more_than_reserved"
    POOL_ENDED = "pool_ended"
    # The last for which a result in a payload has room (lua/includes/payload.lua, packed_results).
    TOO_MANY_HELD = "too_many_held"


REFUSALS_OF_LINES = frozenset(
    {
        Outcome.INSUFFICIENT_STOCK,
        Outcome.CHANNEL_SUSPENDED,
        Outcome.UNKNOWN_SKU,
        Outcome.PREORDER_CAP_REACHED,
        Outcome.TOO_MANY_HELD,
    }
)
REFUSALS = REFUSALS_OF_LINES | {
    Outcome.CONFLICT,
    Outcome.ALREADY_FINAL,
    Outcome.UNKNOWN_ORDER,
    Outcome.UNKNOWN_POLICY,
    Outcome.TOO_MANY_EVENTS,
    Outcome.NOT_IN_ORDER,
    Outcome.MORE_THAN_SHIPPED,
    Outcome.MORE_THAN_DAMAGED,
    Outcome.MORE_THAN_OPEN,
    Outcome.UNKNOWN_MOVEMENT,
    Outcome.NOT_VOIDABLE,
    Outcome.ALREADY_VOIDED,
    Outcome.COUNT_TOO_OLD,
    Outcome.TOO_OLD,
    Outcome.OCCURRED_IN_FUTURE,
    Outcome.SWEEP_PENDING,
    Outcome.TOO_LARGE,
    Outcome.TOO_MANY_CHANNELS,
    Outcome.TOO_MANY_EXPECTED,
    Outcome.MORE_THAN_AVAILABLE,
    Outcome.MORE_THAN_RESERVED,
    Outcome.POOL_ENDED,
}
