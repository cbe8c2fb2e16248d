"""The input events of the contract, as frozen messages, and their one decoder.

In: the raw bytes of one JSON document, from a topic or a request body.
Out: a typed event, or a `Malformed` with the error and its path.

Quantities are whole units. Times are RFC 3339 with an offset, as aware datetimes. Unknown fields are ignored; missing
or ill-typed fields are errors.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from stocktide.streams.contract.decode_errors import explain_error
from stocktide.streams.contract.times import explain_time

# The contract's limits.
NAME_LENGTH_MAX = 128
QUANTITY_MAX = 1_000_000
# The stock of one warehouse came in many movements (rule 41); sums of counts stay far below a double's exact integers.
COUNTED_QUANTITY_MAX = 1_000_000_000
LINES_MAX = 2_000
# Parts of one count: two million SKUs, twice the largest shop that is measured.
PARTS_MAX = 1_000
BODY_BYTES_MAX = 1024 * 1024
HOLD_SECONDS_DEFAULT = 900
HOLD_SECONDS_MAX = 604_800
# Some editors and exports put it before UTF-8; the decoder skips it.
BOM = b"\xef\xbb\xbf"
# A reason or a tracking number is free text: a sentence, not a document.
TEXT_LENGTH_MAX = 256

Name = Annotated[
    str,
    Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=r"^[^\s\x00-\x1f\x7f]+$", description="A name"),
]
# Who places an order, as the channel names them: any printable text.
Buyer = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, Meta(max_length=TEXT_LENGTH_MAX)]
Reason = Annotated[str, Meta(min_length=1, max_length=TEXT_LENGTH_MAX)]
Time = Annotated[datetime, Meta(tz=True)]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
SignedQuantity = Annotated[int, Meta(ge=-QUANTITY_MAX, le=QUANTITY_MAX)]
CountedQuantity = Annotated[int, Meta(ge=0, le=COUNTED_QUANTITY_MAX)]
ExpectedQuantity = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
PartNumber = Annotated[int, Meta(ge=1, le=PARTS_MAX)]
HoldSeconds = Annotated[int, Meta(ge=1, le=HOLD_SECONDS_MAX)]
# What a payment does with an expired order; without it, the payment is refused.
IfExpired = Literal["take_again"]
Removal = Literal["total", "single"]
_Line = TypeVar("_Line")
Lines = Annotated[tuple[_Line, ...], Meta(min_length=1, max_length=LINES_MAX)]
LinesOrNone = Annotated[tuple[_Line, ...], Meta(max_length=LINES_MAX)]


class OrderLine(Struct, frozen=True):
    """A number of units of a SKU."""

    sku: Name
    quantity: Quantity


class ShippedLine(Struct, frozen=True):
    """Units of a SKU that left a warehouse."""

    sku: Name
    quantity: Quantity
    warehouse: Name


class ReturnedLine(Struct, frozen=True):
    """Units of a SKU that were returned to a warehouse, sellable or damaged."""

    sku: Name
    quantity: Quantity
    warehouse: Name
    condition: Literal["sellable", "damaged"] = "sellable"


class AdjustedLine(Struct, frozen=True):
    """A signed change of a SKU's units."""

    sku: Name
    quantity: SignedQuantity


class CountedLine(Struct, frozen=True):
    """The counted units of a SKU."""

    sku: Name
    quantity: CountedQuantity


class ExpectedLine(Struct, frozen=True):
    """Units of a SKU that are announced in total; 0 withdraws them."""

    sku: Name
    quantity: ExpectedQuantity


