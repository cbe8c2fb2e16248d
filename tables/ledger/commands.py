"""The ledger's commands: one frozen, flat message per kind of decision; `make_commands` makes those of events.

Msgpack encodes them for Lua as maps (`omit_defaults`: an absent field has its default, in Lua as here). Times are ms
since the epoch, durations end in `_ms`.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from stocktide.streams.contract.events import HOLD_SECONDS_DEFAULT

# The id of a `place` that came over HTTP without one: each order has one placing. Other commands get a random id.
PLACED_ID_DEFAULT = "placed"


class Origin(Struct, frozen=True, array_like=True):
    """An event's place in Kafka and its bytes as text, for its dead letter. For an event that may be parked, `raw` is
    the event without unknown fields; its length is its size in the ledger."""

    topic: str
    partition: int
    offset: int
    raw: str


class _Command(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    pass


class _OrderCommand(_Command, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    order_id: str
    fingerprint: str
    # None: the ledger uses its clock.
    at: int | None = None
    # Set for an event from Kafka: the ledger then parks it if the order is unknown, instead of refusing it.
    origin: Origin | None = None


class Place(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True, tag="place"):
    """Hold units for an order. `lines` are (sku, units), one per SKU, in the order first seen. `paid`: commit them.
    `force`: once an actor other than `actor` approves, from below every threshold and buffer, because of `reason`."""

    channel: str
    lines: tuple[tuple[str, int], ...]
    hold_ms: int = HOLD_SECONDS_DEFAULT * 1000
    priority: str = "standard"
    accept: str = "all"
    allow_preorder: bool = True
    region: str | None = None
    purpose: str | None = None
    supersedes: str | None = None
    paid: bool = False
    force: bool = False
    reason: str | None = None
    actor: str | None = None
    buyer: str | None = None


class _ApprovalCommand(_Command, frozen=True, kw_only=True, omit_defaults=True):
    order_id: str
    actor: str


class Approve(_ApprovalCommand, frozen=True, kw_only=True, omit_defaults=True, tag="approve"):
    """Approve an order that waits for it, and decide the order."""


class Reject(_ApprovalCommand, frozen=True, kw_only=True, omit_defaults=True, tag="reject"):
    """Reject an order that waits for approval."""

    reason: str


class ChannelCommand(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True):
    """About an order; its sender may name the channel."""

    # None: of whatever channel the order is. Else the order of another one is unknown to it.
    channel: str | None = None


class Pay(ChannelCommand, frozen=True, kw_only=True, omit_defaults=True, tag="pay"):
    """Turn a hold into a commitment. `if_expired` `take_again`: hold all lines of an expired order again, as paid."""

    if_expired: str | None = None


class Cancel(ChannelCommand, frozen=True, kw_only=True, omit_defaults=True, tag="cancel"):
    """Release the held, or paid and unshipped, units: those of `lines`, as (sku, units), unsummed; all, if empty.

    With `removal`, `lines` has one entry for each SKU: what was removed in all (`total`), or once (`single`)."""

    lines: tuple[tuple[str, int], ...] = ()
    removal: str | None = None


class Change(ChannelCommand, frozen=True, kw_only=True, omit_defaults=True, tag="change"):
    """Exchange units in one step: (sku, units) of `remove` go back, unsummed; those of `add` are held, one per SKU."""

    remove: tuple[tuple[str, int], ...] = ()
    add: tuple[tuple[str, int], ...] = ()


class HoldBack(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True, tag="hold_back"):
    """Keep the waiting lines of an order, or the one of `sku`, from being filled; not `held`: let them be filled."""

    reason: str
    sku: str | None = None
    held: bool = True
    actor: str = "operator"


class Assign(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True, tag="assign"):
    """Give units from the shelf to waiting lines: (sku, units), one per SKU; all that they wait for, if empty."""

    reason: str
    lines: tuple[tuple[str, int], ...] = ()
    actor: str = "operator"


class Extend(ChannelCommand, frozen=True, kw_only=True, omit_defaults=True, tag="extend"):
    """Extend a hold until at least now + `hold_ms`."""

    hold_ms: int


class Ship(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True, tag="ship"):
    """`lines` are (sku, units, warehouse), in the event's order, unsummed."""

    lines: tuple[tuple[str, int, str], ...]


class TakeBack(_OrderCommand, frozen=True, kw_only=True, omit_defaults=True, tag="take_back"):
    """A return. `lines` are (sku, units, warehouse, "sellable" | "damaged")."""

    lines: tuple[tuple[str, int, str, str], ...]


