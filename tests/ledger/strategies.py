"""Random runs of batches over a shop so small that its orders, units and deadlines collide.

Out: a Hypothesis strategy of runs: batches, each with the time that passes before it. Most commands refer to earlier
ones (an event to an order that was placed, a shipment to a SKU of it), since others would be refused.
`STOCKTIDE_TEST_SEED` repeats a run; `STOCKTIDE_TEST_EXAMPLES` makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stocktide.tables.ledger import commands
from stocktide.tables.ledger.commands import Command, Origin
from stocktide.tables.ledger.make_commands import fingerprint
from tests.ledger.model_policy import policy_digest
from tests.ledger.shop_client import OPENING_MS

SEED = int(os.environ.get("STOCKTIDE_TEST_SEED", random.randrange(2**32)))
# About 0.2 s each on two busy cores, on each server: the default stays within a developer's patience.
EXAMPLES = int(os.environ.get("STOCKTIDE_TEST_EXAMPLES", 50))
SKUS = ("A", "B", "C")
WAREHOUSES = ("SH1", "BJ1", "GZ1")
CHANNELS = ("tmall", "jd", "main")
PURPOSES = ("vip", "sale")
BUYERS = ("mei", "ravi")
ACTORS = ("anna", "ben", "carl")
BATCH_MAX = 5
# Enough for an order to be placed, paid, shipped and returned among others; more finds no more per second.
BATCHES_MIN, BATCHES_MAX = 8, 40
ORIGIN = Origin("orders", 0, 1, "{}")
# An event from Kafka is small, or so large that few may wait, or none.
ORIGINS = (None, ORIGIN, ORIGIN, ORIGIN, *(Origin("orders", 0, 1, "x" * size) for size in (250, 400)))

# How often each kind is drawn.
KINDS: tuple[tuple[type[Any], int], ...] = (
    (commands.Place, 30),
    (commands.Approve, 5),
    (commands.Reject, 1),
    (commands.Pay, 12),
    (commands.Cancel, 8),
    (commands.Change, 8),
    (commands.HoldBack, 4),
    (commands.Assign, 4),
    (commands.Extend, 6),
    (commands.Ship, 10),
    (commands.TakeBack, 6),
    (commands.Receive, 10),
    (commands.Adjust, 5),
    (commands.Count, 8),
    (commands.Transfer, 3),
    (commands.Void, 4),
    (commands.Expect, 8),
    (commands.Reserve, 8),
    (commands.Release, 3),
    (commands.SetPolicy, 5),
    (commands.DeletePolicy, 1),
    (commands.KnowChannel, 1),
    (commands.Tick, 6),
)
MOVEMENTS = (
    commands.Receive,
    commands.Adjust,
    commands.Count,
    commands.Transfer,
    commands.Reserve,
    commands.Release,
    commands.Expect,
)
_KINDS = tuple(kind for kind, weight in KINDS for _ in range(weight))
# Most events occur when they arrive; some are late by seconds, hours or more than a count may be; and some clocks are
# ahead, within the limit or beyond it.
_AGES_S = (0, 0, 0, 0, 0, 0, 3, 10, 40, 60, 61, 600, 1200, 3_600, 50_000, 86_399, 86_400, 86_401, -5, -300, -600, -601)
# Ids of announcements.
ANNOUNCED = ("po0", "po1", "po2")
# When announced units are due, ms after the event.
_ETAS_MS = (-1_000, 0, 1_000, 5_000, 60_000, 3_600_000, 200_000_000)
# ms that pass before a batch; some are just as long as a hold, a dwell or the wait of a parked event.
_PASSING_MS = (0, 1, 1_000, 1_000, 4_000, 5_000, 15_000, 60_000, 3_600_000)
POLICY_FIELDS: dict[str, Sequence[Any]] = {
    "share": (1.0, 1.0, 0.5, 0.3, 0.0),
    "buffer": (0, 1, 3),
    "max_listed": (0, 4, 8, 20),
    "safety_threshold": (0, 2, 4, 6),
    "resume_threshold": (0, 4, 8, 12),
    "below_threshold": ("sell_through", "preorder", "preorder", "suspend"),
    "preorder_cap": (0, 5, 15),
    "preorder_backed": (False, False, False, True),
    "dwell_seconds": (0, 5, 20),
    "primary": (False, False, True),
    "split": (True, True, False),
    "warehouses": (("SH1",), ("BJ1", "SH1"), ("GZ1", "BJ1")),
    "purposes": (("vip",), ("sale", "vip"), ("sale",), ()),
    "pool_only": (False, True),
    "reroute": (True, True, False),
    "slip_days_max": (0, 0, 1),
    "held_units_max": (0, 6, 12),
    "buyer_units_max": (0, 4, 8),
}
# A few whole policies to vary: single fields seldom switch a channel's mode.
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"safety_threshold": 4, "below_threshold": "preorder", "preorder_cap": 15},
    {"safety_threshold": 6, "resume_threshold": 9, "below_threshold": "preorder", "preorder_cap": 9},
    {"safety_threshold": 4, "below_threshold": "suspend", "dwell_seconds": 5},
    {"safety_threshold": 6, "below_threshold": "suspend", "dwell_seconds": 20},
    {"buffer": 2, "below_threshold": "preorder", "preorder_cap": 15, "dwell_seconds": 20},
    {"safety_threshold": 4, "below_threshold": "preorder", "preorder_cap": 15, "preorder_backed": True},
)
_T = TypeVar("_T")
TimedBatch = tuple[int, list["DraftCommand"]]


@dataclass(frozen=True)
class DraftCommand:
    """A command without its time: `age_s` is how long before its batch it occurred."""

    kind: type[Any]
    fields: dict[str, Any]
    age_s: int = 0
    # When it occurred, ms after the opening, where that does not move with the batch.
    occurred_ms: int | None = None

    def dated(self, now: int) -> Command:
        """The command for a batch at `now`."""
        if "id" not in self.fields:
            plain: Command = self.kind(**self.fields)
            return plain
        at = now - 1000 * self.age_s if self.occurred_ms is None else OPENING_MS + self.occurred_ms
        # As in the product, the time of a count is part of its body.
        body = [value for name, value in sorted(self.fields.items()) if name not in {"id", "origin"}]
        mark = fingerprint(self.kind.__name__, body, at if self.kind is commands.Count else 0)
        dated: Command = self.kind(**self.fields, at=at, fingerprint=mark)
        return dated


@dataclass
class _RunBuilder:
    """One run as it is drawn, with its earlier commands, so that later ones can refer to them."""

    draw: st.DrawFn
    placed: list[DraftCommand] = field(default_factory=list)
    drafts: list[DraftCommand] = field(default_factory=list)
    # The first part of each count that comes in parts; and the time, in ms after the opening.
    counts: list[DraftCommand] = field(default_factory=list)
    elapsed_ms: int = 0
    returned: list[str] = field(default_factory=list)
    extended: list[str] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)
    # The warehouse and id of each announcement.
    announced: list[tuple[str, str]] = field(default_factory=list)
    # The policy that each level was last given.
    levels: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)

    def one(self, choices: Sequence[_T]) -> _T:
        return self.draw(st.sampled_from(choices))

    def rarely(self) -> bool:
        return self.one((False,) * 9 + (True,))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def command(self) -> DraftCommand:
        """A new command, or now and then a repeat of an earlier one."""
        if self.drafts and self.rarely():
            return self.one(self.drafts)
        kind = self.one(_KINDS)
        if kind is commands.Place:
            draft = self._place()
            self.placed.append(draft)
        elif kind in (commands.SetPolicy, commands.DeletePolicy):
            draft = self.policy(kind)
        elif kind is commands.KnowChannel:
            return DraftCommand(kind, {"channel": self.one(CHANNELS)})
        elif kind is commands.Tick:
            return DraftCommand(kind, {"orders_max": 100})
        elif kind is commands.Void:
            draft = self._void()
        elif kind in (commands.Approve, commands.Reject):
            draft = self._approval(kind)
        elif issubclass(kind, MOVEMENTS):
            draft = self._part() if kind is commands.Count and self.one((False, True)) else self.movement(kind)
        else:
            draft = self._order_event(kind)
        self.drafts.append(draft)
        return draft

    def _common(self) -> dict[str, Any]:
        # The id is new, or one of a few that other commands have too.
        id_ = f"e{self.number(0, 5)}" if self.rarely() else f"x{len(self.drafts)}"
        return {"id": id_, "origin": self.one(ORIGINS)}

    def _lines(self, most: int = 8) -> tuple[tuple[str, int], ...]:
        skus = self.draw(st.lists(st.sampled_from(SKUS), min_size=1, max_size=3, unique=True))
        return tuple((sku, self.number(1, most)) for sku in skus)

    def _order_id(self) -> str:
        # The order after the newest is not placed yet: its events have to wait for it.
        newest = len(self.placed) + (1 if self.rarely() else 0)
        return f"o{self.number(max(0, newest - 6), max(0, newest - 1))}"

    def _place(self) -> DraftCommand:
        order_id = self._order_id() if self.rarely() else f"o{len(self.placed)}"
        fields = {
            "id": "placed",
            "origin": self.one((None, ORIGIN)),
            "order_id": order_id,
            "channel": self.one(CHANNELS),
            "lines": self._lines(),
            "hold_ms": self.one((5_000, 20_000, 900_000)),
            "priority": self.one(("standard", "standard", "standard", "vip")),
            "accept": self.one(("all", "all", "partial", "sold")),
            "allow_preorder": self.one((True, True, True, False)),
            "paid": self.one((False, False, False, False, True)),
            "purpose": self.one((None, None, *PURPOSES, "none")),
            "supersedes": self._order_id() if self.one((False, False, False, True)) else None,
            "buyer": self.one((None, *BUYERS)),
        }
        if fields["accept"] != "sold" and self.one((False, False, False, True)):
            fields |= {"force": True, "reason": "why", "actor": self.one(ACTORS)}
            self.forced.append(order_id)
        return DraftCommand(commands.Place, fields)

    def _approval(self, kind: type[Any]) -> DraftCommand:
        order_id = self.one(self.forced[-3:]) if self.forced and not self.rarely() else self._order_id()
        reason = {"reason": "no"} if kind is commands.Reject else {}
        return DraftCommand(kind, {"order_id": order_id, "actor": self.one(ACTORS)} | reason)

    def _order_event(self, kind: type[Any]) -> DraftCommand:
        order_id = self._order_id()
        if kind is commands.Ship and self.returned and self.one((True, False)):
            order_id = self.returned[-1]  # a return may wait for this shipment
        if kind is commands.Extend and self.extended and self.one((True, True, False)):
            order_id = self.extended[-1]  # towards the limit
        if kind is commands.TakeBack:
            self.returned.append(order_id)
        if kind is commands.Extend:
            self.extended.append(order_id)
        fields = self._common() | {"order_id": order_id}
        of = next((draft for draft in self.placed if draft.fields["order_id"] == order_id), None)
        ordered = of.fields["lines"] if of and not self.rarely() else self._lines()
        if kind in (commands.Pay, commands.Cancel, commands.Change, commands.Extend):
            # Mostly no channel is named; else that of the order, or of another one's holder.
            own = of.fields["channel"] if of else CHANNELS[0]
            fields["channel"] = self.one((None, None, own, self.one(CHANNELS)))
        if kind is commands.Pay:
            fields["if_expired"] = self.one((None, None, "take_again"))
        elif kind is commands.Extend:
            fields["hold_ms"] = self.one((1_000, 30_000, 950_000, 1_000_000, 604_800_000))
        elif kind is commands.Change:
            some = ordered[: self.number(0, 2)]
            fields["remove"] = tuple((sku, self.one((units, 1, 1))) for sku, units in some)
            fields["add"] = self._lines(4) if not some or self.one((True, True, False)) else ()
        elif kind in (commands.HoldBack, commands.Assign):
            fields |= {"origin": None, "reason": "asked for", "actor": self.one(("ann", "bob"))}
            if kind is commands.HoldBack:
                fields |= {"sku": self.one((None, *SKUS)), "held": self.one((True, False))}
            elif self.one((True, False)):
                fields["lines"] = tuple((sku, self.one((units, 1, 1))) for sku, units in ordered)
        elif kind is commands.Cancel:
            fields["removal"] = self.one((None, "total", "single"))
            if self.one((True, False)):
                some = tuple((sku, self.one((units, 1, 1, 2))) for sku, units in ordered[: self.number(1, 3)])
                fields["lines"] = some * 2 if self.rarely() and fields["removal"] is None else some
        elif kind is commands.Ship:
            fields["lines"] = tuple((sku, self.one((units, 1, 3)), self.one(WAREHOUSES)) for sku, units in ordered)
        elif kind is commands.TakeBack:
            conditions = ("sellable", "sellable", "damaged")
            fields["lines"] = tuple(
                (sku, self.one((units, 1, 1)), self.one(WAREHOUSES), self.one(conditions)) for sku, units in ordered
            )
        return DraftCommand(kind, fields, self.one(_AGES_S))

    def movement(self, kind: type[Any]) -> DraftCommand:
        fields = self._common() | {"warehouse": self.one(WAREHOUSES), "lines": self._lines(12)}
        if kind is commands.Adjust:
            fields["reason"] = self.one(("damages", "scrapped", "lost"))
            fields["lines"] = tuple((sku, self.number(-6, 3)) for sku, _ in fields["lines"])
        elif kind is commands.Count:
            fields["lines"] = tuple((sku, self.number(0, 12)) for sku, _ in fields["lines"])
        elif kind is commands.Transfer:
            fields["to_warehouse"] = self.one([name for name in WAREHOUSES if name != fields["warehouse"]])
        elif kind is commands.Receive:
            fields |= self._announced("expected_id") if self.one((True, False)) else {}
        elif kind is commands.Expect:
            fields |= self._announced("id") if self.one((True, True, False)) else {"id": self.one(ANNOUNCED)}
            self.announced.append((fields["warehouse"], fields["id"]))
            fields["eta"] = OPENING_MS + self.elapsed_ms + self.one(_ETAS_MS)
            fields["lines"] = tuple((sku, self.one((0, units, units))) for sku, units in fields["lines"])
        elif kind in (commands.Reserve, commands.Release):
            fields |= {"purpose": self.one(PURPOSES), "lines": self._lines(4)}
        if kind is commands.Reserve and self.one((False, True)):
            fields |= self._times()
        return DraftCommand(kind, fields, self.one(_AGES_S))

    def _times(self) -> dict[str, Any]:
        """When a pool begins and ends: soon, so that both come within a run."""
        now = OPENING_MS + self.elapsed_ms
        from_at = self.one((None, None, now - 1_000, now + 1_000, now + 4_000))
        until_at = self.one((None, now, *(now + after for after in (4_001, 5_000, 5_000, 20_000))))
        if from_at is not None and until_at is not None and from_at >= until_at:
            until_at = from_at + 1
        return {"from_at": from_at, "until_at": until_at}

    def _void(self) -> DraftCommand:
        """A void of a movement, mostly a recent one that can be voided."""
        moved = [draft for draft in self.drafts if "warehouse" in draft.fields]
        fields = self._common() | {"warehouse": self.one(WAREHOUSES), "movement_id": f"x{len(self.drafts)}"}
        if moved:
            never = (commands.Count, commands.Void, commands.Reserve, commands.Release)
            usual = [draft for draft in moved if draft.kind not in never]
            of = self.one(moved if self.rarely() or not usual else usual[-8:])
            fields |= {"warehouse": of.fields["warehouse"], "movement_id": of.fields["id"]}
        return DraftCommand(commands.Void, fields, self.one(_AGES_S))

    def _announced(self, name: str) -> dict[str, str]:
        """The warehouse and the id, as the field `name`, of one of the newest announcements."""
        if not self.announced:
            return {name: ANNOUNCED[0]}
        warehouse, id_ = self.one(self.announced[-4:])
        return {"warehouse": warehouse, name: id_}

    def _part(self) -> DraftCommand:
        """A part of a count: of a new one, or mostly of one that has begun."""
        fields = {"origin": self.one((None, ORIGIN)), "lines": self._lines(12)}
        if self.counts and self.one((True, True, False)):
            begun = self.one(self.counts[-3:])
            # Mostly each part lists a SKU of its own: two parts that list the same one conflict.
            number = self.number(1, begun.fields["parts"])
            if not self.rarely():
                fields["lines"] = ((SKUS[number - 1], self.number(0, 12)),)
            return DraftCommand(commands.Count, begun.fields | fields | {"part": number}, occurred_ms=begun.occurred_ms)
        fields |= {"id": f"parts{len(self.counts)}", "warehouse": self.one(WAREHOUSES)}
        parts = self.number(1, 3)
        part = self.number(1, parts)
        fields["lines"] = ((SKUS[part - 1], self.number(0, 12)),)
        fields |= {"part": part, "parts": parts, "complete": self.one((True, False))}
        draft = DraftCommand(commands.Count, fields, occurred_ms=self.elapsed_ms - 1000 * self.one(_AGES_S))
        self.counts.append(draft)
        return draft

    def policy(self, kind: type[Any]) -> DraftCommand:
        """A level of policy, set or removed."""
        channel = self.one((*CHANNELS, *CHANNELS, *CHANNELS, "*"))
        sku = self.one(SKUS if channel == "*" else (None, *SKUS))
        found = self.levels.get((channel, sku))
        # Mostly what the level was last given, which another command may have refused or changed.
        expected = self.one((None, None, policy_digest(found), policy_digest(found), policy_digest(None)))
        level = {"channel": channel, "sku": sku, "expected": expected}
        if kind is commands.DeletePolicy:
            self.levels.pop((channel, sku), None)
            return DraftCommand(kind, level)
        names = self.draw(st.lists(st.sampled_from(sorted(POLICY_FIELDS)), max_size=3, unique=True))
        policy = self.one(POLICIES) | {name: self.one(POLICY_FIELDS[name]) for name in names}
        policy["reroute"] = self.one(POLICY_FIELDS["reroute"])  # holds move only where a warehouse falls below zero
        if sku is None and self.one((False, True)):
            policy |= self._limits()
        if channel == "*":
            policy = {"preorder_cap": self.number(0, 15)}
            policy |= self.one(({}, {"fill": "complete_first"}, {"fill": "in_part"}))
        self.levels[channel, sku] = policy
        return DraftCommand(kind, level | {"policy": policy})

    def limited(self) -> DraftCommand:
        """A channel with limits of unpaid units and no other policy."""
        return DraftCommand(commands.SetPolicy, {"channel": self.one(CHANNELS), "sku": None, "policy": self._limits()})

    def _limits(self) -> dict[str, int]:
        return {"held_units_max": self.one((6, 12, 25)), "buyer_units_max": self.one((4, 8, 15))}


@st.composite
def runs(draw: st.DrawFn) -> list[TimedBatch]:
    """A shop that opens with some policies and receipts, and the batches that follow."""
    builder = _RunBuilder(draw)
    opening = [builder.policy(commands.SetPolicy) for _ in range(builder.number(0, 5))]
    opening += [builder.limited() for _ in range(builder.one((0, 0, 2, 5)))]
    opening += [builder.movement(commands.Receive) for _ in range(builder.number(0, 3))]
    batches: list[TimedBatch] = [(0, opening)] if opening else []
    for _ in range(builder.number(BATCHES_MIN, BATCHES_MAX)):
        passing = builder.one(_PASSING_MS)
        builder.elapsed_ms += passing
        batches.append((passing, [builder.command() for _ in range(builder.number(1, BATCH_MAX))]))
    return batches


def check_random_runs(check: Callable[[list[TimedBatch]], Awaitable[None]], examples: int = EXAMPLES) -> None:
    """Await `check` with that many random runs, and shrink one that fails. Prints the seed."""
    print(f"STOCKTIDE_TEST_SEED={SEED}")  # noqa: T201

    @seed(SEED)
    @settings(
        max_examples=examples,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(run=runs())
    def check_one(run: list[TimedBatch]) -> None:
        loop = asyncio.new_event_loop()  # asyncio.run would close the loop of the session's fixtures
        try:
            loop.run_until_complete(check(run))
        finally:
            loop.close()

    check_one()
