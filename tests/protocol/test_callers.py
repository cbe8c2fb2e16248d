"""Callers: on which token they answer, and what they do when their token or its settlement is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from stocktide.tables.ledger.client import AppliedBatch, Ledger
from stocktide.tables.ledger.commands import Command, DeletePolicy, SetPolicy, Tick
from stocktide.tables.ledger.submission import Undecidable, Unsettled
from stocktide.tables.settlement.listener import Settlement, SettlementListener
from tests.protocol.rig import DecisionSubmitter, ProtocolRig, deadline_in, place, receive, wait_until


class FaultyLedger:
    """A ledger whose first calls fail: `before` is raised instead of the call, `after` after it."""

    def __init__(self, ledger: Ledger, *, before: Sequence[Exception] = (), after: Sequence[Exception] = ()) -> None:
        self._ledger = ledger
        self._before = list(before)
        self._after = list(after)
        self.tokens: list[str] = []

    async def apply(self, commands: Sequence[Command], *, token: str, now_ms: int | None = None) -> AppliedBatch:
        self.tokens.append(token)
        if self._before:
            raise self._before.pop(0)
        applied = await self._ledger.apply(commands, token=token, now_ms=now_ms)
        if self._after:
            raise self._after.pop(0)
        return applied


async def stocked(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    await rig.submit(receive("m-1"))


def losing_settlements(rig: ProtocolRig) -> SettlementListener:
    """A listener that reports the first token as lost."""
    settlements = SettlementListener(rig.redis, rig.app_id)
    answers = [Settlement.LOST]

    async def lose_once(batch: int, token: str, timeout: float) -> Settlement:
        return answers.pop() if answers else await rig.settlements.settled(batch, token, timeout)

    settlements.settled = lose_once  # type: ignore[method-assign]
    return settlements


async def test_a_caller_is_answered_once_its_own_token_is_settled(rig: ProtocolRig) -> None:
    await stocked(rig)
    decision = await rig.submit(place("o-1"))
    assert decision.results[0].outcome == "reserved"
    assert int(await rig.field("settled", "batch") or 0) >= decision.batch


async def test_nothing_is_answered_before_it_was_read_back(rig: ProtocolRig) -> None:
    log = rig.log()
    await rig.blessed_relay(log=log)
    log.gate.clear()
    with pytest.raises(Unsettled, match="batch 1 was decided and its settlement is: timeout"):
        await rig.submitter().submit([receive("m-1")], deadline_in(1.0))


async def test_a_caller_whose_token_was_lost_submits_again_and_is_answered_as_the_first(rig: ProtocolRig) -> None:
    await stocked(rig)
    ledger = FaultyLedger(rig.ledger)
    submitter = DecisionSubmitter(ledger, losing_settlements(rig))
    decision = await submitter.submit([place("o-1")], deadline_in())
    assert submitter.resubmitted == 1
    assert len(set(ledger.tokens)) == 2
    assert [(each.outcome, each.replayed) for each in decision.results] == [("reserved", False)]
    again = await submitter.submit([place("o-1")], deadline_in())
    assert again.results[0].replayed
    order = (await rig.ledger.read_order("o-1")).value
    assert order is not None
    assert order.lines[0].reserved == 1


async def test_a_repeat_stays_a_repeat_where_an_attempt_was_lost(rig: ProtocolRig) -> None:
    await stocked(rig)
    await rig.submit(place("o-1"))
    submitter = DecisionSubmitter(rig.ledger, losing_settlements(rig))
    decision = await submitter.submit([place("o-1"), place("o-2")], deadline_in())
    assert [each.replayed for each in decision.results] == [True, False]


async def test_an_answer_that_was_lost_is_given_as_the_first(rig: ProtocolRig) -> None:
    await stocked(rig)
    ledger = FaultyLedger(rig.ledger, after=[RedisConnectionError("cut")])
    decision = await DecisionSubmitter(ledger, rig.settlements).submit([place("o-1")], deadline_in())
    assert not decision.results[0].replayed
    assert [record.batch for record in rig.valid()] == [1, 2, 3]


async def test_a_caller_submits_again_until_the_ledger_is_blessed(rig: ProtocolRig) -> None:
    waiting = asyncio.create_task(rig.submitter().submit([receive("m-1")], deadline_in(8)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await rig.blessed_relay()
    assert (await waiting).batch == 1


async def test_a_ledger_that_stays_unblessed_is_unsettled_at_the_deadline(rig: ProtocolRig) -> None:
    with pytest.raises(Unsettled, match="no takeover blessed this server"):
        await rig.submitter().submit([receive("m-1")], deadline_in(2.0))


async def test_an_error_of_redis_without_words_is_named_by_its_kind(rig: ProtocolRig) -> None:
    ledger = FaultyLedger(rig.ledger, before=[TimeoutError()] * 100)
    with pytest.raises(Unsettled, match="Redis does not answer: TimeoutError"):
        await DecisionSubmitter(ledger, rig.settlements).submit([receive("m-1")], deadline_in(0.3))


async def test_commands_on_which_the_ledger_fails_are_not_submitted_again(rig: ProtocolRig) -> None:
    ledger = FaultyLedger(rig.ledger, before=[ResponseError("ERR user_script:9: attempt to index a nil value")])
    with pytest.raises(Undecidable):
        await DecisionSubmitter(ledger, rig.settlements).submit([receive("m-1")], None)
    assert len(ledger.tokens) == 1


async def test_a_tick_with_nothing_due_is_answered_at_once_and_makes_no_batch(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    decision = await rig.submit(Tick(orders_max=10))
    assert (decision.batch, decision.results[0].outcome) == (0, "nothing_due")
    assert rig.valid() == []


async def test_a_removal_of_a_policy_that_is_submitted_again_is_answered_as_the_first(rig: ProtocolRig) -> None:
    log = rig.log()
    await rig.blessed_relay(log=log)
    await rig.submit(SetPolicy(channel="tmall", sku="cup", policy={}))
    log.gate.clear()
    hasty = rig.submitter(attempt_seconds=0.1)
    removal = DeletePolicy(channel="tmall", sku="cup")
    removing = asyncio.create_task(hasty.decide([removal], deadline_in()))
    await wait_until(lambda: hasty.resubmitted > 0)
    log.gate.set()
    assert (await removing).results[0].outcome == "policy_deleted"
    assert (await rig.submitter().decide([removal], deadline_in())).results[0].outcome == "unknown_policy"


async def test_callers_that_share_a_turn_are_decided_in_the_order_of_their_calls(rig: ProtocolRig) -> None:
    await stocked(rig)
    submitter = rig.submitter()
    turn = asyncio.Lock()
    answers = await asyncio.gather(*(submitter.answer([place(f"o-{n}")], deadline_in(), turn) for n in range(40)))
    batches = [answer.batch for answer in answers]
    assert batches == sorted(batches)


async def test_a_settlement_that_arrives_before_its_waiter_is_known(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    applied = await rig.ledger.apply([receive("m-1")], token="t1")
    await wait_until(lambda: rig.settlements.newest == 1)
    assert await rig.settlements.settled(applied.batch, "t1", 0.01) is Settlement.SETTLED
    assert await rig.settlements.settled(applied.batch, "other", 0.01) is Settlement.LOST


async def test_a_batch_is_lost_to_its_caller_once_it_or_a_later_one_is_settled_under_another_token(
    rig: ProtocolRig,
) -> None:
    waiting = [asyncio.create_task(rig.settlements.settled(batch, "mine", 5)) for batch in (4, 5)]
    await asyncio.sleep(0)
    rig.settlements.note([(5, "t5")])
    assert await asyncio.gather(*waiting) == [Settlement.LOST, Settlement.LOST]
    assert await rig.settlements.settled(3, "t3", 5) is Settlement.LOST


async def test_polling_makes_up_for_a_lost_notification(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    polling = SettlementListener(rig.redis, rig.app_id)
    polling.note = lambda settled: None  # type: ignore[method-assign]
    polling.start()
    try:
        decision = await DecisionSubmitter(rig.ledger, polling).submit([receive("m-1")], deadline_in())
        assert decision.batch == 1
    finally:
        await polling.stop()


async def test_a_subscription_that_was_cut_is_made_again(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    await wait_until(lambda: rig.settlements.subscribed)
    await rig.redis.client_kill_filter(_type="pubsub")
    submitter = rig.submitter()
    for number in range(5):
        await submitter.submit([receive(f"m-{number}")], deadline_in())
    await wait_until(lambda: rig.settlements.subscribed)
    assert submitter.resubmitted == 0


async def test_a_waiter_gets_a_timeout_when_the_listener_stops(rig: ProtocolRig) -> None:
    settlements = SettlementListener(rig.redis, rig.app_id)
    settlements.start()
    waiting = asyncio.create_task(settlements.settled(1, "t", 60))
    await asyncio.sleep(0.01)
    await settlements.stop()
    assert await waiting is Settlement.TIMEOUT
