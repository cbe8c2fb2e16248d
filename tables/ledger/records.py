"""The ledger's records and decisions.

In: msgpack from Redis or from the journal, in format 1 by these names, in format 2 by position
(`tables.ledger.packed`, `tables.ledger.raw_decision`). Out: typed records. In maps Lua omits nil, zero and empty
tables, so every such field has a default here. Times are ms since the epoch; quantities are whole units.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field, structs

from stocktide.streams.contract.events import HOLD_SECONDS_DEFAULT
from stocktide.streams.topics import DAY_MS
from stocktide.tables.ledger.commands import Origin
from stocktide.tables.ledger.outcomes import Outcome

# How long an announcement of which nothing is to come is listed (lua/includes/announcements.lua).
LISTED_MS = 7 * DAY_MS
# The state of a forced order before its approval.
AWAITING_APPROVAL = "awaiting_approval"


class LineRecord(Struct, frozen=True, omit_defaults=True):
    """A line of an order. `reserved` units are held or committed at `warehouses`, not yet shipped. Those that came from
    pools are in `pools` too, by pool (`vip@SH1`).

    Of a line that waits, `promised_at` is when its units should come (ms, `lua/includes/promises.lua`);
    `first_promised_at` is the first such time, and `slips` how often it moved later: both stay.

    `quantity` = reserved + preordered + short + shipped + cancelled, unless the line was rejected, its order expired
    or waits for approval, or more was shipped than ordered.
    """

    sku: str
    quantity: int
    state: str
    reserved: int = 0
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    cancelled: int = 0
    reason: str | None = None
    warehouses: dict[str, int] = field(default_factory=dict)
    short: int = 0
    pools: dict[str, int] = field(default_factory=dict)
    promised_at: int | None = None
    first_promised_at: int | None = None
    slips: int = 0


class ApprovalRecord(Struct, frozen=True, omit_defaults=True):
    """The approval of a forced order: who asked for it and why, when (ms) and in which batch, and what the order is
    decided with if it is approved before `ends_at`. `state` is its end ("": it waits): `approved`, `refused` (approved,
    but the units are not there), `rejected` or `expired`; `comment` is the reason of a rejection."""

    by: str
    reason: str
    asked_at: int
    asked_in: int
    ends_at: int
    hold_ms: int = HOLD_SECONDS_DEFAULT * 1000
    accept: str = "all"
    supersedes: str | None = None
    paid: bool = False
    state: str = ""
    decided_by: str | None = None
    decided_at: int = 0
    decided_in: int = 0
    comment: str | None = None


class OrderRecord(Struct, frozen=True, omit_defaults=True):
    """An order, with what is needed to answer repeats: its fingerprint and the (id, fingerprint) of its events.

    `events` is flat: id, fingerprint, id, fingerprint, …; of later events, `event_digests` has 24 hex digits each
    (`lua/includes/orders.lua`). `extensions` counts events that moved the deadline. `outcome` is that of the placing.
    `ended_at` is the last change of a final order, from which its retention counts. `parked` are events that arrived
    too early, in the format of `lua/includes/waiting.lua`; the first of them is due at `wait_at`. A record in state
    `parked` is no order: it holds only parked events, and is deleted with the last of them. `queued` is its number in
    the queues of the SKUs whose units it waits for (`lua/includes/queue.lua`). `no_preorder`: placed with
    `allow_preorder` false. An order that needs an `approval` is in the state `awaiting_approval` until `expires_at`,
    and holds nothing. `held_back` are the SKUs of lines that an operator keeps from being filled, `passed_over`
    counts by SKU how often others were filled whole before it (`lua/includes/complete_first.lua`). `choice_due`: a
    promise moved by more days than the policy allows, and an alert has said so. `buyer` is who places it, as its
    channel names them. `bounded`: it was placed under a limit, and its unpaid units count towards it.
    `removed_ahead` are units by SKU that were cancelled by a total, and that no single removal has named yet.
    """

    state: str
    channel: str = ""
    sequence: int = 0
    placed_at: int = 0
    expires_at: int | None = None
    ended_at: int | None = None
    fingerprint: str = ""
    outcome: str = ""
    priority: str = "standard"
    region: str | None = None
    purpose: str | None = None
    lines: tuple[LineRecord, ...] = ()
    events: tuple[str, ...] = ()
    event_digests: str = ""
    extensions: int = 0
    parked: tuple[dict[str, Any], ...] = ()
    wait_at: int | None = None
    queued: int = 0
    no_preorder: bool = False
    approval: ApprovalRecord | None = None
    held_back: dict[str, bool] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)
    choice_due: bool = False
    buyer: str | None = None
    bounded: bool = False
    removed_ahead: dict[str, int] = field(default_factory=dict)

    @property
    def unpaid_entries(self) -> dict[str, int]:
        """Its scores in the indexes of unpaid units (`lua/includes/unpaid.lua`), by their names."""
        if not self.bounded:
            return {}
        units = sum(line.reserved + line.preordered + line.short for line in self.lines)
        groups = [self.channel, *([] if self.buyer is None else [f"{self.channel}\n{self.buyer}"])]
        return {f"unpaid:{group}": units if self.state == "reserved" else 0 for group in groups}


class MovementLine(Struct, frozen=True, omit_defaults=True):
    """A movement's effect on one SKU: `on_hand` after it at the movement's warehouse, `change` of on_hand there.

    For a count: `quantity` as counted, `carried` the units moved since, `change` the difference found.
    `arrival_counted`: the units left by a transfer, and a count of the other warehouse holds their arrival already. For
    an announcement: `quantity` as announced (0: withdrawn), `received` the units that came, `incoming` those to come;
    `eta_pending`: a later step brings a new `eta` to the SKU.
    """

    sku: str
    quantity: int
    outcome: str
    change: int = 0
    on_hand: int = 0
    damaged: int = 0
    carried: int = 0
    arrival_counted: bool = False
    received: int = 0
    incoming: int = 0
    eta_pending: bool = False


class CountProgress(Struct, frozen=True, omit_defaults=True):
    """The progress of a count in steps: the next part and its next line, or after the parts the last SKU examined;
    lines applied and left out, and unlisted SKUs set to 0 (among the applied). `why`: the first reason."""

    part: int
    line: int
    applied: int
    left_out: int
    zeroed: int
    why: str | None = None
    cursor: str | None = None


class MovementRecord(Struct, frozen=True, omit_defaults=True):
    """A movement id's fingerprint and outcome. `voids`: the movement that it reverses; `checked`: how many lines of it
    were checked so far; `voided_by`: the movement that reversed it.

    A count in `parts` (lua/includes/count_parts.lua) has the numbers of the `arrived` parts and the `progress` of its
    steps. The record `<id> part <n>` is that `part` with its lines, and its `origin` while it waits.

    An announcement (lua/includes/announcements.lua) that was accepted has its `eta` (ms), the number of its
    `amendments`, and whether it is `overdue` and an alert has said so; `at` is the time of its newest body. A receipt
    names the announcement `expected_id`.
    """

    kind: str
    outcome: str
    fingerprint: str
    at: int
    applied_at: int
    lines: tuple[MovementLine, ...] = ()
    detail: str | None = None
    reason: str | None = None
    to_warehouse: str | None = None
    purpose: str | None = None
    complete: bool = False
    part: int = 0
    parts: int = 0
    arrived: tuple[int, ...] = ()
    progress: CountProgress | None = None
    origin: Origin | None = None
    voids: str | None = None
    checked: int = 0
    voided_by: str | None = None
    eta: int | None = None
    overdue: bool = False
    amendments: int = 0
    expected_id: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is an announcement of units that are still to come; its key does not expire."""
        return self.eta is not None and (self.outcome == Outcome.APPLYING or any(line.incoming for line in self.lines))

    @property
    def announcement_entries(self) -> tuple[int | None, int | None, int | None]:
        """Its scores in the indexes `expected`, `etas` and `overdue` (None: no entry)."""
        if self.eta is None:
            return (None, None, None)
        if not self.is_open:
            return (0, self.applied_at + LISTED_MS, None)
        return (0, None, 0) if self.overdue else (0, self.eta, None)


