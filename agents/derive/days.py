"""The journal's part of the topic `daily`: decided batches → totals of orders and inputs by day.

In: decisions in the journal's order, each with the time (ms) at which its record was written. Out: rows with new
totals. A row says which batch it counted last, so a batch that is derived again counts nothing.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable
from zoneinfo import ZoneInfo

import msgspec
from msgspec import structs

from stocktide.streams.contract.daily import INPUTS, ORDERS, InputDay, OrderDay, added, day_of, key_of
from stocktide.tables.ledger.outcomes import REFUSALS, REFUSALS_OF_LINES, Outcome
from stocktide.tables.ledger.raw_decision import RawDecision, unpack_movement, unpack_order
from stocktide.tables.ledger.records import OrderRecord

_ACCEPTED = frozenset({Outcome.RESERVED, Outcome.PREORDERED, Outcome.PARTIAL})
# What decides an order, at its placing or its approval.
_PLACED = _ACCEPTED | REFUSALS_OF_LINES | {Outcome.TOO_LARGE}
# Work of the ledger's own that has a result.
_OWN_WORK = frozenset(
    {
        Outcome.CHANNEL_KNOWN,
        Outcome.MOVED_ON,
        Outcome.NOTHING_DUE,
        Outcome.RESTATED,
        Outcome.REPAIRED,
        Outcome.SWEPT,
        Outcome.SWEEP_PENDING,
    }
)
# Refused for a reason that is not a lack of stock: from Kafka it has a dead letter, over HTTP the caller knows.
_NOT_TAKEN = (REFUSALS - REFUSALS_OF_LINES) | _OWN_WORK
_COUNTED = frozenset({Outcome.COUNTED, Outcome.COUNTED_IN_PART})
_LINE_COUNTED = frozenset({Outcome.COUNTED})

_order_row = msgspec.json.Decoder(OrderDay).decode
_input_row = msgspec.json.Decoder(InputDay).decode


class _Orders:
    """What a few batches add to a row of orders."""

    def __init__(self) -> None:
        self.rejections: Tally[str] = Tally()
        self.durations: list[int] = []
        self.batch = self.units = self.partial = self.preorders = self.preordered_units = 0
        self.shorts = self.short_units = 0

    def add(self, record: OrderRecord, waited_ms: int) -> None:
        self.durations.append(waited_ms)
        units = waiting = 0
        for line in record.lines:
            units += line.quantity
            waiting += line.preordered
        self.units += units
        if record.outcome not in _ACCEPTED:
            self.rejections[record.outcome] += 1
            return
        if waiting:
            self.preorders += 1
            self.preordered_units += waiting
        if record.outcome == Outcome.PARTIAL:
            self.partial += 1

    def added_to(self, row: OrderDay) -> OrderDay:
        """The row with all of it."""
        return structs.replace(
            row,
            through=self.batch,
            orders=row.orders + len(self.durations),
            rejections=added(row.rejections, self.rejections),
            partial=row.partial + self.partial,
            preorders=row.preorders + self.preorders,
            units=row.units + self.units,
            preordered_units=row.preordered_units + self.preordered_units,
            shorts=row.shorts + self.shorts,
            short_units=row.short_units + self.short_units,
            decided_ms=row.decided_ms.with_each(self.durations),
        )


class JournalDays:
    """Counts one chunk. `read` gives the stored row of a key."""

    def __init__(self, zone: ZoneInfo, read: Callable[[str], bytes | None]) -> None:
        self._zone = zone
        self._read = read
        self._orders: dict[tuple[str, str], OrderDay] = {}
        self._inputs: dict[str, InputDay] = {}
        self._more: defaultdict[tuple[str, str], _Orders] = defaultdict(_Orders)
        self._touched: set[str] = set()

    def add(self, decision: RawDecision, recorded_ms: int) -> None:
        """Count a batch; it is newer than all before."""
        day = day_of(decision.at, self._zone)
        self._add_inputs(day, decision)
        placed = {
            result.order_id
            for result in decision.results
            if result.order_id and not result.replayed and result.outcome in _PLACED
        }
        for order in decision.orders if placed else ():
            if order.changed and order.order_id in placed:
                record = unpack_order(order.record)
                # An event of an order may be refused in the words of a placing.
                if record.placed_at == decision.at and (more := self._of(day, record.channel, decision.batch)):
                    more.add(record, recorded_ms - decision.at)
        for alert in decision.alerts:
            is_short = alert.type == "sold_short" and alert.channel
            if is_short and (more := self._of(day, str(alert.channel), decision.batch)):
                more.shorts += 1
                more.short_units += alert.quantity or 0

    def rows(self) -> dict[str, InputDay | OrderDay]:
        """The new rows by key."""
        rows: dict[str, InputDay | OrderDay] = {key_of(INPUTS, day): self._inputs[day] for day in self._touched}
        for (day, channel), more in self._more.items():
            rows[key_of(ORDERS, day, channel)] = more.added_to(self._orders[day, channel])
        return rows

    def _of(self, day: str, channel: str, batch: int) -> _Orders | None:
        """What is added to a row; None if it has counted the batch."""
        row = self._orders.get((day, channel))
        if row is None:
            stored = self._read(key_of(ORDERS, day, channel))
            row = OrderDay(day, channel) if stored is None else _order_row(stored)
            self._orders[day, channel] = row
        if batch <= row.through:
            return None
        more = self._more[day, channel]
        more.batch = batch
        return more

    def _add_inputs(self, day: str, decision: RawDecision) -> None:
        inputs = sum(not result.replayed and result.outcome not in _NOT_TAKEN for result in decision.results)
        if not inputs:
            return
        row = self._inputs.get(day)
        if row is None:
            stored = self._read(key_of(INPUTS, day))
            row = InputDay(day) if stored is None else _input_row(stored)
            self._inputs[day] = row
        if decision.batch <= row.through:
            return
        counted, exact = _counts_of(decision)
        self._touched.add(day)
        self._inputs[day] = structs.replace(
            row,
            through=decision.batch,
            inputs=row.inputs + inputs,
            counted=row.counted + counted,
            exact=row.exact + exact,
        )


def _counts_of(decision: RawDecision) -> tuple[int, int]:
    """The counted lines of a batch, and those of them without a difference. A count that takes several steps shows its
    differences in each of them, and is left out."""
    counted = exact = 0
    for movement in decision.movements:
        if not movement.changed:
            continue
        record = unpack_movement(movement.record)
        if record.kind != "count" or record.applied_at != decision.at or record.parts or record.part:
            continue
        for line in record.lines if record.outcome in _COUNTED else ():
            if line.outcome in _LINE_COUNTED:
                counted, exact = counted + 1, exact + (line.change == 0)
    return counted, exact
