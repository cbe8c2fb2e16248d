"""The contract over HTTP, for asyncio: orders, movements, stock, channels, policies, alerts, and feeds.

In: the address of one or more APIs. Out: typed answers. A refusal that a caller has to expect is a value: a rejected
order is an `OrderOutcome` with its problem, and what does not exist is None. All else raises `ApiError`.

    async with Client("http://127.0.0.1:8080") as client:
        outcome = await client.place_order({"order_id": "o-1", "channel": "own", "lines": [...]})
        stock = await client.stock("85123A")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

import msgspec

from .documents import Alert, Approval, ChannelUpdate, Movement, Order, PolicyLevel, Stock
from .feed import Feed, FeedTransport
from .http import JSON, NDJSON, ApiResponse, HttpClient, decode, path_of, refused

# What the API has at most on one page of a channel.
PAGE_ITEMS_MAX = 500

_T = TypeVar("_T")
# An order, an event or a policy, as the contract has it.
Fields = Mapping[str, Any]


class OrderOutcome(NamedTuple):
    """How a call on an order was decided: the order where it was applied, else the problem.

    `approval` instead of both: a forced order that waits for a second person.
    """

    status: int
    order: Order | None
    problem: dict[str, Any] | None = None
    approval: Approval | None = None

    @property
    def code(self) -> str | None:
        """The problem's code, as `insufficient_stock`; None where there is none."""
        return None if self.problem is None else str(self.problem.get("code", ""))


class Page(msgspec.Struct, Generic[_T], frozen=True):
    """A page of a list; `next` is the cursor of the following page, None at the last."""

    items: tuple[_T, ...]
    next: str | None = None


