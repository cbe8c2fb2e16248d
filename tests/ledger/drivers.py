"""Drivers of a ledger: the model, and the Lua on a real server, behind the same methods.

In: commands and the time. Out: replies, and the newest state of each order, SKU and offer. `RedisDriver` folds the
published decisions as a reader of the log does, and never reads Redis.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, ContinueCounts, Sweep, WriteWhole
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import Alert, Decision, LineRecord, MovementRecord, OrderRecord
from tests.ledger import model
from tests.ledger.model_policy import OfferState, current_offer
from tests.ledger.model_promises import available_from
from tests.ledger.model_state import ModelAnswer, ModelOrder, ModelSku, ModelState

# A sweep of a test's few SKUs ends after a call or two; more means that it never ends.
SWEEPS_MAX = 20
SWEEP_SKUS = 100
# Counts of a few parts over a few SKUs.
STEPS_MAX = 500
# What the model's orders have in common with the ledger's.
_ORDER_FIELDS = ("state", "channel", "sequence", "placed_at", "expires_at", "outcome", "held_back", "passed_over")
_ORDER_FIELDS += ("choice_due", "buyer", "bounded", "removed_ahead")


@dataclass(frozen=True)
class CommandReply:
    """The outcome of one command, with the alerts and dead letters of its batch."""

    outcome: str
    replayed: bool = False
    alerts: tuple[Alert, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def result(self) -> tuple[str, bool]:
        """The outcome, and whether it repeats an earlier one."""
        return self.outcome, self.replayed

    @property
    def alert_types(self) -> set[str]:
        return {alert.type for alert in self.alerts}


@dataclass(frozen=True)
class SkuCounters:
    """A SKU's counters, and their sums over its warehouses."""

    counters: dict[str, int] = field(default_factory=dict)

    def total(self, name: str, warehouse: str | None = None) -> int:
        """A counter at a warehouse, or summed over all."""
        if warehouse is not None:
            return self.counters.get(f"{name}@{warehouse}", 0)
        return sum(value for key, value in self.counters.items() if key.startswith(f"{name}@"))

    def free(self, warehouse: str) -> int:
        """Units of a warehouse that are neither held nor committed, nor in a pool."""
        return self.unheld(warehouse) - sum(self.pools(warehouse).values())

    def unheld(self, warehouse: str) -> int:
        """Units of a warehouse that are neither held nor committed."""
        claimed = self.total("committed", warehouse) + self.total("locked", warehouse)
        return self.total("on_hand", warehouse) - claimed

    def pools(self, warehouse: str | None = None) -> dict[str, int]:
        """The units in each pool by its name, as `vip@SH1`, at a warehouse or at all."""
        names = (name for name in self.counters if name.startswith("reserved#"))
        return {
            name.removeprefix("reserved#"): self.counters[name]
            for name in names
            if warehouse is None or name.partition("@")[2] == warehouse
        }

    on_hand = property(lambda self: self.total("on_hand"))
    committed = property(lambda self: self.total("committed"))
    locked = property(lambda self: self.total("locked"))
    preordered = property(lambda self: self.total("preordered"))
    short = property(lambda self: self.total("short"))
    incoming = property(lambda self: sum(n for name, n in self.counters.items() if name.startswith("incoming#")))
    damaged = property(lambda self: self.total("damaged"))
    reserved = property(lambda self: sum(self.pools().values()))
    physical = property(lambda self: self.on_hand - self.committed)
    available = property(lambda self: self.physical - self.locked - self.reserved - self.short)


class ModelDriver:
    """The model decides."""

    def __init__(self, state: ModelState | None = None) -> None:
        self.state = state or ModelState()

    async def apply(self, commands: Sequence[Command], now: int) -> list[CommandReply]:
        replies = []
        self.state.repromised.clear()
        for command in commands:
            answer = model.advance(self.state, command, now)
            replies.append(CommandReply(answer.outcome, answer.replayed, _alerts(answer), answer.refused))
        after, last = model.end_batch(self.state), replies[-1]
        replies[-1] = replace(last, alerts=last.alerts + _alerts(after), refused=last.refused + after.refused)
        return replies

    def order(self, order_id: str) -> OrderRecord | None:
        """An order, with the fields that the model keeps."""
        order = self.state.orders.get(order_id)
        return None if order is None else common_record(order)

    def stock(self, sku: str) -> SkuCounters:
        known = self.state.skus.get(sku)
        return SkuCounters(dict(known.counters) if known else {})

    def offer(self, sku: str, channel: str) -> OfferState:
        return current_offer(self.state, channel, self.state.skus.get(sku, ModelSku()))

    def available_from(self, sku: str, channel: str) -> int | None:
        """When the next preordered unit is promised, of a channel that takes preorders."""
        return available_from(self.state, channel, sku) if self.offer(sku, channel).mode == "preorder" else None

    @property
    def repromised(self) -> set[str]:
        """The orders of which the newest batch changed a promised date."""
        return set(self.state.repromised)

    def movement_lines(self, warehouse: str, movement_id: str) -> dict[str, str]:
        """The outcome of each line of a movement."""
        return dict(self.state.movements[warehouse, movement_id].lines)


