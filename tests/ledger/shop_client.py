"""A test client of a shop: `await shop.receive("A", 10)`, `await shop.place("o1", {"A": 2})`.

In: calls of a test. Out: input events of the contract, made into commands by the product's own code and decided by a
driver under a clock that only the test advances.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from redis.asyncio import Redis

from stocktide.streams.contract import events
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import (
    Approve,
    Command,
    DeletePolicy,
    KnowChannel,
    Origin,
    Reject,
    SetPolicy,
    Tick,
)
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import make_assign, make_command, make_hold_back
from stocktide.tables.ledger.records import LineRecord, OrderRecord
from stocktide.tables.ledger.scripts import key_prefix
from tests.ledger.drivers import CommandReply, LedgerDriver, RedisDriver, SkuCounters
from tests.ledger.ledgers import LIMITS, bless
from tests.ledger.model_policy import OfferState

OPENING_MS = 1_700_000_000_000
# How many orders one tick ends, unless a test is about just that.
ORDERS_MAX = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_at(seconds: float) -> datetime:
    """A time, in seconds after the opening."""
    return _EPOCH + timedelta(milliseconds=OPENING_MS + round(seconds * 1000))


class ShopClient:
    """One shop, one clock, one driver. Times that a test gives are seconds after the opening.

    Every event takes `id`, `by_kafka` and its time: `at` for orders, `occurred` for movements, whose `at` is a place.
    """

    def __init__(self, driver: LedgerDriver) -> None:
        self.driver = driver
        self.now = OPENING_MS
        self._ids = count(1)

    def advance(self, seconds: float = 0, minutes: float = 0) -> None:
        """Let time pass."""
        self.now += round((seconds + 60 * minutes) * 1000)

    @property
    def seconds(self) -> float:
        return (self.now - OPENING_MS) / 1000

    # Orders

    async def place(self, order_id: str, lines: Mapping[str, int], **fields: Any) -> CommandReply:
        """`order.placed`; channel `tmall` unless given."""
        return await self.submit(self.place_command(order_id, lines, **fields))

    def place_command(self, order_id: str, lines: Mapping[str, int], **fields: Any) -> Command:
        fields = {"id": f"{order_id}-placed", "channel": "tmall"} | fields
        return self._of_order(events.OrderPlaced, order_id, fields, lines=_lines(events.OrderLine, lines))

    async def force(self, order_id: str, lines: Mapping[str, int], by: str = "anna", **fields: Any) -> CommandReply:
        """`order.placed` with `force`, requested by `by`."""
        fields = {"force": True, "reason": "a film crew waits", "actor": by} | fields
        return await self.place(order_id, lines, **fields)

    async def approve(self, order_id: str, by: str = "ben") -> CommandReply:
        return await self.submit(self.approve_command(order_id, by))

    def approve_command(self, order_id: str, by: str) -> Command:
        return Approve(order_id=order_id, actor=by)

    async def reject(self, order_id: str, by: str = "ben", reason: str = "too few are left") -> CommandReply:
        return await self.submit(Reject(order_id=order_id, actor=by, reason=reason))

    async def hold(self, units: int, of: int, **fields: Any) -> None:
        """`of` units of A arrive, and order o1 takes `units` of them."""
        await self.receive("A", of)
        await self.place("o1", {"A": units}, **fields)

    async def buy(self, units: int, of: int) -> None:
        """The same, and the order is paid."""
        await self.hold(units, of=of)
        await self.pay("o1")

    async def fall_to_threshold(self, **policy: Any) -> None:
        """An order takes A down to the safety threshold of 5, which suspends the channel."""
        await self.set_policy(safety_threshold=5, below_threshold="suspend", **policy)
        await self.hold(1, of=6)

    async def pay(self, order_id: str, **fields: Any) -> CommandReply:
        return await self.submit(self.pay_command(order_id, **fields))

    def pay_command(self, order_id: str, **fields: Any) -> Command:
        return self._of_order(events.OrderPaid, order_id, fields)

    async def cancel(self, order_id: str, *lines: tuple[str, int], **fields: Any) -> CommandReply:
        """`order.cancelled`, of the whole order or of (sku, units)."""
        return await self.submit(self.cancel_command(order_id, *lines, **fields))

    def cancel_command(self, order_id: str, *lines: tuple[str, int], **fields: Any) -> Command:
        units = tuple(events.OrderLine(*line) for line in lines) or None
        return self._of_order(events.OrderCancelled, order_id, fields, lines=units)

    async def change(
        self,
        order_id: str,
        remove: Mapping[str, int] | None = None,
        add: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> CommandReply:
        """`order.changed`."""
        return await self.submit(self.change_command(order_id, remove, add, **fields))

    def change_command(
        self,
        order_id: str,
        remove: Mapping[str, int] | None = None,
        add: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> Command:
        removed, added = _lines(events.OrderLine, remove or {}), _lines(events.OrderLine, add or {})
        return self._of_order(events.OrderChanged, order_id, fields, remove=removed, add=added)

    async def hold_back(self, order_id: str, sku: str | None = None, held: bool = True, **fields: Any) -> CommandReply:
        """`hold_back` by an operator."""
        return await self.submit(self.hold_back_command(order_id, sku, held, **fields))

    def hold_back_command(self, order_id: str, sku: str | None = None, held: bool = True, **fields: Any) -> Command:
        id_, actor = fields.get("id", f"e{next(self._ids)}"), fields.get("actor", "ann")
        body = events.HoldBackBody(reason=fields.get("reason", "asked for"), sku=sku, held=held)
        return make_hold_back(order_id, body, id_, actor)

    async def assign(self, order_id: str, lines: Mapping[str, int] | None = None, **fields: Any) -> CommandReply:
        """`assign` by an operator: units of lines, or all that the order waits for."""
        id_, actor = fields.get("id", f"e{next(self._ids)}"), fields.get("actor", "ann")
        wanted = _lines(events.OrderLine, lines) if lines else None
        body = events.AssignBody(reason=fields.get("reason", "asked for"), lines=wanted)
        return await self.submit(make_assign(order_id, body, id_, actor))

    async def extend(self, order_id: str, seconds: int = 900, **fields: Any) -> CommandReply:
        return await self.submit(self.extend_command(order_id, seconds, **fields))

    def extend_command(self, order_id: str, seconds: int = 900, **fields: Any) -> Command:
        return self._of_order(events.OrderExtended, order_id, fields, hold_seconds=seconds)

    async def ship(self, order_id: str, *lines: tuple[str, int, str], **fields: Any) -> CommandReply:
        """`order.shipped`; lines are (sku, units, warehouse)."""
        shipped = tuple(events.ShippedLine(*line) for line in lines)
        return await self.submit(self._of_order(events.OrderShipped, order_id, fields, lines=shipped))

    async def take_back(self, order_id: str, *lines: tuple[Any, ...], **fields: Any) -> CommandReply:
        """`order.returned`; lines are (sku, units, warehouse[, condition])."""
        return await self.submit(self.return_command(order_id, *lines, **fields))

    def return_command(self, order_id: str, *lines: tuple[Any, ...], **fields: Any) -> Command:
        returned = tuple(events.ReturnedLine(*line) for line in lines)
        return self._of_order(events.OrderReturned, order_id, fields, lines=returned)

    def _of_order(self, kind: Any, order_id: str, fields: dict[str, Any], **body: Any) -> Command:
        return self._command(kind, fields.pop("at", None), fields, order_id=order_id, **body)

    # Movements

    async def receive(self, sku: str, quantity: int, at: str = "SH1", **fields: Any) -> CommandReply:
        return await self.receive_all({sku: quantity}, at, **fields)

    async def receive_all(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        return await self.submit(self.receive_command(lines, at, **fields))

    def receive_command(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> Command:
        return self._movement(events.StockReceived, at, fields, lines=_lines(events.OrderLine, lines))

    async def expect(
        self, lines: Mapping[str, int], at: str = "SH1", eta: float | None = 3600, **fields: Any
    ) -> CommandReply:
        """`stock.expected`; id `po-9` unless given, and due at `eta` seconds after the opening."""
        return await self.submit(self.expect_command(lines, at, eta, **fields))

    def expect_command(
        self, lines: Mapping[str, int], at: str = "SH1", eta: float | None = 3600, **fields: Any
    ) -> Command:
        due, announced = None if eta is None else time_at(eta), _lines(events.ExpectedLine, lines)
        return self._movement(events.StockExpected, at, {"id": "po-9"} | fields, lines=announced, eta=due)

    async def receive_at(self, **units: int) -> None:
        """Units of A arrive in several warehouses, in order."""
        for warehouse, quantity in units.items():
            await self.receive("A", quantity, at=warehouse)

    async def adjust(self, reason: str, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        adjusted = _lines(events.AdjustedLine, lines)
        return await self.submit(self._movement(events.StockAdjusted, at, fields, reason=reason, lines=adjusted))

    async def count(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> CommandReply:
        return await self.submit(self.count_command(lines, at, **fields))

    def count_command(self, lines: Mapping[str, int], at: str = "SH1", **fields: Any) -> Command:
        return self._movement(events.StockCounted, at, fields, lines=_lines(events.CountedLine, lines))

    async def transfer(self, lines: Mapping[str, int], at: str, to: str, **fields: Any) -> CommandReply:
        moved = _lines(events.OrderLine, lines)
        return await self.submit(self._movement(events.StockTransferred, at, fields, lines=moved, to_warehouse=to))

    async def void(self, movement_id: str, at: str = "SH1", **fields: Any) -> CommandReply:
        return await self.submit(self._movement(events.StockVoided, at, fields, movement_id=movement_id))

    async def set_aside(self, purpose: str, units: int, at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.reserved`: units of A go into the pool for `purpose`."""
        return await self.submit(self.pool_command(events.StockReserved, purpose, {"A": units}, at, **fields))

    async def set_aside_for(
        self, purpose: str, units: int, begins: float | None = None, ends: float | None = None, at: str = "SH1"
    ) -> CommandReply:
        """The same with `from` and `until`, in seconds after the opening."""
        times = {
            name: time_at(seconds) for name, seconds in (("from_", begins), ("until", ends)) if seconds is not None
        }
        return await self.set_aside(purpose, units, at, **times)

    async def release(self, purpose: str, units: int, at: str = "SH1", **fields: Any) -> CommandReply:
        """`stock.released`: units of A go from the pool back to the shelf."""
        return await self.submit(self.pool_command(events.StockReleased, purpose, {"A": units}, at, **fields))

    def pool_command(
        self, kind: Any, purpose: str, lines: Mapping[str, int], at: str = "SH1", **fields: Any
    ) -> Command:
        return self._movement(kind, at, fields, purpose=purpose, lines=_lines(events.OrderLine, lines))

    def _movement(self, kind: Any, warehouse: str, fields: dict[str, Any], **body: Any) -> Command:
        return self._command(kind, fields.pop("occurred", None), fields, warehouse=warehouse, **body)

    def _command(self, kind: Any, seconds: float | None, fields: dict[str, Any], **body: Any) -> Command:
        by_kafka = fields.pop("by_kafka", False)
        occurred_at = time_at(self.seconds if seconds is None else seconds)
        event = kind(**{"id": f"e{next(self._ids)}", "occurred_at": occurred_at} | body | fields)
        topic = "movements" if isinstance(event, events.Movement) else "orders"
        return make_command(event, Origin(topic, 0, next(self._ids), "{}") if by_kafka else None)

    # Policies and the timer

    async def set_policy(self, channel: str = "tmall", sku: str | None = None, **policy: Any) -> CommandReply:
        """PUT of a level."""
        return await self.submit(self.policy_command(channel, sku, **policy))

    def policy_command(self, channel: str = "tmall", sku: str | None = None, **policy: Any) -> Command:
        given = {name: value for name, value in policy.items() if value is not None}
        return SetPolicy(channel=channel, sku=sku, policy=given)

    async def delete_policy(self, channel: str = "tmall", sku: str | None = None) -> CommandReply:
        """DELETE of a level."""
        return await self.submit(DeletePolicy(channel=channel, sku=sku))

    async def subscribe(self, channel: str) -> CommandReply:
        """A subscription makes a channel known."""
        return await self.submit(KnowChannel(channel=channel))

    async def tick(self, orders_max: int = ORDERS_MAX) -> CommandReply:
        """The expiry timer fires."""
        return await self.submit(Tick(orders_max=orders_max))

    async def tick_after(self, seconds: float = 0, minutes: float = 0) -> CommandReply:
        """Let time pass; then the expiry timer fires."""
        self.advance(seconds, minutes)
        return await self.tick()

    # The driver

    async def submit(self, command: Command) -> CommandReply:
        return (await self.submit_all(command))[0]

    async def submit_all(self, *commands: Command) -> list[CommandReply]:
        """Several commands in one batch."""
        return await self.driver.apply(commands, self.now)

    def order(self, order_id: str) -> OrderRecord:
        record = self.driver.order(order_id)
        assert record is not None, f"{order_id} is unknown"
        return record

    def line(self, order_id: str, sku: str) -> LineRecord:
        return next(line for line in self.order(order_id).lines if line.sku == sku)

    def stock(self, sku: str) -> SkuCounters:
        return self.driver.stock(sku)

    def offer(self, sku: str, channel: str = "tmall") -> OfferState:
        return self.driver.offer(sku, channel)

    def mode(self, sku: str, channel: str = "tmall") -> str:
        return self.offer(sku, channel).mode


