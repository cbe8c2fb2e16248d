"""What a caller may name: its own channel, its own warehouses, orders of its channel, and what its rights allow.

In: a caller, and the names in a path, a query or an event. Out: the problem or the `Malformed` that refuses them, else
None. An order of another channel is refused with the same bytes as an unknown one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator

from aiohttp import web
from msgspec import structs

from stocktide.api import problems
from stocktide.api.access.caller import (
    CHANNEL,
    FORCE,
    OPEN,
    OPERATOR,
    PRIORITY_VIP,
    PURPOSE,
    SOLD,
    WAREHOUSE,
    Caller,
    caller_of,
)
from stocktide.api.access.roles import WAREHOUSE_IN_QUERY
from stocktide.api.requests import parse_query
from stocktide.streams.contract.events import (
    ChannelEvent,
    Event,
    Malformed,
    Movement,
    OrderBody,
    OrderPlaced,
    OrderReturned,
    OrderShipped,
    StockTransferred,
)
from stocktide.streams.contract.redaction import without_warehouses
from stocktide.tables.ledger.outcomes import Outcome

# Some MB: the channel of an order never changes.
ORDERS_REMEMBERED_MAX = 50_000

ReadChannel = Callable[[str], Awaitable[str | None]]


class OrderOwners:
    """Whose an order is. `read` asks the ledger for its channel; None: it knows no such order. It is set once the
    ledger is."""

    def __init__(self, read: ReadChannel, remembered_max: int = ORDERS_REMEMBERED_MAX) -> None:
        self.read = read
        self._max = remembered_max
        self._channels: OrderedDict[str, str] = OrderedDict()

    async def is_of(self, order_id: str, channel: str | None) -> bool:
        """Whether an order is known and of this channel. For an order of another one the ledger is asked each time, as
        for an unknown one: the time of the answer tells them apart as little as its bytes."""
        if channel is not None and self._channels.get(order_id) == channel:
            return True
        found = await self.read(order_id)
        if found is None or found != channel:
            return False
        self._channels[order_id] = found
        if len(self._channels) > self._max:
            self._channels.popitem(last=False)
        return True


# Where the middleware stores the owners that this process knows.
OWNERS = web.RequestKey("owners", OrderOwners)


def forbidden(detail: str) -> web.Response:
    """403: the key has not the right."""
    return problems.problem_response(403, "forbidden", detail)


async def check_path(request: web.Request, path: str, caller: Caller, owners: OrderOwners) -> web.Response | None:
    """The problem if the names in the path, or the warehouse in the query, are not the caller's."""
    names = request.match_info
    if caller.channel is not None:
        if names.get("channel", caller.channel) != caller.channel:
            # Whether there is a channel of this name is not the caller's business.
            return problems.not_found("unknown_channel", "There is no channel of this name.")
        order_id = names.get("order_id")
        if order_id is not None and not await owners.is_of(order_id, caller.channel):
            return problems.from_outcome(Outcome.UNKNOWN_ORDER)
    if caller.warehouses is not None:
        if path in WAREHOUSE_IN_QUERY and set(parse_query(request).getall("warehouse", [""])) - set(caller.warehouses):
            return forbidden("The key is for some warehouses: name one of them as `warehouse`.")
        if "warehouse" in names and names["warehouse"] not in caller.warehouses:
            return forbidden("The key is for other warehouses.")
    return None


async def check_order(request: web.Request, body: OrderBody) -> web.Response | None:
    """The problem if the caller may not place this order."""
    caller = caller_of(request)
    if caller.role == OPERATOR:
        return None
    if (wrong := _order_error(caller, body)) is not None:
        return forbidden(wrong)
    if body.supersedes is not None and await _is_foreign(request, caller, body.supersedes):
        return problems.from_outcome(Outcome.UNKNOWN_ORDER)
    return None


