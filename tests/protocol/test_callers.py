"""Callers: on which token they answer, what they do when it was lost, and what they are told by whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from stocktide.tables.ledger.client import AppliedBatch, Ledger, Unblessed
from stocktide.tables.ledger.commands import Command, DeletePolicy, SetPolicy, Tick
from stocktide.tables.ledger.submission import Undecidable, Unsettled
from stocktide.tables.settlement.listener import Settlement, SettlementListener
from tests.protocol.rig import DecisionSubmitter, ProtocolRig, deadline_in, place, receive, wait_until


class FaultyLedger:
    """A ledger whose first calls go wrong: `before` is raised instead of asking, `after` once it was asked."""

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


async def stocked(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    await stage.submitter().submit([receive("m-1")], deadline_in())


async def test_a_caller_is_answered_once_its_own_token_is_settled(stage: ProtocolRig) -> None:
    await stocked(stage)
    decision = await stage.submitter().submit([place("o-1")], deadline_in())
    assert decision.results[0].outcome == "reserved"
    assert int(await stage.field("settled", "batch") or 0) >= decision.batch


async def test_nothing_is_answered_before_it_was_read_back(stage: ProtocolRig) -> None:
    log = stage.log()
    await stage.blessed_relay(log=log)
    log.gate.clear()
    with pytest.raises(Unsettled, match="batch 1 was decided and its settlement is: timeout"):
        await stage.submitter().submit([receive("m-1")], deadline_in(0.3))


async def test_a_caller_whose_token_was_lost_submits_again_and_is_answered_as_the_first(stage: ProtocolRig) -> None:
    await stocked(stage)
    ledger = FaultyLedger(stage.ledger)
    settlements = SettlementListener(stage.redis, stage.app_id)
    answers = [Settlement.LOST]

    async def lose_once(batch: int, token: str, timeout: float) -> Settlement:
        return answers.pop() if answers else await stage.settlements.settled(batch, token, timeout)

    settlements.settled = lose_once  # type: ignore[method-assign]
    submitter = DecisionSubmitter(ledger, settlements)
    decision = await submitter.submit([place("o-1")], deadline_in())
    assert submitter.resubmitted == 1
    assert len(set(ledger.tokens)) == 2
    assert [(each.outcome, each.replayed) for each in decision.results] == [("reserved", False)]
    again = await submitter.submit([place("o-1")], deadline_in())
    assert again.results[0].replayed
    order = (await stage.ledger.read_order("o-1")).value
    assert order is not None
    assert order.lines[0].reserved == 1


async def test_a_caller_is_not_deceived_by_a_batch_of_its_number_under_another_token(stage: ProtocolRig) -> None:
    settlements = stage.settlements
    waiting = asyncio.create_task(settlements.settled(7, "mine", 5))
    await asyncio.sleep(0)
    settlements.note([(7, "theirs")])
    assert await waiting is Settlement.LOST


async def test_a_repeat_stays_a_repeat_where_an_attempt_was_lost(stage: ProtocolRig) -> None:
    await stocked(stage)
    await stage.submitter().submit([place("o-1")], deadline_in())
    answers = [Settlement.LOST]
    settlements = SettlementListener(stage.redis, stage.app_id)

    async def lose_once(batch: int, token: str, timeout: float) -> Settlement:
        return answers.pop() if answers else await stage.settlements.settled(batch, token, timeout)

    settlements.settled = lose_once  # type: ignore[method-assign]
    decision = await DecisionSubmitter(stage.ledger, settlements).submit([place("o-1"), place("o-2")], deadline_in())
    assert [each.replayed for each in decision.results] == [True, False]


async def test_an_answer_that_was_lost_on_its_way_is_told_as_the_first(stage: ProtocolRig) -> None:
    await stocked(stage)
    ledger = FaultyLedger(stage.ledger, after=[RedisConnectionError("cut")])
    decision = await DecisionSubmitter(ledger, stage.settlements).submit([place("o-1")], deadline_in())
    assert not decision.results[0].replayed
    assert [record.batch for record in stage.valid()] == [1, 2, 3]


async def test_an_unblessed_ledger_is_asked_again_until_it_is_blessed(stage: ProtocolRig) -> None:
    waiting = asyncio.create_task(stage.submitter().submit([receive("m-1")], deadline_in(8)))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await stage.blessed_relay()
    assert (await waiting).batch == 1


async def test_a_ledger_that_stays_unblessed_is_unsettled_at_the_deadline(stage: ProtocolRig) -> None:
    with pytest.raises(Unsettled, match="no takeover blessed this server"):
        await stage.submitter().submit([receive("m-1")], deadline_in(0.3))


async def test_commands_on_which_the_ledger_fails_are_not_submitted_again(stage: ProtocolRig) -> None:
    ledger = FaultyLedger(stage.ledger, before=[ResponseError("ERR user_script:9: attempt to index a nil value")])
    with pytest.raises(Undecidable):
        await DecisionSubmitter(ledger, stage.settlements).submit([receive("m-1")], None)
    assert len(ledger.tokens) == 1


async def test_what_was_not_due_is_answered_at_once_and_makes_no_batch(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    decision = await stage.submitter().submit([Tick(orders_max=10)], deadline_in())
    assert (decision.batch, decision.results[0].outcome) == (0, "nothing_due")
    assert stage.valid() == []


async def test_who_removed_a_policy_and_had_to_ask_again_is_told_that_it_did(stage: ProtocolRig) -> None:
    log = stage.log()
    await stage.blessed_relay(log=log)
    await stage.submitter().submit([SetPolicy(channel="tmall", sku="cup", policy={})], deadline_in())
    log.gate.clear()
    hasty = stage.submitter(attempt_seconds=0.1)
    removal = DeletePolicy(channel="tmall", sku="cup")
    removing = asyncio.create_task(hasty.decide([removal], deadline_in()))
    await wait_until(lambda: hasty.resubmitted > 0)
    log.gate.set()
    assert (await removing).results[0].outcome == "policy_deleted"
    assert (await stage.submitter().decide([removal], deadline_in())).results[0].outcome == "unknown_policy"


async def test_callers_that_share_a_turn_are_decided_in_the_order_of_their_calls(stage: ProtocolRig) -> None:
    await stocked(stage)
    submitter = stage.submitter()
    turn = asyncio.Lock()
    answers = await asyncio.gather(*(submitter.answer([place(f"o-{n}")], deadline_in(), turn) for n in range(40)))
    batches = [answer.batch for answer in answers]
    assert batches == sorted(batches)


async def test_a_settle_that_came_before_its_waiter_is_known(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    applied = await stage.ledger.apply([receive("m-1")], token="t1")
    await wait_until(lambda: stage.settlements.newest == 1)
    assert await stage.settlements.settled(applied.batch, "t1", 0.01) is Settlement.SETTLED
    assert await stage.settlements.settled(applied.batch, "other", 0.01) is Settlement.LOST


async def test_a_batch_that_a_later_one_passed_unheard_is_lost_to_its_caller(stage: ProtocolRig) -> None:
    waiting = asyncio.create_task(stage.settlements.settled(4, "t4", 5))
    await asyncio.sleep(0)
    stage.settlements.note([(5, "t5")])
    assert await waiting is Settlement.LOST
    assert await stage.settlements.settled(3, "t3", 5) is Settlement.LOST


async def test_a_notification_that_got_lost_is_made_up_for_by_looking(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    deaf = SettlementListener(stage.redis, stage.app_id)
    deaf.note = lambda settled: None  # type: ignore[method-assign]
    deaf.start()
    try:
        decision = await DecisionSubmitter(stage.ledger, deaf).submit([receive("m-1")], deadline_in())
        assert decision.batch == 1
    finally:
        await deaf.stop()


async def test_a_subscription_that_was_cut_is_made_again(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    await wait_until(lambda: stage.settlements.subscribed)
    await stage.redis.client_kill_filter(_type="pubsub")
    submitter = stage.submitter()
    for number in range(5):
        await submitter.submit([receive(f"m-{number}")], deadline_in())
    await wait_until(lambda: stage.settlements.subscribed)
    assert submitter.resubmitted == 0


async def test_who_waits_when_the_listening_ends_gets_a_timeout(stage: ProtocolRig) -> None:
    settlements = SettlementListener(stage.redis, stage.app_id)
    settlements.start()
    waiting = asyncio.create_task(settlements.settled(1, "t", 60))
    await asyncio.sleep(0.01)
    await settlements.stop()
    assert await waiting is Settlement.TIMEOUT


async def test_the_ledger_says_which_exception_an_unblessed_server_is(stage: ProtocolRig) -> None:
    with pytest.raises(Unblessed):
        await stage.ledger.apply([place("o-1")], token="t")
