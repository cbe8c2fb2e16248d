"""The history of one SKU: its changes in the journal, with the counters before and after each.

In: valid decisions, in the journal's order (or a single one). Out: `SkuChange` for each effect on the SKU;
`HistoryStart` at the beginning; `Takeovers` between changes; `Inconsistency` if the published state does not follow
from the changes before it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET, Struct, structs

from stocktide.streams.contract.documents import ChangeCause, ChangedTotals, StockAnswer, StockChange
from stocktide.streams.contract.times import rfc3339
from stocktide.tables.ledger.records import (
    Decision,
    MovementLine,
    MovementRecord,
    Offer,
    OrderRecord,
    PolicyRow,
    SkuPatch,
    SkuRecord,
    SkuRow,
)
from stocktide.tables.views import stock_view

Counters = dict[str, int]
# The cause of an effect by which an operator corrected a state that the log does not explain.
REPAIR = "repair"


class HistoryStart(Struct, frozen=True):
    """The start of the history. `known`: nothing precedes it; else `record` is the SKU at that point."""

    sku: str
    known: bool
    at: int
    record: SkuRecord


class ModeChange(Struct, frozen=True):
    """The change of a channel's mode since the previous change."""

    channel: str
    before: str
    after: Offer


class CounterDifference(Struct, frozen=True):
    """A counter whose value `found` differs from the value `expected` after the previous changes."""

    counter: str
    expected: int
    found: int


class SkuChange(Struct, frozen=True, kw_only=True):
    """One effect on the SKU. `record`: the SKU after it (only counters and version exclude later changes of the batch);
    `before`: the counters before it.

    `kind`, `id`, `subject`: the effect's cause. `order` or `movement` with its `line`: the record of the cause after
    the batch. `superseded_by_order`: the order that superseded a cancelled one. `policies`: the levels changed by the
    batch. `offers`: the offers after the last change of a batch, else None. `strayed`: the counters that a repair found
    to differ from the log.
    """

    sku: str
    version: int
    batch: int
    at: int
    kind: str
    id: str
    subject: str
    deltas: Counters
    before: Counters
    record: SkuRecord
    order: OrderRecord | None = None
    movement: MovementRecord | None = None
    line: MovementLine | None = None
    superseded_by_order: str | None = None
    policies: tuple[PolicyRow, ...] = ()
    offers: tuple[Offer, ...] | None = None
    modes: tuple[ModeChange, ...] = ()
    strayed: tuple[CounterDifference, ...] = ()

    @property
    def view(self) -> StockAnswer:
        """The stock after the change, as in `GET /v1/stock/{sku}`."""
        return stock_view(self.sku, self.record, self.offers or ())


class Inconsistency(Struct, frozen=True):
    """The state published by a batch does not follow from the changes before: these counters differ or, if none does,
    the versions are not consecutive."""

    sku: str
    batch: int
    at: int
    counters: tuple[CounterDifference, ...]
    version_expected: int
    version_found: int


class Takeovers(Struct, frozen=True):
    """The terms that began since the previous change; `owner` is the newest one's."""

    first: int
    last: int
    owner: str


HistoryEntry = HistoryStart | SkuChange | Inconsistency | Takeovers


def sku_row_of(decision: Decision, sku: str) -> SkuRow | None:
    """The SKU after the batch, or None if the batch does not contain it. From a patch, the counters that it does not
    name are sums under a warehouse without a name, and there are no offers."""
    row = next((row for row in decision.skus if row.sku == sku), None)
    if row is not None:
        return row
    patch = patch_of(decision, sku)
    if patch is None:
        return None
    counters = {**dict(patch.counters), **dict(patch.rest)}
    return SkuRow(sku, SkuRecord(patch.version, patch.at, _nonzero(counters), patch.warehouses), ())


def patch_of(decision: Decision, sku: str) -> SkuPatch | None:
    """The batch's patch of the SKU, or None."""
    return next((patch for patch in decision.patches.rows if patch.sku == sku), None)


def changes_of(decision: Decision, sku: str) -> tuple[SkuChange, ...]:
    """The changes of the SKU in one batch, oldest first. Counters are computed back from the state that the batch
    publishes, so that no other batch is needed. Empty if it publishes none."""
    row = sku_row_of(decision, sku)
    if row is None:
        return ()
    effects = [effect for effect in decision.effects if effect.sku == sku]
    superseding = {effect.cause[1]: effect.cause[2] for effect in decision.effects if effect.cause[0] == "place"}
    after = _nonzero(row.record.counters)
    changes: list[SkuChange] = []
    for effect in reversed(effects):
        deltas = dict(effect.deltas)
        before = apply_deltas(after, deltas, -1)
        kind, id, subject = effect.cause
        movement = _movement_of(decision, kind, id, subject)
        is_last = not changes
        changes.append(
            SkuChange(
                sku=sku,
                version=effect.version,
                batch=decision.batch,
                at=decision.at,
                kind=kind,
                id=id,
                subject=subject,
                deltas=deltas,
                before=before,
                record=structs.replace(row.record, version=effect.version, at=decision.at, counters=after),
                order=decision.order(subject),
                movement=movement,
                line=next((line for line in movement.lines if line.sku == sku), None) if movement else None,
                superseded_by_order=superseding.get(id) if kind == "cancel" else None,
                policies=tuple(level for level in decision.policies if level.sku in ("", sku)),
                offers=row.offers if is_last else None,
            )
        )
        after = before
    return tuple(reversed(changes))