class ThresholdSide(Struct, frozen=True, omit_defaults=True):
    """The side of the threshold that a channel is on, if not the default. `below`: it left `in_stock` at `left_at` (0:
    it never was in stock); a pending dwell ends at `due`."""

    below: bool = False
    left_at: int = 0
    due: int = 0


class PromisePass(Struct, frozen=True, omit_defaults=True):
    """The pass that sets the promised dates of a SKU (`lua/includes/promises.lua`): it came to the order `id` at
    `place`, with the units `left` by announcement. `again`: another pass follows, from `due` on (ms)."""

    place: int | None = None
    id: str = ""
    left: dict[str, int] = field(default_factory=dict)
    again: bool = False
    due: int = 0


class SkuRecord(Struct, frozen=True, omit_defaults=True):
    """One SKU: its version, its counters by name (`on_hand@SH1`, `reserved#vip@SH1`), channel modes, own policies, and
    its counts.

    `counted` maps a warehouse to the time of its newest applied count (ms), `floors` to the time before which an older
    release deleted movements. `history` is that release's text format of both, with the movements: the ledger converts
    it when it next moves units of the SKU (lua/includes/history.lua).

    `policies` maps a channel (or `*`) to the fields set at the level channel/sku (`()`: a level without fields).
    `repaired` is the id of the newest repair. `filling` are units that are kept for waiting orders until a later step
    gives them out (`lua/includes/fill.lua`). `rerouting`: how far the orders were moved that hold units in warehouses
    below zero, `(place, order_id, 1 if some could not move, 1 or 2 if a later step goes on)`
    (`lua/includes/reroute.lua`). `pool_times` maps a pool (`vip@SH1`) to its `from` and `until`, ms
    (`lua/includes/pools.lua`). `announced` maps an announcement (`SH1\\npo-9`) to its `eta` (ms), its units to come,
    and those of them that are promised to no line. `promise_pass`: a later step goes on with the promised dates.
    """

    version: int
    at: int
    counters: dict[str, int] = field(default_factory=dict)
    warehouses: tuple[str, ...] = ()
    modes: dict[str, ThresholdSide] = field(default_factory=dict)
    policies: dict[str, dict[str, Any] | tuple[()]] = field(default_factory=dict)
    history: str = ""
    counted: dict[str, int] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    repaired: str = ""
    filling: int = 0
    pool_times: dict[str, tuple[int, int]] = field(default_factory=dict)
    rerouting: tuple[int, str, int, int] | None = None
    announced: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    promise_pass: PromisePass | None = None

    @property
    def first_due(self) -> int | None:
        """When the expiry step has to process the SKU: the first pending dwell ends, or a pool opens or ends; ms."""
        dwells = [side.due for side in self.modes.values() if side.due]
        return min((*dwells, *pool_dues(self.pool_times)), default=None)

    @property
    def has_pools(self) -> bool:
        """Whether it has a pool that has not ended."""
        return has_pools(self.counters, self.pool_times)

    @property
    def index_entries(self) -> dict[str, int | None]:
        """Its scores in the indexes of SKUs (None: no entry)."""
        left_over = has_left_over(self.filling, self.rerouting)
        return sku_entries(self.first_due, self.has_pools, left_over, self.promise_pass)


