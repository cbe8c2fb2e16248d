"""Two digests are equal if and only if the states are."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stocktide.tables.audit.digest import Digest, decode, kept_until, key_hash, kind_of
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.records import MovementRecord, OrderRecord, RegistryRecord, SkuRecord

SKU = SkuRecord(
    version=3, at=7, counters={"on_hand@SH1": 5, "locked@SH1": 1}, policies={"jd": {}, "tmall": {"share": 1}}
)


def digest_of(*entries: tuple[str, Any]) -> Digest:
    digest = Digest()
    for key, record in entries:
        digest.add(kind_of(record), key, record)
    return digest


@given(st.lists(st.tuples(st.text(max_size=4), st.integers(0, 9)), unique_by=lambda entry: entry[0]), st.randoms())
def test_it_does_not_depend_on_the_order(entries: list[tuple[str, int]], dice: random.Random) -> None:
    records = [(key, SkuRecord(version, 0)) for key, version in entries]
    shuffled = list(records)
    dice.shuffle(shuffled)
    assert digest_of(*records) == digest_of(*shuffled)
    assert digest_of(*records).hex() == digest_of(*shuffled).hex()


def test_what_was_taken_in_and_out_again_left_nothing() -> None:
    digest = digest_of(("A", SKU))
    before = digest.copy()
    digest.add("order", "o1", OrderRecord("paid"))
    assert digest != before and digest.keys == 2
    digest.remove("order", "o1", OrderRecord("paid"))
    assert digest == before


def test_how_a_state_is_packed_does_not_count() -> None:
    other_order = dict(reversed(list(SKU.counters.items())))
    packed = msgspec.msgpack.encode(
        {
            "policies": {"tmall": {"share": 1}, "jd": []},  # as Lua packs an empty map
            "counters": {**other_order, "damaged@SH1": 0},
            "modes": {},
            "at": 7,
            "version": 3,
            "warehouses": [],
        }
    )
    assert key_hash("sku", "A", decode("sku", packed)) == key_hash("sku", "A", SKU)
    sweeping = RegistryRecord(sweep_from="", before={"jd": ()})
    assert key_hash("registry", "", sweeping) == key_hash(
        "registry", "", RegistryRecord(sweep_from="", before={"jd": {}})
    )


def test_every_field_counts_and_so_do_kind_and_key() -> None:
    one = digest_of(("A", SKU)).hex()
    others = [
        digest_of(("B", SKU)).hex(),
        digest_of(("A", msgspec.structs.replace(SKU, version=4))).hex(),
        digest_of(("A", msgspec.structs.replace(SKU, counters={"on_hand@SH1": 6, "locked@SH1": 1}))).hex(),
        digest_of(("A", msgspec.structs.replace(SKU, warehouses=("SH1",)))).hex(),
        digest_of(("A", SKU), ("A", OrderRecord("paid"))).hex(),
    ]
    assert one not in others and len(set(others)) == len(others)


def test_two_states_that_share_no_key_differ_in_their_kinds() -> None:
    digest = digest_of(("o1", OrderRecord("paid")), ("o2", OrderRecord("parked")), ("A", SKU))
    assert digest.by_kind()["parked"]["keys"] == 1
    assert digest.hex("order") == digest_of(("o1", OrderRecord("paid"))).hex("order")


def test_only_what_is_final_ends_by_itself() -> None:
    limits = LedgerLimits(order_retention_ms=1_000, refused_retention_ms=10, movement_retention_ms=100)
    assert kept_until(OrderRecord("paid", ended_at=5), limits) > 1 << 60
    assert kept_until(OrderRecord("shipped", ended_at=5), limits) == 1_005
    assert kept_until(OrderRecord("rejected", ended_at=5), limits) == 15
    assert kept_until(MovementRecord("receive", "received", "f", at=1, applied_at=7), limits) == 107
