"""The one table of error codes: what each means and what to do about it.

In: nothing. Out: rows by code, from which problem documents, the OpenAPI document, the pages of `/problems/{code}` and
`docs/errors.md` are made. A code is stable; its sentences may change.
"""

from __future__ import annotations

from collections.abc import Mapping

from stocktide.api.errors.ledger_codes import MOVEMENT_CODES, ORDER_CODES
from stocktide.api.errors.row import FIX, SAME_AGAIN, ErrorCode
from stocktide.tables.ledger.outcomes import Outcome

REQUEST_CODES = (
    ErrorCode("bad_request", (400,), "The request cannot be read.", FIX),
    ErrorCode("malformed_request", (400,), "The bytes are no HTTP request.", "Use an HTTP client, and HTTP/1.1."),
    ErrorCode(
        "malformed_path",
        (400,),
        "The path or the query has an escape that is not whole, or that is not UTF-8.",
        "Write each byte of a name's UTF-8 that is not a plain letter or digit as `%XX`, and `%` itself as `%25`.",
    ),
    ErrorCode(
        "malformed_body",
        (400,),
        "The body is not what its headers say.",
        "Check `Content-Encoding` and `Content-Length`. In a dead letter: compare the body with the mapping.",
    ),
    ErrorCode("malformed_json", (400,), "The body is no JSON document in UTF-8.", FIX),
    ErrorCode("not_found", (404,), "There is nothing at this path.", "Compare the path with `/openapi.json`."),
    ErrorCode(
        "method_not_allowed", (405,), "This path does not take that method.", "Use one of the methods in `Allow`."
    ),
    ErrorCode(
        "request_timeout",
        (408,),
        "The header or the body of the request did not arrive in time.",
        "Send it again, without pauses.",
    ),
    ErrorCode("length_required", (411,), "The request has to say how long it is.", "Send `Content-Length`."),
    ErrorCode(
        "too_many_lines",
        (413,),
        "The call has more lines than one call may have.",
        "Divide it into several calls.",
    ),
    ErrorCode("uri_too_long", (414,), "The path or the query is too long.", "Ask for fewer names in one call."),
    ErrorCode(
        "unsupported_media_type",
        (415,),
        "The body's `Content-Type` or `Content-Encoding` is not taken here.",
        "Send JSON as `application/json`, NDJSON as `application/x-ndjson`, as it is or packed by gzip or deflate.",
    ),
    ErrorCode("expectation_failed", (417,), "The header `Expect` asks for what is not offered.", "Leave it out."),
    ErrorCode("invalid_field", (422,), "A field or a parameter has a value that it may not have.", FIX),
    ErrorCode("missing_field", (422,), "A required field is missing.", FIX),
    ErrorCode("unknown_type", (422,), "The `type` of the event is not known.", FIX),
    ErrorCode(
        "too_many_subscriptions",
        (422,),
        "The feed would have more SKUs and prefixes than one may have.",
        "Subscribe to fewer, to a prefix, or to the whole channel.",
    ),
    ErrorCode(
        "upgrade_required", (426,), "This path is a WebSocket.", "Open it as a WebSocket, or use `/feed` beside it."
    ),
    ErrorCode("headers_too_large", (431,), "A header is too long.", "Send a shorter one."),
    ErrorCode(
        "internal_error",
        (500,),
        "This is a fault of Stocktide.",
        "Report it with the lines of the API's log. A state that was promised is kept.",
    ),
)
ACCESS_CODES = (
    ErrorCode(
        "key_in_url",
        (400,),
        "A key is in the URL, which is logged on its way.",
        "Send it as `Authorization: Bearer stk_…`; for a feed of a browser, use a ticket. Replace the key.",
    ),
    ErrorCode(
        "unauthorized",
        (401,),
        "There is no key or ticket, or it is not valid any more.",
        "Send a valid key as `Authorization: Bearer stk_…`; a ticket is used once, within 30 s.",
    ),
    ErrorCode(
        "bad_signature",
        (401,),
        "The signature of the webhook is missing or wrong.",
        "Compare the secret of the mapping with that of the platform.",
    ),
    ErrorCode(
        "forbidden",
        (403,),
        "The key has not the right to do this, or is for another channel or other warehouses.",
        "Use a key with the right, or ask an operator for one.",
    ),
    ErrorCode(
        "unknown_channel",
        (404,),
        "There is no channel of this name, or it is not that of the key.",
        "Check the name, or use a key of that channel.",
    ),
    ErrorCode(
        "foreign_origin",
        (403,),
        "The page that makes the call is of an origin that is not listed.",
        "List it in `STOCKTIDE_ORIGINS`.",
    ),
    ErrorCode(
        "same_actor",
        (403,),
        "Whoever asked for it does not approve it.",
        "A second person approves it, with a key of their own.",
    ),
    ErrorCode(
        "too_many_requests",
        (429,),
        "The key, or an address without a valid key, makes more requests, or asks for more tickets, than it may.",
        "Wait for `Retry-After` seconds, and send fewer.",
    ),
)
OUTAGE_CODES = (
    ErrorCode("unsettled", (503,), "It was not settled in time; it may be applied, or not.", SAME_AGAIN),
    ErrorCode("overloaded", (503,), "More is asked than can be answered in time.", SAME_AGAIN),
    ErrorCode("unavailable", (503,), "The ledger or Kafka cannot answer now.", SAME_AGAIN),
    ErrorCode("busy", (503,), "As many calls as may read a log at the same time do so.", SAME_AGAIN),
    ErrorCode("too_many_connections", (503,), "As many connections are open as may be.", "Connect again in a moment."),
    ErrorCode("too_many_subscribers", (503,), "As many feeds are open as may be.", "Connect again, or add a process."),
    ErrorCode(
        Outcome.SWEEP_PENDING, (503,), "An earlier change of policy is still being published; try again.", SAME_AGAIN
    ),
)
INTEGRATION_CODES = (
    ErrorCode(
        "unknown_intake",
        (404,),
        "There is no mapping of this name that has a secret.",
        "Set `STOCKTIDE_INTAKE_<NAME>_SECRET`, and check the path.",
    ),
    ErrorCode(
        "unknown_report",
        (404,),
        "Nothing is known of this channel on this day.",
        "`GET /v1/reports` lists the days and channels that have reports.",
    ),
    ErrorCode("unknown_webhook", (404,), "There is no webhook of this name.", "Define it by `PUT` first."),
    ErrorCode(
        "unknown_dead_letter",
        (404,),
        "There is no dead letter at this place, or it is older than those that are listed.",
        "Take the place from the list; `stocktide dead-letters show` reaches older ones.",
    ),
    ErrorCode(
        "dead_letter_closed", (409,), "Somebody has sent it again or dropped it.", "Look at `state`, `by`, `done_at`."
    ),
    ErrorCode(
        "not_retriable",
        (409,),
        "The event must not be sent again: it could count twice, would be refused again, or is not kept whole.",
        "Read the detail; send a corrected event under an id of its own.",
    ),
    ErrorCode("too_many_webhooks", (409,), "As many webhooks are defined as there may be.", "Remove one first."),
    ErrorCode(
        "url_not_allowed",
        (422,),
        "This URL can never be called: its scheme or its address is not allowed.",
        "Use a public `https` address, or list the block in `STOCKTIDE_WEBHOOK_ALLOW`.",
    ),
    ErrorCode(
        "unknown_mapping", (), "A stored webhook names a mapping that the worker has not.", "Add the mapping's file."
    ),
    ErrorCode(
        "unknown_word",
        (),
        "The platform sent a word that the mapping does not know.",
        "Add it to the mapping, and send the dead letter again.",
    ),
    ErrorCode(
        "fetch_failed",
        (),
        "The platform did not give the order that its webhook names.",
        "Check the token, and send the dead letter again.",
    ),
    ErrorCode("undecidable", (), "The ledger fails on this event: a fault of Stocktide.", "Report it with the event."),
    ErrorCode(
        "row_refused",
        (),
        "Kafka refuses a row that was derived.",
        "Compare the topic's `max.message.bytes` with `topics`.",
    ),
    ErrorCode(
        "unreadable_batch", (), "A record of the journal cannot be read.", "Run `stocktide audit`, and report it."
    ),
)
FEED_CODES = (
    ErrorCode(
        "bad_message", (), "A message of the client is not one of the documented ones.", "Correct it, then connect."
    ),
    ErrorCode("key_not_valid", (), "The key of the feed has expired or was revoked.", "Connect with a valid key."),
    ErrorCode(
        "too_slow",
        (),
        "The client read nothing, or answered no ping, for too long.",
        "Connect again with the last id; read faster, or select fewer SKUs.",
    ),
    ErrorCode(
        "stream_recreated", (), "The log of the feed was made anew.", "Connect again; the feed begins with `reset`."
    ),
    ErrorCode(
        "too_many_messages", (), "The client sends messages faster than they are taken.", "Send fewer, with more names."
    ),
    ErrorCode("shutting_down", (), "The process stops.", "Connect again with the last id."),
    ErrorCode(
        "not_first_message",
        (),
        "Only a client's first message resumes a feed.",
        "Send `last_event_id` in the first message, or in the query.",
    ),
    ErrorCode("not_subscribed", (), "What is to be unsubscribed was not subscribed just so.", FIX),
)
# By subject, for the reader of the list.
SUBJECTS: Mapping[str, tuple[ErrorCode, ...]] = {
    "Requests": REQUEST_CODES,
    "Access": ACCESS_CODES,
    "Outages and limits": OUTAGE_CODES,
    "Orders and policies": ORDER_CODES,
    "Movements": MOVEMENT_CODES,
    "Webhooks, mappings and dead letters": INTEGRATION_CODES,
    "Feeds": FEED_CODES,
}
CODES: Mapping[str, ErrorCode] = {str(row.code): row for rows in SUBJECTS.values() for row in rows}
