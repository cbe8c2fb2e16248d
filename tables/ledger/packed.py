"""The packed forms of the ledger's records, and their way to typed records.

In: msgpack that Lua packs, in format 2 (arrays by position) or format 1 (maps by name). Out: the typed records of
`tables.ledger.records`. Python writes format 1 only, by encoding a record; Lua reads both and writes format 2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache, wraps
from itertools import compress
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from stocktide.tables.ledger import codes
from stocktide.tables.ledger.codes import WAREHOUSE_NUMBERS, outcome_of, state_of
from stocktide.tables.ledger.commands import PLACED_ID_DEFAULT
from stocktide.tables.ledger.records import (
    ApprovalRecord,
    LineRecord,
    OrderRecord,
    PromisePass,
    SkuRecord,
    ThresholdSide,
    has_left_over,
    has_pools,
    pool_dues,
    sku_entries,
)

# Of records and of decisions.
FORMAT = 2
# Format strings, sets of warehouses and the like: few different ones.
_CACHED = 4_096

Packed = bytes | memoryview | msgspec.Raw
_T = TypeVar("_T")


class _PackedLine(Struct, array_like=True, gc=False):
    sku: str
    quantity: int
    state: int | str
    reserved: int
    preordered: int
    shipped: int
    returned: int
    cancelled: int
    reason: int | str
    warehouses: dict[str, int] = {}
    short: int = 0
    pools: dict[str, int] = {}
    # [promised_at (0: none), first_promised_at, slips]
    promise: tuple[int, int, int] | None = None


class _PackedOrder(Struct, array_like=True, gc=False):
    """See `lua/includes/order_record.lua`."""

    format: int
    state: int | str
    channel: str
    sequence: int
    placed_at: int
    expires_in: int
    ended_in: int
    fingerprint: str
    outcome: int | str
    events: int | list[str]
    lines: list[_PackedLine]
    rest: int | _RareFields


class _RareFields(Struct):
    priority: str = "standard"
    region: str | None = None
    purpose: str | None = None
    event_digests: str = ""
    extensions: int = 0
    parked: tuple[dict[str, Any], ...] = ()
    wait_at: int | None = None
    queued: int = 0
    no_preorder: bool = False
    approval: ApprovalRecord | None = None
    held_back: dict[str, bool] = {}
    passed_over: dict[str, int] = {}
    choice_due: bool = False
    buyer: str | None = None
    bounded: bool = False
    removed_ahead: dict[str, int] = {}


class _PackedSku(Struct, array_like=True, gc=False):
    """See `lua/includes/sku_record.lua`."""

    format: int
    width: int
    # Lua packs bytes as a string that is not UTF-8.
    numbers: msgspec.Raw
    warehouses: str
    named: int | _NamedFields
    marks: msgspec.Raw


class _NamedFields(Struct):
    counters: dict[str, int] = {}
    modes: dict[str, tuple[int, int, int]] = {}
    policies: dict[str, dict[str, Any] | tuple[()]] = {}
    filling: int = 0
    pool_times: dict[str, tuple[int, int]] = {}
    rerouting: tuple[int, str, int, int] | None = None
    announced: dict[str, tuple[int, int, int]] = {}
    promise_pass: PromisePass | None = None


class _Marks(Struct):
    counted: dict[str, int] = {}
    floors: dict[str, int] = {}
    history: str = ""
    repaired: str = ""


class _OrderEnds(Struct, array_like=True, gc=False):
    """The first fields of an order, which tell when its record ends."""

    format: int
    state: int | str
    channel: msgspec.Raw
    sequence: int
    placed_at: int
    expires_in: int
    ended_in: int


class _SkuNames(Struct, array_like=True, gc=False):
    format: int
    width: int
    numbers: msgspec.Raw
    warehouses: str


_order_1 = msgspec.msgpack.Decoder(OrderRecord).decode
_order_2 = msgspec.msgpack.Decoder(_PackedOrder).decode
_order_ends = msgspec.msgpack.Decoder(_OrderEnds).decode
_sku_1 = msgspec.msgpack.Decoder(SkuRecord).decode
_sku_2 = msgspec.msgpack.Decoder(_PackedSku).decode
_sku_names = msgspec.msgpack.Decoder(_SkuNames).decode
_marks = msgspec.msgpack.Decoder(_Marks).decode
# The first byte of format 2: an array of 12, and of 6. Format 1 is a map.
ORDER_HEADER, SKU_HEADER = 0x9C, 0x96
_NO_NAMES, _NO_MARKS = _NamedFields(), _Marks()
_NO_PROMISE = (0, None, 0)
_NO_ENTRIES = sku_entries(None, False, False, None)


def _decodes(unpack: Callable[[Packed], _T]) -> Callable[[Packed], _T]:
    """Let a function raise only msgspec's errors, whatever the bytes are."""

    @wraps(unpack)
    def checked(packed: Packed) -> _T:
        try:
            return unpack(packed)
        except (LookupError, ValueError, TypeError, struct.error) as error:
            raise msgspec.ValidationError(f"not a record: {error}") from error

    return checked


