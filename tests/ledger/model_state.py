"""The state of the model of the ledger.

Counters have the ledger's names (`on_hand@SH1`, `preordered@tmall`), so that the two can be compared.
Times are ms since the epoch, quantities are whole units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Rule 41: a count may be as of up to 24 hours ago.
COUNT_MS_MAX = 24 * 3600 * 1000
# Rule 40: how far ahead of the ledger's clock an input may be dated, and how old a fresh event may be.
FUTURE_MS_MAX = 600_000
FRESH_MS = 60_000
# The size that the smallest parked event counts.
EVENT_BYTES_MIN = 64
# Rule 26: a hold lasts at most seven days from its placing, however often it is extended.
HOLD_MS_MAX = 7 * 24 * 3600 * 1000


@dataclass
class ModelLine:
    """A line of an order. `warehouses` says where its `reserved` units are."""

    sku: str
    quantity: int
    state: str
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    cancelled: int = 0
    reason: str | None = None
    warehouses: dict[str, int] = field(default_factory=dict)
    short: int = 0
    # The part of them that came from pools, by pool: `vip@SH1`.
    pools: dict[str, int] = field(default_factory=dict)
    promised_at: int | None = None
    first_promised_at: int | None = None
    slips: int = 0

    @property
    def reserved(self) -> int:
        """Units that are held or committed for this line and have not left yet."""
        return sum(self.warehouses.values())

    @property
    def outstanding(self) -> int:
        """Units that are still to be shipped."""
        return self.reserved + self.waiting

    @property
    def waiting(self) -> int:
        """Units that are promised and not held yet."""
        return self.preordered + self.short


@dataclass
class ParkedEvent:
    """An event that waits for what it needs (rule 43); `alerted` once an alert has named it."""

    command: Any
    bytes: int
    since: int
    until: int
    alerted: bool = False


@dataclass
class ModelOrder:
    """An order, or (`state` parked) only the events that came before its placing. `parked` is in order of arrival."""

    state: str
    channel: str = ""
    sequence: int = 0
    placed_at: int = 0
    expires_at: int | None = None
    fingerprint: str = ""
    outcome: str = ""
    lines: list[ModelLine] = field(default_factory=list)
    events: dict[str, str] = field(default_factory=dict)
    extensions: int = 0
    priority: str = "standard"
    # Its number among the orders that wait for stock.
    queued: int = 0
    # The SKUs of lines that an operator keeps from being filled.
    held_back: dict[str, bool] = field(default_factory=dict)
    # By SKU: how often others were filled whole before it.
    passed_over: dict[str, int] = field(default_factory=dict)
    # The command that placed it, whose rules apply to later additions.
    placing: Any = None
    # Of a forced order: its end, and who decided it.
    approval: str | None = None
    decided_by: str | None = None
    choice_due: bool = False
    buyer: str | None = None
    # Its unpaid units count towards the limits of its channel.
    bounded: bool = False
    # By SKU: units that a total has cancelled, and that no single removal has named.
    removed_ahead: dict[str, int] = field(default_factory=dict)
    parked: list[ParkedEvent] = field(default_factory=list)


# What callers do not know yet: events wait for it.
UNPLACED = {"parked", "awaiting_approval"}


@dataclass
class ThresholdSide:
    """The side of the threshold that a channel is on for a SKU; `left_at` is 0 until it leaves the shelf."""

    below: bool
    left_at: int = 0


@dataclass
class PoolTimes:
    """The times of a pool, ms: it opens at `begins` (0: it is open), and ends at `ends` (0: never)."""

    begins: int
    ends: int
    ended: bool = False


@dataclass
class CountHistory:
    """What late counts need, for one SKU in one warehouse: all movements so far."""

    counted_at: int | None = None
    moves: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class ModelSku:
    """A SKU's counters by name, its warehouses in order of appearance, and its channels' sides and policies."""

    counters: dict[str, int] = field(default_factory=dict)
    warehouses: list[str] = field(default_factory=list)
    sides: dict[str, ThresholdSide] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, CountHistory] = field(default_factory=dict)
    # The free units by warehouse, and the available ones, as of the last change.
    free_before: dict[str, int] = field(default_factory=dict)
    available_before: int = 0
    # By pool: `vip@SH1`.
    pool_times: dict[str, PoolTimes] = field(default_factory=dict)

    def count(self, name: str) -> int:
        return self.counters.get(name, 0)

    def add(self, name: str, change: int) -> None:
        """Change a counter; one at zero is removed, as in the ledger."""
        value = self.count(name) + change
        if value:
            self.counters[name] = value
        else:
            self.counters.pop(name, None)

    def appear(self, warehouse: str) -> None:
        """Add a warehouse of the SKU."""
        if warehouse not in self.warehouses:
            self.warehouses.append(warehouse)

    def free(self, warehouse: str) -> int:
        """Units of a warehouse that are neither held nor committed, nor in a pool."""
        return self.unheld(warehouse) - self.pooled(warehouse)

    def unheld(self, warehouse: str) -> int:
        """Units of a warehouse that are neither held nor committed."""
        return (
            self.count(f"on_hand@{warehouse}")
            - self.count(f"committed@{warehouse}")
            - self.count(f"locked@{warehouse}")
        )

    def short(self) -> int:
        """Units that are sold beyond the shelf, over all channels."""
        return sum(value for name, value in self.counters.items() if name.startswith("short@"))

    def available(self) -> int:
        return sum(self.free(name) for name in self.warehouses) - self.short()

    def has_risen(self) -> bool:
        """Whether the last change raised what is available, over all warehouses or at one."""
        at_one = any(self.free(name) > self.free_before.get(name, 0) for name in self.warehouses)
        return at_one or self.available() > self.available_before

    def has_fallen_short(self) -> bool:
        """Whether the last change lowered a warehouse that is below zero."""
        return any(self.free(name) < min(0, self.free_before.get(name, 0)) for name in self.warehouses)

    def note_free(self) -> None:
        """End a change."""
        self.free_before = {name: self.free(name) for name in self.warehouses}
        self.available_before = self.available()

    def pooled(self, warehouse: str) -> int:
        """Units of a warehouse that are in pools."""
        names = (name for name in self.counters if name.startswith("reserved#"))
        return sum(self.counters[name] for name in names if name.partition("@")[2] == warehouse)

    def preordered(self) -> int:
        """Units promised beyond the shelf, over all channels."""
        return sum(value for name, value in self.counters.items() if name.startswith("preordered@"))

    def incoming(self) -> int:
        """Announced units that are to come, over all announcements."""
        return sum(value for name, value in self.counters.items() if name.startswith("incoming#"))


@dataclass
class ModelMovement:
    """The answer to a movement id."""

    fingerprint: str
    outcome: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    # What a void needs: the kind of command, when it occurred, and by SKU its units and its changes of counters.
    kind: str = ""
    at: int = 0
    reason: str = ""
    units: dict[str, int] = field(default_factory=dict)
    effects: dict[str, dict[str, int]] = field(default_factory=dict)
    voided: bool = False
    # The announcement for which a receipt counted.
    expected_id: str | None = None


@dataclass
class ModelAnnouncement:
    """An announced receipt: the totals that its newest event announced, and the units that came. `is_refused`: the
    first event was refused, so that there is none."""

    at: int
    eta: int | None = None
    announced: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    overdue: bool = False
    is_amended: bool = False
    is_refused: bool = False

    def incoming(self, sku: str) -> int:
        """Units that are still to come."""
        return max(0, self.announced.get(sku, 0) - self.received.get(sku, 0))


@dataclass
class ModelState:
    """The whole shop. `channels` maps a known channel to its policy level, None where none was set."""

    now: int = 0
    park_ms: int = 60_000
    approval_ms: int = 3_600_000
    waiting_alert_ms: int = 15 * 60 * 1000
    waiting_order_bytes_max: int = 64 * 1024
    waiting_bytes_max: int = 64 * 1024 * 1024
    extensions_max: int = 64
    expected_per_sku_max: int = 50
    skus: dict[str, ModelSku] = field(default_factory=dict)
    orders: dict[str, ModelOrder] = field(default_factory=dict)
    movements: dict[tuple[str, str], ModelMovement] = field(default_factory=dict)
    # The parts of each count that came in parts, by their number.
    parts: dict[tuple[str, str], dict[int, Any]] = field(default_factory=dict)
    # Announcements by warehouse and id; each is a movement too.
    announcements: dict[tuple[str, str], ModelAnnouncement] = field(default_factory=dict)
    channels: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    # The orders that have waited for stock, so far.
    queued: int = 0
    # Orders that the current batch placed, and others whose promised dates it changed.
    placed: set[str] = field(default_factory=set)
    repromised: set[str] = field(default_factory=set)
    # Alerts and dead letters of the current step.
    alerts: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ModelAnswer:
    """The outcome of a step, with its alerts and dead letters."""

    outcome: str
    replayed: bool = False
    alerts: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()