def _alerts(answer: ModelAnswer) -> tuple[Alert, ...]:
    return tuple(Alert(type=type_, sku=subject) for type_, subject in answer.alerts)


def common_record(order: ModelOrder | OrderRecord) -> OrderRecord:
    """An order of either driver, reduced to the fields that both keep."""
    lines = [LineRecord(**{name: getattr(line, name) for name in LineRecord.__struct_fields__}) for line in order.lines]
    return OrderRecord(**{name: getattr(order, name) for name in _ORDER_FIELDS}, lines=tuple(lines))


class RedisDriver:
    """The ledger decides, and its published decisions are folded as any reader would fold them.

    With `steps_counts`, every batch is followed by all steps of counts that are due, one SKU each; with `writes_whole`,
    also by the whole rows of SKUs of which it holds patches.
    """

    def __init__(self, ledger: Ledger, steps_counts: bool = False) -> None:
        self.ledger = ledger
        self.writes_whole = False
        self.steps_counts = steps_counts
        self.batch = 0
        self.decisions: list[Decision] = []
        self.orders: dict[str, OrderRecord] = {}
        self._counters: dict[str, dict[str, int]] = {}
        self._versions: dict[str, int] = {}
        self._offers: dict[str, dict[str, OfferState]] = {}
        self._movements: dict[tuple[str, str], MovementRecord] = {}
        self._dates: dict[str, dict[str, int | None]] = {}
        self.repromised: set[str] = set()

    async def apply(self, commands: Sequence[Command], now: int) -> list[CommandReply]:
        """Decide `commands` as one batch, and finish the sweep that they may have begun."""
        self.repromised = set()
        decision = await self._decide(commands, now)
        while decision.results[-1].outcome == Outcome.APPLYING:
            decision = await self._decide(commands, now)
        sweeping, sweeps = decision, 0
        while sweeping.registry is not None and sweeping.registry.sweep_from is not None:
            sweeping = await self._decide([Sweep(skus_max=SWEEP_SKUS)], now)
            sweeps += 1
            assert sweeps < SWEEPS_MAX, "the sweep does not end"
        made = [decision, *(await self._step_counts(now) if self.steps_counts else ())]
        if self.writes_whole and any(each.patches.rows for each in made):
            await self._decide([WriteWhole(skus_max=SWEEP_SKUS)], now)
        alerts = tuple(alert for each in made for alert in each.alerts)
        refused = tuple(letter.reason for each in made for letter in each.refused)
        return [CommandReply(result.outcome, result.replayed, alerts, refused) for result in decision.results]

    async def _step_counts(self, now: int) -> list[Decision]:
        steps: list[Decision] = []
        while len(steps) < STEPS_MAX:
            step = await self._decide([ContinueCounts(skus_max=1)], now)
            if step.results[0].outcome == Outcome.NOTHING_DUE:
                return steps
            steps.append(step)
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
        self.orders |= {order.order_id: order.record for order in decision.orders}
        self.repromised |= {order.order_id for order in decision.orders if order.repromised}
        self._movements |= {(each.warehouse, each.id): each.record for each in decision.movements}
        for effect in decision.effects:
            assert effect.version == self.version(effect.sku) + 1, "a version grows by one"
            self._versions[effect.sku] = effect.version
            counters = self._counters.setdefault(effect.sku, {})
            for name, change in dict(effect.deltas).items():
                counters[name] = counters.get(name, 0) + change
                if not counters[name]:
                    del counters[name]
        for row in decision.skus:
            published = {name: value for name, value in row.record.counters.items() if value}
            assert published == self._counters.get(row.sku, {}), "effects sum up to the counters"
            assert row.record.version == self.version(row.sku)
            self._offers[row.sku] = {
                offer.channel: OfferState(offer.mode, offer.quantity, offer.preorder_remaining) for offer in row.offers
            }
            self._dates[row.sku] = {offer.channel: offer.available_from for offer in row.offers}

    def order(self, order_id: str) -> OrderRecord | None:
        """An order as last published."""
        return self.orders.get(order_id)

    def stock(self, sku: str) -> SkuCounters:
        """The sums of the published effects."""
        return SkuCounters(dict(self._counters.get(sku, {})))

    def offer(self, sku: str, channel: str) -> OfferState:
        """The offer as last published; a channel without one may sell nothing."""
        return self.offers(sku).get(channel, OfferState("sold_out", 0, 0))

    def offers(self, sku: str) -> dict[str, OfferState]:
        """The offers of all channels as last published."""
        return self._offers.get(sku, {})

    def available_from(self, sku: str, channel: str) -> int | None:
        """When the next preordered unit is promised, as last published."""
        return self._dates.get(sku, {}).get(channel)

    def version(self, sku: str) -> int:
        """The version after the newest effect."""
        return self._versions.get(sku, 0)

    def movement(self, warehouse: str, movement_id: str) -> MovementRecord:
        return self._movements[warehouse, movement_id]

    def movement_lines(self, warehouse: str, movement_id: str) -> dict[str, str]:
        """The outcome of each line of a movement, as published."""
        return {line.sku: line.outcome for line in self.movement(warehouse, movement_id).lines}


LedgerDriver = ModelDriver | RedisDriver
