"""Decisions of the journal: the payload of a batch, with its records packed or as typed records.

In: msgpack that `lua/includes/payload.lua` packs, in format 2 or 1. Out: `DecisionHead`, all that a caller needs;
`RawDecision`, whose records stay packed, for readers that need only the newest record of each key (a tenth of the
cost); `Decision`, everything typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct, structs

from stocktide.tables.ledger.codes import CAUSES, MODES, OUTCOMES, STATES
from stocktide.tables.ledger.packed import FORMAT, ORDER_HEADER, counter_names_of, unpack_order, unpack_sku
from stocktide.tables.ledger.records import (
    ActionRow,
    Alert,
    Decision,
    DecisionFrame,
    DecisionHead,
    Effect,
    Moved,
    MovementRecord,
    MovementRow,
    Offer,
    OrderRow,
    Patches,
    PolicyRow,
    RefusedEvent,
    RegistryRecord,
    RepairRow,
    Result,
    SkuRow,
)

__all__ = [
    "PackedMovement",
    "PackedOrder",
    "PackedSku",
    "RawDecision",
    "decode_decision",
    "decode_decision_head",
    "decode_raw_decision",
    "is_parked",
    "unpack_effects",
    "unpack_movement",
    "unpack_offers",
    "unpack_order",
    "unpack_patches",
    "unpack_sku",
]

# A result's code: twice the outcome's, plus 1 for a repeat; above that the place of its order's row, plus 1.
_RESULT_BITS = 7
_RESULT_MASK = (1 << _RESULT_BITS) - 1
# Different results without a detail: a repeat or not of each outcome.
_RESULTS_CACHED = 2 * len(OUTCOMES) + 2
# The first byte of an array of 16 fields or more.
_LONG_ARRAY = b"\xdc"


class PackedOrder(Struct, array_like=True):
    """`tables.ledger.records.OrderRow` with a packed record."""

    order_id: str
    record: Raw
    changed: bool
    repromised: bool = False


class PackedMovement(Struct, array_like=True):
    """`tables.ledger.records.MovementRow` with a packed record."""

    warehouse: str
    id: str
    record: Raw
    changed: bool


class OfferChannels:
    """The channels of a batch, in the order in which they became known. Each is `(name, group, interval)`: `group` is
    the place of its offer in the rows of SKUs that have one per group of channels with the same policy; `interval` is
    that of the group (None: the default)."""

    def __init__(self, packed: _PackedSkus) -> None:
        self.groups = len(packed.intervals)
        pairs = zip(packed.channels[::2], packed.channels[1::2], strict=True)
        self.each: list[tuple[str, int, int | None]] = [
            (name, group, packed.intervals[group] or None)  # type: ignore[index, misc]
            for name, group in pairs
        ]


class PackedSku(Struct, array_like=True):
    """`tables.ledger.records.SkuRow` with a packed record and packed offers. In format 2, `intervals` are those of the
    SKU's own policies, and `channels` belongs to the batch. `dates` are those of channels on preorder, by their place:
    [place, ms, …]."""

    sku: str
    record: Raw
    offers: Raw
    intervals: int | list[int] = 0
    dates: list[int] = []
    channels: OfferChannels | None = None


class RawDecision(DecisionFrame, frozen=True, array_like=True):
    """`tables.ledger.records.Decision` with packed records, effects, registry, patches and moves.

    `places`: in format 2 the rows of SKUs and the names of patched ones, to which effects refer.
    """

    orders: tuple[PackedOrder, ...]
    movements: tuple[PackedMovement, ...]
    skus: tuple[PackedSku, ...]
    effects: Raw
    registry: Raw
    patches: Raw = Raw(b"\x92\x90\x90")
    moves: Raw = Raw(b"\x90")
    actions: tuple[ActionRow, ...] = ()
    places: Sequence[PackedSku | str] = ()


class _PackedHead(Struct, array_like=True):
    format: int
    batch: int
    at: int
    results: list[int | tuple[Any, ...]]


class _PackedRepair(Struct, array_like=True):
    subject: str
    key: str
    id: str
    actor: str
    why: str
    before: Any
    after: Raw


class _PackedSkus(Struct, array_like=True):
    channels: list[str | int]
    intervals: list[int]
    rows: list[PackedSku | str]


class _PackedDecision(_PackedHead, array_like=True):
    orders: tuple[PackedOrder, ...]
    movements: tuple[PackedMovement, ...]
    skus: _PackedSkus
    effects: Raw
    policies: tuple[PolicyRow, ...]
    registry: Raw
    alerts: tuple[Alert, ...]
    refused: tuple[RefusedEvent, ...]
    repairs: tuple[_PackedRepair, ...] = ()
    patches: Raw = Raw(b"\x92\x90\x90")
    moves: Raw = Raw(b"\x90")
    actions: tuple[ActionRow, ...] = ()


class _PackedEffects(Struct, array_like=True):
    causes: list[int | str]
    changes: list[int | str]


_head_1 = msgspec.msgpack.Decoder(DecisionHead).decode
_head_2 = msgspec.msgpack.Decoder(_PackedHead).decode
_raw_1 = msgspec.msgpack.Decoder(RawDecision).decode
_raw_2 = msgspec.msgpack.Decoder(_PackedDecision).decode
_decision_1 = msgspec.msgpack.Decoder(Decision).decode
_effects_1 = msgspec.msgpack.Decoder(tuple[Effect, ...]).decode
_effects_2 = msgspec.msgpack.Decoder(_PackedEffects).decode
_offers_1 = msgspec.msgpack.Decoder(tuple[Offer, ...]).decode
_integers = msgspec.msgpack.Decoder(list[int]).decode
unpack_patches = msgspec.msgpack.Decoder(Patches).decode
_moves = msgspec.msgpack.Decoder(tuple[Moved, ...]).decode
_registry = msgspec.msgpack.Decoder(RegistryRecord | None).decode
_plain = msgspec.msgpack.Decoder(dict[str, Any] | None).decode
unpack_movement = msgspec.msgpack.Decoder(MovementRecord).decode


def _format_of(payload: bytes) -> int:
    """The format of a payload: the number after the header of the array, which has 1 byte, or 3 from 16 fields on."""
    place = 3 if payload[:1] == _LONG_ARRAY else 1
    return payload[place] if len(payload) > place else 0


def check_format(format: int) -> None:
    """Raise `msgspec.ValidationError` if a payload has another format than this version reads."""
    if format not in (1, FORMAT):
        raise msgspec.ValidationError(f"a payload of format {format}; this version reads 1 and {FORMAT}")


def decode_decision_head(payload: bytes) -> DecisionHead:
    """Decode only the head of a journal payload. Raises `msgspec.DecodeError`."""
    if _format_of(payload) != FORMAT:
        head = _head_1(payload)
        check_format(head.format)
        return head
    packed = _head_2(payload)
    return DecisionHead(packed.format, packed.batch, packed.at, tuple(map(_result_of_head, packed.results)))


def decode_raw_decision(payload: bytes) -> RawDecision:
    """Decode a journal payload except its records. Raises `msgspec.DecodeError` if Lua's format differs."""
    if _format_of(payload) != FORMAT:
        raw = _raw_1(payload)
        check_format(raw.format)
        return raw
    packed = _raw_2(payload)
    orders, rows = packed.orders, packed.skus.rows
    channels = OfferChannels(packed.skus)
    skus = tuple(row for row in rows if isinstance(row, PackedSku))
    for row in skus:
        row.channels = channels
    return RawDecision(
        packed.format,
        packed.batch,
        packed.at,
        tuple(_result(each, orders) for each in packed.results),
        orders,
        packed.movements,
        skus,
        packed.effects,
        packed.policies,
        packed.registry,
        packed.alerts,
        packed.refused,
        tuple(map(_repair, packed.repairs)),
        packed.patches,
        packed.moves,
        packed.actions,
        rows,
    )


