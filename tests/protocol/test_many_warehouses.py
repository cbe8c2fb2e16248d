"""SKUs in many warehouses, of which the journal holds patches: redo, rebuild and audit come to what Redis held."""

from __future__ import annotations

import pytest

from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.codes import MANY_WAREHOUSES
from stocktide.tables.ledger.commands import Receive, WriteWhole
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.packed import unpack_sku
from stocktide.tables.ledger.records import Decision
from tests.protocol.audits import audit, differences_by_key, is_clean, pay, place, receive, spoil_sku
from tests.protocol.rig import ProtocolRig
from tests.protocol.shard_copy import forget_everything, state_of

MANY = [f"W{number:02d}" for number in range(MANY_WAREHOUSES + 4)]
# A call applies two lines of new SKUs.
LIMITS = LedgerLimits(wide_rows_bytes_max=0, lines_per_step=2, step_bytes_max=128)
LINES = tuple((f"s{number}", 5) for number in range(5))


@pytest.fixture
async def wide(rig: ProtocolRig) -> ProtocolRig:
    """A rig with a SKU in many warehouses, and a movement that needs another step."""
    rig.ledger = Ledger(rig.redis, rig.app_id, LIMITS)
    await rig.blessed_relay()
    for warehouse in MANY:
        await rig.submit(receive("A", 10, warehouse))
    await rig.submit(WriteWhole(skus_max=10))
    await rig.submit(place("o1", ("A", 12)))
    decision = await rig.submit(pay("o1"))
    assert decision.patches.rows and not decision.skus
    await _begin(rig)
    return rig


async def _begin(rig: ProtocolRig) -> Decision:
    return await rig.submit(Receive(id="long", warehouse="W00", at=1, fingerprint="long", lines=LINES))


async def _stop(rig: ProtocolRig) -> None:
    for relay in rig.relays:
        await relay.stop()


@pytest.mark.parametrize("anew", [False, True], ids=["redo", "rebuild"])
async def test_a_lost_redis_is_restored_and_its_records_can_be_changed(wide: ProtocolRig, anew: bool) -> None:
    await _stop(wide)
    expected = await state_of(wide)
    wide.rows.keep()
    if anew:
        await wide.rebuild("third")
    else:
        await forget_everything(wide)
        await wide.take_over("third")
    assert await state_of(wide) == expected
    await wide.blessed_relay("fourth")
    await wide.submit(receive("A", 3, MANY[-1]))
    await wide.submit(place("o2", ("A", 1)))
    stored = unpack_sku(await wide.redis.get(wide.prefix + "sku:A"))
    assert stored.counters[f"on_hand@{MANY[-1]}"] == 13 and stored.counters[f"locked@{MANY[-1]}"] == 1
    await wide.submit(WriteWhole(skus_max=10))
    findings = await audit(wide)
    assert is_clean(findings), differences_by_key(findings)
    for outcome in ("applying", "received"):  # the movement goes on where it stopped
        assert (await _begin(wide)).results[0].outcome == outcome
    for sku, units in LINES:
        assert unpack_sku(await wide.redis.get(wide.prefix + f"sku:{sku}")).counters == {"on_hand@W00": units}


async def test_an_audit_finds_a_wrong_number_of_one_warehouse(wide: ProtocolRig) -> None:
    await wide.submit(WriteWhole(skus_max=10))
    findings = await audit(wide)
    assert is_clean(findings), differences_by_key(findings)
    stored = unpack_sku(await wide.redis.get(wide.prefix + "sku:A"))
    await spoil_sku(wide, "A", {f"on_hand@{MANY[7]}": stored.counters[f"on_hand@{MANY[7]}"] + 1})
    assert set(differences_by_key(await audit(wide))) == {"sku A"}
