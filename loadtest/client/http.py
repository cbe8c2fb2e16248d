"""The client of a load test: that of the public (`stocktide.client`), with the patience of a test of outages.

In: the address of one or more APIs. Out: typed values, and any event of the contract as a request (`request_of`).
"""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import orjson

from stocktide.client import ApiError, Client, NoApiResponse, Retry
from stocktide.client.client import policy_path
from stocktide.client.http import (
    DEFAULT_TIMEOUT,
    JSON,
    KEY_REFUSED,
    NDJSON,
    REQUESTS_MAX,
    path_of,
    refused,
)
from stocktide.loadtest.client.events import Event

# A restart of the API or a takeover by another worker takes seconds; a longer gap is an outage. The pauses are short,
# so that the end of one is noticed soon.
OUTAGE = Retry(seconds_max=120.0, pause_seconds=0.25, pause_seconds_max=0.25, retry_after_seconds_max=2.0)

_ORDER_ACTIONS = {
    "order.paid": "pay",
    "order.cancelled": "cancel",
    "order.changed": "change",
    "order.extended": "extend",
}
# Without the header the actor is the default, and not that of the request, which came by Kafka.
_APPROVAL_ACTIONS = {"order.approved": "approve", "order.unapproved": "reject"}
_OPERATOR_ACTIONS = {"order.held_back": "hold_back", "order.assigned": "assign"}


class StocktideClient(Client):
    """A client that outlasts what a load test does to the API."""

    def __init__(
        self,
        api: str | Sequence[str],
        requests_max: int = REQUESTS_MAX,
        timeout: aiohttp.ClientTimeout = DEFAULT_TIMEOUT,
        key: str | None = None,
    ) -> None:
        super().__init__(api, requests_max, timeout, key, OUTAGE)

    async def check_reachable(self) -> None:
        """Raise ApiError unless the API answers now, and lets this key read."""
        path = "/v1/channels"
        try:
            response = await self.send("GET", path)
        except NoApiResponse as error:
            raise ApiError(f"no API answers at {self.apis[0]}") from error
        if response.status in KEY_REFUSED:
            raise refused("GET", path, response)


def request_of(kind: str, event: Event) -> tuple[str, str, bytes, str]:
    """Method, path, body and content type that submit an event of type `kind`, or `policy.put`/`policy.delete`."""
    if kind == "order.placed":
        return "POST", "/v1/orders", orjson.dumps(event), JSON
    if kind in _APPROVAL_ACTIONS:
        body = {"reason": event["reason"]} if "reason" in event else {}
        return "POST", path_of("approvals", event["order_id"], _APPROVAL_ACTIONS[kind]), orjson.dumps(body), JSON
    for objects, actions in (("orders", _ORDER_ACTIONS), ("preorders", _OPERATOR_ACTIONS)):
        if (action := actions.get(kind)) is not None:
            body = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
            return "POST", path_of(objects, event["order_id"], action), orjson.dumps(body), JSON
    if kind == "policy.put":
        return "PUT", policy_path(event["channel"], event["sku"]), orjson.dumps(event["policy"]), JSON
    if kind == "policy.delete":
        return "DELETE", policy_path(event["channel"], event["sku"]), b"", JSON
    line = orjson.dumps({"type": kind, **event})
    if kind.startswith("stock."):
        return "POST", "/v1/movements", line, JSON
    return "POST", "/v1/events", line + b"\n", NDJSON
