"""Rules 16 and 49, the order of the queue: `queue_order`.

In: requests that place orders, rows of `reservations`. Out: orders that got units while another one, which comes before
them and could have had these, waited on. Where orders that can be filled whole go first, only short units come before.

Between two rows of an order a line whose waiting units fell, and whose held units rose by as many, was filled. Only
what is certain counts: the other order waited before, and still waits in a row of a later batch. Of one channel every
order may have what the next one may have; short units come before all preorders of every channel that sells from all
warehouses.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from stocktide.loadtest.client.contract import LineView, OrderView
from stocktide.loadtest.oracle.dispatcher import OPERATOR_KINDS, PendingRequest, time_ms
from stocktide.loadtest.oracle.history import OrderPublished
from stocktide.loadtest.oracle.orders import OrderObservation, OrderTracker
from stocktide.loadtest.oracle.oversold import CLOCK_SKEW_MS
from stocktide.loadtest.oracle.policies import PolicyTracker
from stocktide.loadtest.oracle.verdict import Checker

# Lines and warehouses of an order of which nothing is concluded: its record may be too large for another warehouse.
ORDER_PARTS_MAX = 1_000
SHORT, VIP, STANDARD = range(3)
_AT_REST = 1 << 62  # beyond any batch


class WaitingLine:
    """A line that was seen to wait: from the batch `since`, and still in the batch `until`."""

    __slots__ = ("order_id", "rank", "since", "until")

    def __init__(self, order_id: str, rank: int, since: int) -> None:
        self.order_id = order_id
        self.rank = rank
        self.since = since
        self.until = 0


class Fill(NamedTuple):
    """A line got units after the batch `after` and by the batch `by`; in this batch, if its row shows the order's next
    change. `older`: an order that was seen by this batch was placed before it."""

    order_id: str
    sku: str
    channel: str
    rank: int
    after: int
    by: int
    older: int
    at: int


class QueueOrder(Checker):
    """Rules 16 and 49: a later order got units that an earlier one waits for."""

    name = "queue_order"
    promise = 1

    def __init__(self, orders: OrderTracker, policies: PolicyTracker) -> None:
        super().__init__()
        self._orders = orders
        self._policies = policies
        # By order: whether it is VIP, and the newest batch seen before it was first sent.
        self._placed: dict[str, tuple[bool, int]] = {}
        # By order: its newest row with units that wait.
        self._rows: dict[str, OrderView] = {}
        # By SKU, channel and order.
        self._waiting: dict[tuple[str, str], dict[str, WaitingLine]] = {}
        self._fills: list[Fill] = []
        # Orders that an operator held back, or gave units.
        self._operated: set[str] = set()
        orders.listeners.append(self._observe)

    def on_request(self, request: PendingRequest) -> None:
        """Remember what the order's place depends on."""
        event = request.event
        if request.kind == "order.placed" and event.order_id:
            self._placed.setdefault(event.order_id, (event.priority == "vip", request.batch))
        if request.kind in OPERATOR_KINDS:
            self._operated.add(event.order_id)

    def _observe(self, observation: OrderObservation) -> None:
        order, row = observation.order, observation.record
        if not isinstance(row, OrderPublished):
            return
        self.looked["rows of orders"] += 1
        before = self._rows.get(order.order_id)
        waits = any(line.preordered or line.short for line in order.lines)
        if before is not None and order.sequence > before.sequence:
            self._add_fills(before, order, row.at)
            del self._rows[order.order_id]
        elif before is not None and order.sequence < before.sequence:
            return
        if waits and order.state in ("reserved", "paid"):
            self._rows[order.order_id] = order
            due = time_ms(order.expires_at)
            if due is None or due > row.at + CLOCK_SKEW_MS:  # else it may wait for its end alone
                self._wait(order, order.batch)

    def _wait(self, order: OrderView, until: int) -> None:
        if order.order_id not in self._placed:
            return
        if sum(1 + len(line.warehouses) for line in order.lines) > ORDER_PARTS_MAX:
            return
        for line in order.lines:
            if line.preordered or line.short:
                waiting = self._waiting.setdefault((line.sku, order.channel), {})
                known = waiting.get(order.order_id)
                if known is None:
                    known = waiting[order.order_id] = WaitingLine(order.order_id, self._rank(order, line), order.batch)
                known.until = max(known.until, until)

    def _rank(self, order: OrderView, line: LineView) -> int:
        if line.short:
            return SHORT
        return VIP if self._placed[order.order_id][0] else STANDARD

    def _add_fills(self, before: OrderView, order: OrderView, at: int) -> None:
        placed = self._placed.get(order.order_id)
        if placed is None:
            return
        after = order.batch - 1 if order.sequence == before.sequence + 1 else before.batch
        for old, new in zip(before.lines, order.lines, strict=False):
            given = new.reserved - old.reserved
            was, now = old.preordered + old.short, new.preordered + new.short
            is_same = (old.sku, old.quantity, old.shipped, old.cancelled) == (
                new.sku,
                new.quantity,
                new.shipped,
                new.cancelled,
            )
            if is_same and given > 0 and given == was - now:
                rank = self._rank(before, old)
                names = (order.order_id, old.sku, order.channel)
                self._fills.append(Fill(*names, rank, after, order.batch, placed[1], at))

    def end(self) -> None:
        """Compare each fill with the lines that come before it."""
        for order in self._rows.values():
            if self._waits_at_rest(order):
                self._wait(order, _AT_REST)
        queues = {
            key: _Queue(line for line in lines.values() if self._has_one_place(line.order_id))
            for key, lines in self._waiting.items()
        }
        shorts: dict[str, list[WaitingLine]] = {}
        for (sku, channel), queue in queues.items():
            if not self._policies.was_restricted(channel, sku):
                shorts.setdefault(sku, []).extend(queue.lines[SHORT])
        short_queues = {sku: _Queue(lines) for sku, lines in shorts.items()}
        for fill in self._fills:
            if not self._has_one_place(fill.order_id):
                continue
            self.looked["fills"] += 1
            last = SHORT if self._policies.was_completed_first(fill.sku) else fill.rank
            first = queues[fill.sku, fill.channel].before(fill, last) if (fill.sku, fill.channel) in queues else None
            if first is None and fill.rank != SHORT and not self._policies.was_restricted(fill.channel, fill.sku):
                first = short_queues[fill.sku].before(fill, SHORT) if fill.sku in short_queues else None
            if first is not None:
                what = (
                    f"order {fill.order_id} got units of {fill.sku} between the batches {fill.after} and {fill.by},"
                    f" and order {first.order_id}, which comes before it, waited from {first.since} on"
                )
                self.found(what, fill.at, order_id=first.order_id, sku=fill.sku, channel=fill.channel)

    def _waits_at_rest(self, order: OrderView) -> bool:
        if self.quiesced_at is None or self._orders.order(order.order_id).sequence != order.sequence:
            return False
        due = time_ms(order.expires_at)
        return due is None or due > self.quiesced_at

    def _has_one_place(self, order_id: str) -> bool:
        """Whether the order has the place of its one placing: exchanges and late payments give it another one, and
        operators pass over it."""
        known = self._orders.order(order_id)
        if order_id in self._operated:
            return False
        return len(known.bodies) == 1 and not known.may_be_changed and not known.may_be_taken_again


class _Queue:
    """The lines that wait, by rank and by when they were first seen, with the longest wait of each beginning."""

    def __init__(self, lines: Iterable[WaitingLine]) -> None:
        self.lines: tuple[list[WaitingLine], ...] = ([], [], [])
        for line in sorted(lines, key=lambda line: line.since):
            self.lines[line.rank].append(line)
        self._since = [[line.since for line in lines] for lines in self.lines]
        self._longest: list[list[WaitingLine]] = []
        for ranked in self.lines:
            longest: list[WaitingLine] = []
            for line in ranked:
                longest.append(line if not longest or line.until > longest[-1].until else longest[-1])
            self._longest.append(longest)

    def before(self, fill: Fill, last_rank: int) -> WaitingLine | None:
        """A line up to a rank that comes before the filled one, and waits before and after the fill."""
        for rank in range(last_rank + 1):
            seen_by = fill.older if rank == fill.rank else fill.after
            index = bisect_right(self._since[rank], seen_by) - 1
            if index >= 0 and self._longest[rank][index].until > fill.by:
                return self._longest[rank][index]
        return None