def check_channel_filter(request: web.Request, channel: str | None) -> str | web.Response | None:
    """The channel of a list of orders: the caller's own where it is limited to one; or the problem."""
    own = caller_of(request).channel
    if own is None or channel is None:
        return own or channel
    return own if channel == own else forbidden("The key is for another channel.")


async def admit_event(request: web.Request, event: Event) -> Event | Malformed:
    """An event as it may be written; or the error of one that the caller may not send. What a channel's key says of an
    order carries its channel: the order may come later, and the ledger then knows whose it is."""
    if (wrong := await check_event(request, event)) is not None:
        return wrong
    caller = caller_of(request)
    if caller.channel is None or not isinstance(event, ChannelEvent):
        return event
    return structs.replace(event, channel=caller.channel)


async def check_event(request: web.Request, event: Event) -> Malformed | None:
    """The error of an event that the caller may not send."""
    caller = caller_of(request)
    if caller is OPEN:
        return None
    if isinstance(event, OrderPlaced) and event.force and event.actor != caller.holder:
        return Malformed("forbidden", f"whoever forces an order is its actor: {caller.holder}", "actor")
    if caller.role == OPERATOR:
        return None
    if caller.role == WAREHOUSE:
        named = frozenset(_warehouses_of(event))
        is_own = caller.warehouses is None or named <= frozenset(caller.warehouses)
        return None if named and is_own else Malformed("forbidden", "the key is for its warehouses only")
    if caller.role == CHANNEL:
        return await _channel_error(request, caller, event)
    return Malformed("forbidden", "the key may not send events")


async def check_movement(request: web.Request, movement: Movement) -> web.Response | None:
    """The problem if the caller may not send this movement."""
    wrong = await check_event(request, movement)
    return None if wrong is None else forbidden(f"{wrong.detail[0].upper()}{wrong.detail[1:]}.")


async def _channel_error(request: web.Request, caller: Caller, event: Event) -> Malformed | None:
    if isinstance(event, Movement | OrderShipped | OrderReturned):
        return Malformed("forbidden", "a channel's key sends no event of a warehouse", "type")
    if isinstance(event, ChannelEvent):
        if event.channel not in (None, caller.channel):
            return Malformed("forbidden", "the key is for another channel", "channel")
        return None
    if (wrong := _order_error(caller, event)) is not None:
        return Malformed("forbidden", wrong)
    if event.supersedes is not None and await _is_foreign(request, caller, event.supersedes):
        # The same for an order of another channel and for one that is not known yet.
        return Malformed(Outcome.UNKNOWN_ORDER, "there is no order of this id", "supersedes")
    return None


async def _is_foreign(request: web.Request, caller: Caller, order_id: str) -> bool:
    """Whether it is not known as an order of the caller's channel."""
    return not await request[OWNERS].is_of(order_id, caller.channel)


def _order_error(caller: Caller, order: OrderBody | OrderPlaced) -> str | None:
    """Why the caller may not place an order, else None."""
    if caller.channel is not None and order.channel != caller.channel:
        return "The key is for another channel."
    wanted = {
        PRIORITY_VIP: order.priority == "vip",
        FORCE: order.force,
        PURPOSE: order.purpose is not None,
        SOLD: order.accept == "sold",
    }
    missing = [right for right, is_wanted in wanted.items() if is_wanted and right not in caller.rights]
    return f"The key has not the right `{missing[0]}`." if missing else None


def _warehouses_of(event: Event) -> Iterator[str]:
    if isinstance(event, OrderShipped | OrderReturned):
        yield from (line.warehouse for line in event.lines)
    elif isinstance(event, Movement):
        yield event.warehouse
        if isinstance(event, StockTransferred):
            yield event.to_warehouse


def frames_without_warehouses(frames: bytes) -> bytes:
    """Whole frames of a feed without the warehouses in their data."""
    if b'"warehouse' not in frames:
        return frames
    lines = frames.split(b"\n")
    return b"\n".join(
        b"data: " + without_warehouses(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else line
        for line in lines
    )
