"""Random batches of commands over a shop so small that its orders, units and deadlines collide.

Out: Hypothesis strategies for batches: the time that passes before each, and its commands. Times inside commands are
seconds before the batch; `dated` turns them into commands of the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tables import commands
from tables.commands import Command, Origin, fingerprint

SKUS = ("A", "B", "C")
WAREHOUSES = ("SH1", "BJ1", "GZ1")
CHANNELS = ("tmall", "jd", "main")
ORDERS = tuple(f"o{number}" for number in range(12))
BATCH_MAX = 5
BATCHES_MAX = 30

_units = st.integers(1, 8)
_order_ids = st.sampled_from(ORDERS)
_channels = st.sampled_from(CHANNELS)
_skus = st.sampled_from(SKUS)
_warehouses = st.sampled_from(WAREHOUSES)
_lines = st.lists(st.tuples(_skus, _units), min_size=1, max_size=3, unique_by=lambda line: line[0]).map(tuple)
_maybe_origin = st.sampled_from((None, Origin("orders", 0, 1, "{}")))
# Most movements are of this moment; some come late, by seconds or beyond what is kept for late counts.
_ages = st.sampled_from((0, 0, 0, 0, 3, 10, 40, 600, 1200))


@dataclass(frozen=True)
class Draft:
    """A command without its time: `age_s` is how long before the batch it occurred."""

    kind: type[Any]
    fields: dict[str, Any]
    age_s: int = 0

    def dated(self, now: int) -> Command:
        """The command for a batch at `now`."""
        if "id" not in self.fields:
            plain: Command = self.kind(**self.fields)
            return plain
        at = now - 1000 * self.age_s
        # As in the product, the time of a count is part of what it says.
        said = [value for name, value in sorted(self.fields.items()) if name not in {"id", "origin"}]
        mark = fingerprint(self.kind.__name__, said, at if self.kind is commands.Count else 0)
        dated: Command = self.kind(**self.fields, at=at, fingerprint=mark)
        return dated


@st.composite
def _places(draw: st.DrawFn) -> Draft:
    order_id = draw(_order_ids)
    fields = {
        "id": "placed",
        "order_id": order_id,
        "channel": draw(_channels),
        "lines": draw(_lines),
        "hold_ms": draw(st.sampled_from((5_000, 20_000, 900_000))),
        "priority": draw(st.sampled_from(("standard", "standard", "vip"))),
        "accept": draw(st.sampled_from(("all", "all", "partial"))),
        "allow_preorder": draw(st.sampled_from((True, True, True, False))),
        "supersedes": draw(st.one_of(st.none(), st.none(), _order_ids)),
        "origin": draw(_maybe_origin),
    }
    return Draft(commands.Place, fields)


@st.composite
def _order_events(draw: st.DrawFn) -> Draft:
    kinds = (commands.Pay, commands.Pay, commands.Cancel, commands.Extend, commands.Ship, commands.TakeBack)
    kind = draw(st.sampled_from(kinds))
    fields: dict[str, Any] = {
        "id": f"e{draw(st.integers(0, 40))}",
        "order_id": draw(_order_ids),
        "origin": draw(_maybe_origin),
    }
    if kind is commands.Extend:
        fields["hold_ms"] = draw(st.sampled_from((1_000, 30_000, 604_800_000)))
    elif kind is commands.Ship:
        fields["lines"] = draw(st.lists(st.tuples(_skus, _units, _warehouses), min_size=1, max_size=2).map(tuple))
    elif kind is commands.TakeBack:
        condition = st.sampled_from(("sellable", "damaged"))
        line = st.tuples(_skus, st.integers(1, 3), _warehouses, condition)
        fields["lines"] = draw(st.lists(line, min_size=1, max_size=2).map(tuple))
    return Draft(kind, fields, draw(_ages))


@st.composite
def _movements(draw: st.DrawFn) -> Draft:
    fields: dict[str, Any] = {
        "id": f"m{draw(st.integers(0, 200))}",
        "warehouse": draw(_warehouses),
        "lines": draw(_lines),
        "origin": draw(_maybe_origin),
    }
    kind = draw(
        st.sampled_from((commands.Receive, commands.Receive, commands.Adjust, commands.Count, commands.Transfer))
    )
    if kind is commands.Adjust:
        fields["reason"] = draw(st.sampled_from(("damages", "scrapped", "lost")))
        fields["lines"] = tuple((sku, draw(st.integers(-6, 3))) for sku, _ in fields["lines"])
    elif kind is commands.Count:
        fields["lines"] = tuple((sku, draw(st.integers(0, 12))) for sku, _ in fields["lines"])
    elif kind is commands.Transfer:
        others = [name for name in WAREHOUSES if name != fields["warehouse"]]
        fields["to_warehouse"] = draw(st.sampled_from(others))
    return Draft(kind, fields, draw(_ages))


_POLICY_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "share": st.sampled_from((1.0, 0.5, 0.3, 0.0)),
    "buffer": st.integers(0, 4),
    "max_listed": st.integers(0, 8),
    "safety_threshold": st.integers(0, 6),
    "resume_threshold": st.integers(0, 12),
    "below_threshold": st.sampled_from(("sell_through", "preorder", "preorder", "suspend")),
    "preorder_cap": st.integers(0, 15),
    "preorder_backed": st.booleans(),
    "dwell_seconds": st.sampled_from((0, 10, 30)),
    "primary": st.booleans(),
    "split": st.booleans(),
    "warehouses": st.lists(_warehouses, min_size=1, unique=True),
}


@st.composite
def _policies(draw: st.DrawFn) -> Draft:
    channel = draw(st.sampled_from((*CHANNELS, *CHANNELS, "*")))
    sku = draw(_skus) if channel == "*" else draw(st.one_of(st.none(), _skus))
    if draw(st.integers(0, 3)) == 0:
        return Draft(commands.DeletePolicy, {"channel": channel, "sku": sku})
    names = draw(st.lists(st.sampled_from(sorted(_POLICY_FIELDS)), max_size=6, unique=True))
    policy = {name: draw(_POLICY_FIELDS[name]) for name in names}
    if channel == "*":
        policy = {"preorder_cap": draw(_POLICY_FIELDS["preorder_cap"])}
    return Draft(commands.SetPolicy, {"channel": channel, "sku": sku, "policy": policy})


_others = st.one_of(
    st.just(Draft(commands.Tick, {"orders_max": 100})),
    st.just(Draft(commands.Tick, {"orders_max": 100})),
    _channels.map(lambda channel: Draft(commands.KnowChannel, {"channel": channel})),
)
# Weights by repetition: mostly orders and what happens to them.
_commands = st.one_of(
    _places(), _places(), _places(), _order_events(), _order_events(), _order_events(), _movements(), _movements(),
    _policies(), _others,
)  # fmt: skip

Batch = tuple[int, list[Draft]]
# ms that pass before a batch: mostly moments, sometimes beyond a hold, a dwell or the wait of parked events.
_passing = st.sampled_from((0, 1, 1_000, 1_000, 6_000, 15_000, 61_000))
batches: st.SearchStrategy[list[Batch]] = st.lists(
    st.tuples(_passing, st.lists(_commands, min_size=1, max_size=BATCH_MAX)), min_size=1, max_size=BATCHES_MAX
)
