"""The two counters that a shop of the tests can stand at: the model, and the ledger on a real server.

In: commands and the time. Out: what was told, and every record as a reader would have it: the ledger's till knows
only what decisions published and folds that; it never looks into Redis.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, ContinueCounts, Sweep
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import Alert, Decision, LineRecord, MovementRecord, OrderRecord
from tests.ledger import model
from tests.ledger.model_policy import OfferState, current_offer
from tests.ledger.model_state import ModelLine, ModelOrder, ModelSku, ModelState

# A sweep of a test's few SKUs ends after a call or two; more means that it never ends.
SWEEPS_MAX = 20
SWEEP_SKUS = 100
# Counts of a few parts over a few SKUs.
STEPS_MAX = 500


@dataclass(frozen=True)
class CommandReply:
    """What one command was answered, with the alerts and dead letters of its batch."""

    outcome: str
    replayed: bool = False
    alerts: tuple[Alert, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def alert_types(self) -> set[str]:
        """The types of the alerts."""
        return {alert.type for alert in self.alerts}


@dataclass(frozen=True)
class SkuCounters:
    """A SKU's counters, and the sums over its warehouses."""

    counters: dict[str, int] = field(default_factory=dict)

    def total(self, name: str, warehouse: str | None = None) -> int:
        """A counter at a warehouse, or summed over all."""
        if warehouse is not None:
            return self.counters.get(f"{name}@{warehouse}", 0)
        return sum(value for key, value in self.counters.items() if key.startswith(f"{name}@"))

    def free(self, warehouse: str) -> int:
        """Units of a warehouse that nobody has a claim on."""
        claimed = self.total("committed", warehouse) + self.total("locked", warehouse)
        return self.total("on_hand", warehouse) - claimed

    @property
    def on_hand(self) -> int:
        """Sellable units in the buildings."""
        return self.total("on_hand")

    @property
    def committed(self) -> int:
        """Paid, not shipped."""
        return self.total("committed")

    @property
    def physical(self) -> int:
        """What is in the buildings and not paid for."""
        return self.on_hand - self.committed

    @property
    def locked(self) -> int:
        """Held, unpaid."""
        return self.total("locked")

    @property
    def available(self) -> int:
        """What nobody has a claim on."""
        return self.physical - self.locked

    @property
    def preordered(self) -> int:
        """Promised beyond the shelf."""
        return self.total("preordered")

    @property
    def damaged(self) -> int:
        """Not fit for sale."""
        return self.total("damaged")


class LedgerDriver(Protocol):
    """Whoever decides."""

    async def apply(self, commands: Sequence[Command], now: int) -> list[CommandReply]:
        """Decide `commands` in order as one batch."""
        ...

    def order(self, order_id: str) -> OrderRecord | None:
        """An order as it was last told."""
        ...

    def stock(self, sku: str) -> SkuCounters:
        """A SKU's counters as they were last told."""
        ...

    def current_offer(self, sku: str, channel: str) -> OfferState:
        """What a channel was last told that it may sell."""
        ...

    def version(self, sku: str) -> int:
        """A SKU's version; the model has none and says 0."""
        ...

    def movement_lines(self, warehouse: str, movement_id: str) -> dict[str, str]:
        """The outcome of each line of a movement, by SKU."""
        ...


class ModelDriver:
    """The model decides."""

    def __init__(self, state: ModelState | None = None) -> None:
        self.state = state or ModelState()

    async def apply(self, commands: Sequence[Command], now: int) -> list[CommandReply]:
        """Decide `commands` one after the other."""
        told = []
        for command in commands:
            answer = model.advance(self.state, command, now)
            alerts = tuple(Alert(type=type_, sku=subject) for type_, subject in answer.alerts)
            told.append(CommandReply(answer.outcome, answer.replayed, alerts, answer.refused))
        after = model.end_batch(self.state)
        alerts = tuple(Alert(type=type_, sku=subject) for type_, subject in after.alerts)
        told[-1] = replace(told[-1], alerts=told[-1].alerts + alerts, refused=told[-1].refused + after.refused)
        return told

    def order(self, order_id: str) -> OrderRecord | None:
        """An order, with the fields that the model keeps."""
        order = self.state.orders.get(order_id)
        return None if order is None else order_record(order)

    def stock(self, sku: str) -> SkuCounters:
        """A SKU's counters."""
        known = self.state.skus.get(sku)
        return SkuCounters(dict(known.counters) if known else {})

    def current_offer(self, sku: str, channel: str) -> OfferState:
        """What a channel may sell."""
        return current_offer(self.state, channel, self.state.skus.get(sku, ModelSku()))

    def version(self, sku: str) -> int:
        """The model has no versions."""
        return 0

    def movement_lines(self, warehouse: str, movement_id: str) -> dict[str, str]:
        """The outcome of each line of a movement."""
        return dict(self.state.movements[warehouse, movement_id].lines)


