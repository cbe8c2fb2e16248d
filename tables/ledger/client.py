"""The ledger: typed methods over the Lua steps that decide and read. All stock counters live behind it.

In: batches of commands, and questions. Out: decided batches (the journal's payload), and records with the batch as of
which they are true. Expected refusals are outcomes inside a `Decision`; exceptions are for outages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from stocktide.errors import StocktideError
from stocktide.streams.contract.times import now_ms as clock_ms
from stocktide.streams.topics import DAY_MS, HOUR_MS, IDS_RETENTION_MS, JOURNAL_RECORD_BYTES_MAX
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.records import (
    Decision,
    MovementRecord,
    Offer,
    OrderRecord,
    RegistryRecord,
    SkuRecord,
    decode_decision,
)
from stocktide.tables.ledger.scripts import Script, key_prefix

# A page is one Lua call: a shopper waits behind it, so it stays within a few ms.
PAGE_SKUS_MAX = 1_000


class LedgerError(StocktideError):
    """The ledger cannot answer now."""


class Unblessed(LedgerError):
    """No takeover has blessed this Redis: it may have lost something."""


class Busy(LedgerError):
    """The outbox is over its cap: decisions come faster than the journal takes them."""


class TooLarge(StocktideError):
    """The batch reads, or says in the journal, more than one call may. Nothing was decided: submit it in parts."""


class LedgerLimits(Struct, frozen=True):
    """Limits that the Lua step enforces; durations in ms."""

    # Some seconds of full load: beyond that a caller had better wait than make the takeover long.
    outbox_max: int = 2_000
    # How long an event waits for what it needs before it goes to the dead letters, and when an alert names it.
    park_ms: int = DAY_MS
    waiting_alert_ms: int = 15 * 60 * 1000
    # What may wait with one order: some hundred events, or a shipment of some hundred lines. An order's record carries
    # it into each of its rows.
    waiting_order_bytes_max: int = 64 * 1024
    # What may wait in all: memory that only a sender who went wrong takes up. After a recovery the orders are counted
    # anew in one call of some 10 ms.
    waiting_bytes_max: int = 64 * 1024 * 1024
    waiting_orders_max: int = 50_000
    # Rule 42: a shopper who needs more has left; and events of an order whose ids are kept as they came.
    extensions_max: int = 64
    event_ids_listed: int = 64
    # How long a final order answers repeats; a refused one (a flash sale makes millions) less long.
    order_retention_ms: int = 7 * DAY_MS
    refused_retention_ms: int = 24 * HOUR_MS
    movement_retention_ms: int = IDS_RETENTION_MS
    # Whole rows of SKUs in one batch: those of an order of 2,000 lines in a few warehouses. Beyond it a batch says only
    # what it changed of a SKU, and a later one says the whole: as rows in JSON they are ten times as large.
    whole_rows_bytes_max: int = 1024 * 1024
    # A payload is one record of the journal; what is around it there takes less than the difference.
    payload_bytes_max: int = JOURNAL_RECORD_BYTES_MAX - 1024 * 1024
    # How far ahead of the ledger's clock an input may be dated: more is a clock that is wrong (rule 40).
    future_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """A batch as decided, not settled yet. `batch` 0: nothing was due and no batch was made."""

    batch: int
    token: str
    payload: bytes
    # CPU time that the step held Redis, s.
    seconds: float = 0.0

    @property
    def decision(self) -> Decision:
        """The payload, decoded. Raises msgspec.DecodeError where Lua and Python have parted."""
        return decode_decision(self.payload)


_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class LedgerRead(Generic[_Value]):
    """A value as of `batch` (and its `token`); where `settled` is less, it may not be told yet."""

    value: _Value
    batch: int
    token: str
    settled: int


class KnownSkus(Struct, frozen=True, array_like=True):
    """How many SKUs are known, and a page of their names in order."""

    count: int
    names: tuple[str, ...]


class ChannelItem(Struct, frozen=True, array_like=True):
    """What one channel may sell of one SKU, as of the SKU's `version`, last changed `at` (ms)."""

    sku: str
    version: int
    at: int
    offer: Offer


