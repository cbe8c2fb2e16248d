"""A shop that replays messages: `await shop.receive("A", 10)`, `await shop.place("o1", {"A": 2})`.

In: sentences of a test. Out: input events of the contract, turned into commands by the product's own code, decided
at a till under a clock that moves only when the test says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from stocktide.streams.contract import events
from stocktide.tables.ledger.commands import Command, DeletePolicy, KnowChannel, Origin, SetPolicy, Tick, make_command
from stocktide.tables.ledger.records import LineRecord, OrderRecord
from tests.ledger.drivers import CommandReply, LedgerDriver, SkuCounters
from tests.ledger.model_policy import OfferState

OPENING_MS = 1_700_000_000_000
# What a tick may take on at once, unless a test is about just that.
ORDERS_MAX = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ShopClient:
    """One shop, one clock, one till. Times that a test gives are seconds after the opening."""

    def __init__(self, till: LedgerDriver) -> None:
        self.till = till
        self.now = OPENING_MS
        self._ids = count(1)

    # The clock

    def later(self, seconds: float = 0, minutes: float = 0) -> None:
        """Let time pass."""
        self.now += round((seconds + 60 * minutes) * 1000)

    @property
    def seconds(self) -> float:
        """Seconds since the opening."""
        return (self.now - OPENING_MS) / 1000

    # Orders

    async def place(self, order_id: str, lines: Mapping[str, int], **fields: Any) -> CommandReply:
        """`order.placed`; channel `tmall` unless given."""
        return await self.say(self.placed(order_id, lines, **fields))

    def placed(self, order_id: str, lines: Mapping[str, int], **fields: Any) -> Command:
        """The command of `order.placed`, for a batch."""
        by_kafka = fields.pop("by_kafka", False)
        fields.setdefault("channel", "tmall")
        event = events.OrderPlaced(
            id=fields.pop("id", f"{order_id}-placed"),
            occurred_at=self._time(None),
            order_id=order_id,
            lines=tuple(events.OrderLine(sku, quantity) for sku, quantity in lines.items()),
            **fields,
        )
        return self._command(event, by_kafka)

    async def pay(self, order_id: str, *, id: str | None = None, by_kafka: bool = False) -> CommandReply:
        """`order.paid`."""
        event = events.OrderPaid(id=self._id(id), occurred_at=self._time(None), order_id=order_id)
        return await self.say(self._command(event, by_kafka))

    async def cancel(self, order_id: str, *, id: str | None = None, by_kafka: bool = False) -> CommandReply:
        """`order.cancelled`."""
        event = events.OrderCancelled(id=self._id(id), occurred_at=self._time(None), order_id=order_id)
        return await self.say(self._command(event, by_kafka))

    async def extend(
        self, order_id: str, seconds: int = 900, *, id: str | None = None, by_kafka: bool = False
    ) -> CommandReply:
        """`order.extended`."""
        event = events.OrderExtended(
            id=self._id(id), occurred_at=self._time(None), order_id=order_id, hold_seconds=seconds
        )
        return await self.say(self._command(event, by_kafka))

    async def ship(
        self,
        order_id: str,
        *lines: tuple[str, int, str],
        id: str | None = None,
        at: float | None = None,
        by_kafka: bool = False,
    ) -> CommandReply:
        """`order.shipped`; lines are (sku, units, warehouse)."""
        event = events.OrderShipped(
            id=self._id(id),
            occurred_at=self._time(at),
            order_id=order_id,
            lines=tuple(events.ShippedLine(*line) for line in lines),
        )
        return await self.say(self._command(event, by_kafka))

    async def take_back(
        self,
        order_id: str,
        *lines: tuple[str, int, str] | tuple[str, int, str, str],
        id: str | None = None,
        at: float | None = None,
        by_kafka: bool = False,
    ) -> CommandReply:
        """`order.returned`; lines are (sku, units, warehouse[, condition])."""
        return await self.say(self.returned(order_id, *lines, id=id, at=at, by_kafka=by_kafka))

    def returned(
        self,
        order_id: str,
        *lines: tuple[str, int, str] | tuple[str, int, str, str],
        id: str | None = None,
        at: float | None = None,
        by_kafka: bool = False,
    ) -> Command:
        """The command of `order.returned`, for a batch."""
        event = events.OrderReturned(
            id=self._id(id),
            occurred_at=self._time(at),
            order_id=order_id,
            lines=tuple(events.ReturnedLine(*line) for line in lines),
        )
        return self._command(event, by_kafka)

    # Movements

    async def receive(self, sku: str, quantity: int, at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.received` of one SKU."""
        return await self.receive_all({sku: quantity}, at, **fields)

    async def receive_all(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.received`."""
        moved = tuple(events.OrderLine(sku, quantity) for sku, quantity in lines.items())
        return await self.say(self._moved(events.StockReceived, at, fields, lines=moved))

    def received(self, sku: str, quantity: int, at: str = "SH1", **fields: Any) -> Command:
        """The command of `stock.received`, for a batch."""
        return self._moved(events.StockReceived, at, fields, lines=(events.OrderLine(sku, quantity),))

    async def adjust(self, reason: str, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.adjusted`."""
        moved = tuple(events.AdjustedLine(sku, quantity) for sku, quantity in lines.items())
        return await self.say(self._moved(events.StockAdjusted, at, fields, reason=reason, lines=moved))

    async def count(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.counted`."""
        moved = tuple(events.CountedLine(sku, quantity) for sku, quantity in lines.items())
        return await self.say(self._moved(events.StockCounted, at, fields, lines=moved))

    async def transfer(self, lines: Mapping[str, int], at: str, to: str, **fields: Any) -> CommandReply:
        """`stock.transferred`."""
        moved = tuple(events.OrderLine(sku, quantity) for sku, quantity in lines.items())
        return await self.say(self._moved(events.StockTransferred, at, fields, lines=moved, to_warehouse=to))

    def _moved(self, kind: Any, warehouse: str, fields: dict[str, Any], **body: Any) -> Command:
        event = kind(
            id=self._id(fields.pop("id", None)),
            occurred_at=self._time(fields.pop("occurred", None)),
            warehouse=warehouse,
            **body,
        )
        return self._command(event, fields.pop("by_kafka", False), **fields)

    # Policies and the timer

    async def policy(self, channel: str = "tmall", sku: str | None = None, **policy: Any) -> CommandReply:
        """PUT of a level."""
        given = {name: value for name, value in policy.items() if value is not None}
        return await self.say(SetPolicy(channel=channel, sku=sku, policy=given))

    async def drop_policy(self, channel: str = "tmall", sku: str | None = None) -> CommandReply:
        """DELETE of a level."""
        return await self.say(DeletePolicy(channel=channel, sku=sku))

    async def subscribe(self, channel: str) -> CommandReply:
        """A subscription makes a channel known."""
        return await self.say(KnowChannel(channel=channel))

    async def tick(self, orders_max: int = ORDERS_MAX) -> CommandReply:
        """The expiry timer fires."""
        return await self.say(Tick(orders_max=orders_max))

    # The till

    async def say(self, command: Command) -> CommandReply:
        """One command, one batch."""
        return (await self.batch(command))[0]

    async def batch(self, *commands: Command) -> list[CommandReply]:
        """Several commands in one batch."""
        return await self.till.apply(commands, self.now)

    def order(self, order_id: str) -> OrderRecord:
        """An order as it is now."""
        record = self.till.order(order_id)
        assert record is not None, f"{order_id} is unknown"
        return record

    def line(self, order_id: str, sku: str) -> LineRecord:
        """A line of an order."""
        return next(line for line in self.order(order_id).lines if line.sku == sku)

    def stock(self, sku: str) -> SkuCounters:
        """A SKU's counters."""
        return self.till.stock(sku)

    def free(self, sku: str, warehouse: str) -> int:
        """Units of a warehouse that nobody has a claim on."""
        return self.stock(sku).free(warehouse)

    def current_offer(self, sku: str, channel: str = "tmall") -> OfferState:
        """What a channel may sell."""
        return self.till.current_offer(sku, channel)

    def mode(self, sku: str, channel: str = "tmall") -> str:
        """The mode that a channel is in."""
        return self.current_offer(sku, channel).mode

    # What events are made of

    def _command(self, event: events.Event, by_kafka: bool, received_at: int = 0) -> Command:
        topic = "movements" if isinstance(event, events.Movement) else "orders"
        origin = Origin(topic, 0, next(self._ids), "{}") if by_kafka else None
        return make_command(event, origin, received_at)

    def _id(self, given: str | None) -> str:
        return given or f"e{next(self._ids)}"

    def _time(self, seconds: float | None) -> datetime:
        at = self.now if seconds is None else OPENING_MS + round(seconds * 1000)
        return _EPOCH + timedelta(milliseconds=at)