def order_record(order: ModelOrder) -> OrderRecord:
    """The model's order in the ledger's words, as far as both keep the same."""
    return OrderRecord(
        state=order.state,
        channel=order.channel,
        sequence=order.sequence,
        placed_at=order.placed_at,
        expires_at=order.expires_at,
        outcome=order.outcome,
        lines=tuple(_line_record(line) for line in order.lines),
    )


def _line_record(line: ModelLine) -> LineRecord:
    return LineRecord(
        sku=line.sku,
        quantity=line.quantity,
        state=line.state,
        reserved=line.reserved,
        preordered=line.preordered,
        shipped=line.shipped,
        returned=line.returned,
        cancelled=line.cancelled,
        reason=line.reason,
        warehouses=dict(line.warehouses),
    )


class RedisDriver:
    """The ledger decides; what it published is folded here as any reader would fold it. `steps_counts`: after each
    batch counts take every step that is due, one SKU each."""

    def __init__(self, ledger: Ledger, steps_counts: bool = False) -> None:
        self.ledger = ledger
        self.steps_counts = steps_counts
        self.batch = 0
        self.decisions: list[Decision] = []
        self.orders: dict[str, OrderRecord] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._versions: dict[str, int] = {}
        self._offers: dict[str, dict[str, OfferState]] = {}
        self._movements: dict[tuple[str, str], MovementRecord] = {}

    async def apply(self, commands: Sequence[Command], now: int) -> list[CommandReply]:
        """Decide `commands` as one batch, and finish the sweep that they may have begun."""
        decision = await self._decide(commands, now)
        sweeping, sweeps = decision, 0
        while sweeping.registry is not None and sweeping.registry.sweep_from is not None:
            sweeping = await self._decide([Sweep(skus_max=SWEEP_SKUS)], now)
            sweeps += 1
            assert sweeps < SWEEPS_MAX, "the sweep does not end"
        refused = tuple(letter.reason for letter in decision.refused)
        alerts = decision.alerts
        for step in [step async for step in self._steps(now)] if self.steps_counts else ():
            alerts += step.alerts
            refused += tuple(letter.reason for letter in step.refused)
        return [CommandReply(result.outcome, result.replayed, alerts, refused) for result in decision.results]

    async def _steps(self, now: int) -> AsyncIterator[Decision]:
        for _ in range(STEPS_MAX):
            step = await self._decide([ContinueCounts(skus_max=1)], now)
            if step.results[0].outcome == Outcome.NOTHING_DUE:
                return
            yield step
        raise AssertionError("the steps of a count do not end")

    async def _decide(self, commands: Sequence[Command], now: int) -> Decision:
        applied = await self.ledger.apply(commands, token=secrets.token_hex(8), now_ms=now)
        decision = applied.decision
        assert len(decision.results) == len(commands)
        if applied.batch:
            assert applied.batch == self.batch + 1, "batches are dense"
            self.batch = applied.batch
        self.decisions.append(decision)
        self._fold(decision)
        return decision

    def _fold(self, decision: Decision) -> None:
        for order in decision.orders:
            self.orders[order.order_id] = order.record
        for movement in decision.movements:
            self._movements[movement.warehouse, movement.id] = movement.record
        for effect in decision.effects:
            assert effect.version == self._versions.get(effect.sku, 0) + 1, "a version grows by one"
            self._versions[effect.sku] = effect.version
            counters = self._counters.setdefault(effect.sku, {})
            for name, change in dict(effect.deltas).items():
                counters[name] = counters.get(name, 0) + change
                if not counters[name]:
                    del counters[name]
        for row in decision.skus:
            published = {name: value for name, value in row.record.counters.items() if value}
            assert published == self._counters.get(row.sku, {}), "effects sum up to the counters"
            assert row.record.version == self._versions.get(row.sku, 0)
            self._offers[row.sku] = {
                offer.channel: OfferState(offer.mode, offer.quantity, offer.preorder_remaining) for offer in row.offers
            }

    def order(self, order_id: str) -> OrderRecord | None:
        """An order as last published."""
        return self.orders.get(order_id)

    def stock(self, sku: str) -> SkuCounters:
        """The counters as the published effects sum up."""
        return SkuCounters(dict(self._counters.get(sku, {})))

    def current_offer(self, sku: str, channel: str) -> OfferState:
        """The offer as last published; a channel that was never told anything may sell nothing."""
        return self.offers(sku).get(channel, OfferState("sold_out", 0, 0))

    def offers(self, sku: str) -> dict[str, OfferState]:
        """The offers of all channels as last published."""
        return self._offers.get(sku, {})

    def version(self, sku: str) -> int:
        """The version after the newest effect."""
        return self._versions.get(sku, 0)

    def movement(self, warehouse: str, movement_id: str) -> MovementRecord:
        """A movement, as published."""
        return self._movements[warehouse, movement_id]

    def movement_lines(self, warehouse: str, movement_id: str) -> dict[str, str]:
        """The outcome of each line of a movement, as published."""
        return {line.sku: line.outcome for line in self._movements[warehouse, movement_id].lines}
