"""The relay between a real Redis and a journal in memory: order, faults, resends, takeovers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence

import pytest

from stocktide.agents import relay as relay_module
from stocktide.streams.journal.record import decode_record, encode_record, marker
from tests.harness.memory_log import MemoryLog
from tests.protocol.rig import ProtocolRig, deadline_in, place, receive, wait_until


def replace_next_append(log: MemoryLog) -> asyncio.Future[int]:
    """Lose the records of the next append; its acknowledgement is the future that this returns."""
    append = log.append
    acknowledged: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def lose(values: Sequence[bytes]) -> Awaitable[int]:
        log.append = append  # type: ignore[method-assign]
        return acknowledged

    log.append = lose  # type: ignore[method-assign]
    return acknowledged


async def test_every_batch_is_in_the_journal_once_and_in_order(rig: ProtocolRig) -> None:
    relay = await rig.blessed_relay()
    submitter = rig.submitter()
    await asyncio.gather(*(submitter.submit([receive(f"m-{n}")], deadline_in()) for n in range(50)))
    assert [record.batch for record in rig.valid()] == list(range(1, 51))
    assert await rig.outbox_size() == 0
    assert relay.lag == 0
    assert await rig.field("settled", "batch") == "50"


async def test_a_lone_caller_does_not_wait_for_a_timer(rig: ProtocolRig) -> None:
    await rig.blessed_relay()
    await rig.submit(receive("first"))
    began = time.perf_counter()
    for number in range(20):
        await rig.submit(receive(f"m-{number}"))
    # Two or three ms each; a wait for any of the relay's intervals would be hundreds.
    assert (time.perf_counter() - began) / 20 < 0.1


async def test_a_late_relay_writes_nothing_that_counts(rig: ProtocolRig) -> None:
    late_log = rig.log()
    late = await rig.blessed_relay("late", late_log)
    await rig.submit(receive("m-1"))
    late_log.gate.clear()  # its appends stay in flight
    await rig.ledger.apply([receive("m-2")], token="t2")
    await wait_until(lambda: late.sent == 2)
    late._assigned = lambda: False
    second = await rig.blessed_relay("second")
    await wait_until(lambda: second.position.batch == 2)
    late_log.gate.set()
    await rig.submit(receive("m-3"))
    await asyncio.sleep(0.05)
    written = [record for value in rig.journal.values if (record := decode_record(value)) and record.batch == 2]
    assert {record.owner for record in written} == {"late", "second"}
    assert [(record.batch, record.owner) for record in rig.valid()] == [(1, "late"), (2, "second"), (3, "second")]


async def test_an_unassigned_relay_ends_at_a_higher_marker(rig: ProtocolRig) -> None:
    first = await rig.blessed_relay("first")
    first._assigned = lambda: False
    second = await rig.blessed_relay("second")
    assert first._running is not None
    async with asyncio.timeout(5):
        await first._running
    assert not first.blessed
    assert "second opened term 2" in str(first.error) or "refuses" in str(first.error)
    assert second.blessed


async def test_a_higher_marker_stops_a_relay_that_redis_would_still_serve(rig: ProtocolRig) -> None:
    relay = await rig.blessed_relay()
    await (await rig.log().append([encode_record(marker(7, "beyond"))]))
    await wait_until(lambda: relay.blessed and relay.takeovers == 2)
    assert relay.term == 8
    await rig.submit(receive("m-1"))
    assert [record.term for record in rig.valid()] == [8]


@pytest.mark.parametrize(("newer", "is_told"), [("worker-1-12-0bad", True), ("worker-2-12-0bad", False)])
async def test_a_relay_says_where_another_process_has_the_name_of_its_worker(
    rig: ProtocolRig, caplog: pytest.LogCaptureFixture, newer: str, is_told: bool
) -> None:
    relay = await rig.blessed_relay("worker-1-11-0abc")
    await (await rig.log().append([encode_record(marker(7, newer))]))
    await wait_until(lambda: relay.takeovers == 2)
    assert f"{newer} " in caplog.text and "opened term 7" in caplog.text
    assert ("(another process has our STOCKTIDE_WORKER_NAME)" in caplog.text) is is_told


async def test_a_relay_that_is_still_assigned_takes_over_again_with_a_new_term(rig: ProtocolRig) -> None:
    first = await rig.blessed_relay("first")
    await rig.take_over("passing")
    await wait_until(lambda: first.blessed and first.term == 3)
    decision = await rig.submit(receive("m-1"))
    assert [(record.term, record.batch) for record in rig.valid()] == [(3, decision.batch)]


async def test_two_relays_that_race_write_every_batch_once(rig: ProtocolRig) -> None:
    rig.relay("one")
    rig.relay("two")
    submitter = rig.submitter(attempt_seconds=0.3)
    decisions = [await submitter.submit([place(f"o-{n}")], deadline_in(20)) for n in range(20)]
    valid = rig.valid()
    assert [record.batch for record in valid] == list(range(1, len(valid) + 1))
    batches = {record.batch for record in valid}
    assert all(decision.batch in batches for decision in decisions)


async def test_a_redis_that_is_no_longer_blessed_is_taken_over_again(rig: ProtocolRig) -> None:
    relay = await rig.blessed_relay()
    await rig.redis.delete(rig.prefix + "blessed")
    await wait_until(lambda: relay.takeovers == 2)
    await rig.submit(receive("m-1"))
    assert relay.error is None


async def test_a_stalled_relay_sends_again_from_the_oldest_entry(rig: ProtocolRig) -> None:
    log = rig.log()
    relay = await rig.blessed_relay(log=log)
    replace_next_append(log).set_result(0)
    await rig.submitter(attempt_seconds=5).submit([receive("m-1")], deadline_in(8))
    assert relay.resent >= 1
    assert relay.takeovers == 1


async def test_an_append_that_failed_leads_to_a_takeover_that_sends_it_again(rig: ProtocolRig) -> None:
    log = rig.log()
    relay = await rig.blessed_relay(log=log)
    replace_next_append(log).set_exception(OSError("the broker is gone"))
    await rig.submitter(attempt_seconds=5).submit([receive("m-1")], deadline_in(8))
    assert relay.takeovers == 2


async def test_stopping_does_not_wait_for_appends_in_flight(rig: ProtocolRig) -> None:
    log = rig.log()
    relay = await rig.blessed_relay(log=log)
    log.gate.clear()
    await rig.ledger.apply([receive("m-1")], token="t1")
    await wait_until(lambda: relay.sent == 1)
    began = time.perf_counter()
    await relay.stop()
    assert time.perf_counter() - began < 0.5
    assert not relay.blessed


async def test_an_unpublishable_batch_is_reported_with_the_command_that_helps(
    rig: ProtocolRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = await rig.blessed_relay()
    await rig.submit(receive("m-1"))
    monkeypatch.setattr(relay_module, "JOURNAL_RECORD_BYTES_MAX", 100)
    monkeypatch.setattr(relay_module, "UNPUBLISHABLE_SECONDS", 0.5)
    stuck = await rig.ledger.apply([receive("m-2")], token="t2")
    await wait_until(lambda: relay.error is not None and "rebuild --force" in relay.error)
    assert f"batch {stuck.batch}" in str(relay.error) and relay.stuck == relay.error
    await wait_until(lambda: relay.takeovers > 1, seconds=30)  # it tries again, and still reports the batch
    assert relay.stuck is not None
    # The command rebuilds up to the last settled batch; the movement is then decided again and counts once.
    await rig.rebuild("operator")
    monkeypatch.setattr(relay_module, "JOURNAL_RECORD_BYTES_MAX", 10_000)
    await wait_until(lambda: relay.blessed, seconds=30)
    decision = await rig.submit(receive("m-2"))
    assert not decision.results[0].replayed
    assert decision.skus[0].record.counters == {"on_hand@SH1": 200}
    await wait_until(lambda: relay.stuck is None)
