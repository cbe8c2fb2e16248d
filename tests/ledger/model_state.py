"""What the model of the ledger remembers, in plain Python.

Counters carry the names that the ledger gives them (`on_hand@SH1`, `preordered@tmall`), to compare the two.
Times are ms since the epoch, quantities are whole units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Rule 41: a count may be as of up to 24 hours ago.
COUNT_MS_MAX = 24 * 3600 * 1000
# Rule 40: how far ahead of the ledger's clock an input may be dated, and how near an event comes to its own time.
FUTURE_MS_MAX = 600_000
FRESH_MS = 60_000
# What the smallest event counts among those that wait.
EVENT_BYTES_MIN = 64
# Rule 26: a hold lasts at most seven days from its placing, however often it is extended.
HOLD_MS_MAX = 7 * 24 * 3600 * 1000


@dataclass
class ModelLine:
    """A line of an order. `warehouses` says where the `reserved` units are, `reserved` is their sum."""

    sku: str
    quantity: int
    state: str
    preordered: int = 0
    shipped: int = 0
    returned: int = 0
    cancelled: int = 0
    reason: str | None = None
    warehouses: dict[str, int] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        """Units that are held or committed for this line and have not left yet."""
        return sum(self.warehouses.values())

    @property
    def outstanding(self) -> int:
        """Units that somebody still owes the shopper."""
        return self.reserved + self.preordered


@dataclass
class ParkedEvent:
    """An event that came before what it needs (rule 43), and whether an alert has named it."""

    command: Any
    bytes: int
    since: int
    until: int
    told: bool = False


@dataclass
class ModelOrder:
    """An order, or (`state` parked) only the events that came before its placing. `parked` waits, in order."""

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
    parked: list[ParkedEvent] = field(default_factory=list)


@dataclass
class ThresholdSide:
    """The side of the threshold that a channel is on for a SKU, and when it left the shelf (0: never)."""

    below: bool
    left_at: int = 0


@dataclass
class CountHistory:
    """What late counts need, for one SKU in one warehouse: every movement there ever was."""

    counted_at: int | None = None
    moves: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class ModelSku:
    """A SKU's counters by name, its warehouses as they first appeared, and who may sell it."""

    counters: dict[str, int] = field(default_factory=dict)
    warehouses: list[str] = field(default_factory=list)
    sides: dict[str, ThresholdSide] = field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: dict[str, CountHistory] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """The value of a counter."""
        return self.counters.get(name, 0)

    def add(self, name: str, change: int) -> None:
        """Change a counter; a counter at zero is no counter, as in the ledger."""
        value = self.count(name) + change
        if value:
            self.counters[name] = value
        else:
            self.counters.pop(name, None)

    def appear(self, warehouse: str) -> None:
        """Note that this warehouse has to do with the SKU."""
        if warehouse not in self.warehouses:
            self.warehouses.append(warehouse)

    def free(self, warehouse: str) -> int:
        """Units of a warehouse that nobody has a claim on."""
        return (
            self.count(f"on_hand@{warehouse}")
            - self.count(f"committed@{warehouse}")
            - self.count(f"locked@{warehouse}")
        )

    def preordered(self) -> int:
        """Units promised beyond the shelf, over all channels."""
        return sum(value for name, value in self.counters.items() if name.startswith("preordered@"))


@dataclass
class ModelMovement:
    """What a movement id was answered."""

    fingerprint: str
    outcome: str
    lines: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class ModelState:
    """The whole shop. `channels` maps a known channel to its policy level, None where none was set."""

    now: int = 0
    park_ms: int = 60_000
    waiting_alert_ms: int = 15 * 60 * 1000
    waiting_order_bytes_max: int = 64 * 1024
    waiting_bytes_max: int = 64 * 1024 * 1024
    extensions_max: int = 64
    skus: dict[str, ModelSku] = field(default_factory=dict)
    orders: dict[str, ModelOrder] = field(default_factory=dict)
    movements: dict[tuple[str, str], ModelMovement] = field(default_factory=dict)
    # The parts of each count that came in parts, by their number.
    parts: dict[tuple[str, str], dict[int, Any]] = field(default_factory=dict)
    channels: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    # What the step that is under way has to tell, beside its outcome.
    alerts: list[tuple[str, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ModelAnswer:
    """What a step told its caller, and with which alerts and dead letters."""

    outcome: str
    replayed: bool = False
    alerts: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()
