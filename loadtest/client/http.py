"""The contract over HTTP: orders, events, movements, policies, and reads of stock and channels.

In: the address of one or more APIs. Out: `ApiResponse`s, and typed values for reads. Begin with `StocktideClient`:

    async with StocktideClient("http://127.0.0.1:8080") as client:
        outcome = await client.place_order({"order_id": "o-1", "channel": "tmall", "lines": [...]})
        stock = await client.stock("85123A")
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Mapping, Sequence
from itertools import cycle
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
import orjson

from stocktide.errors import StocktideError
from stocktide.loadtest.client.contract import ChannelUpdateView, MovementView, OrderView, StockView
from stocktide.loadtest.client.events import Event
from stocktide.loadtest.client.key import KEY_VARIABLE, key_headers

JSON = "application/json"
NDJSON = "application/x-ndjson"
REQUESTS_MAX = 64
# Per socket operation: the wait for a free connection does not count.
DEFAULT_TIMEOUT = aiohttp.ClientTimeout(sock_connect=15.0, sock_read=15.0)
# A restart of the API or a takeover by another worker takes seconds; a longer gap is an outage.
OUTAGE_SECONDS_MAX = 120.0
RETRY_SECONDS = 0.25
# A longer Retry-After is shortened to this, so that the end of an outage is noticed soon.
RETRY_AFTER_SECONDS_MAX = 2.0
# Characters of a body that an error message quotes.
SUMMARY_LENGTH_MAX = 200
PAGE_ITEMS_MAX = 500

_HEADERS = {kind: {"Content-Type": kind} for kind in (JSON, NDJSON)}
_ORDER_ACTIONS = {
    "order.paid": "pay",
    "order.cancelled": "cancel",
    "order.changed": "change",
    "order.extended": "extend",
}
# Without the header the actor is the default, and not that of the request, which came by Kafka.
_APPROVAL_ACTIONS = {"order.approved": "approve", "order.unapproved": "reject"}
_OPERATOR_ACTIONS = {"order.held_back": "hold_back", "order.assigned": "assign"}
_T = TypeVar("_T")


class ApiError(StocktideError):
    """The API cannot be reached, or its response breaks the contract; the message says where and what."""


class NoApiResponse(ApiError):
    """One attempt got no response. `reason` is `timeout` or the name of the error's class; the cause has the rest."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ApiResponse(NamedTuple):
    """A response, read whole."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later: 429 or a 5xx."""
        return self.status >= 500 or self.status == 429

    def retry_seconds(self) -> float:
        """The pause before a retry: `Retry-After`, bounded; `RETRY_SECONDS` without that header."""
        given = self.headers.get("Retry-After", "")
        return min(float(given), RETRY_AFTER_SECONDS_MAX) if given.isdecimal() else RETRY_SECONDS

    def summary(self) -> str:
        """Status and the beginning of the body, for a message."""
        return f"{self.status} {self.body[:SUMMARY_LENGTH_MAX].decode(errors='replace')}"


class OrderOutcome(NamedTuple):
    """How an order command was decided: the order where it was applied, else the problem's `code`."""

    status: int
    order: OrderView | None
    code: str | None


class ChannelStockPage(msgspec.Struct, frozen=True):
    """A page of a channel's stock; `next` is the cursor of the following page, None at the last."""

    items: tuple[ChannelUpdateView, ...]
    next: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    code: str


class _PolicyLevels(msgspec.Struct, frozen=True):
    own: dict[str, Any] | None = None


_KEY_REFUSED = (401, 403)


def _refused(method: str, path: str, response: ApiResponse) -> ApiError:
    hint = f"; {KEY_VARIABLE} has to be a key of an operator" if response.status in _KEY_REFUSED else ""
    return ApiError(f"{method} {path} was answered {response.summary()}{hint}")


