"""The codes of what the ledger refuses, and of what it does not know."""

from __future__ import annotations

from stocktide.api.errors.row import LOOK, ErrorCode
from stocktide.tables.ledger.outcomes import Outcome

ORDER_CODES = (
    ErrorCode(
        Outcome.INSUFFICIENT_STOCK,
        (409,),
        "There is not enough stock for this order.",
        "Offer less, or order again later with a new `order_id`: this refusal stands.",
    ),
    ErrorCode(
        Outcome.CHANNEL_SUSPENDED,
        (409,),
        "The channel does not sell this SKU at the moment.",
        "Wait until its feed says that it sells again, then order with a new `order_id`.",
    ),
    ErrorCode(
        Outcome.UNKNOWN_SKU,
        (404, 409),
        "No warehouse, announcement or policy has ever named this SKU.",
        "Check the name. A movement, an announcement or a policy of the SKU makes it known.",
    ),
    ErrorCode(
        Outcome.PREORDER_CAP_REACHED,
        (409,),
        "The order asks for more than may still be preordered.",
        "Offer less, or raise `preorder_cap` in the policy.",
    ),
    ErrorCode(
        Outcome.TOO_MANY_HELD,
        (409,),
        "The channel or the buyer would hold more unpaid units than the channel's policy allows.",
        "Pay or cancel held orders first.",
    ),
    ErrorCode(
        Outcome.CONFLICT,
        (409,),
        "This id was used before, for something else.",
        "Use a new id for what is new; a repeat has the same body.",
    ),
    ErrorCode(Outcome.ALREADY_FINAL, (409,), "The order can no longer be changed in this way.", LOOK),
    ErrorCode(
        Outcome.UNKNOWN_ORDER,
        (404,),
        "There is no order of this id.",
        "Check the id. Over Kafka an event waits for its order; over HTTP, place it first.",
    ),
    ErrorCode(
        Outcome.TOO_MANY_EVENTS,
        (409,),
        "The order has been extended as often as it can be, or too many events wait for it.",
        "Pay or cancel it.",
    ),
    ErrorCode(Outcome.NOT_IN_ORDER, (409,), "The order has no line of this SKU.", LOOK),
    ErrorCode(Outcome.MORE_THAN_OPEN, (409,), "More than is still to be shipped.", LOOK),
    ErrorCode(Outcome.MORE_THAN_SHIPPED, (409,), "More comes back than was shipped.", LOOK),
    ErrorCode(
        Outcome.TOO_LARGE,
        (413,),
        "It is larger than a body, a batch or a record may be.",
        "Divide it, or use fewer or shorter names.",
    ),
    ErrorCode(
        Outcome.TOO_MANY_CHANNELS,
        (409,),
        "As many channels are known as there may be.",
        "Use one of the known channels.",
    ),
    ErrorCode(
        "policy_changed",
        (412, 409),
        "The policy is not the one that was read: somebody changed it since.",
        "Read it, and decide anew.",
    ),
    ErrorCode(
        "approval_required",
        (403,),
        "The change would move the modes of more SKUs than one person may.",
        "Ask for it by `POST …/request`: a second person approves it.",
    ),
    ErrorCode(
        "unknown_version",
        (404,),
        "The history of the policy has no such version.",
        "Read `/v1/policy_history/…`: it goes back 30 days.",
    ),
    ErrorCode(
        "too_many_waiting",
        (409,),
        "As many requests for policies wait as may.",
        "Approve or reject some of them.",
    ),
    ErrorCode("unknown_approval", (404,), "No request of this id needs an approval.", "Check the id."),
    ErrorCode(
        Outcome.UNKNOWN_POLICY, (404,), "There is no policy at this level.", "Nothing is to be done: it is removed."
    ),
)
MOVEMENT_CODES = (
    ErrorCode(
        Outcome.OCCURRED_IN_FUTURE,
        (422,),
        "It is further ahead of this system's clock than is allowed.",
        "Set the sender's clock, and send the time at which it happened.",
    ),
    ErrorCode(
        Outcome.UNKNOWN_MOVEMENT,
        (404, 409),
        "The warehouse has sent no movement of this id yet.",
        "Ask again in a moment, or check warehouse and id.",
    ),
    ErrorCode(Outcome.MORE_THAN_DAMAGED, (409,), "More is scrapped than is damaged.", "Count the damaged units."),
    ErrorCode(
        Outcome.COUNT_TOO_OLD,
        (409,),
        "The count is as of a time that is too long ago to be carried forward.",
        "Count again, and send it within a day.",
    ),
    ErrorCode(
        Outcome.TOO_OLD,
        (409,),
        "The event is older than ids are kept: whether it was applied before is not known.",
        "Compare with the stock, and send a count if it differs.",
    ),
    ErrorCode(
        Outcome.NOT_VOIDABLE,
        (409,),
        "Only receipts, adjustments and transfers that were applied can be voided.",
        "Correct the stock by an adjustment or a count.",
    ),
    ErrorCode(Outcome.ALREADY_VOIDED, (409,), "The movement has been voided before.", "Nothing is to be done."),
    ErrorCode(
        Outcome.TOO_MANY_EXPECTED,
        (409,),
        "As many receipts of this SKU are announced as there may be.",
        "Withdraw some, or announce them together.",
    ),
    ErrorCode(
        Outcome.MORE_THAN_AVAILABLE,
        (409,),
        "More is to be set aside than is available in this warehouse.",
        "Set fewer units aside.",
    ),
    ErrorCode(
        Outcome.MORE_THAN_RESERVED, (409,), "More is to be released than the pool holds.", "Read `/v1/pools` first."
    ),
    ErrorCode(Outcome.POOL_ENDED, (409,), "The pool would have ended already.", "Send a later `until`, or none."),
)
