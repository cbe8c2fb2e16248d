"""Pending work without progress is reported with its place and its reason; nothing else is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stocktide.agents import partition_workers
from stocktide.agents.partition_workers import ChunkInProgress, PartitionWorkers
from stocktide.doctor.finding import Severity
from stocktide.doctor.progress import ProcessStatus, judge_processes, judge_progress
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.kafka.transport import Chunk, DeliveredChunks
from stocktide.tables.settlement.backlog import ShardBacklog, with_decisions
from stocktide.tables.settlement.stalls import (
    GAP_SECONDS_MAX,
    STALL_SECONDS,
    PartStatus,
    Stall,
    StallDetector,
    StallMonitor,
    StepStatus,
    describe_error,
    make_stall_gauges,
)
from tests.unit.fakes import FakeClock, FakeEvent, FakeMembership, FakeMessage, chunk_of


def make_detector() -> tuple[FakeClock, StallDetector]:
    clock = FakeClock(100.0)
    return clock, StallDetector(clock)


def standing(
    pending: int = 1, position: object = 0, reason: str = "RecordTooLarge", part: str = "settling"
) -> PartStatus:
    return PartStatus(part, pending, position, reason, "s-journal", 0, 7)


def looked(watch: StallDetector, clock: FakeClock, *standings: PartStatus, seconds: float = STALL_SECONDS) -> list[str]:
    """The stalled parts after one observation a second for so long."""
    found: tuple[Stall, ...] = watch.look(standings)
    for _ in range(int(seconds)):
        clock.now += 1
        found = watch.look(standings)
    return [stall.part for stall in found]


def test_work_that_waits_ten_seconds_while_nothing_moves_is_a_stall_and_not_sooner() -> None:
    clock, watch = make_detector()
    assert looked(watch, clock, standing(), seconds=STALL_SECONDS - 1) == []
    assert looked(watch, clock, standing(), seconds=1) == ["settling"]


def test_each_move_begins_the_ten_seconds_anew() -> None:
    clock, watch = make_detector()
    for position in range(8):
        assert looked(watch, clock, standing(position=position), seconds=STALL_SECONDS - 1) == []


def test_work_that_comes_after_a_long_rest_has_its_own_ten_seconds() -> None:
    clock, watch = make_detector()
    assert looked(watch, clock, standing(pending=0), seconds=60) == []
    assert looked(watch, clock, standing(pending=3), seconds=STALL_SECONDS - 1) == []


def test_a_process_that_was_halted_itself_says_nothing_of_the_time_that_it_did_not_see() -> None:
    clock, watch = make_detector()
    assert looked(watch, clock, standing(), seconds=5) == []
    clock.now += 10 * GAP_SECONDS_MAX
    assert watch.look([standing()]) == ()
    assert looked(watch, clock, standing(), seconds=STALL_SECONDS - 6) == []
    assert looked(watch, clock, standing(), seconds=2) == ["settling"]


def test_a_part_that_went_to_another_worker_and_came_back_begins_anew() -> None:
    clock, watch = make_detector()
    looked(watch, clock, standing(), seconds=9)
    clock.now += 1
    assert watch.look([]) == ()
    clock.now += 1
    assert watch.look([standing()]) == ()


def test_a_stall_names_topic_partition_offset_and_reason() -> None:
    reported = Stall(standing(pending=2_001), 12.4).sentence
    assert reported == (
        "settling has made no progress for 12 s at topic s-journal, partition 0, offset 7, and 2,001 "
        "wait: RecordTooLarge"
    )


def test_a_reason_is_one_line_and_has_an_end() -> None:
    assert describe_error(ValueError("a\nb")) == "ValueError: a b"
    assert describe_error(TimeoutError()) == "TimeoutError"
    assert describe_error("") == "no error was reported"
    assert len(describe_error("x" * 10_000)) == 500


async def run_stalls(looks: list[list[PartStatus]], failures: int = 0) -> tuple[StallMonitor, list[dict[str, Any]]]:
    """Observe so often, a second apart."""
    clock, given, rows = FakeClock(100.0), iter(looks), []

    async def look() -> list[PartStatus]:
        clock.now += 1
        return next(given)

    async def publish(some: list[OutputRow]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError("Kafka is away")
        rows.extend(json.loads(value or b"") for _, value in some)

    stalls = StallMonitor(look, publish, "worker w1", StallDetector(clock))
    for _ in looks:
        await stalls.check_once()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return stalls, rows


async def test_a_stall_makes_one_alert_and_its_end_another() -> None:
    stalls, rows = await run_stalls([[standing()]] * 20 + [[standing(position=1)]] * 3)
    assert [(row["type"], row["part"]) for row in rows] == [("stalled", "settling"), ("stall_over", "settling")]
    reported = rows[0]
    assert (reported["topic"], reported["partition"], reported["offset"], reported["reason"]) == (
        "s-journal",
        0,
        7,
        "RecordTooLarge",
    )
    assert stalls.found == ()


async def test_an_alert_that_kafka_does_not_take_is_written_later() -> None:
    _, rows = await run_stalls([[standing()]] * 16, failures=3)
    assert [row["type"] for row in rows] == ["stalled"]


async def test_each_part_has_a_gauge_that_is_one_while_it_stands_still() -> None:
    stalls, _ = await run_stalls([[standing(), standing(0, part="expiry")]] * 15)
    registry = CollectorRegistry()
    stalls.show(*make_stall_gauges(registry))
    assert registry.get_sample_value("stocktide_stalled", {"part": "settling"}) == 1
    assert registry.get_sample_value("stocktide_stalled", {"part": "expiry"}) == 0
    assert (registry.get_sample_value("stocktide_stalled_seconds", {"part": "settling"}) or 0) >= STALL_SECONDS


def test_a_timer_keeps_the_reason_of_its_newest_failure_until_a_step_succeeds() -> None:
    steps = StepStatus()
    steps.failed("the ledger fails")
    assert (steps.done, steps.trouble) == (0, "the ledger fails")
    steps.did()
    assert (steps.done, steps.trouble) == (1, None)


async def test_a_partition_worker_reports_the_error_of_its_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_workers, "RETRY_SECONDS_MIN", 0.001)
    broken = True

    async def handle(chunk: Chunk, epoch: int) -> None:
        if broken:
            raise RuntimeError("too large")

    workers = PartitionWorkers("t", handle, FakeMembership())
    await workers.feed(FakeEvent(chunk_of(b"x", b"y", start=40)))
    await asyncio.sleep(0.02)
    assert workers.in_progress == {0: ChunkInProgress(40, "RuntimeError: too large")}
    broken = False
    await asyncio.wait_for(workers.drain(), 10)
    assert workers.in_progress == {} and workers.done == {0: 41}
    await workers.stop()


def test_the_oldest_chunk_that_is_not_done_is_known_whatever_was_done_behind_it() -> None:
    delivered, messages = DeliveredChunks(), [FakeMessage(offset) for offset in (3, 5, 9)]
    for message in messages:
        delivered.add("p", message)
    messages[1].acked = True
    assert delivered.oldest_unacked("p") == 3
    messages[0].acked = True
    assert delivered.oldest_unacked("p") == 9
    messages[2].acked = True
    assert delivered.oldest_unacked("p") is None


def test_the_doctor_repeats_each_reason_of_a_process_that_is_not_ready() -> None:
    found = list(
        judge_processes(
            [
                ProcessStatus("the API", "http://a", True, 200),
                ProcessStatus("the worker", "http://w", True, 503, ("settling stands", "writing stands")),
                ProcessStatus("the API", "http://b", True, None),
                ProcessStatus("the API", "http://c", False, None),
                ProcessStatus("the worker", "http://d", False, 0),
            ]
        )
    )
    verdicts = [finding.severity for finding in found]
    wrong, fine, note = Severity.WRONG, Severity.GOOD, Severity.NOTE
    assert verdicts == [fine, wrong, wrong, wrong, note, wrong]
    assert "is not ready: settling stands" in found[1].what and "is not ready: writing stands" in found[2].what


def test_a_chunk_that_is_not_committed_is_no_stall_while_decisions_are_settled() -> None:
    clock = FakeClock()
    detector = StallDetector(clock, unseen_seconds_max=STALL_SECONDS)
    groups = [standing(part=f"{topic}-0") for topic in ("orders", "movements", "journal")]
    found = []
    for settled in (1, 2, 2, 2):
        shard = ShardBacklog(standing(position=settled), 0, True)
        found.append([stall.part for stall in detector.look(with_decisions(groups, shard))])
        clock.now += STALL_SECONDS - 1
    assert found == [[], [], ["journal-0"], ["orders-0", "movements-0", "journal-0"]]


def test_the_doctor_tells_a_stall_as_wrong_but_for_rows_that_a_policy_lets_rest() -> None:
    settling, resting = standing(), standing(part="stock-0")
    found = list(judge_progress([settling, resting], [Stall(settling, 10.0), Stall(resting, 10.0)]))
    assert [finding.severity for finding in found] == [Severity.WRONG, Severity.NOTE]
    assert "partition 0, offset 7" in found[0].what
    moving = list(judge_progress([standing(5)], []))
    assert [finding.severity for finding in moving] == [Severity.GOOD] and "settling 5" in moving[0].what