def decode_decision(payload: bytes) -> Decision:
    """Decode a journal payload. Raises `msgspec.DecodeError` if Lua's format differs from this module."""
    if _format_of(payload) != FORMAT:
        decision = _decision_1(payload)
        check_format(decision.format)
        return decision
    raw = decode_raw_decision(payload)
    return Decision(
        raw.format,
        raw.batch,
        raw.at,
        raw.results,
        tuple(OrderRow(row.order_id, unpack_order(row.record), row.changed, row.repromised) for row in raw.orders),
        tuple(MovementRow(row.warehouse, row.id, unpack_movement(row.record), row.changed) for row in raw.movements),
        tuple(SkuRow(row.sku, unpack_sku(row.record), unpack_offers(row)) for row in raw.skus),
        unpack_effects(raw),
        raw.policies,
        _registry(raw.registry),
        raw.alerts,
        raw.refused,
        raw.repairs,
        unpack_patches(raw.patches),
        _moves(raw.moves),
        raw.actions,
    )


@lru_cache(_RESULTS_CACHED)
def _plain_result(code: int) -> Result:
    return Result(OUTCOMES[(code >> 1) - 1], bool(code & 1))


def _result_of_head(packed: int | tuple[Any, ...]) -> Result:
    """A result without its order."""
    if isinstance(packed, int):
        return _plain_result(packed & _RESULT_MASK)
    code, detail, *more = packed
    plain, reasons = _plain_result(code & _RESULT_MASK), more[1] if len(more) > 1 else ()
    pairs = tuple(zip(reasons[::2], reasons[1::2], strict=True))
    return Result(plain.outcome, plain.replayed, (more and more[0]) or None, detail or None, pairs)