class OrderBody(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/orders`; `id` and `occurred_at` are optional."""

    order_id: Name
    channel: Name
    lines: Lines[OrderLine]
    id: Name | None = None
    occurred_at: Time | None = None
    priority: Literal["standard", "vip"] = "standard"
    accept: Literal["all", "partial", "sold"] = "all"
    allow_preorder: bool = True
    hold_seconds: HoldSeconds = HOLD_SECONDS_DEFAULT
    region: Name | None = None
    purpose: Name | None = None
    supersedes: Name | None = None
    paid: bool = False
    # Takes units from below every threshold and buffer, once a second person approves; it needs a reason.
    force: bool = False
    reason: Text | None = None
    # Who places it, as the channel names them: the policy may bound a buyer's unpaid units.
    buyer: Buyer | None = None


class PayBody(Struct, frozen=True):
    """The body of pay. Without an `id`, only the state of the order identifies a repeat."""

    id: Name | None = None
    if_expired: IfExpired | None = None


class CancelBody(Struct, frozen=True):
    """The body of cancel. Without an `id`, only the state of the order identifies a repeat."""

    id: Name | None = None
    lines: Lines[OrderLine] | None = None


class ChangeBody(Struct, frozen=True):
    """The body of change. Without an `id`, a repeat is another change."""

    id: Name | None = None
    remove: LinesOrNone[OrderLine] = ()
    add: LinesOrNone[OrderLine] = ()


class ApproveBody(Struct, frozen=True):
    """The body of approve, which has no field: the actor is in a header, the request in the path."""


class RejectBody(Struct, frozen=True):
    """The body of reject."""

    reason: Reason


class HoldBackBody(Struct, frozen=True):
    """The body of hold_back: of all lines that wait, or of one. Without an `id`, a repeat is another action."""

    reason: Reason
    id: Name | None = None
    sku: Name | None = None
    held: bool = True


class AssignBody(Struct, frozen=True):
    """The body of assign; without lines, all units for which the order waits. Without an `id`, a repeat is another
    action."""

    reason: Reason
    id: Name | None = None
    lines: Lines[OrderLine] | None = None


class _OrderEvent(Struct, frozen=True, kw_only=True, tag_field="type"):
    id: Name
    occurred_at: Time
    order_id: Name


class OrderPlaced(_OrderEvent, frozen=True, kw_only=True, tag="order.placed"):
    """A request to hold units for an order."""

    channel: Name
    lines: Lines[OrderLine]
    priority: Literal["standard", "vip"] = "standard"
    accept: Literal["all", "partial", "sold"] = "all"
    allow_preorder: bool = True
    hold_seconds: HoldSeconds = HOLD_SECONDS_DEFAULT
    region: Name | None = None
    purpose: Name | None = None
    supersedes: Name | None = None
    # It is paid with the placing: no hold, no deadline.
    paid: bool = False
    # As in `OrderBody`; `actor` asks for it, by default the channel.
    force: bool = False
    reason: Text | None = None
    actor: Name | None = None
    buyer: Buyer | None = None


class _OrderOfChannel(_OrderEvent, frozen=True, kw_only=True, omit_defaults=True):
    # To an order of another channel the event does not apply: it is refused as if there were no such order.
    channel: Name | None = None


class OrderPaid(_OrderOfChannel, frozen=True, kw_only=True, omit_defaults=True, tag="order.paid"):
    """The hold becomes a commitment; an expired one is taken again first, if it says so."""

    if_expired: IfExpired | None = None


class OrderCancelled(_OrderOfChannel, frozen=True, kw_only=True, omit_defaults=True, tag="order.cancelled"):
    """The hold, or the paid and unshipped units, are released; of some lines only, if it has lines."""

    lines: Lines[OrderLine] | None = None
    # A platform reports what it removed: the `total` of each line so far, or a `single` removal, or both of the same.
    removal: Removal | None = None


class OrderChanged(_OrderOfChannel, frozen=True, kw_only=True, omit_defaults=True, tag="order.changed"):
    """Units go back and others are added, in one step."""

    remove: LinesOrNone[OrderLine] = ()
    add: LinesOrNone[OrderLine] = ()


class OrderExtended(_OrderOfChannel, frozen=True, kw_only=True, omit_defaults=True, tag="order.extended"):
    """The hold's deadline moves later."""

    hold_seconds: HoldSeconds = HOLD_SECONDS_DEFAULT


class OrderShipped(_OrderEvent, frozen=True, kw_only=True, tag="order.shipped"):
    """Units of the order left a warehouse."""

    lines: Lines[ShippedLine]
    tracking: Text | None = None


class OrderReturned(_OrderEvent, frozen=True, kw_only=True, tag="order.returned"):
    """Units of the order were returned."""

    lines: Lines[ReturnedLine]


class _Movement(Struct, frozen=True, kw_only=True, tag_field="type"):
    id: Name
    occurred_at: Time
    warehouse: Name


class StockReceived(_Movement, frozen=True, kw_only=True, tag="stock.received"):
    """Units arrived in a warehouse."""

    lines: Lines[OrderLine]
    expected_id: Name | None = None


class StockAdjusted(_Movement, frozen=True, kw_only=True, tag="stock.adjusted"):
    """A signed correction with a reason, such as `damages`."""

    reason: Text
    lines: Lines[AdjustedLine]


class StockCounted(_Movement, frozen=True, kw_only=True, tag="stock.counted"):
    """Absolute quantities as of `occurred_at`."""

    lines: Lines[CountedLine]
    # Unlisted SKUs of the warehouse are 0.
    complete: bool = False
    # This body is number `part` of the `parts` with this id that form one count.
    part: PartNumber | None = None
    parts: PartNumber | None = None


class StockTransferred(_Movement, frozen=True, kw_only=True, tag="stock.transferred"):
    """Units moved to another warehouse."""

    to_warehouse: Name
    lines: Lines[OrderLine]


class StockVoided(_Movement, frozen=True, kw_only=True, tag="stock.voided"):
    """A receipt, an adjustment or a transfer of the warehouse never was: its effects are reversed."""

    movement_id: Name


class StockExpected(_Movement, frozen=True, kw_only=True, tag="stock.expected"):
    """Announces a receipt. The same id with a newer `occurred_at` amends it: its lines are replaced whole."""

    lines: Lines[ExpectedLine]
    # Required unless every line is withdrawn.
    eta: Time | None = None


class _PoolMovement(_Movement, frozen=True, kw_only=True):
    # A counter's name is `reserved#<purpose>@<warehouse>`: a purpose has no `@`.
    purpose: Name
    lines: Lines[OrderLine]


class StockReserved(_PoolMovement, frozen=True, kw_only=True, tag="stock.reserved"):
    """Units are set aside for a purpose: they go from the shelf into a pool, which is usable from `from` and ends at
    `until`."""

    from_: Time | None = field(default=None, name="from")
    until: Time | None = None


class StockReleased(_PoolMovement, frozen=True, kw_only=True, tag="stock.released"):
    """Units go from a pool back to the shelf."""


ChannelEvent = OrderPaid | OrderCancelled | OrderChanged | OrderExtended
OrderEvent = OrderPlaced | OrderPaid | OrderCancelled | OrderChanged | OrderExtended | OrderShipped | OrderReturned
StockEvent = StockReceived | StockAdjusted | StockCounted | StockTransferred | StockVoided | StockExpected
Movement = StockEvent | StockReserved | StockReleased
Event = OrderEvent | Movement


class Malformed(Struct, frozen=True):
    """A decoding error: a stable `code`, a sentence, and the path of the field (`lines[0].sku`)."""

    code: str
    detail: str
    path: str | None = None


_T = TypeVar("_T")
_ORDER_EVENT: msgspec.json.Decoder[OrderEvent] = msgspec.json.Decoder(OrderEvent)
_MOVEMENT: msgspec.json.Decoder[Movement] = msgspec.json.Decoder(Movement)
_EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_PATTERN = re.compile(r"^Expected `str` matching regex .*$", re.DOTALL)


def decode_order_event(raw: bytes) -> OrderEvent | Malformed:
    """Decode one message of the topic `orders`; a movement is an error."""
    return decode_with(_ORDER_EVENT, raw)


def decode_movement(raw: bytes) -> Movement | Malformed:
    """Decode one message of the topic `movements`; an order event is an error."""
    return decode_with(_MOVEMENT, raw)


def decode_event(raw: bytes) -> Event | Malformed:
    """Decode any input event."""
    return decode_with(_EVENT, raw)


def decode_with(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T | Malformed:
    """Decode `raw`. Any invalid input gives a `Malformed`."""
    if len(raw) > BODY_BYTES_MAX:
        return Malformed("too_large", f"{len(raw)} bytes; at most {BODY_BYTES_MAX} are taken")
    raw = raw.removeprefix(BOM)
    if not raw.strip():
        return Malformed("malformed_json", "the message is empty")
    try:
        if not raw.isascii():
            raw.decode()  # the decoder skips unknown fields, but their bytes are stored and shown too
        message = decoder.decode(raw)
    except msgspec.ValidationError as error:
        return _explain(error, decoder.type, raw)
    except msgspec.DecodeError as error:
        return Malformed("malformed_json", str(error))
    except UnicodeDecodeError as error:
        what = "UTF-16, not UTF-8" if raw[:2] in _UTF_16 else f"not UTF-8 at byte {error.start}"
        return Malformed("malformed_json", what)
    except RecursionError:
        return Malformed("malformed_json", "nested too deeply")
    return _check_beyond_types(message, raw)


def _check_beyond_types(message: _T, raw: bytes) -> _T | Malformed:
    """Check what types cannot express: unprintable names, sums over the limit, repeated or impossible lines."""
    if b"\\" in raw or not raw.isascii():
        found = _unprintable(message, "")
        if found is not None:
            return Malformed("invalid_field", "holds a character that cannot be printed", found)
    if isinstance(message, OrderPlaced | OrderBody):
        wrong = _wrong_in_order(message)
    elif isinstance(message, OrderChanged | ChangeBody):
        wrong = _wrong_in_change(message)
    elif isinstance(message, AssignBody):
        wrong = _sum_over_limit(message.lines or (), "lines")
    elif isinstance(message, StockCounted):
        wrong = _counted_twice(message) or _wrong_part(message)
    elif isinstance(message, StockExpected) and message.eta is None and any(line.quantity for line in message.lines):
        wrong = Malformed("missing_field", "`eta` is required", "eta")
    elif isinstance(message, StockTransferred) and message.to_warehouse == message.warehouse:
        wrong = Malformed("invalid_field", "a transfer goes to another warehouse", "to_warehouse")
    elif isinstance(message, StockReserved | StockReleased):
        wrong = _wrong_in_pool(message)
    else:
        wrong = None
    return message if wrong is None else wrong


def _wrong_in_order(order: OrderPlaced | OrderBody) -> Malformed | None:
    if order.channel == "*":
        return Malformed("invalid_field", "`*` stands for all channels and is none itself", "channel")
    if order.force and not (order.reason or "").strip():
        return Malformed("missing_field", "`reason` is required with `force`", "reason")
    if order.force and order.accept == "sold":
        return Malformed("invalid_field", "an order that is already sold needs no `force`", "accept")
    return _sum_over_limit(order.lines, "lines")


def _wrong_in_change(change: OrderChanged | ChangeBody) -> Malformed | None:
    if not change.remove and not change.add:
        return Malformed("missing_field", "a change removes or adds at least one line", "add")
    return _sum_over_limit(change.add, "add")


def _sum_over_limit(lines: tuple[OrderLine, ...], field: str) -> Malformed | None:
    if len(lines) == 1:
        return None
    sums: dict[str, int] = {}
    for index, line in enumerate(lines):
        total = sums[line.sku] = sums.get(line.sku, 0) + line.quantity
        if total > QUANTITY_MAX:
            detail = f"the lines of {line.sku} sum to more than {QUANTITY_MAX}"
            return Malformed("invalid_field", detail, f"{field}[{index}].quantity")
    return None


def _counted_twice(count: StockCounted) -> Malformed | None:
    seen: set[str] = set()
    for index, line in enumerate(count.lines):
        if line.sku in seen:
            return Malformed("invalid_field", f"{line.sku} is counted twice", f"lines[{index}].sku")
        seen.add(line.sku)
    return None


def _wrong_in_pool(movement: StockReserved | StockReleased) -> Malformed | None:
    if "@" in movement.purpose:
        return Malformed("invalid_field", "the purpose of a pool has no `@`", "purpose")
    if isinstance(movement, StockReserved) and movement.from_ and movement.until and movement.from_ >= movement.until:
        return Malformed("invalid_field", "a pool ends after it begins", "until")
    return None


def _wrong_part(count: StockCounted) -> Malformed | None:
    if (count.part is None) != (count.parts is None):
        path = "part" if count.part is None else "parts"
        return Malformed("missing_field", "`part` and `parts` belong together", path)
    if count.part is not None and count.parts is not None and count.part > count.parts:
        return Malformed("invalid_field", f"there are {count.parts} parts", "part")
    return None


def _unprintable(value: Any, path: str) -> str | None:
    if isinstance(value, str):
        return None if value.isprintable() else path
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            if (found := _unprintable(item, f"{path}[{index}]")) is not None:
                return found
    elif isinstance(value, Struct):
        for field in value.__struct_fields__:
            below = f"{path}.{field}" if path else field
            if (found := _unprintable(getattr(value, field), below)) is not None:
                return found
    return None


def _time_at(raw: bytes, path: str | None) -> str:
    """`explain_time` for the field of a message at `path`."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        given = msgspec.json.decode(fields[path or ""])
    except (msgspec.MsgspecError, LookupError, RecursionError):
        given = ""
    return explain_time(given)


def _explain(error: msgspec.ValidationError, decoded: Any, raw: bytes) -> Malformed:
    what, place = explain_error(error, decoded)
    path = place or None
    if _PATTERN.match(what):
        what = "white space and control characters are not allowed"
    if missing := re.fullmatch(r"Object missing required field `(.+)`", what):
        name = missing[1]
        return Malformed("missing_field", f"`{name}` is required", f"{path}.{name}" if path else name)
    if "RFC3339" in what or what.startswith("Expected `datetime`"):
        what = _time_at(raw, path)
    if path == "type":
        return Malformed("unknown_type", what, path)
    return Malformed("invalid_field", what, path)