def _movement_of(decision: Decision, kind: str, id: str, subject: str) -> MovementRecord | None:
    for row in decision.movements:
        if row.id == id and row.warehouse == subject and row.record.kind == kind:
            return row.record
    return None


def apply_deltas(counters: Mapping[str, int], deltas: Mapping[str, int], sign: int = 1) -> Counters:
    """`counters` after `deltas` (or before them, with `sign` -1); zeros are left out."""
    result = dict(counters)
    for name, change in deltas.items():
        result[name] = result.get(name, 0) + sign * change
    return _nonzero(result)


def _nonzero(counters: Mapping[str, int]) -> Counters:
    return {name: units for name, units in counters.items() if units}


class SkuHistory:
    """Follows the journal forward, and checks that each state follows from the one before.

    `record` and `offers` are the newest ones; `record` is None before the first batch with the SKU. `breaks` counts the
    inconsistencies, `repaired` those corrected by a later repair.
    """

    def __init__(self, sku: str) -> None:
        self._sku = sku
        self._term = 0
        self.record: SkuRecord | None = None
        self.offers: tuple[Offer, ...] = ()
        # Whether `record` began with a patch and lacks counters.
        self._is_partial = False
        self.breaks = 0
        self.repaired = 0

    def follow(self, decision: Decision, term: int, owner: str) -> tuple[HistoryEntry, ...]:
        """The entries that the batch adds; `term` and `owner` are those of its record."""
        row = sku_row_of(decision, self._sku)
        if row is None:
            return ()
        changes = changes_of(decision, self._sku)
        first = changes[0] if changes else None
        before = first.before if first else _nonzero(row.record.counters)
        entries: list[HistoryEntry] = []
        known = self.record
        if known is None:
            version = first.version - 1 if first else row.record.version
            record = structs.replace(row.record, counters=before, version=version)
            entries.append(HistoryStart(self._sku, version == 0 and not before, decision.at, record))
        elif self._differs(decision, known, before) or not _is_consecutive(known.version, changes, row.record.version):
            differing = _counter_differences(known.counters, before)
            if any(change.kind == REPAIR for change in changes):
                changes = (structs.replace(changes[0], strayed=differing), *changes[1:])
            else:
                self.breaks += 1
                version = known.version + len(changes)
                entries.append(
                    Inconsistency(self._sku, decision.batch, decision.at, differing, version, row.record.version)
                )
        if any(change.kind == REPAIR for change in changes):
            self.repaired, self.breaks = self.repaired + self.breaks, 0
        if changes and known is not None and term > self._term:
            entries.append(Takeovers(self._term + 1, term, owner))
        if changes or known is None:
            self._term = term
        patch = patch_of(decision, self._sku)
        if patch is None:
            entries += self._with_modes(changes)
            self.record, self.offers = structs.replace(row.record, counters=_nonzero(row.record.counters)), row.offers
            self._is_partial = False
        else:
            entries += changes
            begins = known is None and first is not None and first.version == 1
            self._is_partial = not begins and (known is None or self._is_partial)
            self.record = row.record if self._is_partial else patch.apply_to(known, decision.patches.channels)
        return tuple(entries)

    def _differs(self, decision: Decision, known: SkuRecord, before: Counters) -> bool:
        """Whether the counters before the batch differ from the known ones; for a patch, only those it names."""
        if self._is_partial:
            return False
        patch = patch_of(decision, self._sku)
        if patch is None:
            return known.counters != before
        return any(known.counters.get(name, 0) != before.get(name, 0) for name in dict(patch.counters))

    def _with_modes(self, changes: tuple[SkuChange, ...]) -> tuple[SkuChange, ...]:
        """The changes, the last one with the changes of modes."""
        if not changes or self.record is None:
            return changes
        known = {offer.channel: offer.mode for offer in self.offers}
        modes = tuple(
            ModeChange(offer.channel, known[offer.channel], offer)
            for offer in changes[-1].offers or ()
            if known.get(offer.channel, offer.mode) != offer.mode
        )
        return (*changes[:-1], structs.replace(changes[-1], modes=modes))


def _counter_differences(expected: Counters, found: Counters) -> tuple[CounterDifference, ...]:
    names = sorted(expected.keys() | found.keys())
    pairs = ((name, expected.get(name, 0), found.get(name, 0)) for name in names)
    return tuple(CounterDifference(*pair) for pair in pairs if pair[1] != pair[2])


def _is_consecutive(before: int, changes: tuple[SkuChange, ...], after: int) -> bool:
    """Whether the versions are consecutive."""
    return [change.version for change in changes] == list(range(before + 1, after + 1))


# The field for a cause's subject, by kind; other kinds have no field.
_SUBJECTS = {
    **dict.fromkeys(("place", "pay", "cancel", "change", "expire", "ship", "take_back", "assign"), "order_id"),
    **dict.fromkeys(("receive", "adjust", "count", "transfer", "void", "expect"), "warehouse"),
    **dict.fromkeys(("reserve", "release"), "warehouse"),
    "set_policy": "channel",
    REPAIR: "actor",
}


def change_view(change: SkuChange) -> StockChange:
    """A change as JSON: an item of `GET /v1/stock/{sku}/history`."""
    subject = _SUBJECTS.get(change.kind)
    view = change.view
    return StockChange(
        version=change.version,
        at=rfc3339(change.at),
        batch=change.batch,
        cause=ChangeCause(kind=change.kind, id=change.id, **({subject: change.subject} if subject else {})),
        change=change.deltas,
        after=ChangedTotals(*(getattr(view, name) for name in ChangedTotals.__struct_fields__)),
        modes={channel: offer.mode for channel, offer in view.channels.items()} or UNSET,
    )
