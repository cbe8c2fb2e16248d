"""Held units move away from a warehouse below zero (rule 36)."""

from __future__ import annotations

from tests.ledger.shop_client import ShopClient


async def test_rule_36_held_units_move_to_the_warehouse_with_the_most_free_units(shop: ShopClient) -> None:
    await shop.set_policy(reroute=True)
    await shop.receive_at(SH1=10)
    await shop.place("o1", {"A": 4})
    await shop.place("o2", {"A": 4})
    await shop.receive_at(BJ1=3, GZ1=5)
    reply = await shop.adjust("lost", {"A": -5})
    assert {"shortfall", "rerouted"} <= reply.alert_types
    assert shop.line("o1", "A").warehouses == {"SH1": 1, "GZ1": 3}
    assert shop.line("o2", "A").warehouses == {"SH1": 4}
    assert [shop.stock("A").free(name) for name in ("SH1", "BJ1", "GZ1")] == [0, 3, 2]
    assert (shop.order("o1").sequence, shop.order("o2").sequence) == (2, 1)