def sku_entries(
    due: int | None, has_pools: bool, left_over: bool, promise_pass: PromisePass | None
) -> dict[str, int | None]:
    """The scores of a SKU in its indexes."""
    return {
        "dwells": due,
        "pools": 0 if has_pools else None,
        "fills": 0 if left_over else None,
        "promises": promise_pass.due if promise_pass else None,
    }


def has_left_over(filling: int, rerouting: tuple[int, str, int, int] | None) -> bool:
    """Whether a later step goes on with the moves or fills of a SKU that has these fields."""
    return bool(filling) or (rerouting is not None and rerouting[3] > 0)


def has_pools(counters: dict[str, int], pool_times: dict[str, tuple[int, int]]) -> bool:
    """Whether one of the pools has not ended."""
    is_filled = any(units and name.startswith("reserved#") for name, units in counters.items())
    return is_filled or any(begins >= 0 for begins, _ in pool_times.values())


def pool_dues(pool_times: dict[str, tuple[int, int]]) -> list[int]:
    """When pools open or end, ms."""
    opening = [begins for begins, _ in pool_times.values() if begins > 0]
    return opening + [ends for begins, ends in pool_times.values() if begins == 0 and ends > 0]


class ChannelRecord(Struct, frozen=True, omit_defaults=True):
    """A known channel: its policy level and whether a policy was ever set there."""

    known_at: int
    policy: dict[str, Any] = field(default_factory=dict)
    has_policy: bool = False


