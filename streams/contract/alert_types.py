"""The types of alerts, the rows of the topic `alerts`."""

from __future__ import annotations

# Those that the ledger raises; `tests/unit/test_alert_types.py` compares them with its Lua.
LEDGER_TYPES = (
    "already_counted",
    "approval_expired",
    "approval_waiting",
    "choice_due",
    "count_parts_missing",
    "damaged_negative",
    "fill_too_large",
    "low_stock",
    "on_hand_negative",
    "paid_after_expiry",
    "preorder_cap_exceeded",
    "preorders_unbacked",
    "receipt_overdue",
    "rerouted",
    "shipped_beyond_order",
    "shortfall",
    "sold_short",
    "wait_failed",
    "waiting_for_order",
)
# Those of the workers and the API.
PROCESS_TYPES = (
    "dead_letter_burst",
    "drift",
    "row_refused",
    "stall_over",
    "stalled",
    "unreadable_batch",
    "webhook_disabled",
)
ALERT_TYPES = tuple(sorted((*LEDGER_TYPES, *PROCESS_TYPES)))
