"""The commands that events and the bodies of requests ask for.

In: typed events of `streams.contract.events`. Out: commands of the ledger.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from stocktide.streams.contract import events
from stocktide.streams.contract.times import ms_of
from stocktide.tables.ledger.commands import (
    PLACED_ID_DEFAULT,
    Adjust,
    Assign,
    Cancel,
    Change,
    ChannelCommand,
    Command,
    Count,
    Expect,
    Extend,
    HoldBack,
    Origin,
    Pay,
    Place,
    Receive,
    Release,
    Reserve,
    Ship,
    TakeBack,
    Transfer,
    Void,
)

# 16 hex digits: no collision among one order's events, and short, since each event stores one.
_FINGERPRINT_BYTES = 8


def fingerprint(*parts: object) -> str:
    """A short digest of a body with its defaults, lines summed and sorted, without `id` and `occurred_at`."""
    return blake2b(msgspec.msgpack.encode(parts), digest_size=_FINGERPRINT_BYTES).hexdigest()


_PAY_FINGERPRINT = fingerprint("pay")


def make_place(
    body: events.OrderPlaced | events.OrderBody, origin: Origin | None = None, actor: str | None = None
) -> Place:
    """The command that places an order; the same body has the same fingerprint from Kafka and from HTTP. `actor` asks
    for a forced order."""
    lines = _summed(body.lines)
    forced = (True, body.reason, actor or body.channel) if body.force else (False, None, None)
    return Place(
        id=body.id or PLACED_ID_DEFAULT,
        order_id=body.order_id,
        at=None if body.occurred_at is None else ms_of(body.occurred_at),
        channel=body.channel,
        lines=lines,
        hold_ms=body.hold_seconds * 1000,
        priority=body.priority,
        accept=body.accept,
        allow_preorder=body.allow_preorder,
        region=body.region,
        purpose=body.purpose,
        supersedes=body.supersedes,
        paid=body.paid,
        force=forced[0],
        reason=forced[1],
        actor=forced[2],
        buyer=body.buyer,
        fingerprint=fingerprint(
            "place",
            body.channel,
            sorted(lines),
            body.hold_seconds,
            body.priority,
            body.accept,
            body.allow_preorder,
            body.region,
            body.purpose,
            body.supersedes,
            *(("paid",) if body.paid else ()),
            *(("force", body.reason) if body.force else ()),
            *(("buyer", body.buyer) if body.buyer is not None else ()),
        ),
        origin=origin,
    )


def make_command(event: events.Event, origin: Origin | None = None, received_at: int = 0) -> Command:
    """The command of an input event."""
    command = _command_of(event, origin, received_at)
    if isinstance(command, ChannelCommand) and isinstance(event, events.ChannelEvent) and event.channel is not None:
        return msgspec.structs.replace(command, channel=event.channel)
    return command


def _command_of(event: events.Event, origin: Origin | None, received_at: int) -> Command:
    at = ms_of(event.occurred_at)
    match event:
        case events.OrderPlaced():
            return make_place(event, origin, event.actor)
        case events.OrderPaid(id=id_, order_id=order_id):
            return make_pay(order_id, event.if_expired, id_, at, origin)
        case events.OrderCancelled(id=id_, order_id=order_id):
            return make_cancel(order_id, event.lines, id_, at, origin, event.removal)
        case events.OrderChanged(id=id_, order_id=order_id):
            return make_change(order_id, event.remove, event.add, id_, at, origin)
        case events.OrderExtended(id=id_, order_id=order_id):
            return make_extend(order_id, event.hold_seconds, id_, at, origin)
        case events.OrderShipped(id=id_, order_id=order_id):
            shipped = tuple((line.sku, line.quantity, line.warehouse) for line in event.lines)
            mark = fingerprint("ship", sorted(shipped), event.tracking)
            return Ship(id=id_, order_id=order_id, at=at, lines=shipped, fingerprint=mark, origin=origin)
        case events.OrderReturned(id=id_, order_id=order_id):
            returned = tuple((line.sku, line.quantity, line.warehouse, line.condition) for line in event.lines)
            mark = fingerprint("take_back", sorted(returned))
            return TakeBack(id=id_, order_id=order_id, at=at, lines=returned, fingerprint=mark, origin=origin)
    return _movement_of(event, at, origin, received_at)


def make_pay(
    order_id: str, if_expired: str | None, id_: str, at: int | None = None, origin: Origin | None = None
) -> Pay:
    """The command that pays an order."""
    mark = fingerprint("pay", if_expired) if if_expired else _PAY_FINGERPRINT
    return Pay(id=id_, order_id=order_id, at=at, if_expired=if_expired, fingerprint=mark, origin=origin)


def make_cancel(
    order_id: str,
    lines: tuple[events.OrderLine, ...] | None,
    id_: str,
    at: int | None = None,
    origin: Origin | None = None,
    removal: str | None = None,
) -> Cancel:
    """The command that cancels an order, or units of its lines."""
    summed = _summed(lines or ())
    units = summed if removal else tuple((line.sku, line.quantity) for line in lines or ())
    parts = ([sorted(summed)] if lines else []) + ([removal] if removal else [])
    mark = fingerprint("cancel", *parts)
    return Cancel(id=id_, order_id=order_id, at=at, lines=units, removal=removal, fingerprint=mark, origin=origin)


def make_change(
    order_id: str,
    remove: tuple[events.OrderLine, ...],
    add: tuple[events.OrderLine, ...],
    id_: str,
    at: int | None = None,
    origin: Origin | None = None,
) -> Change:
    """The command that exchanges units of an order."""
    removed, added = tuple((line.sku, line.quantity) for line in remove), _summed(add)
    mark = fingerprint("change", sorted(_summed(remove)), sorted(added))
    return Change(id=id_, order_id=order_id, at=at, remove=removed, add=added, fingerprint=mark, origin=origin)


def make_hold_back(order_id: str, body: events.HoldBackBody, id_: str, actor: str) -> HoldBack:
    """The command that holds an order's waiting lines back, or releases them."""
    return HoldBack(
        id=id_,
        order_id=order_id,
        reason=body.reason,
        sku=body.sku,
        held=body.held,
        actor=actor,
        fingerprint=fingerprint("hold_back", body.sku, body.held, body.reason),
    )


