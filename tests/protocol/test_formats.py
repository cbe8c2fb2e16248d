"""Data that the version before wrote, in format 1, stays readable: records in Redis, the outbox, the journal, the rows.

In: `format_1.msgpack.zz`, made by commit 956248b from a shop with every kind of record: all keys of Redis by type, the
journal, the rows that were derived from it, and in the outbox a last batch that is not in the journal yet.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from stocktide.agents.derive.rows import RowCollector
from stocktide.streams.journal.record import JournalReader
from stocktide.tables.history.journal_search import search_forward
from stocktide.tables.ledger.commands import Receive, TakeBack
from stocktide.tables.ledger.packed import unpack_order, unpack_sku
from stocktide.tables.ledger.raw_decision import decode_raw_decision
from tests.protocol.audits import audit, cancel, differences_by_key, is_clean, pay, place
from tests.protocol.rig import ProtocolRig, wait_until
from tests.protocol.shard_copy import forget_everything, state_of

OLD: dict[str, Any] = msgspec.msgpack.decode(
    zlib.decompress((Path(__file__).parent / "format_1.msgpack.zz").read_bytes()), strict=False
)
# The time of its batches is far ahead, so that no key expires before it is tested.
NOW = 4_102_444_800_000


@pytest.fixture
async def old(rig: ProtocolRig) -> AsyncIterator[ProtocolRig]:
    """A rig on the Redis and the journal of the version before, not taken over yet."""
    rig.journal.values[:] = OLD["journal"]
    for name, (kind, value, left_ms) in OLD["keys"].items():
        key = rig.prefix + name
        if kind == "string":
            await rig.redis.set(key, value, px=left_ms if left_ms > 0 else None)
        elif kind == "hash":
            await rig.redis.hset(key, mapping=value)
        elif kind == "zset":
            await rig.redis.zadd(key, dict(value))
        else:
            for entry, fields in value:
                await rig.redis.xadd(key, fields, id=entry)
    yield rig


async def test_a_shop_of_format_1_is_taken_over_audits_clean_and_goes_on_in_format_2(old: ProtocolRig) -> None:
    batches = len(old.valid())
    await old.blessed_relay("second")
    await wait_until(lambda: len(old.valid()) == batches + 1)  # the batch of the outbox was published
    findings = await audit(old)
    assert is_clean(findings), differences_by_key(findings)
    back = TakeBack(id="b2", order_id="o5", at=NOW, fingerprint="b2", lines=(("A", 1, "BJ1", "good"),))
    for command, outcome, replayed in (
        (place("o1", ("A", 2), ("B", 1)), "reserved", True),
        (pay("o1"), "paid", False),
        (cancel("p1"), "cancelled", False),
        (place("later", ("A", 1)), "reserved", False),  # and its payment waited for it
        (back, "more_than_shipped", False),
        (Receive(id="after", warehouse="SH1", at=1, fingerprint="r", lines=(("C", 3),)), "received", False),
        (place("new", ("A", 1), ("D", 2)), "reserved", False),
    ):
        (result,) = (await old.submit(command)).results
        assert (result.outcome, result.replayed) == (outcome, replayed), command
    later = (await old.ledger.read_order("later")).value
    assert later is not None and later.state == "paid"
    findings = await audit(old)
    assert is_clean(findings), differences_by_key(findings)
    for name in ("order:o1", "order:later", "sku:A", "sku:C"):
        assert (await old.redis.get(old.prefix + name))[:2] in (b"\x9c\x02", b"\x96\x02"), name


@pytest.mark.parametrize("anew", [False, True], ids=["redo", "rebuild"])
async def test_a_redis_is_restored_from_batches_of_format_1(old: ProtocolRig, anew: bool) -> None:
    await old.blessed_relay("second")
    await wait_until(lambda: old.valid()[-1].token == "unsettled")  # that of the outbox
    for relay in old.relays:
        await relay.stop()
    expected = await state_of(old)
    old.rows.keep()
    if anew:
        await old.rebuild("third")
    else:
        await forget_everything(old)
        await old.take_over("third")
    found = await state_of(old)
    differing = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    # The fixture's clock is ahead of the server's, so times to live differ.
    # The version before kept no queues: what redoes its batches makes them.
    assert {name for name in differing if isinstance(name, str) and not name.startswith("queue:")} == set()


async def test_bytes_that_are_no_record_of_format_2_raise_only_msgspecs_errors(shop: ProtocolRig) -> None:
    for name, unpack in (("sku:A", unpack_sku), ("order:o1", unpack_order), ("order:o5", unpack_order)):
        packed = await shop.redis.get(shop.prefix + name)
        for at in range(len(packed)):
            with pytest.raises(msgspec.MsgspecError):
                unpack(packed[:at])
            with suppress(msgspec.MsgspecError):
                unpack(packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :])


async def test_the_rows_of_batches_of_format_1_are_what_the_version_before_derived(old: ProtocolRig) -> None:
    collector = RowCollector()
    for record in old.valid():
        collector.add(decode_raw_decision(record.payload))
    rows = [[topic.name, key, value] for topic, each in collector.by_topic() for key, value in each]
    assert rows == [[name, key, _with_new_fields(name, value)] for name, key, value in OLD["rows"]]


def _with_new_fields(topic: str, row: bytes) -> bytes:
    """A row with the fields that the version before did not have: short units, and those of a line that were
    cancelled."""
    if topic == "stock":
        return row.replace(b'"preordered":', b'"short":0,"preordered":', 1)
    if topic != "reservations":
        return row
    order = orjson.loads(row)
    for line, record in zip(order["lines"], order["record"]["lines"], strict=True):
        line["short"] = 0
        if units := record.get("cancelled"):
            line["cancelled"] = units
    return orjson.dumps(order)


async def test_the_history_of_a_sku_reads_batches_of_format_1(old: ProtocolRig) -> None:
    log, versions = old.log(), []
    _, end = await log.bounds()
    async for match in search_forward(log, JournalReader(), end, "A"):
        versions += [effect.version for effect in match.decision.effects if effect.sku == "A"]
    await old.blessed_relay("second")
    record = (await old.ledger.read_sku("A")).value
    assert record is not None and versions == list(range(1, record[0].version + 1))
