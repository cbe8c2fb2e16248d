"""Redo and rebuild: a Redis that lost its tail, went another way, or is empty ends with what the journal holds."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from stocktide.streams.journal.log import MemoryJournal, MemoryLog
from stocktide.streams.journal.record import KIND_BATCH, JournalRecord, Position, encode_record, marker
from stocktide.tables.ledger.client import LedgerLimits, Unblessed
from stocktide.tables.ledger.commands import Origin, Pay, SetPolicy, Ship, TakeBack, Tick, fingerprint
from stocktide.tables.ledger.control import RedoStep, Refusal, ServerState, StepRefused
from stocktide.tables.recovery.rebuild import ProgressReporter, RecoveryProgress
from stocktide.tables.recovery.redo import Writes
from stocktide.tables.recovery.takeover import Fork, Superseded, take_over
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, wait_until
from tests.protocol.shard_copy import ShardCopy, age_out, forget_everything, restate_all, state_of


async def trade(stage: ProtocolRig, name: str, orders: int = 4) -> None:
    """Some of everything: stock, holds, a payment, a policy, an event that waits for its order."""
    submitter = stage.submitter()
    await submitter.submit([receive(f"{name}-in", units=50)], deadline_in())
    for number in range(orders):
        await submitter.submit([place(f"{name}-{number}", units=2)], deadline_in())
    pay = Pay(id="pay", order_id=f"{name}-0", at=1, fingerprint=fingerprint("pay"))
    await submitter.submit([pay], deadline_in())
    await submitter.submit([SetPolicy(channel="tmall", sku="cup", policy={"buffer": 3}, actor="ann")], deadline_in())


async def test_a_redis_that_lost_its_tail_gets_it_back_from_the_journal(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    older = await ShardCopy(stage).take()
    await trade(stage, "lost")
    wanted = await state_of(stage)
    await relay.stop()
    await older.put_back()
    second = await stage.blessed_relay("second")
    assert await state_of(stage) == wanted
    await wait_until(lambda: second.position.batch == len(stage.valid()))
    repeat = await stage.submitter().submit([place("lost-1", units=2)], deadline_in())
    assert (repeat.results[0].outcome, repeat.results[0].replayed) == ("reserved", True)


async def test_what_was_decided_and_never_sent_is_lost_and_decided_again_under_the_same_ids(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    older = await ShardCopy(stage).take()
    await relay.stop()
    caller = asyncio.create_task(
        stage.submitter(attempt_seconds=0.2).submit([place("unsent", units=2)], deadline_in(9))
    )
    await wait_until(lambda: not caller.done())
    while not await stage.outbox_size():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await older.put_back()
    await stage.blessed_relay("second")
    decision = await caller
    assert (decision.results[0].outcome, decision.results[0].replayed) == ("reserved", False)
    assert [record.token for record in stage.valid()].count(stage.valid()[-1].token) == 1


async def test_a_caller_whose_batch_is_in_the_journal_is_answered_by_the_redo(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    older = await ShardCopy(stage).take()
    waiting = asyncio.create_task(stage.settlements.settled(8, "mine", 8))
    applied = await stage.ledger.apply([place("mine", units=1)], token="mine")
    assert applied.batch == 8
    await wait_until(lambda: len(stage.valid()) == 8)
    await relay.stop()
    await older.put_back()
    await stage.blessed_relay("second")
    assert await waiting == "settled"


async def test_events_that_wait_for_their_order_come_back_too(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    older = await ShardCopy(stage).take()
    origin = ("orders", 0, 7, '{"type":"order.paid"}')
    early = Pay(id="early", order_id="late", at=1, fingerprint=fingerprint("pay"), origin=_origin(*origin))
    assert (await stage.submitter().submit([early], deadline_in())).results[0].outcome == "parked"
    await relay.stop()
    await older.put_back()
    await stage.blessed_relay("second")
    decision = await stage.submitter().submit([place("late", units=1)], deadline_in())
    order = decision.order("late")
    assert order is not None
    assert order.state == "paid"


async def test_a_return_that_waits_for_its_shipment_comes_back_too(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    await stage.submitter().submit([place("o1", units=1)], deadline_in())
    older = await ShardCopy(stage).take()
    mark, origin = fingerprint("take_back"), _origin("orders", 0, 7, '{"type":"order.returned"}')
    lines = (("cup", 1, "SH1", "sellable"),)
    early = TakeBack(id="early", order_id="o1", at=1, fingerprint=mark, origin=origin, lines=lines)
    assert (await stage.submitter().submit([early], deadline_in())).results[0].outcome == "parked"
    wanted = await state_of(stage)
    assert wanted["waiting"] == [(b"o1", 64.0)]
    await relay.stop()
    await older.put_back()
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted
    shipped = Ship(id="s", order_id="o1", at=2, fingerprint=fingerprint("ship"), lines=(("cup", 1, "SH1"),))
    order = (await stage.submitter().submit([shipped], deadline_in())).order("o1")
    assert order is not None and (order.lines[0].returned, order.parked) == (1, ())


async def test_parked_events_whose_time_was_over_do_not_come_back(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    await trade(stage, "kept")
    early = Pay(id="early", order_id="late", at=1, fingerprint=fingerprint("pay"), origin=_origin("orders", 0, 7, "{}"))
    await stage.ledger.apply([early], token="parks", now_ms=None)
    older = await ShardCopy(stage).take()
    future = (await state_of(stage))["order:late"]["parked"][0]["waits_until"] + 1
    await stage.redis.hset(stage.prefix + "head", "now", int(future))
    refused = await stage.submitter().submit([Tick(orders_max=10)], deadline_in())
    assert [each.reason for each in refused.refused] == ["unknown_order"]
    wanted = await state_of(stage)
    assert "order:late" not in wanted
    await stage.relays[0].stop()
    await older.put_back()
    await stage.blessed_relay("second")
    found = await state_of(stage)
    assert {key: found[key] for key in found if "kept" not in key} == {
        key: wanted[key] for key in wanted if "kept" not in key
    }


async def test_an_empty_redis_is_rebuilt_from_the_whole_journal(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a")
    wanted = await state_of(stage)
    await relay.stop()
    await forget_everything(stage)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted


async def test_an_empty_redis_is_rebuilt_from_rows_where_the_head_of_the_journal_aged_out(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "old")
    await restate_all(stage)
    await trade(stage, "new")
    stage.rows.keep()
    assert stage.rows.whole is not None
    wanted = await state_of(stage)
    await relay.stop()
    age_out(stage.journal, stage.rows.whole.offset)
    await forget_everything(stage)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted


async def test_a_redis_that_is_settled_below_what_the_journal_still_holds_is_rebuilt(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "old")
    await restate_all(stage)
    await relay.stop()
    for number in range(2):
        await stage.ledger.apply([place(f"unsettled-{number}", units=1)], token=f"t{number}")
    older = await ShardCopy(stage).take()
    second = await stage.blessed_relay("second")
    await wait_until(lambda: second.position.batch == len(stage.valid()))
    wanted = await state_of(stage)
    stage.rows.keep()
    await second.stop()
    age_out(stage.journal, stage.rows.milestones[-1].offset)
    stage.journal.values.append(encode_record(marker(second.term + 1, "nobody")))
    await older.put_back()
    third = await stage.blessed_relay("third")
    assert await state_of(stage) == wanted
    await stage.submitter().submit([place("after", units=1)], deadline_in())
    assert third.takeovers == 1


async def test_a_row_that_a_late_writer_set_back_is_brought_forward_by_the_journal_since_the_last_pass(
    stage: ProtocolRig,
) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "old")
    stage.rows.keep()
    set_back = dict(stage.rows.known)
    await trade(stage, "new")
    await restate_all(stage)
    stage.rows.keep()
    stage.rows.known |= set_back
    wanted = await state_of(stage)
    await relay.stop()
    age_out(stage.journal, stage.rows.whole.offset if stage.rows.whole else 0)
    await forget_everything(stage)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted


async def test_a_rebuild_stops_where_a_row_is_beyond_the_journals_last_batch(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "old")
    await restate_all(stage)
    stage.rows.keep()
    await relay.stop()
    assert stage.rows.whole is not None
    age_out(stage.journal, stage.rows.whole.offset)
    await forget_everything(stage)
    key = ("sku", "cup")
    stage.rows.known[key] = msgspec.structs.replace(stage.rows.known[key], batch=1_000_000)
    with pytest.raises(Superseded, match="a row is of batch 1000000"):
        await stage.take_over("b")
    with pytest.raises(Unblessed):
        await stage.ledger.apply([place("o-1")], token="t")


async def test_a_fork_is_flushed_and_rebuilt(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "told")
    wanted = await state_of(stage)
    await relay.stop()
    await stage.ledger.apply([place("fork-1", units=9)], token="fork")
    await stage.redis.hset(stage.prefix + "head", "token", "another")
    await stage.redis.xtrim(stage.prefix + "outbox", maxlen=0)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted
    assert await stage.redis.get(stage.prefix + "order:fork-1") is None


async def test_a_redis_that_is_no_match_for_an_empty_journal_is_left_as_it_is(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a")
    await relay.stop()
    before = await state_of(stage)
    await stage.redis.delete(stage.prefix + "settled")
    with pytest.raises(Fork, match="the journal is empty"):
        await take_over(MemoryLog(MemoryJournal()), stage.handover, "b", stage.rows)
    assert await state_of(stage) == before


async def test_a_takeover_that_died_in_mid_rebuild_is_begun_again_by_the_next(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "old")
    await restate_all(stage)
    stage.rows.keep()
    wanted = await state_of(stage)
    await relay.stop()
    assert stage.rows.whole is not None
    age_out(stage.journal, stage.rows.whole.offset)
    await forget_everything(stage)
    for step in ("load", "replay"):
        died = getattr(stage.handover, step)
        setattr(stage.handover, step, _dies)
        with pytest.raises(_Died):
            await stage.take_over("dies")
        setattr(stage.handover, step, died)
        with pytest.raises(Unblessed):
            await stage.ledger.apply([place("o-1")], token="t")
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted


async def test_a_takeover_that_was_paused_in_mid_redo_writes_nothing_once_another_one_began(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "kept")
    older = await ShardCopy(stage).take()
    await trade(stage, "lost")
    wanted = await state_of(stage)
    await relay.stop()
    await older.put_back()
    paused, go_on = asyncio.Event(), asyncio.Event()
    replay = stage.handover.replay

    async def pauses(term: int, seen: ServerState, step: RedoStep) -> StepRefused | None:
        paused.set()
        await go_on.wait()
        return await replay(term, seen, step)

    stage.handover.replay = pauses  # type: ignore[method-assign]
    first = asyncio.create_task(stage.take_over("first"))
    await paused.wait()
    stage.handover.replay = replay  # type: ignore[method-assign]
    await stage.blessed_relay("second")
    go_on.set()
    with pytest.raises(Superseded):
        await first
    assert await state_of(stage) == wanted
    await trade(stage, "after")


async def test_four_takeovers_of_an_empty_redis_that_race_rebuild_it_once_and_rightly(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a")
    wanted = await state_of(stage)
    await relay.stop()
    await forget_everything(stage)
    leases = await asyncio.gather(*(stage.take_over(f"o{n}") for n in range(4)), return_exceptions=True)
    assert all(isinstance(lease, Superseded) for lease in leases if isinstance(lease, BaseException)), leases
    await stage.blessed_relay("last")
    assert await state_of(stage) == wanted


async def test_a_replay_step_that_does_not_begin_where_redis_stands_is_refused(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a")
    await relay.stop()
    seen = await stage.handover.unbless(9)
    assert isinstance(seen, ServerState)
    writes = Writes(LedgerLimits()).packed()
    for batch, token in ((seen.batch - 1, seen.token), (seen.batch, "another")):
        step = RedoStep(batch, token, Position(99, 9, "x", batch + 1, "next"), 1, (), writes)
        refused = await stage.handover.replay(9, seen, step)
        assert refused is not None
        assert (refused.reason, refused.batch) == (Refusal.OUT_OF_ORDER, seen.batch)
    old = await stage.handover.replay(8, seen, RedoStep(seen.batch, seen.token, seen.settled, 1, (), writes))  # type: ignore[arg-type]
    assert old is not None
    assert old.reason is Refusal.HIGHER_TERM


async def test_a_recovery_tells_how_far_it_is(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a", orders=8)
    await relay.stop()
    await forget_everything(stage)
    told: list[RecoveryProgress] = []
    await take_over(stage.log(), stage.handover, "b", stage.rows, report=ProgressReporter(told.append))
    assert told[-1] == RecoveryProgress("journal", 11, 11)


async def test_a_record_of_a_term_that_is_over_is_not_replayed(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await trade(stage, "a")
    wanted = await state_of(stage)
    last = relay.position
    await relay.stop()
    late = JournalRecord(KIND_BATCH, last.term, last.owner, last.batch + 1, "late", last.token, b"no payload at all")
    stage.journal.values += [encode_record(marker(last.term + 1, "next")), encode_record(late)]
    await forget_everything(stage)
    await stage.blessed_relay("second")
    assert await state_of(stage) == wanted


class _Died(Exception):
    pass


async def _dies(*_: object) -> None:
    raise _Died


def _origin(topic: str, partition: int, offset: int, raw: str) -> Any:
    return Origin(topic, partition, offset, raw)