class Client(HttpClient):
    """An API, or several with the same system behind them. Open it by `async with`."""

    # Orders

    async def place_order(self, order: Fields) -> OrderOutcome:
        """Hold the units of an order; its `order_id` makes a repeat the same order."""
        return await self._submit_order("/v1/orders", order)

    async def pay_order(self, order_id: str, id: str | None = None) -> OrderOutcome:
        """Turn the hold into a commitment. `id` is that of the payment, by default one for all attempts of this call;
        so it is for the other changes."""
        return await self._change_order(order_id, "pay", id)

    async def cancel_order(
        self, order_id: str, lines: Sequence[Fields] | None = None, id: str | None = None
    ) -> OrderOutcome:
        """Give back what is held, or paid and not shipped: all of it, or these `lines` (`sku`, `quantity`)."""
        return await self._change_order(order_id, "cancel", id, lines=lines)

    async def extend_order(self, order_id: str, hold_seconds: int | None = None, id: str | None = None) -> OrderOutcome:
        """Let the hold last longer."""
        return await self._change_order(order_id, "extend", id, hold_seconds=hold_seconds)

    async def change_order(
        self, order_id: str, remove: Sequence[Fields] = (), add: Sequence[Fields] = (), id: str | None = None
    ) -> OrderOutcome:
        """Exchange units: some go back, others are added, all in one step or none."""
        return await self._change_order(order_id, "change", id, remove=remove, add=add)

    async def order(self, order_id: str) -> Order | None:
        """An order; None where it is unknown."""
        return await self.read(path_of("orders", order_id), Order)

    def orders(
        self, channel: str | None = None, state: Sequence[str] = (), sku: str | None = None
    ) -> AsyncIterator[Order]:
        """All orders that match."""
        return self._items(Page[Order], "orders", channel=channel, state=state, sku=sku)

    # Events and movements

    async def send_event(self, event: Fields) -> None:
        """Store a movement, a shipment or a return, with its `type` and `id`; a repeat of the `id` counts once."""
        body = msgspec.json.encode(event)
        if event["type"].startswith("stock."):
            await self.call("POST", "/v1/movements", body, JSON, expected=(202,))
            return
        await self._send_line(body + b"\n")

    async def movement(self, warehouse: str, movement_id: str) -> Movement | None:
        """The effect of a movement; None while it is unknown."""
        return await self.read(path_of("warehouses", warehouse, "movements", movement_id), Movement)

    # Stock and channels

    async def stock(self, sku: str) -> Stock | None:
        """The stock of a SKU; None where it is unknown."""
        return await self.read(path_of("stock", sku), Stock)

    def stocks(self, prefix: str | None = None, below: int | None = None) -> AsyncIterator[Stock]:
        """SKUs by name: all, those with a prefix, or those of which less than `below` is available."""
        return self._items(Page[Stock], "stock", prefix=prefix, below=below)

    async def channels(self) -> tuple[str, ...]:
        """The known channels."""
        found = await self.read(path_of("channels"), Page[str])
        return found.items if found is not None else ()

    def channel_stock(self, channel: str) -> AsyncIterator[ChannelUpdate]:
        """All that a channel may sell, by SKU; nothing where the channel is unknown."""
        return self._items(Page[ChannelUpdate], "channels", channel, "stock", limit=PAGE_ITEMS_MAX)

    async def channel_stock_page(
        self, channel: str, cursor: str = "", limit: int = PAGE_ITEMS_MAX
    ) -> Page[ChannelUpdate]:
        """A page of the same, from `cursor` on."""
        path = path_of("channels", channel, "stock", limit=limit, cursor=cursor)
        return await self.read(path, Page[ChannelUpdate]) or Page(())

    # Policies

    async def policy(self, channel: str, sku: str | None = None) -> PolicyLevel:
        """The policy of a channel, or of one SKU in it."""
        path = policy_path(channel, sku)
        response = await self.call("GET", path, expected=(200,))
        level = decode(response.body, PolicyLevel, f"GET {path}")
        return msgspec.structs.replace(level, etag=response.headers.get("ETag"))

    async def put_policy(self, channel: str, sku: str | None, policy: Fields, etag: str | None = None) -> PolicyLevel:
        """Replace a policy whole; `sku` None: that of the channel.

        With the `etag` with which it was read only if it is still that one; else ApiError `policy_changed`.
        """
        path, body = policy_path(channel, sku), msgspec.json.encode(policy)
        response = await self._change_policy("PUT", path, body, etag, (200,))
        level = decode(response.body, PolicyLevel, f"PUT {path}")
        return msgspec.structs.replace(level, etag=response.headers.get("ETag"))

    async def delete_policy(self, channel: str, sku: str | None = None, etag: str | None = None) -> None:
        """Remove a policy; it is no error where there is none. `etag` as in `put_policy`."""
        await self._change_policy("DELETE", policy_path(channel, sku), None, etag, (204, 404))

    # Alerts and feeds

    def alerts(
        self, types: Sequence[str] = (), sku: str | None = None, channel: str | None = None, since: str | None = None
    ) -> AsyncIterator[Alert]:
        """Alerts, newest first."""
        return self._items(Page[Alert], "alerts", type=types, sku=sku, channel=channel, since=since)

    def feed(
        self,
        channel: str,
        skus: Iterable[str] = (),
        prefixes: Iterable[str] = (),
        last_event_id: str | None = None,
        transport: FeedTransport = "sse",
    ) -> Feed[ChannelUpdate]:
        """What a channel may sell, now and from now on; without `skus` and `prefixes` of all its SKUs."""
        query = {"sku": tuple(skus), "prefix": tuple(prefixes)}
        path = path_of("channels", channel)
        return Feed(self, path, ChannelUpdate, query, last_event_id, transport)

    def order_feed(self, channel: str, last_event_id: str | None = None) -> Feed[Order]:
        """Each change of a channel's orders from now on, or from `last_event_id` on; one may come twice."""
        return Feed(self, path_of("channels", channel, "orders"), Order, {}, last_event_id)

    # One attempt or many

    async def _change_order(self, order_id: str, action: str, id: str | None, **fields: Any) -> OrderOutcome:
        # One id for all attempts: the change counts once.
        body = {"id": id or uuid4().hex, **{name: value for name, value in fields.items() if value is not None}}
        return await self._submit_order(path_of("orders", order_id, action), body)

    async def _submit_order(self, path: str, fields: Fields) -> OrderOutcome:
        response = await self.call("POST", path, msgspec.json.encode(fields), expected=(200, 201, 202, 404, 409))
        if response.status >= 400:
            return OrderOutcome(response.status, None, response.problem())
        where = f"POST {path}"
        if fields.get("force") and "requested_by" in decode(response.body, dict[str, Any], where):
            return OrderOutcome(response.status, None, approval=decode(response.body, Approval, where))
        return OrderOutcome(response.status, decode(response.body, Order, where))

    async def _send_line(self, line: bytes) -> None:
        response = await self.call("POST", "/v1/events", line, NDJSON, expected=(202,))
        for rejected in response.problem().get("rejected", ()):
            raise refused("POST", "/v1/events", response._replace(status=422, body=msgspec.json.encode(rejected)))

    async def _change_policy(
        self, method: str, path: str, body: bytes | None, etag: str | None, expected: tuple[int, ...]
    ) -> ApiResponse:
        if etag is None:
            return await self.call(method, path, body, expected=expected)
        # Once only: a second attempt would find that the first has changed it.
        response = await self.send(method, path, body, headers={"If-Match": etag})
        if response.status not in expected:
            raise refused(method, path, response)
        return response

    async def _items(self, kind: type[Page[_T]], *segments: str, **query: Any) -> AsyncIterator[_T]:
        cursor: str | None = ""
        while cursor is not None:
            page = await self.read(path_of(*segments, **query, cursor=cursor), kind)
            cursor = page.next if page is not None else None
            for item in page.items if page is not None else ():
                yield item


def policy_path(channel: str, sku: str | None) -> str:
    """The path of a policy."""
    return path_of("policies", channel, sku) if sku else path_of("policies", channel)