class RegistryRecord(Struct, frozen=True, omit_defaults=True):
    """All known channels, in the order they became known, and the current sweep (`None`: none). `as_of` is the batch
    that last changed a channel or its policy (0: before this was stored).

    During a sweep: `fresh` channels became known since it began, the policies of `waived` ones changed, and were
    `before` until then (`()`: without fields).
    """

    names: tuple[str, ...] = ()
    channels: dict[str, ChannelRecord] = field(default_factory=dict)
    sweep_from: str | None = None
    as_of: int = 0
    fresh: dict[str, bool] = field(default_factory=dict)
    waived: dict[str, bool] = field(default_factory=dict)
    before: dict[str, dict[str, Any] | tuple[()]] = field(default_factory=dict)


class Offer(Struct, frozen=True, array_like=True):
    """The stock of a SKU that a channel may sell; `quantity` is 0 outside `in_stock`. `publish_interval_ms` comes from
    the policy; None: the installation's default. `available_from`: when the next preordered unit is promised, ms."""

    channel: str
    mode: str
    quantity: int
    preorder_remaining: int
    publish_interval_ms: int | None = None
    available_from: int | None = None


class Result(Struct, frozen=True, omit_defaults=True):
    """The outcome of one command, and its order, if it is about one (None in the head of a decision).

    `reasons`: why lines of a refused event could not be held: (place among the lines, outcome).
    """

    outcome: str
    replayed: bool = False
    order_id: str | None = None
    detail: str | None = None
    reasons: tuple[tuple[int, str], ...] = ()


class OrderRow(Struct, frozen=True, array_like=True):
    """An order that the batch changed or referred to, as it is after the batch. `repromised`: the promised date of a
    line changed."""

    order_id: str
    record: OrderRecord
    changed: bool
    repromised: bool = False


class MovementRow(Struct, frozen=True, array_like=True):
    """A movement that the batch decided or referred to."""

    warehouse: str
    id: str
    record: MovementRecord
    changed: bool


class SkuRow(Struct, frozen=True, array_like=True):
    """A SKU that the batch changed, as it is after the batch, with the offer of every known channel."""

    sku: str
    record: SkuRecord
    offers: tuple[Offer, ...]


class Effect(Struct, frozen=True, array_like=True):
    """One change of one SKU: the version after it, its cause, and the deltas on named counters.

    `cause` is (kind, id, subject): the command's kind, its event id, and the order_id or warehouse it belongs to.
    """

    sku: str
    version: int
    cause: tuple[str, str, str]
    deltas: dict[str, int] | tuple[()]


class PolicyRow(Struct, frozen=True, array_like=True):
    """A policy level after the batch; `policy` None: the level was removed. The last three are those of the request
    that `actor` approved."""

    channel: str
    sku: str
    policy: dict[str, Any] | tuple[()] | None
    before: dict[str, Any] | tuple[()] | None
    actor: str
    requested_by: str | None = None
    reason: str | None = None
    id: str | None = None


class Alert(Struct, frozen=True, omit_defaults=True):
    """A condition that needs an operator. `type` as on the topic `alerts`."""

    type: str
    sku: str = ""
    warehouse: str | None = None
    channel: str | None = None
    order_id: str | None = None
    quantity: int | None = None
    orders: tuple[str, ...] = ()
    detail: str | None = None
    # The event that caused the alert, its type as in the contract.
    event_id: str | None = None
    event_type: str | None = None


class RefusedEvent(Struct, frozen=True, array_like=True):
    """A refused event from Kafka, for the dead letters."""

    reason: str
    detail: str
    origin: Origin


class RepairRow(Struct, frozen=True, array_like=True):
    """A repaired key: the actor, the reason, and the record before and after (None: no record). `before` may be any
    value."""

    subject: str
    key: str
    id: str
    actor: str
    why: str
    before: Any
    after: dict[str, Any] | None


class ActedLine(Struct, frozen=True, array_like=True):
    """A line of an order before or after an operator's action."""

    sku: str
    reserved: int
    preordered: int
    short: int
    held_back: bool


class ActionRow(Struct, frozen=True, array_like=True):
    """What an operator did to an order: it was `held_back`, `released` or `assigned` units; the lines are those that
    changed."""

    action: str
    order_id: str
    id: str
    actor: str
    reason: str
    before: tuple[ActedLine, ...]
    after: tuple[ActedLine, ...]


class ChannelSides(Struct, frozen=True, array_like=True):
    """Channels that a batch moved to the same side of the threshold.

    `state`: 0 the default side, 1 below, 2 neither; `left_at` and `due` as in `ThresholdSide`; `channels` are indexes
    into `Patches.channels`.
    """

    state: int
    left_at: int
    due: int
    channels: tuple[int, ...]