class _MovementCommand(_Command, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    warehouse: str
    at: int
    fingerprint: str
    lines: tuple[tuple[str, int], ...]
    # The record's timestamp in Kafka; decides `too_old`, because `occurred_at` may be history. 0: now.
    received_at: int = 0
    origin: Origin | None = None


class Receive(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="receive"):
    """Units arrived. Lines are summed per SKU."""

    expected_id: str | None = None


class Adjust(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="adjust"):
    """Signed change. `damages` moves on_hand to damaged, `scrapped` lowers damaged. Lines are summed per SKU."""

    reason: str


class Count(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="count"):
    """Absolute quantities as of `at`. `complete`: unlisted SKUs are 0. `parts` not 0: this is number `part` of the
    parts of one count; a complete count of one body is part 1 of 1."""

    complete: bool = False
    part: int = 0
    parts: int = 0


class Transfer(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="transfer"):
    """From `warehouse` to `to_warehouse`. Lines are summed per SKU."""

    to_warehouse: str


class Void(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="void"):
    """Reverse the receipt, adjustment or transfer `movement_id` of the warehouse, by its effects. It has no lines."""

    movement_id: str
    lines: tuple[tuple[str, int], ...] = ()


class Expect(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="expect"):
    """Announce a receipt, or amend the announcement with this id. `lines` are the announced totals, 0: withdrawn."""

    # When the units are due, ms; None: as before.
    eta: int | None = None


class Reserve(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="reserve"):
    """From the shelf of `warehouse` into its pool for `purpose`. Lines are summed per SKU. The pool is usable from
    `from_at` and ends at `until_at`; without both, its times stay as they are."""

    purpose: str
    from_at: int | None = None
    until_at: int | None = None


class Release(_MovementCommand, frozen=True, kw_only=True, omit_defaults=True, tag="release"):
    """From the pool for `purpose` back to the shelf of `warehouse`. Lines are summed per SKU."""

    purpose: str


class SetPolicy(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="set_policy"):
    """Replace a level's policy. `policy` holds only the given fields that are not null; `expected`, if given, is the
    digest of the policy that it replaces. The last three are those of a request that `actor` approved."""

    channel: str
    policy: dict[str, Any]
    sku: str | None = None
    actor: str = "operator"
    expected: str | None = None
    requested_by: str | None = None
    reason: str | None = None
    id: str | None = None


class DeletePolicy(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="delete_policy"):
    """Remove a level's policy; `expected` and what follows it as in `SetPolicy`."""

    channel: str
    sku: str | None = None
    actor: str = "operator"
    expected: str | None = None
    requested_by: str | None = None
    reason: str | None = None
    id: str | None = None


class KnowChannel(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="know_channel"):
    """Make a channel known, because it has a subscriber."""

    channel: str


class Sweep(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="sweep"):
    """Re-evaluate the next `skus_max` SKUs, after a channel's policy changed or a channel became known."""

    skus_max: int


class ContinueCounts(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="continue_counts"):
    """Apply one step of up to `skus_max` SKUs of a count that takes several. `nothing_due` if there is none."""

    skus_max: int


class WriteWhole(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="write_whole"):
    """Write whole rows of up to `skus_max` SKUs of which the journal's newest rows are patches. `nothing_due` if there
    are none."""

    skus_max: int


class Restate(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="restate"):
    """Write whole rows of the next `keys_max` or so of all SKUs and orders into the journal (rule R9). A pass over all
    of them begins at the earliest `every_ms` after the last one began: `nothing_due` until then.

    The result's `detail` identifies the page: `begun N`, `going N`, `ended N`, or `whole N` for a pass of one page; N
    is the first batch of the pass.
    """

    keys_max: int
    every_ms: int


class Repair(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="repair"):
    """Repair one key that an audit found wrong: `repaired`, or `moved_on` if the key has changed since.

    `subject` is `sku`, `order`, `movement`, `registry` or `policy`; `key` as in Redis, for a policy the channel, with
    `sku`. `seen` is the sha1 of the bytes that the audit read, `absent`, or `type:…`; `wanted` the correct whole record
    (None: the key is removed). `unindexed` are indexes that must not contain the order. `deltas` corrects a
    SKU's counters whatever traffic did to them meanwhile, as long as its newest repair is `since`. `before` is the
    wrong record as plain values, for the journal.
    """

    id: str
    subject: str
    key: str
    actor: str
    seen: str = ""
    wanted: dict[str, Any] | None = None
    sku: str | None = None
    unindexed: tuple[str, ...] = ()
    deltas: dict[str, int] | None = None
    since: str = ""
    why: str = ""
    before: Any = None


class Tick(_Command, frozen=True, kw_only=True, omit_defaults=True, tag="tick"):
    """Release up to `orders_max` holds whose deadline passed, raise alerts for events parked long, drop those parked
    over `park_ms`, re-evaluate up to `orders_max` SKUs whose dwell ended, and go on with a fill. `nothing_due` if there
    was nothing."""

    orders_max: int


Command = (
    Place
    | Approve
    | Reject
    | Pay
    | Cancel
    | Change
    | HoldBack
    | Assign
    | Extend
    | Ship
    | TakeBack
    | Receive
    | Adjust
    | Count
    | Transfer
    | Void
    | Expect
    | Reserve
    | Release
    | SetPolicy
    | DeletePolicy
    | KnowChannel
    | Sweep
    | ContinueCounts
    | WriteWhole
    | Restate
    | Repair
    | Tick
)


def lines_of(command: Command) -> int:
    """How many lines a command has."""
    if isinstance(command, Change):
        return len(command.remove) + len(command.add)
    return len(getattr(command, "lines", ()))
