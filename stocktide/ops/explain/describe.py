"""Describes what happened to a SKU in a warehouse clerk's terms.

In: an entry of the SKU's history. Out: sentences without a full stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from stocktide.streams.contract.times import rfc3339
from stocktide.tables.history.sku_history import REPAIR, Inconsistency, ModeChange, SkuChange, Takeovers
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import Offer
from stocktide.tables.views import split_counter

# The ledger's term `locked` is shown as held.
COUNTER_NAMES = {
    "on_hand": "on hand",
    "committed": "committed",
    "locked": "held",
    "reserved": "reserved",
    "damaged": "damaged",
    "short": "short",
    "preordered": "preordered",
    "incoming": "incoming",
}
MODE_NAMES = {
    "in_stock": "in stock",
    "preorder": "on preorder",
    "sold_out": "sold out",
    "suspended": "suspended",
}
# Counters whose value is in a column of the table.
_WITH_COLUMN = ("on_hand", "committed", "locked")
# For a line of a movement that changed nothing.
_ALREADY_COUNTED = ", which the newest count holds already: no change"


def describe_change(change: SkuChange) -> str:
    """What happened."""
    describer = _DESCRIBERS.get(change.kind)
    if describer is None:
        return " ".join(word for word in (change.kind, change.id, change.subject) if word)
    return describer(change)


def describe_deltas(change: SkuChange) -> Iterator[tuple[str, str]]:
    """(place, `held +2, damaged +1 (now 3)`) for each warehouse, channel or announcement in the deltas, in their order;
    with the value of those counters that have no column of their own."""
    by_place: dict[str, list[str]] = {}
    for name, units in sorted(change.deltas.items(), key=lambda delta: _rank(delta[0])):
        what, place = split_counter(name)
        pool = name.partition("@")[0].partition("#")[2]
        if what == "incoming":
            place = name.partition("#")[2]
        word = COUNTER_NAMES.get(what, what) + (f" for {pool}" if pool and what == "reserved" else "")
        now = "" if what in _WITH_COLUMN else f" (now {change.record.counters.get(name, 0)})"
        by_place.setdefault(place or pool, []).append(f"{word} {units:+d}{now}")
    for place, words in by_place.items():
        yield place, ", ".join(words)


def _rank(name: str) -> tuple[int, str]:
    known = list(COUNTER_NAMES)
    kind = split_counter(name)[0]
    return (known.index(kind) if kind in known else len(known), name)


def describe_mode_change(mode: ModeChange) -> str:
    """A channel's change of sales mode."""
    return f"{mode.channel}: {MODE_NAMES.get(mode.before, mode.before)} before, now {describe_offer(mode.after)}"


def describe_offer(offer: Offer) -> str:
    """What a channel may sell."""
    mode = MODE_NAMES.get(offer.mode, offer.mode)
    if offer.mode == "in_stock":
        return f"{mode}, {offer.quantity} to sell"
    if offer.mode == "preorder":
        date = "" if offer.available_from is None else f", available from {rfc3339(offer.available_from)}"
        return f"{mode}, {offer.preorder_remaining} left{date}"
    return mode


def describe_takeovers(takeovers: Takeovers) -> str:
    """One takeover, or several in a row."""
    which = f"takeover {takeovers.last}"
    if takeovers.first < takeovers.last:
        which = f"takeovers {takeovers.first} to {takeovers.last}"
    return f"{which}: a worker took over; what Redis had lost was brought back from this log"


def describe_inconsistency(found: Inconsistency) -> str:
    """What the log does not explain."""
    wrong = [f"{each.counter} stood at {each.expected}, then at {each.found}" for each in found.counters]
    if found.version_expected != found.version_found:
        wrong.append(f"version {found.version_expected} would follow, and {found.version_found} came")
    return "not explained by the log: " + ("; ".join(wrong) or "its versions do not follow each other")


def describe_deviation(change: SkuChange) -> str:
    """The counters that a repair found different from the log."""
    found = "; ".join(f"{each.counter} at {each.found}, not at {each.expected}" for each in change.strayed)
    return f"found otherwise than this log says: {found}"


def _units(change: SkuChange, what: str, sign: int = 1) -> int:
    """The sum by which the counters of a kind rose, or with sign -1 fell."""
    return sum(max(0, sign * units) for name, units in change.deltas.items() if split_counter(name)[0] == what)


def _places(change: SkuChange, what: str) -> str:
    """The warehouses whose counter of a kind changed."""
    places = [split_counter(name)[1] for name in change.deltas if split_counter(name)[0] == what]
    return " and ".join(sorted(places))


def _order(change: SkuChange) -> str:
    return f"order {change.subject}"


