"""A new owner's way to a blessed Redis, in every state that Redis and the journal may be in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from stocktide.embedded import EmbeddedValkey
from stocktide.streams.journal.log import MemoryJournal, MemoryLog
from stocktide.streams.journal.record import encode_record, marker
from stocktide.tables.recovery.takeover import Fork, LostTail, Superseded, take_over
from tests.protocol.rig import ProtocolRig, deadline_in, receive, wait_until


async def decide_some(stage: ProtocolRig, count: int, name: str = "m") -> None:
    submitter = stage.submitter()
    for number in range(count):
        await submitter.submit([receive(f"{name}-{number}")], deadline_in())


async def test_an_empty_redis_and_an_empty_journal_are_blessed(stage: ProtocolRig) -> None:
    lease = await stage.take_over("a")
    assert (lease.term, lease.owner, lease.position.batch) == (1, "a", 0)
    assert (await stage.ledger.apply([receive("m-1")], token="t1")).batch == 1


async def test_every_takeover_uses_a_new_term(stage: ProtocolRig) -> None:
    assert [(await stage.take_over("a")).term for _ in range(3)] == [1, 2, 3]
    assert await stage.field("blessed", "term") == "3"


async def test_a_healthy_redis_is_taken_over_with_what_its_outbox_holds(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await decide_some(stage, 3)
    await relay.stop()
    await stage.ledger.apply([receive("unsent")], token="unsent")
    second = await stage.blessed_relay("second")
    await wait_until(lambda: second.position.batch == 4)
    assert [record.term for record in stage.valid()] == [1, 1, 1, 2]
    assert await stage.outbox_size() == 0


async def test_what_was_sent_and_not_settled_is_settled_by_the_next_owner(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await decide_some(stage, 2)
    held = asyncio.create_task(stage.settlements.settled(3, "sent", 5))
    stopped = stage.handover.settle

    async def never(*_: object) -> object:
        await asyncio.Event().wait()
        raise AssertionError

    relay._handover.settle = never  # type: ignore[method-assign,assignment]
    await stage.ledger.apply([receive("sent")], token="sent")
    await wait_until(lambda: len(stage.valid()) == 3)
    await relay.stop()
    stage.handover.settle = stopped  # type: ignore[method-assign]
    second = await stage.blessed_relay("second")
    assert await held == "settled"
    assert second.position.batch == 3
    assert [record.term for record in stage.valid()] == [1, 1, 1]


async def test_a_marker_of_the_same_term_before_the_own_one_is_tried_again(stage: ProtocolRig) -> None:
    class Raced(MemoryLog):
        async def append(self, values: Sequence[bytes]):  # type: ignore[no-untyped-def]
            if not stage.journal.values:
                stage.journal.values.append(encode_record(marker(1, "faster")))
            return await super().append(values)

    lease = await take_over(Raced(stage.journal), stage.handover, "a", stage.rows)
    assert lease.term == 2


async def test_two_owners_that_race_end_with_one_lease_each_of_another_term(stage: ProtocolRig) -> None:
    leases = await asyncio.gather(*(stage.take_over(f"o{n}") for n in range(4)), return_exceptions=True)
    terms = [lease.term for lease in leases if not isinstance(lease, BaseException)]
    assert all(isinstance(lease, Superseded) for lease in leases if isinstance(lease, BaseException)), leases
    assert len(set(terms)) == len(terms) >= 1
    assert await stage.field("blessed", "term") == str(max(terms))


async def test_a_restarted_redis_that_lost_nothing_is_blessed_again(own_valkey: EmbeddedValkey, app_id: str) -> None:
    stage = ProtocolRig(own_valkey.url, app_id)
    try:
        relay = await stage.blessed_relay()
        await decide_some(stage, 5)
        await own_valkey.stop()
        await own_valkey.start()
        await wait_until(lambda: relay.takeovers == 2)
        await decide_some(stage, 1, "after")
        assert [record.batch for record in stage.valid()] == [1, 2, 3, 4, 5, 6]
        assert relay.error is None
    finally:
        await stage.close()


async def test_a_journal_that_is_another_one_is_refused(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await decide_some(stage, 3)
    await relay.stop()
    with pytest.raises(Fork, match="which ends at 0"):
        await take_over(MemoryLog(MemoryJournal()), stage.handover, "b", stage.rows)
    other = MemoryJournal([encode_record(marker(9, "z"))] * 10)
    with pytest.raises(Fork, match="holds something else there"):
        await take_over(MemoryLog(other), stage.handover, "b", stage.rows)


async def test_a_journal_whose_unsettled_head_aged_out_is_refused_where_nothing_says_what_lay_before(
    stage: ProtocolRig,
) -> None:
    relay = await stage.blessed_relay()
    await decide_some(stage, 3)
    await relay.stop()
    settled = await stage.handover.settled()
    assert settled is not None
    aged = MemoryJournal([encode_record(marker(9, "z"))], first=settled.offset + 5)
    with pytest.raises(LostTail, match="nothing says what lay before"):
        await take_over(MemoryLog(aged), stage.handover, "b", stage.rows)


async def test_a_journal_that_aged_out_up_to_the_settled_record_is_taken_over(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await decide_some(stage, 3)
    await relay.stop()
    settled = await stage.handover.settled()
    assert settled is not None
    lease = await take_over(MemoryLog(MemoryJournal(first=settled.offset)), stage.handover, "b", stage.rows)
    assert (lease.position.batch, lease.term) == (3, 2)


async def test_a_term_that_only_redis_remembers_is_passed(stage: ProtocolRig) -> None:
    await stage.redis.hset(stage.prefix + "blessed", mapping={"run_id": "none", "replid": "none", "term": 41})
    assert (await stage.take_over("a")).term == 42
