"""The ledger's client: typed methods over the Lua steps that decide and read.

In: batches of commands, and reads. Out: decided batches (the journal's payload), and records with the batch as of which
they are true. Expected refusals are outcomes inside a `Decision`; exceptions are for outages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from stocktide.errors import StocktideError
from stocktide.streams.contract.times import now_ms as clock_ms
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.order_pages import (
    EntryCursor,
    KeyPage,
    QueuedOrders,
    SkuOrdersPage,
    decode_key_page,
    decode_queued_orders,
    decode_sku_orders,
)
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.packed import unpack_order, unpack_sku
from stocktide.tables.ledger.policy_preview import PREVIEW_SKUS_MAX, PreviewPage, decode_preview
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.ledger.records import Decision, MovementRecord, Offer, OrderRecord, RegistryRecord, SkuRecord
from stocktide.tables.ledger.scripts import Script, key_prefix

# A page is one Lua call, which blocks Redis: a few ms.
PAGE_SKUS_MAX = 1_000


class LedgerError(StocktideError):
    """The ledger cannot answer now."""


class Unblessed(LedgerError):
    """No takeover has blessed this Redis: it may have lost writes."""


class Busy(LedgerError):
    """The outbox is over its cap: decisions come faster than the relay publishes them."""


class TooLarge(StocktideError):
    """The batch reads or writes more than one call may. Nothing was decided: submit it in parts."""


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """A decided batch that is not settled yet. `batch` 0: nothing was due and no batch was made."""

    batch: int
    token: str
    payload: bytes
    # CPU time of the Lua step, s.
    seconds: float = 0.0

    @property
    def decision(self) -> Decision:
        """The decoded payload. Raises msgspec.DecodeError if Lua's format differs."""
        return decode_decision(self.payload)


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class LedgerRead(Generic[_Value]):
    """A value as of `batch` (and its `token`). If `settled` is less, the value must not be returned to a client yet."""

    value: _Value
    batch: int
    token: str
    settled: int


class KnownSkus(Struct, frozen=True, array_like=True):
    """The number of known SKUs, and a page of their names in order."""

    count: int
    names: tuple[str, ...]


class ExpectedPage(Struct, frozen=True, array_like=True):
    """A page of announcements by their keys (`<warehouse>\\n<id>`); `cursor` is that of the next page, "" after the
    last one."""

    cursor: str
    rows: tuple[tuple[str, MovementRecord], ...]


class PooledSku(Struct, frozen=True, array_like=True):
    """A SKU's pools that have not ended, by `<purpose>@<warehouse>`: units, `from` and `until` in ms (0: none, or in
    the past)."""

    sku: str
    pools: dict[str, tuple[int, int, int]]


class PooledSkus(Struct, frozen=True, array_like=True):
    """SKUs in order; `more`: others follow."""

    rows: tuple[PooledSku, ...]
    more: bool


class ChannelItem(Struct, frozen=True, array_like=True):
    """What one channel may sell of one SKU, as of the SKU's `version`, last changed `at` (ms)."""

    sku: str
    version: int
    at: int
    offer: Offer


class RequestPage(Struct, frozen=True, array_like=True):
    """Orders that wait for approval, by order_id; `more`: others follow."""

    rows: tuple[tuple[str, msgspec.Raw], ...]
    more: bool


class FoundSku(Struct, frozen=True, array_like=True):
    """A SKU with its packed record, and its offer on every known channel."""

    sku: str
    found: tuple[msgspec.Raw, tuple[Offer, ...]]

    @property
    def record(self) -> SkuRecord:
        """The record."""
        return unpack_sku(self.found[0])

    @property
    def offers(self) -> tuple[Offer, ...]:
        """The offers."""
        return self.found[1]


class StockSkus(Struct, frozen=True, array_like=True):
    """SKUs by name; `last` is the last name that was looked at, "" if none follows."""

    rows: tuple[FoundSku, ...]
    last: str


_encode = msgspec.msgpack.Encoder().encode
_MOVEMENT = msgspec.msgpack.Decoder(MovementRecord)
_SKU = msgspec.msgpack.Decoder(tuple[msgspec.Raw, tuple[Offer, ...]])
_ITEMS = msgspec.msgpack.Decoder(tuple[ChannelItem, ...])
_EXPECTED = msgspec.msgpack.Decoder(ExpectedPage)
_KNOWN = msgspec.msgpack.Decoder(KnownSkus)
_POOLS = msgspec.msgpack.Decoder(PooledSkus)
_REQUESTS = msgspec.msgpack.Decoder(RequestPage)
_STOCK = msgspec.msgpack.Decoder(StockSkus)
_POLICY = msgspec.msgpack.Decoder(tuple[dict[str, Any] | tuple[()] | None, dict[str, Any], str])
_REGISTRY = msgspec.msgpack.Decoder(RegistryRecord)


