"""Takeovers, in every state that Redis and the journal may be in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stocktide.embedded import EmbeddedValkey
from stocktide.streams.journal.record import Position, encode_record, marker
from stocktide.tables.recovery.takeover import Fork, LostTail, Superseded, take_over
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.protocol.rig import ProtocolRig, open_rig, receive, wait_until


async def decide_some(rig: ProtocolRig, count: int, name: str = "m") -> None:
    for number in range(count):
        await rig.submit(receive(f"{name}-{number}"))


async def decided_and_stopped(rig: ProtocolRig) -> Position:
    """Three settled batches and no relay; the settled position."""
    relay = await rig.blessed_relay()
    await decide_some(rig, 3)
    await relay.stop()
    settled = await rig.control.settled()
    assert settled is not None
    return settled


async def test_an_empty_redis_and_an_empty_journal_are_blessed(rig: ProtocolRig) -> None:
    lease = await rig.take_over("a")
    assert (lease.term, lease.owner, lease.position.batch) == (1, "a", 0)
    assert (await rig.ledger.apply([receive("m-1")], token="t1")).batch == 1


async def test_every_takeover_uses_a_new_term(rig: ProtocolRig) -> None:
    assert [(await rig.take_over("a")).term for _ in range(3)] == [1, 2, 3]
    assert await rig.field("blessed", "term") == "3"


async def test_a_healthy_redis_is_taken_over_with_what_its_outbox_holds(rig: ProtocolRig) -> None:
    await decided_and_stopped(rig)
    await rig.ledger.apply([receive("unsent")], token="unsent")
    second = await rig.blessed_relay("second")
    await wait_until(lambda: second.position.batch == 4)
    assert [record.term for record in rig.valid()] == [1, 1, 1, 2]
    assert await rig.outbox_size() == 0


async def test_the_next_owner_settles_what_was_sent(rig: ProtocolRig, monkeypatch: pytest.MonkeyPatch) -> None:
    relay = await rig.blessed_relay()
    await decide_some(rig, 2)
    held = asyncio.create_task(rig.settlements.settled(3, "sent", 5))

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(rig.control, "settle", never)
        await rig.ledger.apply([receive("sent")], token="sent")
        await wait_until(lambda: len(rig.valid()) == 3)
        await relay.stop()
    second = await rig.blessed_relay("second")
    assert await held == "settled"
    assert second.position.batch == 3
    assert [record.term for record in rig.valid()] == [1, 1, 1]


async def test_a_takeover_tries_again_where_another_marker_of_its_term_came_first(rig: ProtocolRig) -> None:
    class Raced(MemoryLog):
        async def append(self, values: Sequence[bytes]):  # type: ignore[no-untyped-def]
            if not rig.journal.values:
                rig.journal.values.append(encode_record(marker(1, "faster")))
            return await super().append(values)

    lease = await take_over(Raced(rig.journal), rig.control, "a", rig.rows)
    assert lease.term == 2


async def test_racing_owners_end_with_leases_of_different_terms(rig: ProtocolRig) -> None:
    leases = await asyncio.gather(*(rig.take_over(f"o{n}") for n in range(4)), return_exceptions=True)
    terms = [lease.term for lease in leases if not isinstance(lease, BaseException)]
    assert all(isinstance(lease, Superseded) for lease in leases if isinstance(lease, BaseException)), leases
    assert len(set(terms)) == len(terms) >= 1
    assert await rig.field("blessed", "term") == str(max(terms))


async def test_a_restarted_redis_that_lost_nothing_is_blessed_again(own_valkey: EmbeddedValkey, app_id: str) -> None:
    async with open_rig(own_valkey.url, app_id) as rig:
        relay = await rig.blessed_relay()
        await decide_some(rig, 5)
        await own_valkey.stop()
        await own_valkey.start()
        await wait_until(lambda: relay.takeovers == 2)
        await decide_some(rig, 1, "after")
        assert [record.batch for record in rig.valid()] == [1, 2, 3, 4, 5, 6]
        assert relay.error is None


async def test_another_journal_is_refused(rig: ProtocolRig) -> None:
    await decided_and_stopped(rig)
    with pytest.raises(Fork, match="which ends at 0"):
        await take_over(MemoryLog(MemoryJournal()), rig.control, "b", rig.rows)
    other = MemoryJournal([encode_record(marker(9, "z"))] * 10)
    with pytest.raises(Fork, match="holds something else there"):
        await take_over(MemoryLog(other), rig.control, "b", rig.rows)


async def test_a_journal_without_the_unsettled_head_or_a_checkpoint_is_refused(rig: ProtocolRig) -> None:
    settled = await decided_and_stopped(rig)
    aged = MemoryJournal([encode_record(marker(9, "z"))], first=settled.offset + 5)
    with pytest.raises(LostTail, match="nothing says what lay before"):
        await take_over(MemoryLog(aged), rig.control, "b", rig.rows)


async def test_a_journal_that_aged_out_up_to_the_settled_record_is_taken_over(rig: ProtocolRig) -> None:
    settled = await decided_and_stopped(rig)
    lease = await take_over(MemoryLog(MemoryJournal(first=settled.offset)), rig.control, "b", rig.rows)
    assert (lease.position.batch, lease.term) == (3, 2)


async def test_the_new_term_is_above_one_that_only_redis_has(rig: ProtocolRig) -> None:
    await rig.redis.hset(rig.prefix + "blessed", mapping={"run_id": "none", "replid": "none", "term": 41})
    assert (await rig.take_over("a")).term == 42