def _placed(change: SkuChange) -> str:
    record = change.order
    notes = [record.channel] if record and record.channel else []
    if record and record.priority != "standard":
        notes.append(record.priority.upper())
    if record and record.approval and record.approval.decided_by:
        notes.append(f"forced by {record.approval.by}, approved by {record.approval.decided_by}")
    order = _order(change) + (f" ({', '.join(notes)})" if notes else "")
    held, paid, preordered, short = (_units(change, what) for what in ("locked", "committed", "preordered", "short"))
    parts = [f"took {held}: held"] if held else []
    parts += [f"took {paid}: paid, to be shipped"] if paid else []
    if from_pool := _units(change, "reserved", -1):
        parts += [f"{from_pool} of them from the pool {_purposes(change)}"]
    parts += [f"preordered {preordered}"] if preordered else []
    parts += [f"was sold {short} more than there are: short"] if short else []
    return f"{order} {', '.join(parts)}"


def _filled(change: SkuChange) -> str:
    filled, to_paid = _units(change, "locked") + _units(change, "committed"), _units(change, "committed")
    parts = [f"{units} {what}" for what in ("short", "preordered") if (units := _units(change, what, -1))]
    paid = f", {to_paid} of them in paid orders" if to_paid else ""
    return f"{filled} given to orders that waited ({', '.join(parts)}){paid}" if filled else "no order waits any more"


def _rerouted(change: SkuChange) -> str:
    """Held units left some warehouses, below zero until then, for others."""
    held = {name: units for name, units in change.deltas.items() if split_counter(name)[0] in ("locked", "committed")}
    moved = sum(units for units in held.values() if units > 0)
    ends = [
        " and ".join(sorted({split_counter(name)[1] for name, units in held.items() if sign * units > 0}))
        for sign in (-1, 1)
    ]
    return f"{moved} held moved from {ends[0]} to {ends[1]}" if moved else "no held units are to be moved any more"


def _paid(change: SkuChange) -> str:
    if _units(change, "locked", -1):
        return f"{_order(change)} paid: {_units(change, 'committed')} to be shipped"
    preordered = _units(change, "preordered")
    taken = f"preordered {preordered}" if preordered else f"{_units(change, 'committed')} to be shipped"
    return f"{_order(change)} paid after its hold had run out, and taken again: {taken}"


def _back(change: SkuChange) -> str:
    """The units that an ended order gives back."""
    back = _units(change, "locked", -1) + _units(change, "committed", -1)
    parts = [f"{back} back"] if back else []
    if to_pool := _units(change, "reserved"):
        parts.append(f"{to_pool} of them to the pool {_purposes(change)}")
    for what in ("preordered", "short"):
        if units := _units(change, what, -1):
            parts.append(f"{units} {what} no more")
    return ", ".join(parts) or "nothing to give back"


def _cancelled(change: SkuChange) -> str:
    if change.superseded_by_order and change.superseded_by_order != change.subject:
        return f"{_order(change)} gave way to {change.superseded_by_order}: {_back(change)}"
    paid = "paid " if _units(change, "committed", -1) else ""
    lines = change.order.lines if change.order else ()
    is_part = any(line.sku == change.sku and (line.reserved or line.preordered) for line in lines)
    return f"{paid}{_order(change)} cancelled{' in part' if is_part else ''}: {_back(change)}"


def _changed(change: SkuChange) -> str:
    taken = _units(change, "locked") + _units(change, "committed") + _units(change, "preordered")
    return f"{_order(change)} changed: {f'{taken} more' if taken else _back(change)}"


def _assigned(change: SkuChange) -> str:
    return f"{_order(change)} was assigned {_units(change, 'locked') + _units(change, 'committed')} by an operator"


def _expired(change: SkuChange) -> str:
    return f"hold of {_order(change)} ran out: {_back(change)}"


def _shipped(change: SkuChange) -> str:
    if _units(change, "locked", -1):
        return f"{_order(change)} shipped before it was paid: {_units(change, 'committed')} committed"
    gone = _units(change, "on_hand", -1)
    ordered = sum(_units(change, what, -1) for what in ("committed", "preordered", "short"))
    if not gone:
        return f"{_order(change)} shipped {ordered or 'units'}{_ALREADY_COUNTED} of on hand"
    beyond = f", {gone - ordered} more than it had" if gone > ordered else ""
    return f"{_order(change)} shipped {gone} from {_places(change, 'on_hand')}{beyond}"


def _returned(change: SkuChange) -> str:
    if damaged := _units(change, "damaged"):
        return f"{_order(change)} returned {damaged}, damaged, to {_places(change, 'damaged')}"
    if sellable := _units(change, "on_hand"):
        return f"{_order(change)} returned {sellable}, sellable, to {_places(change, 'on_hand')}"
    return f"{_order(change)} returned units{_ALREADY_COUNTED}"


def _received(change: SkuChange) -> str:
    quantity = change.line.quantity if change.line else _units(change, "on_hand")
    announced = ""
    if change.movement and _units(change, "incoming", -1):
        announced = f", announced as {change.movement.expected_id}"
    return f"received {quantity} at {change.subject} ({change.id}){announced}{_if_counted(change)}"


