"""Redo and rebuild: a Redis that lost its tail, forked or is empty ends with the state of the journal."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from msgspec import structs

from stocktide.streams.contract.events import AssignBody, HoldBackBody, OrderLine
from stocktide.streams.journal.record import KIND_BATCH, JournalRecord, Position, encode_record, marker
from stocktide.tables.ledger.client import Unblessed
from stocktide.tables.ledger.commands import Origin, Pay, SetPolicy, Ship, TakeBack, Tick, Void
from stocktide.tables.ledger.control import RedoStep, Refusal, ServerState, StepRefused
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import (
    fingerprint,
    make_assign,
    make_cancel,
    make_change,
    make_hold_back,
    make_pay,
)
from stocktide.tables.recovery.rebuild import ProgressReporter, RecoveryProgress
from stocktide.tables.recovery.redo import Writes
from stocktide.tables.recovery.takeover import Fork, Superseded, take_over
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, wait_until
from tests.protocol.shard_copy import (
    ShardCopy,
    age_out,
    age_out_to_whole_pass,
    forget_everything,
    recover,
    restate_all,
    state_of,
)

ORIGIN = Origin("orders", 0, 7, '{"type":"order.paid"}')


@pytest.fixture
async def rig(rig: ProtocolRig) -> ProtocolRig:
    """A rig whose first relay has taken over, after some trade."""
    await rig.blessed_relay()
    await trade(rig, "kept")
    return rig


async def trade(rig: ProtocolRig, name: str) -> None:
    """Some of everything: stock, holds, a payment, a policy."""
    await rig.submit(receive(f"{name}-in", units=50))
    for number in range(4):
        await rig.submit(place(f"{name}-{number}", units=2))
    await rig.submit(Pay(id="pay", order_id=f"{name}-0", at=1, fingerprint=fingerprint("pay")))
    await rig.submit(SetPolicy(channel="tmall", sku="cup", policy={"buffer": 3}, actor="ann"))


def early_pay() -> Pay:
    """A payment from Kafka whose order is not placed yet."""
    return Pay(id="early", order_id="late", at=1, fingerprint=fingerprint("pay"), origin=ORIGIN)


async def test_a_redis_that_lost_its_tail_gets_it_back_from_the_journal(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    await trade(rig, "lost")
    wanted = await state_of(rig)
    assert await recover(rig, older) == wanted
    await wait_until(lambda: rig.relays[-1].position.batch == len(rig.valid()))
    repeat = await rig.submit(place("lost-1", units=2))
    assert (repeat.results[0].outcome, repeat.results[0].replayed) == ("reserved", True)


async def change_orders(rig: ProtocolRig) -> None:
    """Some of everything that changes placed orders and movements."""
    cup = (OrderLine("cup", 1),)
    await rig.submit(make_cancel("kept-1", cup, "cancel"), make_change("kept-2", cup, cup, "change"))
    await rig.submit(structs.replace(place("late", units=2), hold_ms=1, allow_preorder=False))
    await rig.submit(structs.replace(place("paid", units=2), paid=True))
    await asyncio.sleep(0.01)
    again = await rig.submit(make_pay("late", "take_again", "pay"))
    void = Void(id="void", warehouse="SH1", at=1, fingerprint="void", movement_id="kept-in")
    voided = await rig.submit(void, structs.replace(void, id="once-more"))
    outcomes = [result.outcome for decision in (again, voided) for result in decision.results]
    assert outcomes == ["paid", "voided", "already_voided"]
    lamps = (("lamp", 3),)
    await rig.submit(structs.replace(place("held", units=3), lines=lamps, accept="sold"))
    await rig.submit(make_hold_back("held", HoldBackBody("asked for"), "hold", "ann"))
    await rig.submit(structs.replace(receive("lamps-in", units=3), lines=lamps))
    await rig.submit(make_assign("held", AssignBody("a promise", lines=(OrderLine("lamp", 1),)), "assign", "ann"))


@pytest.mark.parametrize("rebuilds", [False, True])
async def test_changed_orders_and_voided_movements_come_back(rig: ProtocolRig, rebuilds: bool) -> None:
    older = await ShardCopy(rig).take()
    await change_orders(rig)
    if rebuilds:
        await restate_all(rig)
        age_out_to_whole_pass(rig)
    wanted = await state_of(rig)
    assert await recover(rig, None if rebuilds else older) == wanted
    assert wanted["order:held"].held_back == {"lamp": True} and wanted["order:held"].lines[0].reserved == 1
    assert wanted["order:late"].no_preorder and wanted["movement:SH1\nkept-in"].voided_by == "void"


async def test_a_batch_that_was_never_sent_is_lost_and_decided_again_under_the_same_ids(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    await rig.relays[0].stop()
    caller = asyncio.create_task(rig.submitter(attempt_seconds=0.2).submit([place("unsent", units=2)], deadline_in(9)))
    await wait_until(lambda: not caller.done())
    while not await rig.outbox_size():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await recover(rig, older)
    decision = await caller
    assert (decision.results[0].outcome, decision.results[0].replayed) == ("reserved", False)
    assert [record.token for record in rig.valid()].count(rig.valid()[-1].token) == 1


async def test_a_caller_whose_batch_is_in_the_journal_is_answered_by_the_redo(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    waiting = asyncio.create_task(rig.settlements.settled(8, "mine", 8))
    applied = await rig.ledger.apply([place("mine", units=1)], token="mine")
    assert applied.batch == 8
    await wait_until(lambda: len(rig.valid()) == 8)
    await recover(rig, older)
    assert await waiting == "settled"


async def test_events_that_wait_for_their_order_come_back_too(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    assert (await rig.submit(early_pay())).results[0].outcome == "parked"
    await recover(rig, older)
    order = (await rig.submit(place("late", units=1))).order("late")
    assert order is not None and order.state == "paid"


async def test_a_return_that_waits_for_its_shipment_comes_back_too(rig: ProtocolRig) -> None:
    await rig.submit(place("o1", units=1))
    older = await ShardCopy(rig).take()
    mark, lines = fingerprint("take_back"), (("cup", 1, "SH1", "sellable"),)
    early = TakeBack(id="early", order_id="o1", at=1, fingerprint=mark, origin=ORIGIN, lines=lines)
    assert (await rig.submit(early)).results[0].outcome == "parked"
    wanted = await state_of(rig)
    assert wanted["waiting"] == [(b"o1", 64.0)]
    assert await recover(rig, older) == wanted
    shipped = Ship(id="s", order_id="o1", at=2, fingerprint=fingerprint("ship"), lines=(("cup", 1, "SH1"),))
    order = (await rig.submit(shipped)).order("o1")
    assert order is not None and (order.lines[0].returned, order.parked) == (1, ())


async def test_parked_events_whose_time_was_over_do_not_come_back(rig: ProtocolRig) -> None:
    await rig.ledger.apply([early_pay()], token="parks", now_ms=None)
    older = await ShardCopy(rig).take()
    future = (await state_of(rig))["order:late"].parked[0]["waits_until"] + 1
    await rig.redis.hset(rig.prefix + "head", "now", int(future))
    refused = await rig.submit(Tick(orders_max=10))
    assert [each.reason for each in refused.refused] == ["unknown_order"]
    wanted = await state_of(rig)
    assert "order:late" not in wanted
    found = await recover(rig, older)
    assert {key: found[key] for key in found if "kept" not in key} == {
        key: wanted[key] for key in wanted if "kept" not in key
    }


async def test_an_empty_redis_is_rebuilt_from_rows_where_the_head_of_the_journal_aged_out(rig: ProtocolRig) -> None:
    await restate_all(rig)
    await trade(rig, "new")
    wanted = await state_of(rig)
    age_out_to_whole_pass(rig)
    assert await recover(rig) == wanted


async def test_a_redis_whose_settled_position_aged_out_is_rebuilt(rig: ProtocolRig) -> None:
    await restate_all(rig)
    await rig.relays[0].stop()
    for number in range(2):
        await rig.ledger.apply([place(f"unsettled-{number}", units=1)], token=f"t{number}")
    older = await ShardCopy(rig).take()
    second = await rig.blessed_relay("second")
    await wait_until(lambda: second.position.batch == len(rig.valid()))
    wanted = await state_of(rig)
    rig.rows.keep()
    await second.stop()
    age_out(rig.journal, rig.rows.milestones[-1].offset)
    rig.journal.values.append(encode_record(marker(second.term + 1, "another")))
    await older.put_back()
    third = await rig.blessed_relay("third")
    assert await state_of(rig) == wanted
    await rig.submit(place("after", units=1))
    assert third.takeovers == 1


async def test_a_row_that_a_late_writer_set_back_is_rebuilt_from_the_journal(rig: ProtocolRig) -> None:
    rig.rows.keep()
    set_back = dict(rig.rows.known)
    await trade(rig, "new")
    await restate_all(rig)
    age_out_to_whole_pass(rig)
    rig.rows.known |= set_back
    wanted = await state_of(rig)
    assert await recover(rig) == wanted


async def test_a_rebuild_stops_where_a_row_is_beyond_the_journals_last_batch(rig: ProtocolRig) -> None:
    await restate_all(rig)
    await rig.relays[0].stop()
    age_out_to_whole_pass(rig)
    await forget_everything(rig)
    key = ("sku", "cup")
    rig.rows.known[key] = msgspec.structs.replace(rig.rows.known[key], batch=1_000_000)
    with pytest.raises(Superseded, match="a row is of batch 1000000"):
        await rig.take_over("b")
    with pytest.raises(Unblessed):
        await rig.ledger.apply([place("o-1")], token="t")


async def test_a_fork_is_flushed_and_rebuilt(rig: ProtocolRig) -> None:
    wanted = await state_of(rig)
    await rig.relays[0].stop()
    await rig.ledger.apply([place("fork-1", units=9)], token="fork")
    await rig.redis.hset(rig.prefix + "head", "token", "another")
    await rig.redis.xtrim(rig.prefix + "outbox", maxlen=0)
    await rig.blessed_relay("second")
    assert await state_of(rig) == wanted
    assert await rig.redis.get(rig.prefix + "order:fork-1") is None


async def test_a_redis_that_is_no_match_for_an_empty_journal_is_left_as_it_is(rig: ProtocolRig) -> None:
    await rig.relays[0].stop()
    before = await state_of(rig)
    await rig.redis.delete(rig.prefix + "settled")
    with pytest.raises(Fork, match="the journal is empty"):
        await take_over(MemoryLog(MemoryJournal()), rig.control, "b", rig.rows)
    assert await state_of(rig) == before


async def test_the_next_takeover_begins_a_broken_off_rebuild_again(rig: ProtocolRig) -> None:
    await restate_all(rig)
    wanted = await state_of(rig)
    await rig.relays[0].stop()
    age_out_to_whole_pass(rig)
    await forget_everything(rig)
    for step in ("load", "redo"):
        died = getattr(rig.control, step)
        setattr(rig.control, step, _dies)
        with pytest.raises(_Died):
            await rig.take_over("dies")
        setattr(rig.control, step, died)
        with pytest.raises(Unblessed):
            await rig.ledger.apply([place("o-1")], token="t")
    await rig.blessed_relay("second")
    assert await state_of(rig) == wanted


async def test_a_takeover_that_was_paused_in_mid_redo_writes_nothing_once_another_one_began(rig: ProtocolRig) -> None:
    older = await ShardCopy(rig).take()
    await trade(rig, "lost")
    wanted = await state_of(rig)
    await rig.relays[0].stop()
    await older.put_back()
    paused, go_on = asyncio.Event(), asyncio.Event()
    redo = rig.control.redo

    async def pauses(term: int, seen: ServerState, step: RedoStep) -> StepRefused | None:
        paused.set()
        await go_on.wait()
        return await redo(term, seen, step)

    rig.control.redo = pauses  # type: ignore[method-assign]
    first = asyncio.create_task(rig.take_over("first"))
    await paused.wait()
    rig.control.redo = redo  # type: ignore[method-assign]
    await rig.blessed_relay("second")
    go_on.set()
    with pytest.raises(Superseded):
        await first
    assert await state_of(rig) == wanted
    await trade(rig, "after")


async def test_of_four_racing_takeovers_of_an_empty_redis_one_rebuilds_it(rig: ProtocolRig) -> None:
    wanted = await state_of(rig)
    await rig.relays[0].stop()
    await forget_everything(rig)
    leases = await asyncio.gather(*(rig.take_over(f"o{n}") for n in range(4)), return_exceptions=True)
    assert all(isinstance(lease, Superseded) for lease in leases if isinstance(lease, BaseException)), leases
    await rig.blessed_relay("last")
    assert await state_of(rig) == wanted


async def test_a_redo_step_that_does_not_begin_where_redis_stands_is_refused(rig: ProtocolRig) -> None:
    await rig.relays[0].stop()
    seen = await rig.control.unbless(9)
    assert isinstance(seen, ServerState)
    writes = Writes(LedgerLimits()).packed()
    for batch, token in ((seen.batch - 1, seen.token), (seen.batch, "another")):
        step = RedoStep(batch, token, Position(99, 9, "x", batch + 1, "next"), 1, (), writes)
        refused = await rig.control.redo(9, seen, step)
        assert refused is not None
        assert (refused.reason, refused.batch) == (Refusal.OUT_OF_ORDER, seen.batch)
    old = await rig.control.redo(8, seen, RedoStep(seen.batch, seen.token, seen.settled, 1, (), writes))  # type: ignore[arg-type]
    assert old is not None
    assert old.reason is Refusal.HIGHER_TERM


async def test_a_recovery_reports_its_progress(rig: ProtocolRig) -> None:
    await rig.relays[0].stop()
    await forget_everything(rig)
    reports: list[RecoveryProgress] = []
    await take_over(rig.log(), rig.control, "b", rig.rows, report=ProgressReporter(reports.append))
    assert reports[-1] == RecoveryProgress("journal", 7, 7)


async def test_a_record_of_an_ended_term_is_not_redone(rig: ProtocolRig) -> None:
    wanted = await state_of(rig)
    last = rig.relays[0].position
    await rig.relays[0].stop()
    late = JournalRecord(KIND_BATCH, last.term, last.owner, last.batch + 1, "late", last.token, b"no payload at all")
    rig.journal.values += [encode_record(marker(last.term + 1, "next")), encode_record(late)]
    await forget_everything(rig)
    await rig.blessed_relay("second")
    assert await state_of(rig) == wanted


class _Died(Exception):
    pass


async def _dies(*_: object) -> None:
    raise _Died