class StocktideClient:
    """A pool of at most `requests_max` connections; further calls wait for a free one.

    `key` is sent with each call, by default that of `STOCKTIDE_KEY`. With several addresses in `api`, each attempt uses
    the next of them, so a retry reaches another API.
    """

    def __init__(
        self,
        api: str | Sequence[str],
        requests_max: int = REQUESTS_MAX,
        timeout: aiohttp.ClientTimeout = DEFAULT_TIMEOUT,
        key: str | None = None,
    ) -> None:
        apis = [api] if isinstance(api, str) else api
        self._apis = cycle([address.rstrip("/") for address in apis])
        self._requests_max = requests_max
        self._headers = key_headers(key)
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._requests_max)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, method: str, path: str, body: bytes | None = None, content: str = JSON) -> ApiResponse:
        """One attempt, whatever its status. Raises NoApiResponse."""
        assert self._session is not None
        api = next(self._apis)
        try:
            async with self._session.request(method, api + path, data=body, headers=_HEADERS[content]) as response:
                return ApiResponse(response.status, await response.read(), response.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = error_reason(error)
            raise NoApiResponse(reason, f"{api}{path}: {str(error) or reason}") from error

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content: str = JSON,
        expected: Container[int] | None = None,
    ) -> ApiResponse:
        """Retry until a response is neither 429 nor a 5xx, for a bounded time. Only for requests that may be repeated.

        Raises ApiError where that time is over, or where the status is not one of `expected`.
        """
        clock = asyncio.get_running_loop().time
        failure, deadline = "", clock() + OUTAGE_SECONDS_MAX
        while clock() < deadline:
            pause_seconds = RETRY_SECONDS
            try:
                response = await self.send(method, path, body, content)
                if not response.is_retryable:
                    if expected is not None and response.status not in expected:
                        raise _refused(method, path, response)
                    return response
                failure, pause_seconds = response.summary(), response.retry_seconds()
            except NoApiResponse as error:
                failure = str(error)
            await asyncio.sleep(pause_seconds)
        raise ApiError(f"{method} {path}: no answer for {OUTAGE_SECONDS_MAX:.0f} s: {failure}")

    async def check_reachable(self) -> None:
        """Raise ApiError unless the API answers now, and lets this key read."""
        path = "/v1/channels"
        try:
            response = await self.send("GET", path)
        except NoApiResponse as error:
            raise ApiError(f"no API answers at {next(self._apis)}") from error
        if response.status in _KEY_REFUSED:
            raise _refused("GET", path, response)

    # Orders

    async def place_order(self, order: Event) -> OrderOutcome:
        """Place an order; a repeat with the same content gives the same order."""
        return await self._submit_order("order.placed", order)

    async def pay_order(self, order_id: str) -> OrderOutcome:
        """Pay an order."""
        return await self._submit_order("order.paid", {"order_id": order_id})

    async def order(self, order_id: str) -> OrderView | None:
        """An order; None where it is unknown."""
        return await self._read(_path("orders", order_id), OrderView)

    # Events and movements

    async def send_event(self, event: Event) -> None:
        """Store a movement, a shipment or a return, with its `type` and `id`."""
        await self.call(*request_of(event["type"], event), expected=(202,))

    async def movement(self, warehouse: str, movement_id: str) -> MovementView | None:
        """The effect of a movement; None while it is unknown."""
        return await self._read(_path("warehouses", warehouse, "movements", movement_id), MovementView)

    # Stock, channels and policies

    async def stock(self, sku: str) -> StockView | None:
        """The stock of a SKU; None where it is unknown."""
        return await self._read(_path("stock", sku), StockView)

    async def channel_stock(self, channel: str, cursor: str = "", limit: int = PAGE_ITEMS_MAX) -> ChannelStockPage:
        """A page of a channel's stock, from `cursor` on; empty where the channel is unknown."""
        query = f"?limit={limit}" + (f"&cursor={quote(cursor, safe='')}" if cursor else "")
        return await self._read(_path("channels", channel, "stock") + query, ChannelStockPage) or ChannelStockPage(())

    async def policy(self, channel: str, sku: str | None = None) -> dict[str, Any] | None:
        """The policy of exactly this channel or SKU in it; None where none is set."""
        levels = await self._read(_policy_path(channel, sku), _PolicyLevels)
        return levels.own if levels is not None else None

    async def _submit_order(self, kind: str, event: Event) -> OrderOutcome:
        method, path, body, content = request_of(kind, event)
        response = await self.call(method, path, body, content, expected=(200, 201, 404, 409))
        where = f"{method} {path}"
        if response.status < 300:
            return OrderOutcome(response.status, _decode(response.body, OrderView, where), None)
        return OrderOutcome(response.status, None, _decode(response.body, _Problem, where).code)

    async def _read(self, path: str, kind: type[_T]) -> _T | None:
        response = await self.call("GET", path, expected=(200, 404))
        return _decode(response.body, kind, f"GET {path}") if response.status == 200 else None


def request_of(kind: str, event: Event) -> tuple[str, str, bytes, str]:
    """Method, path, body and content type that submit an event of type `kind`, or `policy.put`/`policy.delete`."""
    if kind == "order.placed":
        return "POST", "/v1/orders", orjson.dumps(event), JSON
    if kind in _APPROVAL_ACTIONS:
        body = {"reason": event["reason"]} if "reason" in event else {}
        return "POST", _path("approvals", event["order_id"], _APPROVAL_ACTIONS[kind]), orjson.dumps(body), JSON
    for objects, actions in (("orders", _ORDER_ACTIONS), ("preorders", _OPERATOR_ACTIONS)):
        if (action := actions.get(kind)) is not None:
            body = {name: value for name, value in event.items() if name not in ("order_id", "occurred_at")}
            return "POST", _path(objects, event["order_id"], action), orjson.dumps(body), JSON
    if kind == "policy.put":
        return "PUT", _policy_path(event["channel"], event["sku"]), orjson.dumps(event["policy"]), JSON
    if kind == "policy.delete":
        return "DELETE", _policy_path(event["channel"], event["sku"]), b"", JSON
    line = orjson.dumps({"type": kind, **event})
    if kind.startswith("stock."):
        return "POST", "/v1/movements", line, JSON
    return "POST", "/v1/events", line + b"\n", NDJSON


def error_reason(error: BaseException) -> str:
    """An error as one of few reasons: `timeout` or its class; its text would name ports and times."""
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def _path(*segments: str) -> str:
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def _policy_path(channel: str, sku: str | None) -> str:
    return _path("policies", channel, sku) if sku else _path("policies", channel)


def _decode(body: bytes, kind: type[_T], where: str) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ApiError(f"{where} is not what the contract says: {error}") from error