class Ledger:
    """One shard's ledger in one Redis. `redis` must not decode responses."""

    def __init__(self, redis: Redis, app_id: str, limits: LedgerLimits | None = None, shard: int = 0) -> None:
        prefix = key_prefix(app_id, shard)
        self._limits = _encode(limits or LedgerLimits())
        self._apply = Script(redis, prefix, "apply")
        self._read = Script(redis, prefix, "read")
        self._preview = Script(redis, prefix, "preview", writes=False)

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        """Decide `commands` in order, atomically, as one batch under `token` (new for each attempt).

        Raises Unblessed, Busy, TooLarge, and redis-py's errors if the server cannot be reached.
        """
        now = clock_ms() if now_ms is None else now_ms
        try:
            batch, payload, held_ms = await self._apply(_encode(commands), token, now, self._limits)
        except ResponseError as error:
            raise _translated(error) from error
        return AppliedBatch(batch, token, payload, held_ms / 1000)

    async def read_order(self, order_id: str) -> LedgerRead[OrderRecord | None]:
        """An order; None if it is unknown (parked events alone are no order)."""
        answer = await self._ask("order", order_id)
        record = unpack_order(answer[3]) if answer[3] else None
        return _read(answer, record if record is not None and record.state != "parked" else None)

    async def read_movement(self, warehouse: str, movement_id: str) -> LedgerRead[MovementRecord | None]:
        """A movement with its outcome; None if it is unknown or not applied to its last line yet."""
        answer = await self._ask("movement", warehouse, movement_id)
        record = _MOVEMENT.decode(answer[3]) if answer[3] else None
        return _read(answer, None if record is None or record.outcome == Outcome.APPLYING else record)

    async def read_sku(self, sku: str) -> LedgerRead[tuple[SkuRecord, tuple[Offer, ...]] | None]:
        """A SKU and its offer on every known channel."""
        answer = await self._ask("sku", sku)
        if not answer[3]:
            return _read(answer, None)
        record, offers = _SKU.decode(answer[3])
        return _read(answer, (unpack_sku(record), offers))

    async def read_channel(
        self, channel: str, skus: Sequence[str] | None, cursor: str, limit: int
    ) -> LedgerRead[tuple[tuple[ChannelItem, ...], str | None]]:
        """The channel's offers for `skus`, or for a page of up to `limit` SKUs after `cursor` ("" from the start)."""
        if skus is not None:
            answer = await self._ask("skus", channel, *skus[:PAGE_SKUS_MAX])
            return _read(answer, (_ITEMS.decode(answer[3]), None))
        limit = min(limit, PAGE_SKUS_MAX)
        answer = await self._ask("channel", channel, cursor, limit)
        items = _ITEMS.decode(answer[3])
        return _read(answer, (items, items[-1].sku if len(items) == limit else None))

    async def read_stock(self, prefix: str, after: str, limit: int) -> LedgerRead[StockSkus]:
        """Up to `limit` SKUs whose names begin with `prefix`, after the name `after` ("" from the start)."""
        # No byte of UTF-8 is 0xff.
        first = b"(" + after.encode() if after >= prefix and after else b"[" + prefix.encode()
        answer = await self._ask("stock", first, b"(" + prefix.encode() + b"\xff", min(limit, PAGE_SKUS_MAX))
        return _read(answer, _STOCK.decode(answer[3]))

    async def read_skus(self, skus: Sequence[str], limit: int) -> LedgerRead[StockSkus]:
        """Up to `limit` of these SKUs, without those that are unknown."""
        answer = await self._ask("stock", "", "", min(limit, PAGE_SKUS_MAX), *skus[:PAGE_SKUS_MAX])
        return _read(answer, _STOCK.decode(answer[3]))

    async def read_known_skus(self, cursor: str, limit: int) -> LedgerRead[KnownSkus]:
        """The number of known SKUs, and the names of up to `limit` after `cursor` ("" from the start)."""
        answer = await self._ask("known", cursor, min(limit, PAGE_SKUS_MAX))
        return _read(answer, _KNOWN.decode(answer[3]))

    async def read_expected(
        self, warehouse: str, sku: str, overdue: bool | None, cursor: str, limit: int
    ) -> LedgerRead[ExpectedPage]:
        """A page of up to `limit` announcements of a warehouse and a SKU (""; of all), and only those that are overdue
        or are not, after `cursor` ("" from the start). A page may be short although another one follows."""
        asked = "" if overdue is None else str(overdue).lower()
        answer = await self._ask("expected", warehouse, sku, asked, cursor, min(limit, PAGE_SKUS_MAX))
        return _read(answer, _EXPECTED.decode(answer[3]))

    async def read_pools(self, first: str, limit: int, passed: bool = False) -> LedgerRead[PooledSkus]:
        """SKUs with pools from `first` on ("": all; `passed`: after it), until they have `limit` pools, or their
        records are large."""
        bound = f"{'(' if passed else '['}{first}"
        answer = await self._ask("pools", bound, min(limit, PAGE_SKUS_MAX))
        return _read(answer, _POOLS.decode(answer[3]))

    async def read_approvals(
        self, cursor: str, limit: int
    ) -> LedgerRead[tuple[tuple[tuple[str, OrderRecord], ...], str | None]]:
        """A page of orders that wait for approval after `cursor` ("" from the start), and the next cursor."""
        answer = await self._ask("approvals", cursor, min(limit, PAGE_SKUS_MAX))
        page = _REQUESTS.decode(answer[3])
        rows = tuple((order_id, unpack_order(record)) for order_id, record in page.rows)
        return _read(answer, (rows, rows[-1][0] if rows and page.more else None))

    async def read_orders(self, run_id: str, cursor: str, keys: int, ids: Sequence[str]) -> LedgerRead[KeyPage]:
        """The orders `ids`, or if there are none those among the next `keys` or so of all keys, which are in no order.
        `run_id` "" and `cursor` "0" begin; on another server than `run_id` the pass begins again."""
        answer = await self._ask("orders", run_id, cursor, min(keys, PAGE_SKUS_MAX), *ids)
        return _read(answer, decode_key_page(answer[3]))

    async def read_sku_orders(
        self, what: Literal["short", "at_risk"], after: EntryCursor, every_sku: bool, limit: int
    ) -> LedgerRead[SkuOrdersPage]:
        """Up to `limit` orders that are short, or that hold units of a SKU with a warehouse below zero: of one SKU, or
        of all from that one on. A page may be short or empty although others follow."""
        which = "all" if every_sku else ""
        answer = await self._ask(what, after.sku, which, after.score, after.order_id, min(limit, PAGE_SKUS_MAX))
        return _read(answer, decode_sku_orders(answer[3]))

    async def read_queue(self, after: EntryCursor, limit: int) -> LedgerRead[QueuedOrders | None]:
        """Up to `limit` orders that wait for units of a SKU, the next to be filled first; None if the SKU is
        unknown."""
        answer = await self._ask("queue", after.sku, after.score, after.order_id, min(limit, PAGE_SKUS_MAX))
        return _read(answer, decode_queued_orders(answer[3]) if answer[3] else None)

    async def read_policy(
        self, channel: str, sku: str | None
    ) -> LedgerRead[tuple[dict[str, Any] | None, dict[str, Any], str]]:
        """The policy set at this level (None: none), the one in force, and the digest of the first. Null fields are
        left out."""
        answer = await self._ask("policy", channel, sku or "")
        own, effective, digest = _POLICY.decode(answer[3])
        effective.pop("allowed", None)
        return _read(answer, (dict(own) if own is not None else None, effective, digest))

    async def preview_policy(
        self,
        channel: str,
        sku: str | None,
        policy: dict[str, Any] | None,
        cursor: str = "",
        limit: int = PREVIEW_SKUS_MAX,
        now_ms: int | None = None,
    ) -> LedgerRead[PreviewPage]:
        """What a policy at this level (None: without one) would do to up to `limit` SKUs after `cursor` ("" from the
        start). Nothing is written. A step fills a limited number of waiting orders: of one SKU no more are counted."""
        level = {"channel": channel, "sku": sku, "policy": policy}
        command = _encode({name: value for name, value in level.items() if value is not None})
        now = clock_ms() if now_ms is None else now_ms
        answer = await self._ask_script(self._preview, command, cursor, min(limit, PREVIEW_SKUS_MAX), now, self._limits)
        page = decode_preview(answer[3])
        page.effective.pop("allowed", None)
        return _read(answer, page)

    async def read_registry(self) -> LedgerRead[RegistryRecord]:
        """All known channels, and the sweep in progress."""
        answer = await self._ask("registry")
        return _read(answer, _REGISTRY.decode(answer[3]))

    async def _ask(self, *arguments: str | int | bytes) -> Any:
        return await self._ask_script(self._read, *arguments)

    async def _ask_script(self, script: Script, *arguments: str | int | bytes) -> Any:
        try:
            try:
                return await script(*arguments)
            except RedisConnectionError:  # a connection from before a restart; a read is safe to repeat
                return await script(*arguments)
        except ResponseError as error:
            raise _translated(error) from error


def _read(answer: Any, value: _Value) -> LedgerRead[_Value]:
    return LedgerRead(value, int(answer[0]), answer[1].decode(), int(answer[2]))


def _translated(error: ResponseError) -> Exception:
    message = str(error)
    if message.startswith("UNBLESSED"):
        return Unblessed(message.removeprefix("UNBLESSED "))
    if message.startswith("TOO_LARGE "):
        return TooLarge(message.removeprefix("TOO_LARGE "))
    if message.startswith("BUSY "):
        return Busy(message.removeprefix("BUSY "))
    return error
