"""A worker produces only while the partitions are certainly its own."""

from __future__ import annotations

import asyncio

import pytest

from stocktide.streams.kafka.membership import MembershipLost
from tests.unit.fakes import FakeMembership


async def test_a_member_may_produce_while_a_heartbeat_is_younger_than_half_the_session() -> None:
    membership = FakeMembership(session_seconds=10)
    membership.now = 4.9
    await asyncio.wait_for(membership.wait_until_may_produce(1), 10)


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_member_that_woke_up_late_waits_for_a_heartbeat_or_for_the_loss_of_its_partitions(keeps: bool) -> None:
    membership = FakeMembership(session_seconds=10)
    membership.now = 60.0
    waiting = asyncio.create_task(membership.wait_until_may_produce(1))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    if keeps:
        membership.confirm(59.0)
        await asyncio.wait_for(waiting, 10)
    else:
        membership.end()
        with pytest.raises(MembershipLost):
            await asyncio.wait_for(waiting, 10)


async def test_work_of_an_epoch_that_is_over_never_counts_again() -> None:
    membership = FakeMembership()
    membership.end()
    membership.begin()
    with pytest.raises(MembershipLost):
        await membership.wait_until_may_produce(1)
    await membership.wait_until_may_produce(membership.epoch)


def test_a_heartbeat_that_was_answered_late_does_not_set_the_clock_back() -> None:
    membership = FakeMembership(session_seconds=10)
    membership.confirm(8.0)
    membership.confirm(3.0)
    membership.now = 12.0
    assert membership.is_fresh()