class SkuPatch(Struct, frozen=True, array_like=True):
    """The changes of a SKU in a batch whose whole record did not fit, as values after the batch.

    `counters` are those that effects of the batch name (0: none); `warehouses` are the new ones, in order; `counted`
    and `floors` as in `SkuRecord` (0: none), if the batch changed them; `carried`: warehouses whose lines of `history`
    were converted. `rest` sums all other counters by kind, under a warehouse without a name (`on_hand@`). `pool_times`
    are those that the batch changed (0, 0: none); `promises` are `announced` and `promise_pass`, if they changed.
    """

    sku: str
    version: int
    at: int
    counters: dict[str, int] | tuple[()]
    warehouses: tuple[str, ...]
    sides: tuple[ChannelSides, ...]
    counted: dict[str, int] | tuple[()]
    floors: dict[str, int] | tuple[()]
    carried: tuple[str, ...]
    rest: dict[str, int] | tuple[()]
    pool_times: dict[str, tuple[int, int]] | tuple[()] = ()
    promises: tuple[dict[str, tuple[int, int, int]] | tuple[()], PromisePass | None] | None = None

    def apply_to(self, record: SkuRecord | None, channels: tuple[str, ...]) -> SkuRecord:
        """The whole record after the batch; `record` is the one before it, or None."""
        record = record or SkuRecord(0, 0)
        counters, modes = {**record.counters, **dict(self.counters)}, dict(record.modes)
        pool_times = {**record.pool_times, **dict(self.pool_times)}
        announced, promise_pass = self.promises or (record.announced, record.promise_pass)
        for sides in self.sides:
            for place in sides.channels:
                if sides.state:
                    modes[channels[place]] = ThresholdSide(sides.state == 1, sides.left_at, sides.due)
                else:
                    modes.pop(channels[place], None)
        return structs.replace(
            record,
            version=self.version,
            at=self.at,
            counters={name: units for name, units in counters.items() if units},
            warehouses=(*record.warehouses, *(name for name in self.warehouses if name not in record.warehouses)),
            modes=modes,
            counted={**record.counted, **dict(self.counted)},
            floors={name: at for name, at in {**record.floors, **dict(self.floors)}.items() if at},
            history="\n".join(
                line for line in record.history.split("\n") if line.partition(" ")[0] not in self.carried
            ),
            pool_times={name: times for name, times in pool_times.items() if any(times)},
            announced=dict(announced),
            promise_pass=promise_pass,
        )


class Patches(Struct, frozen=True, array_like=True):
    """The patches of a batch, and the channels that they name."""

    channels: tuple[str, ...] = ()
    rows: tuple[SkuPatch, ...] = ()


class Moved(Struct, frozen=True, array_like=True):
    """Units that moved at a warehouse at `at` (ms, as occurred), which a later count may have to carry forward."""

    sku: str
    warehouse: str
    at: int
    units: int


class DecisionHead(Struct, frozen=True, array_like=True):
    """The first fields of a decision: all that a caller needs to learn the results of its commands."""

    format: int
    batch: int
    at: int
    results: tuple[Result, ...]


class DecisionFrame(DecisionHead, frozen=True, array_like=True):
    """The fields of a decision, in the order in which Lua packs them. A subclass gives the fields of type Any the types
    to which it decodes them."""

    orders: Any
    movements: Any
    skus: Any
    effects: Any
    policies: tuple[PolicyRow, ...]
    registry: Any
    alerts: tuple[Alert, ...]
    refused: tuple[RefusedEvent, ...]
    repairs: tuple[RepairRow, ...] = ()
    patches: Any = ()
    moves: Any = ()
    actions: tuple[ActionRow, ...] = ()


class Decision(DecisionFrame, frozen=True, array_like=True):
    """One whole batch, the journal's payload: its results, and every record as it is after the batch."""

    orders: tuple[OrderRow, ...]
    movements: tuple[MovementRow, ...]
    skus: tuple[SkuRow, ...]
    effects: tuple[Effect, ...]
    registry: RegistryRecord | None
    patches: Patches = Patches()
    moves: tuple[Moved, ...] = ()
    actions: tuple[ActionRow, ...] = ()

    def order(self, order_id: str) -> OrderRecord | None:
        """The record of an order in this batch."""
        return next((row.record for row in self.orders if row.order_id == order_id), None)