def _result(packed: int | tuple[Any, ...], orders: Sequence[PackedOrder]) -> Result:
    result = _result_of_head(packed)
    place = (packed if isinstance(packed, int) else packed[0]) >> _RESULT_BITS
    if not place:
        return result
    return Result(result.outcome, result.replayed, orders[place - 1].order_id, result.detail, result.reasons)


def _repair(row: _PackedRepair) -> RepairRow:
    after: Any = None
    if row.subject == "order":
        after = unpack_order(row.after) if bytes(row.after) != b"\xc0" else None
    elif row.subject == "sku":
        after = unpack_sku(row.after) if bytes(row.after) != b"\xc0" else None
    else:
        after = _plain(row.after)
    return RepairRow(row.subject, row.key, row.id, row.actor, row.why, row.before, msgspec.to_builtins(after))


def unpack_offers(row: PackedSku) -> tuple[Offer, ...]:
    """The offers of a SKU's row to every known channel."""
    channels = row.channels
    if channels is None:
        return _offers_1(row.offers)
    codes, own = _integers(row.offers), row.intervals
    if len(codes) == channels.groups and not own:
        offers = [_offer(name, codes[group], interval) for name, group, interval in channels.each]
        return _dated(offers, row.dates)
    offers = [_offer(name, code, each) for code, (name, _, each) in zip(codes, channels.each, strict=True)]
    if isinstance(own, list):
        for place, interval in zip(own[::2], own[1::2], strict=True):
            offers[place] = structs.replace(offers[place], publish_interval_ms=interval or None)
    return _dated(offers, row.dates)


def _dated(offers: list[Offer], dates: list[int]) -> tuple[Offer, ...]:
    for place, at in zip(dates[::2], dates[1::2], strict=True):
        offers[place] = structs.replace(offers[place], available_from=at)
    return tuple(offers)


def _offer(channel: str, code: int, interval: int | None) -> Offer:
    if code & 3 == _PREORDER:
        return Offer(channel, "preorder", 0, code >> 2, interval)
    return Offer(channel, MODES[code & 3], code >> 2, 0, interval)


def unpack_effects(decision: RawDecision) -> tuple[Effect, ...]:
    """The effects of a batch."""
    if decision.format == 1:
        return _effects_1(decision.effects)
    packed = _effects_2(decision.effects)
    causes = packed.causes
    named = [_cause(decision, *causes[at : at + 3]) for at in range(0, len(causes), 3)]
    changes: Any = packed.changes
    effects, at = [], 0
    while at < len(changes):
        place, version, cause, size = changes[at : at + 4]
        row, end = decision.places[place], at + 4 + 2 * size
        names = counter_names_of(row.record) if isinstance(row, PackedSku) else ()
        deltas: dict[str, int] = {}
        for counter, units in zip(changes[at + 4 : end : 2], changes[at + 5 : end : 2], strict=True):
            name = counter if isinstance(counter, str) else names[counter]
            deltas[name] = deltas.get(name, 0) + units
        effects.append(Effect(row.sku if isinstance(row, PackedSku) else row, version, named[cause], deltas))
        at = end
    return tuple(effects)


def _cause(decision: RawDecision, kind: int | str, id: int | str, subject: int | str) -> tuple[str, str, str]:
    word = CAUSES[kind - 1] if isinstance(kind, int) else kind
    if isinstance(subject, str):
        return word, str(id), subject
    row = decision.orders[subject]
    if isinstance(id, int):
        id = unpack_order(row.record).events[0]
    return word, id, row.order_id


_PREORDER = MODES.index("preorder")
_PARKED_CODE = STATES.index("parked") + 1


def is_parked(record: Raw) -> bool:
    """Whether a packed order holds only parked events."""
    packed = memoryview(record)
    if packed[0] == ORDER_HEADER:
        return packed[2] == _PARKED_CODE
    return b"parked" in bytes(packed) and unpack_order(record).state == "parked"
