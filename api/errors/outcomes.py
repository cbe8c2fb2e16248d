"""What the outcomes mean that are no errors: of orders, lines, movements and audited actions.

In: nothing. Out: the table, for the pages and for `docs/errors.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

from stocktide.tables.ledger.outcomes import Outcome

MEANINGS: Mapping[Outcome, str] = {
    Outcome.RESERVED: "Units are held for the order; of a movement: they are set aside in a pool.",
    Outcome.PREORDERED: "The units are preordered: they wait for a receipt.",
    Outcome.PARTIAL: "Some lines are held or preordered, the others are refused with their reasons.",
    Outcome.PAID: "The order is paid: its hold is a commitment.",
    Outcome.CANCELLED: "What was held, or paid and not shipped, is given back.",
    Outcome.EXTENDED: "The hold lasts longer.",
    Outcome.SHIPPED: "Units of the order left a warehouse.",
    Outcome.RETURNED: "Units of the order came back.",
    Outcome.EXPIRED: "Holds or pools ended by their deadline.",
    Outcome.CHANGED: "Units of the order were exchanged.",
    Outcome.RECEIVED: "The units are on hand.",
    Outcome.ADJUSTED: "The stock is corrected.",
    Outcome.COUNTED: "The count is applied, carried forward from its time.",
    Outcome.COUNTED_IN_PART: "Lines of the count are applied; each other line has its reason.",
    Outcome.COUNTING: "All parts of the count have come, and it is being applied.",
    Outcome.PARTS_MISSING: "Parts of the count have not come; nothing of it is applied. Send the missing parts.",
    Outcome.TRANSFERRED: "The units are in the other warehouse.",
    Outcome.ALREADY_COUNTED: "A count that was applied since holds its effect: the stock stays. If the clocks of the"
    " sender and the counter agree, nothing is to be done.",
    Outcome.COUNT_SUPERSEDED: "A newer count was applied before: this one changes nothing.",
    Outcome.VOIDED: "The effects of the named movement are reversed.",
    Outcome.EXPECTED: "The receipt is announced.",
    Outcome.AMENDED: "The announcement has other lines or another time.",
    Outcome.WITHDRAWN: "Nothing more of the announcement is to come.",
    Outcome.EXPECTED_SUPERSEDED: "A newer event of the announcement was applied before: this one changes nothing.",
    Outcome.RELEASED: "Units of a pool are back on the shelf.",
    Outcome.APPLYING: "It has many lines and is being applied, step by step.",
    Outcome.PARKED: "It waits: an event for what it needs, a forced order for a second person.",
    Outcome.POLICY_SET: "The policy is in force.",
    Outcome.POLICY_DELETED: "The policy of the level is removed.",
    Outcome.CHANNEL_KNOWN: "The channel is known.",
    Outcome.REPAIRED: "An operator has corrected a record of the ledger.",
    Outcome.MOVED_ON: "The record changed while it was repaired: the repair is tried again.",
    Outcome.SWEPT: "SKUs were evaluated anew after a change of policy (internal).",
    Outcome.RESTATED: "Rows were published again without a change (internal).",
    Outcome.WRITTEN_WHOLE: "Records were written whole again (internal).",
    Outcome.NOTHING_DUE: "There was nothing to do (internal).",
}