@_decodes
def unpack_order(packed: Packed) -> OrderRecord:
    """The order in a packed record. Raises msgspec.MsgspecError."""
    if memoryview(packed)[0] != ORDER_HEADER:
        return _order_1(packed)
    order = _order_2(packed)
    _check_record(order.format)
    placed_at, rest = order.placed_at, order.rest
    common = (
        state_of(order.state),
        order.channel,
        order.sequence,
        placed_at,
        placed_at + order.expires_in - 1 if order.expires_in else None,
        placed_at + order.ended_in - 1 if order.ended_in else None,
        order.fingerprint,
        outcome_of(order.outcome),
    )
    lines = tuple([_line(line) for line in order.lines])
    events = _events(order.events, order.fingerprint)
    if isinstance(rest, int):
        return OrderRecord(*common, lines=lines, events=events)
    return OrderRecord(*common, lines=lines, events=events, **structs.asdict(rest))


@_decodes
def order_end(packed: Packed) -> tuple[str, int | None]:
    """The state of an order, and the time (ms) of its last change if that was its end. Raises msgspec.MsgspecError."""
    if memoryview(packed)[0] != ORDER_HEADER:
        record = _order_1(packed)
        return record.state, record.ended_at
    order = _order_ends(packed)
    return state_of(order.state), order.placed_at + order.ended_in - 1 if order.ended_in else None


def _line(line: _PackedLine) -> LineRecord:
    promised_at, first_promised_at, slips = line.promise or _NO_PROMISE
    return LineRecord(
        line.sku,
        line.quantity,
        state_of(line.state),
        line.reserved,
        line.preordered,
        line.shipped,
        line.returned,
        line.cancelled,
        outcome_of(line.reason) or None,
        line.warehouses,
        line.short,
        line.pools,
        promised_at or None,
        first_promised_at,
        slips,
    )


def _events(events: int | list[str], fingerprint: str) -> tuple[str, ...]:
    if isinstance(events, int):
        return (PLACED_ID_DEFAULT, fingerprint) if events else ()
    return tuple(each or fingerprint if number % 2 else each for number, each in enumerate(events))


@_decodes
def unpack_sku(packed: Packed) -> SkuRecord:
    """The SKU in a packed record. Raises msgspec.MsgspecError."""
    if memoryview(packed)[0] != SKU_HEADER:
        return _sku_1(packed)
    sku = _sku_2(packed)
    _check_record(sku.format)
    warehouses, version, at, counters = _numbers(sku)
    named, marks = sku.named, memoryview(sku.marks)
    if named == 0 and len(marks) == 1:
        return SkuRecord(version, at, counters, warehouses)
    if isinstance(named, int):
        named = _NO_NAMES
    more = _marks(_bytes_of(marks)) if len(marks) > 1 else _NO_MARKS
    modes = {name: ThresholdSide(state == 1, left_at, due) for name, (state, left_at, due) in named.modes.items()}
    counters |= named.counters
    return SkuRecord(
        version,
        at,
        counters,
        warehouses,
        modes,
        named.policies,
        more.history,
        more.counted,
        more.floors,
        more.repaired,
        named.filling,
        named.pool_times,
        named.rerouting,
        named.announced,
        named.promise_pass,
    )