def _announced(change: SkuChange) -> str:
    where, units = f"announcement {change.id} at {change.subject}", sum(change.deltas.values())
    if change.movement is None or change.line is None:
        return f"{where}: {units:+d} to come"
    if change.line.quantity == 0:
        return f"{where} withdrawn: {-units} no longer to come"
    if change.movement.amendments:
        return f"{where} amended to {change.line.quantity}: {units:+d} to come"
    return f"{where}: {units} to come"


def _counted(change: SkuChange) -> str:
    line = change.line
    if line is None:
        return f"counted at {change.subject} ({change.id})"
    carried = f", {abs(line.carried)} {'came in' if line.carried > 0 else 'left'} since" if line.carried else ""
    found = f"{line.change:+d}" if line.change else "as expected"
    return f"counted {line.quantity} at {change.subject} ({change.id}){carried}: {found}"


def _adjusted(change: SkuChange) -> str:
    quantity = change.line.quantity if change.line else _units(change, "on_hand") - _units(change, "on_hand", -1)
    reason = (change.movement.reason if change.movement else None) or "adjusted"
    where = f"at {change.subject} ({change.id}){_if_counted(change)}"
    if reason == "damages" and quantity < 0:
        return f"{-quantity} found damaged {where}"
    if reason == "damages":
        return f"{quantity} damaged before, fit for sale again {where}"
    if reason == "scrapped" and quantity < 0:
        return f"{-quantity} damaged scrapped {where}"
    return f"adjusted by {quantity:+d}, {reason}, {where}"


def _transferred(change: SkuChange) -> str:
    quantity = change.line.quantity if change.line else _units(change, "on_hand")
    to = (change.movement.to_warehouse if change.movement else None) or "another warehouse"
    one_end = ""
    if len(change.deltas) == 1:
        one_end = ", of which the newest count of the other one holds its part already"
    return f"moved {quantity} from {change.subject} to {to} ({change.id}){_if_counted(change) or one_end}"


def _voided(change: SkuChange) -> str:
    voided = (change.movement.voids if change.movement else None) or "a movement"
    return f"{voided} at {change.subject} voided ({change.id}){_if_counted(change)}"


def _reserved(change: SkuChange) -> str:
    return f"{_units(change, 'reserved')} set aside for {_purposes(change)} at {change.subject} ({change.id})"


def _released(change: SkuChange) -> str:
    back = _units(change, "reserved", -1)
    return f"{back} of {_purposes(change)} back on the shelf at {change.subject} ({change.id})"


def _pool_due(change: SkuChange) -> str:
    if back := _units(change, "reserved", -1):
        return f"pool {_purposes(change)} ended: {back} back on the shelf at {_places(change, 'reserved')}"
    return "a pool opened, or ended empty"


def _purposes(change: SkuChange) -> str:
    """The purposes of the pools that changed."""
    names = {name.partition("@")[0].partition("#")[2] for name in change.deltas if split_counter(name)[0] == "reserved"}
    return " and ".join(sorted(names))


def _if_counted(change: SkuChange) -> str:
    return _ALREADY_COUNTED if change.line and change.line.outcome == Outcome.ALREADY_COUNTED else ""


def _policy_set(change: SkuChange) -> str:
    channel = "all channels" if change.subject == "*" else change.subject
    mine = [level for level in change.policies if level.sku == change.sku and level.channel == change.subject]
    removed = bool(mine) and mine[-1].policy is None
    by = f" by {mine[-1].actor}" if mine and mine[-1].actor != "operator" else ""
    return f"policy of {channel} for this SKU {'removed' if removed else 'changed'}{by}"


def _swept(change: SkuChange) -> str:
    levels = {level.channel: " for this SKU" if level.sku else "" for level in change.policies}
    if levels:
        return "policy of " + ", ".join(f"{channel}{where}" for channel, where in sorted(levels.items())) + " changed"
    return "channels were judged anew: a policy changed, or a channel is new"


def _repaired(change: SkuChange) -> str:
    return f"repaired by {change.subject}" + (f" ({change.id})" if change.id else "")


_DESCRIBERS: Mapping[str, Callable[[SkuChange], str]] = {
    "place": _placed,
    "pay": _paid,
    "cancel": _cancelled,
    "change": _changed,
    "assign": _assigned,
    "expire": _expired,
    "ship": _shipped,
    "take_back": _returned,
    "receive": _received,
    "count": _counted,
    "adjust": _adjusted,
    "transfer": _transferred,
    "void": _voided,
    "expect": _announced,
    "reserve": _reserved,
    "release": _released,
    "pool_due": _pool_due,
    "set_policy": _policy_set,
    "sweep": _swept,
    "dwell": lambda _: "a channel's waiting time is over",
    "fill": _filled,
    "reroute": _rerouted,
    "promise": lambda _: "promised dates of waiting orders were set anew",
    REPAIR: _repaired,
}