def make_assign(order_id: str, body: events.AssignBody, id_: str, actor: str) -> Assign:
    """The command that gives units to an order's waiting lines."""
    lines = _summed(body.lines) if body.lines else ()
    mark = fingerprint("assign", sorted(lines), body.reason)
    return Assign(id=id_, order_id=order_id, reason=body.reason, lines=lines, actor=actor, fingerprint=mark)


def make_extend(
    order_id: str, hold_seconds: int, id_: str, at: int | None = None, origin: Origin | None = None
) -> Extend:
    """The command that extends a hold."""
    mark = fingerprint("extend", hold_seconds)
    return Extend(id=id_, order_id=order_id, at=at, hold_ms=hold_seconds * 1000, fingerprint=mark, origin=origin)


def _movement_of(event: events.Movement, at: int, origin: Origin | None, received_at: int) -> Command:
    common: dict[str, Any] = {
        "id": event.id,
        "warehouse": event.warehouse,
        "at": at,
        "received_at": received_at,
        "origin": origin,
    }
    if isinstance(event, events.StockVoided):
        mark = fingerprint("void", event.movement_id)
        return Void(movement_id=event.movement_id, fingerprint=mark, **common)
    lines = common["lines"] = _summed(event.lines)
    match event:
        case events.StockReceived(expected_id=expected_id):
            mark = fingerprint("receive", sorted(lines), expected_id)
            return Receive(expected_id=expected_id, fingerprint=mark, **common)
        case events.StockAdjusted(reason=reason):
            return Adjust(reason=reason, fingerprint=fingerprint("adjust", sorted(lines), reason), **common)
        case events.StockCounted():
            # A count is as of its time, so the time is part of its content.
            if not event.complete and event.parts is None:
                return Count(fingerprint=fingerprint("count", sorted(lines), at), **common)
            part, parts = event.part or 1, event.parts or 1
            mark = fingerprint("count", sorted(lines), at, event.complete, part, parts)
            return Count(fingerprint=mark, complete=event.complete, part=part, parts=parts, **common)
        case events.StockExpected(eta=time):
            eta = None if time is None else ms_of(time)
            return Expect(eta=eta, fingerprint=fingerprint("expect", sorted(lines), eta), **common)
        case events.StockTransferred(to_warehouse=to_warehouse):
            mark = fingerprint("transfer", sorted(lines), to_warehouse)
            return Transfer(to_warehouse=to_warehouse, fingerprint=mark, **common)
        case events.StockReserved(purpose=purpose):
            from_at, until_at = (None if time is None else ms_of(time) for time in (event.from_, event.until))
            mark = fingerprint("reserve", sorted(lines), purpose, from_at, until_at)
            return Reserve(purpose=purpose, from_at=from_at, until_at=until_at, fingerprint=mark, **common)
        case events.StockReleased(purpose=purpose):
            mark = fingerprint("release", sorted(lines), purpose)
            return Release(purpose=purpose, fingerprint=mark, **common)


def _summed(
    lines: tuple[events.OrderLine | events.AdjustedLine | events.CountedLine | events.ExpectedLine, ...],
) -> tuple[tuple[str, int], ...]:
    if len(lines) == 1:
        return ((lines[0].sku, lines[0].quantity),)
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.sku] = sums.get(line.sku, 0) + line.quantity
    return tuple(sums.items())