@_decodes
def index_entries(packed: Packed) -> dict[str, int | None]:
    """The scores of a packed SKU in its indexes, None where it has no entry. Raises msgspec.MsgspecError."""
    if memoryview(packed)[0] != SKU_HEADER:
        return _sku_1(packed).index_entries
    named = _sku_2(packed).named
    if isinstance(named, int):
        return _NO_ENTRIES
    dwells = [due for _, _, due in named.modes.values() if due]
    first = min((*dwells, *pool_dues(named.pool_times)), default=None)
    pools = has_pools(named.counters, named.pool_times)
    return sku_entries(first, pools, has_left_over(named.filling, named.rerouting), named.promise_pass)


@_decodes
def unpack_counters(packed: Packed) -> tuple[int, dict[str, int]]:
    """The version and the counters of a SKU. Raises msgspec.MsgspecError."""
    if memoryview(packed)[0] != SKU_HEADER:
        record = _sku_1(packed)
        return record.version, record.counters
    sku = _sku_2(packed)
    _check_record(sku.format)
    _, version, _, counters = _numbers(sku)
    return version, counters | sku.named.counters if isinstance(sku.named, _NamedFields) else counters


def _numbers(sku: _PackedSku) -> tuple[tuple[str, ...], int, int, dict[str, int]]:
    """The warehouses, the version, the time and the counters."""
    warehouses, names, unpack = _layout(sku.width, sku.warehouses)
    values = unpack(_bytes_of(memoryview(sku.numbers)))
    units = values[8:] if len(warehouses) <= codes.MANY_WAREHOUSES else _by_warehouse(values[8:])
    counters = dict(zip(compress(names, units), filter(None, units), strict=True))
    return warehouses, values[0] << 32 | values[1], values[2] << 32 | values[3], counters


def _by_warehouse(values: tuple[int, ...]) -> list[int]:
    """The counters of each warehouse, of a SKU in many: the free units of all come first, then the other counters."""
    count, others = len(values) // len(WAREHOUSE_NUMBERS), len(WAREHOUSE_NUMBERS) - 1
    units = [0] * len(values)
    for kind in range(others):
        units[kind + 1 :: others + 1] = values[count + kind :: others]
    units[:: others + 1] = map(sum, zip(values[:count], units[1 :: others + 1], units[2 :: others + 1], strict=True))
    return units


# The length of a string's header, by its first byte; shorter strings have one byte.
_HEADERS = {0xD9: 2, 0xDA: 3, 0xDB: 5}


def _bytes_of(packed: memoryview) -> memoryview:
    """The bytes of a packed string."""
    return packed[_HEADERS.get(packed[0], 1) :]


@lru_cache(_CACHED)
def _layout(
    width: int, joined: str
) -> tuple[tuple[str, ...], tuple[str, ...], Callable[[memoryview], tuple[Any, ...]]]:
    """The warehouses, the names of their counters, and what unpacks a SKU's numbers: `version` and `at` as 2 and 4
    bytes, `low`, `high`, `as_of` as 2 and 4 bytes, of many warehouses the totals, the counters."""
    warehouses = tuple(joined.split("\n")) if joined else ()
    names = tuple(f"{kind}@{name}" for name in warehouses for kind in WAREHOUSE_NUMBERS)
    letter = {4: "i", 8: "q"}[width]
    totals = ""
    if len(warehouses) > codes.MANY_WAREHOUSES:
        totals = f"{8 * len(WAREHOUSE_NUMBERS)}x"  # of Lua alone
    return warehouses, names, struct.Struct(f">HIHI2{letter}HI{totals}{len(names)}{letter}").unpack


def counter_names_of(packed: Packed) -> tuple[str, ...]:
    """The names of the counters of a packed SKU's warehouses (format 2), in their order."""
    sku = _sku_names(packed)
    return _layout(sku.width, sku.warehouses)[1]


def _check_record(format: int) -> None:
    if format != FORMAT:
        raise msgspec.ValidationError(f"a record of format {format}; this version reads 1 and {FORMAT}")