_encode = msgspec.msgpack.Encoder().encode
_ORDER = msgspec.msgpack.Decoder(OrderRecord)
_MOVEMENT = msgspec.msgpack.Decoder(MovementRecord)
_SKU = msgspec.msgpack.Decoder(tuple[SkuRecord, tuple[Offer, ...]])
_ITEMS = msgspec.msgpack.Decoder(tuple[ChannelItem, ...])
_KNOWN = msgspec.msgpack.Decoder(KnownSkus)
_POLICY = msgspec.msgpack.Decoder(tuple[dict[str, Any] | tuple[()] | None, dict[str, Any]])
_REGISTRY = msgspec.msgpack.Decoder(RegistryRecord)


class Ledger:
    """One shard's ledger in one Redis. `redis` must not decode responses."""

    def __init__(self, redis: Redis, app_id: str, limits: LedgerLimits | None = None, shard: int = 0) -> None:
        prefix = key_prefix(app_id, shard)
        self._limits = _encode(limits or LedgerLimits())
        self._apply = Script(redis, prefix, "apply")
        self._read = Script(redis, prefix, "read")

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        """Decide `commands` in order, atomically, as one batch under `token` (fresh for each attempt).

        Raises Unblessed, Busy, TooLarge, and redis-py's errors where the server cannot be reached.
        """
        now = clock_ms() if now_ms is None else now_ms
        try:
            batch, payload, held_ms = await self._apply(_encode(commands), token, now, self._limits)
        except ResponseError as error:
            raise _translated(error) from error
        return AppliedBatch(batch, token, payload, held_ms / 1000)

    async def read_order(self, order_id: str) -> LedgerRead[OrderRecord | None]:
        """An order as it is now; None if it is not known (a parked event is no order)."""
        answer = await self._ask("order", order_id)
        record = _ORDER.decode(answer[3]) if answer[3] else None
        return _read(answer, record if record is not None and record.state != "parked" else None)

    async def read_movement(self, warehouse: str, movement_id: str) -> LedgerRead[MovementRecord | None]:
        """What a movement did, or its refusal."""
        answer = await self._ask("movement", warehouse, movement_id)
        return _read(answer, _MOVEMENT.decode(answer[3]) if answer[3] else None)

    async def read_sku(self, sku: str) -> LedgerRead[tuple[SkuRecord, tuple[Offer, ...]] | None]:
        """A SKU and what every known channel may sell of it."""
        answer = await self._ask("sku", sku)
        return _read(answer, _SKU.decode(answer[3]) if answer[3] else None)

    async def read_channel(
        self, channel: str, skus: Sequence[str] | None, cursor: str, limit: int
    ) -> LedgerRead[tuple[tuple[ChannelItem, ...], str | None]]:
        """What `channel` may sell: of `skus`, or a page of up to `limit` SKUs after `cursor` ("" from the start)."""
        if skus is not None:
            answer = await self._ask("skus", channel, *skus[:PAGE_SKUS_MAX])
            return _read(answer, (_ITEMS.decode(answer[3]), None))
        limit = min(limit, PAGE_SKUS_MAX)
        answer = await self._ask("channel", channel, cursor, limit)
        items = _ITEMS.decode(answer[3])
        return _read(answer, (items, items[-1].sku if len(items) == limit else None))

    async def read_known_skus(self, cursor: str, limit: int) -> LedgerRead[KnownSkus]:
        """How many SKUs are known, and the names of up to `limit` after `cursor` ("" from the start)."""
        answer = await self._ask("known", cursor, min(limit, PAGE_SKUS_MAX))
        return _read(answer, _KNOWN.decode(answer[3]))

    async def read_policy(
        self, channel: str, sku: str | None
    ) -> LedgerRead[tuple[dict[str, Any] | None, dict[str, Any]]]:
        """The policy set at this level (None: none is) and the one in force. Null fields are left out."""
        answer = await self._ask("policy", channel, sku or "")
        own, effective = _POLICY.decode(answer[3])
        effective.pop("allowed", None)
        return _read(answer, (dict(own) if own is not None else None, effective))

    async def read_registry(self) -> LedgerRead[RegistryRecord]:
        """All known channels, and whether a sweep is under way."""
        answer = await self._ask("registry")
        return _read(answer, _REGISTRY.decode(answer[3]))

    async def _ask(self, *arguments: str | int) -> Any:
        try:
            try:
                return await self._read(*arguments)
            except RedisConnectionError:  # a connection from before a restart; to read twice does no harm
                return await self._read(*arguments)
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
