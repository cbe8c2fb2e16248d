"""The relay between a real Redis and a journal: what counts, what does not, and how it goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from stocktide.streams.journal.record import decode_record, encode_record, marker
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, wait_until


async def test_what_was_decided_is_in_the_journal_once_and_in_order(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    submitter = stage.submitter()
    await asyncio.gather(*(submitter.submit([receive(f"m-{n}")], deadline_in()) for n in range(50)))
    assert [record.batch for record in stage.valid()] == list(range(1, 51))
    assert await stage.outbox_size() == 0
    assert relay.lag == 0
    assert await stage.field("settled", "batch") == "50"


async def test_a_lone_caller_does_not_wait_for_a_timer(stage: ProtocolRig) -> None:
    await stage.blessed_relay()
    submitter = stage.submitter()
    await submitter.submit([receive("first")], deadline_in())
    began = time.perf_counter()
    for number in range(20):
        await submitter.submit([receive(f"m-{number}")], deadline_in())
    # Two or three ms each; a wait for any of the relay's intervals would be hundreds.
    assert (time.perf_counter() - began) / 20 < 0.1


async def test_a_late_relay_writes_nothing_that_counts(stage: ProtocolRig) -> None:
    late_log = stage.log()
    late = await stage.blessed_relay("late", late_log)
    submitter = stage.submitter()
    await submitter.submit([receive("m-1")], deadline_in())
    late_log.gate.clear()  # what it sends from here on is under way
    await stage.ledger.apply([receive("m-2")], token="t2")
    await wait_until(lambda: late.sent == 2)
    late._assigned = lambda: False
    second = await stage.blessed_relay("second")
    await wait_until(lambda: second.position.batch == 2)
    late_log.gate.set()  # and now it arrives
    await submitter.submit([receive("m-3")], deadline_in())
    await asyncio.sleep(0.05)
    written = [record for value in stage.journal.values if (record := decode_record(value)) and record.batch == 2]
    assert {record.owner for record in written} == {"late", "second"}
    assert [(record.batch, record.owner) for record in stage.valid()] == [(1, "late"), (2, "second"), (3, "second")]


async def test_a_relay_that_was_paused_stops_at_the_higher_marker_and_ends_where_not_assigned(
    stage: ProtocolRig,
) -> None:
    first = await stage.blessed_relay("first")
    first._assigned = lambda: False
    second = await stage.blessed_relay("second")
    assert first._running is not None
    async with asyncio.timeout(5):
        await first._running
    assert not first.blessed
    assert "second opened term 2" in str(first.error) or "refuses" in str(first.error)
    assert second.blessed


async def test_a_higher_marker_is_enough_to_stop_a_relay_that_redis_would_still_serve(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await (await stage.log().append([encode_record(marker(7, "beyond"))]))
    await wait_until(lambda: relay.blessed and relay.takeovers == 2)
    assert relay.term == 8
    await stage.submitter().submit([receive("m-1")], deadline_in())
    assert [record.term for record in stage.valid()] == [8]


async def test_a_relay_that_is_still_assigned_takes_over_again_with_a_new_term(stage: ProtocolRig) -> None:
    first = await stage.blessed_relay("first")
    await stage.take_over("passing")
    await wait_until(lambda: first.blessed and first.term == 3)
    decision = await stage.submitter().submit([receive("m-1")], deadline_in())
    assert [(record.term, record.batch) for record in stage.valid()] == [(3, decision.batch)]


async def test_two_relays_that_race_write_every_batch_once(stage: ProtocolRig) -> None:
    stage.relay("one")
    stage.relay("two")
    submitter = stage.submitter(attempt_seconds=0.3)
    decisions = [await submitter.submit([place(f"o-{n}")], deadline_in(20)) for n in range(20)]
    valid = stage.valid()
    assert [record.batch for record in valid] == list(range(1, len(valid) + 1))
    batches = {record.batch for record in valid}
    assert all(decision.batch in batches for decision in decisions)


async def test_a_redis_that_is_no_longer_blessed_is_taken_over_anew(stage: ProtocolRig) -> None:
    relay = await stage.blessed_relay()
    await stage.redis.delete(stage.prefix + "blessed")
    await wait_until(lambda: relay.takeovers == 2)
    await stage.submitter().submit([receive("m-1")], deadline_in())
    assert relay.error is None


async def test_the_relay_sends_again_from_the_oldest_entry_where_nothing_moves(stage: ProtocolRig) -> None:
    log = stage.log()
    relay = await stage.blessed_relay(log=log)
    append, lost = log.append, []

    async def lose(values: object):  # type: ignore[no-untyped-def]
        lost.append(values)
        log.append = append  # type: ignore[method-assign]
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_result(0)
        return acknowledged

    log.append = lose  # type: ignore[method-assign,assignment]
    await stage.submitter(attempt_seconds=5).submit([receive("m-1")], deadline_in(8))
    assert lost
    assert relay.resent >= 1
    assert relay.takeovers == 1


async def test_an_append_that_failed_leads_to_a_takeover_that_sends_it_again(stage: ProtocolRig) -> None:
    log = stage.log()
    relay = await stage.blessed_relay(log=log)
    append = log.append

    async def fail(values: object):  # type: ignore[no-untyped-def]
        log.append = append  # type: ignore[method-assign]
        acknowledged = asyncio.get_running_loop().create_future()
        acknowledged.set_exception(OSError("the broker is gone"))
        return acknowledged

    log.append = fail  # type: ignore[method-assign,assignment]
    await stage.submitter(attempt_seconds=5).submit([receive("m-1")], deadline_in(8))
    assert relay.takeovers == 2


async def test_stopping_does_not_wait_for_what_is_under_way(stage: ProtocolRig) -> None:
    log = stage.log()
    relay = await stage.blessed_relay(log=log)
    log.gate.clear()
    await stage.ledger.apply([receive("m-1")], token="t1")
    await wait_until(lambda: relay.sent == 1)
    began = time.perf_counter()
    await relay.stop()
    assert time.perf_counter() - began < 0.5
    assert not relay.blessed


async def test_a_batch_that_the_journal_never_takes_is_named_with_the_command_that_goes_on(
    stage: ProtocolRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = await stage.blessed_relay()
    submitter = stage.submitter()
    await submitter.submit([receive("m-1")], deadline_in())
    monkeypatch.setattr("stocktide.agents.relay.JOURNAL_RECORD_BYTES_MAX", 100)
    monkeypatch.setattr("stocktide.agents.relay.UNPUBLISHABLE_SECONDS", 0.5)
    stuck = await stage.ledger.apply([receive("m-2")], token="t2")
    await wait_until(lambda: relay.error is not None and "rebuild --force" in relay.error)
    assert f"batch {stuck.batch}" in str(relay.error) and relay.stuck == relay.error
    await wait_until(lambda: relay.takeovers > 1, seconds=30)  # it tries again, and says so all the while
    assert relay.stuck is not None
    # What the command does: back to the last settled batch. The movement is decided anew, and counts once.
    await stage.rebuild("operator")
    monkeypatch.setattr("stocktide.agents.relay.JOURNAL_RECORD_BYTES_MAX", 10_000)
    await wait_until(lambda: relay.blessed, seconds=30)
    decision = await submitter.submit([receive("m-2")], deadline_in())
    assert not decision.results[0].replayed
    assert decision.skus[0].record.counters == {"on_hand@SH1": 200}
    await wait_until(lambda: relay.stuck is None)