class RedisShopClient(ShopClient):
    """A shop on a blessed ledger of its own, whose keys and decisions a test may read."""

    driver: RedisDriver

    def __init__(self, redis: Redis, limits: LedgerLimits = LIMITS, steps_counts: bool = False) -> None:
        self.redis = redis
        self.app_id = f"test-{secrets.token_hex(6)}"
        self.prefix = key_prefix(self.app_id)
        self.ledger = Ledger(redis, self.app_id, limits)
        super().__init__(RedisDriver(self.ledger, steps_counts))

    async def stored_counters(self, sku: str) -> dict[str, int]:
        """The counters of a SKU in Redis, without those at zero."""
        read = (await self.ledger.read_sku(sku)).value
        return {name: value for name, value in read[0].counters.items() if value} if read else {}

    async def key(self, name: str) -> bytes | None:
        """The value of a key of the shard."""
        found: bytes | None = await self.redis.get(self.prefix + name)
        return found

    async def index(self, name: str) -> dict[bytes, float]:
        """The members of an index of the shard, with their scores."""
        return dict(await self.redis.zrange(self.prefix + name, 0, -1, withscores=True))


@asynccontextmanager
async def open_shop(
    url: str, limits: LedgerLimits = LIMITS, clients: int = 1, steps_counts: bool = False
) -> AsyncIterator[RedisShopClient]:
    """An empty shop on the server at `url`, over at most `clients` connections."""
    async with Redis.from_url(url, max_connections=clients + 1) as redis:
        shop = RedisShopClient(redis, limits, steps_counts)
        await bless(redis, shop.app_id)
        yield shop


def _lines(kind: Any, lines: Mapping[str, int]) -> tuple[Any, ...]:
    return tuple(kind(sku, quantity) for sku, quantity in lines.items())
