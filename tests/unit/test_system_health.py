"""How the parts of the system are judged: what nobody knows is unknown, and a process knows its own reasons best."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from stocktide.api.health.judgement import HeardProcess, Observation, judge_parts
from stocktide.api.health.series import INTERVALS, ProcessSeries
from stocktide.streams.contract.documents import (
    AuditStatus,
    PartHealth,
    ProcessStatus,
    RecoveryStatus,
    StalledPart,
    Status,
)
from stocktide.streams.topics import INTAKE, JOURNAL, MOVEMENTS, ORDERS, STOCK, TOPICS
from stocktide.tables.settlement.backlog import ShardBacklog
from stocktide.tables.settlement.stalls import PartStatus, Stall

AT = "2030-01-01T00:00:00.000Z"
AUDITED = AuditStatus(AT, 2.0, 0, None)
NAMES = {topic.full_name("t"): topic for topic in TOPICS}


def waits(topic: Any, pending: int) -> PartStatus:
    return PartStatus(f"{topic.name}-0", pending, 7, "nobody commits", topic.full_name("t"), 0, 7)


def heard(seconds: float = 1.0, **more: Any) -> HeardProcess:
    status = ProcessStatus(process="worker w1", kind="worker", at=AT, reasons=[], stalls=[])
    return HeardProcess(structs.replace(status, **more), seconds)


def stall(part: str, topic: str | None = None, seconds: float = 30.0) -> StalledPart:
    return StalledPart(part, topic, 3, seconds, f"{part} stands still")


WELL = Observation(
    readiness=Status(True, {}),
    shard=ShardBacklog(PartStatus("settling", 0, 5), 0, True),
    redis_trouble="",
    groups=[waits(topic, 0) for topic in (ORDERS, MOVEMENTS, INTAKE, JOURNAL, STOCK)],
    kafka_trouble="",
    stalls=(),
    processes=(heard(audit=AUDITED),),
    webhooks=[],
    intake_letters=0,
    late=0,
    topics=NAMES,
)


def parts_of(**changed: Any) -> dict[str, PartHealth]:
    return {part.part: part for part in judge_parts(structs.replace(WELL, **changed))}


def states(**changed: Any) -> dict[str, str]:
    """The parts that are not well."""
    return {name: part.state for name, part in parts_of(**changed).items() if part.state != "ok"}


def test_a_system_that_is_well_has_no_other_state() -> None:
    assert states() == {}


def test_without_redis_or_kafka_nothing_is_counted() -> None:
    no_redis = parts_of(shard=None, redis_trouble="Redis does not answer")
    assert {name for name, part in no_redis.items() if part.state == "unknown"} == {"outbox", "settling", "redo"}
    assert no_redis["redis"].state == "stalled" and no_redis["settling"].waiting is None
    no_kafka = parts_of(groups=None, webhooks=None, processes=(), kafka_trouble="Kafka does not answer")
    unknown = {"deciding", "derivations", "intake", "webhooks", "workers", "audit"}
    assert {name for name, part in no_kafka.items() if part.state == "unknown"} == unknown
    assert {no_kafka[name].waiting for name in unknown} == {None}


def test_a_stall_belongs_to_the_part_of_its_topic_and_a_silent_process_reports_none() -> None:
    journal, orders, intake = (topic.full_name("t") for topic in (JOURNAL, ORDERS, INTAKE))
    found = [stall(f"consuming {each}-0", each) for each in (journal, orders, intake)]
    found += [stall("settling", journal), stall("feeding t-channel-stock-0", "t-channel-stock"), stall("redis")]
    expected = ("deciding", "derivations", "feeds", "intake", "outbox", "redis", "settling", "workers")
    assert sorted(states(processes=(heard(stalls=found, audit=AUDITED),))) == sorted(expected)
    assert states(processes=(heard(21.0, stalls=found),)) == {"audit": "unknown", "workers": "unknown"}


def test_the_reason_of_the_process_goes_before_what_was_seen_from_outside() -> None:
    seen = (Stall(waits(ORDERS, 3), 99.0), Stall(waits(STOCK, 3), 99.0))
    alone = parts_of(stalls=seen)
    assert "nobody commits" in alone["deciding"].detail and alone["derivations"].state == "ok"
    both = parts_of(stalls=seen, processes=(heard(stalls=[stall("deciding requests")]),))
    assert (both["deciding"].detail, both["deciding"].seconds) == ("deciding requests stands still", 30.0)


def test_webhooks_that_are_dead_letters_are_said_beside_what_waits() -> None:
    assert "3 webhooks of platforms are open" in parts_of(intake_letters=3)["intake"].detail
    assert parts_of(intake_letters=None)["intake"].detail == ""


def test_audits_and_recoveries_are_as_the_workers_say() -> None:
    assert states(processes=(heard(),)) == {"audit": "unknown"}
    drifting = parts_of(processes=(heard(audit=AuditStatus(AT, 2.0, 2, None)),))["audit"]
    assert (drifting.state, drifting.waiting) == ("stalled", 2)
    failed = parts_of(processes=(heard(audit=AuditStatus(AT, 2.0, None, "no memory")),))["audit"]
    assert (failed.state, failed.waiting) == ("unknown", None)
    redo = parts_of(processes=(heard(recovery=RecoveryStatus("redo", 3, 10)),))["redo"]
    assert (redo.state, redo.waiting) == ("waiting", 7)
    endless = parts_of(processes=(heard(recovery=RecoveryStatus("load", 3, 0)),))["redo"]
    assert (endless.state, endless.waiting) == ("waiting", None)


def test_the_series_have_quantiles_within_a_step_and_nothing_where_nothing_was_measured() -> None:
    updates: list[int | None] = [None, 10, 60, 5]
    series = ProcessSeries(lambda: updates.pop(0))
    for _ in range(99):
        series.answered("POST", "/v1/orders", 201, 0.004)
    series.answered("POST", "/v1/orders", 409, 0.9)
    for ignored in (
        ("GET", "/v1/orders", 200, 9.0),
        ("POST", "/v1/orders", 503, 9.0),
        ("POST", "/v1/orders", 201, None),
    ):
        series.answered(*ignored)
    for _ in range(4):
        series.close_interval(5.0)
    shown = series.shown().series
    assert len(shown.orders_per_second) == INTERVALS
    assert shown.orders_per_second[-5:] == [None, 19.8, 0.0, 0.0, 0.0]
    assert shown.rejections_per_second[-4:] == [0.2, 0.0, 0.0, 0.0]
    assert shown.order_p50_ms[-4] is not None and 4.0 <= shown.order_p50_ms[-4] <= 4.2
    assert shown.order_p50_ms[-3:] == shown.order_p99_ms[-3:] == [None] * 3
    assert shown.updates_per_second[-4:] == [None, None, 10.0, None], "a log that begins anew gives no number"
