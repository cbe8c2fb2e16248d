"""Judges the parts of the system from what was observed.

In: an `Observation`. Out: a `PartHealth` for each part. What was not observed is unknown, and no number is made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, structs

from stocktide.api.handlers.webhooks import WebhookAnswer
from stocktide.streams.contract.documents import PartHealth, ProcessHealth, ProcessStatus, StalledPart, Status
from stocktide.streams.topics import INTAKE, JOURNAL, MOVEMENTS, ORDERS, STOCK, Topic
from stocktide.tables.settlement.backlog import ShardBacklog
from stocktide.tables.settlement.stalls import PartStatus, Stall

# A process reports every 5 s; one that is late by more is halted, dead, or does not reach Kafka.
SILENT_SECONDS = 20.0

OK, WAITING, STALLED, UNKNOWN = "ok", "waiting", "stalled", "unknown"
_DECIDED, _DERIVED = (ORDERS, MOVEMENTS), (JOURNAL, STOCK)
# Parts of processes whose name says what they belong to; others are told by their topic.
_PART_OF: Mapping[str, str] = {
    "kafka": "kafka",
    "redis": "redis",
    "settling": "settling",
    "hearing what is settled": "settling",
    "deciding requests": "deciding",
    "taking events": "deciding",
    "expiry": "deciding",
    "dwells": "deciding",
    "reading the tables back": "derivations",
}


class HeardProcess(Struct, frozen=True):
    """What a process last said, and how long ago."""

    status: ProcessStatus
    seconds: float

    @property
    def is_silent(self) -> bool:
        """Whether what it said counts no more."""
        return self.seconds > SILENT_SECONDS


class Observation(Struct, frozen=True):
    """What was observed; None where nobody could say, and then the trouble says why. `stalls`: what stood still in the
    groups and the shard, as seen by this process. `intake_letters`: webhooks of platforms that are open dead letters.
    `late`: channels whose feeds wait long for a SKU."""

    readiness: Status
    shard: ShardBacklog | None
    redis_trouble: str
    groups: Sequence[PartStatus] | None
    kafka_trouble: str
    stalls: Sequence[Stall]
    processes: Sequence[HeardProcess]
    webhooks: Sequence[WebhookAnswer] | None
    intake_letters: int | None
    late: int
    topics: Mapping[str, Topic]


def judge_parts(seen: Observation) -> list[PartHealth]:
    """All parts, in the order in which work goes through them."""
    stalled = _stalls_by_part(seen)
    shard = seen.shard
    groups = {
        part: _group(seen, part, topics, stalled)
        for part, topics in (("deciding", _DECIDED), ("derivations", _DERIVED), ("intake", (INTAKE,)))
    }
    settling = None if shard is None else shard.settling.pending
    return [
        _server("kafka", seen.readiness.reasons.get("kafka") or seen.kafka_trouble, stalled),
        _server("redis", seen.readiness.reasons.get("redis") or seen.redis_trouble, stalled),
        _work("outbox", None if shard is None else shard.outbox, seen.redis_trouble, stalled.get("settling")),
        _work("settling", settling, seen.redis_trouble, stalled.get("settling")),
        groups["deciding"],
        groups["derivations"],
        _redo(seen),
        _audit(seen),
        _webhooks(seen.webhooks, seen.kafka_trouble),
        _intake(groups["intake"], seen.intake_letters),
        _feeds(seen, stalled.get("feeds")),
        _workers(seen),
    ]


def judge_processes(heard: Sequence[HeardProcess]) -> list[ProcessHealth]:
    """Each process, by name."""
    return [
        ProcessHealth(each.status.process, each.status.kind, *_process_state(each), _process_detail(each))
        for each in sorted(heard, key=lambda each: each.status.process)
    ]


def _process_state(each: HeardProcess) -> tuple[str, float]:
    state = OK
    if each.is_silent:
        state = UNKNOWN
    elif each.status.stalls:
        state = STALLED
    elif each.status.reasons:
        state = WAITING
    return state, round(each.seconds, 1)


def _process_detail(each: HeardProcess) -> str:
    if each.is_silent:
        return f"it has said nothing for {each.seconds:.0f} s: it is halted, was killed, or does not reach Kafka"
    return "; ".join(each.status.reasons)


def _stalls_by_part(seen: Observation) -> dict[str, StalledPart]:
    """By part of the system, what has stood still for the longest time: as the processes say, else as was observed."""
    found: dict[str, StalledPart] = {}
    for heard in seen.processes:
        for stall in () if heard.is_silent else heard.status.stalls:
            _keep(found, _part_of(stall.part, seen.topics.get(stall.topic or "")), stall)
    for each in seen.stalls:
        at = each.status
        topic = seen.topics.get(at.topic)
        # A row of `stock` may wait for a policy's interval, which only the worker knows.
        part = "settling" if at.part == "settling" else _part_of(at.part, topic)
        if topic is not STOCK and part not in found:
            _keep(found, part, StalledPart(at.part, at.topic, at.pending, each.seconds, each.sentence))
    return found


def _keep(found: dict[str, StalledPart], part: str, stall: StalledPart) -> None:
    if part not in found or found[part].seconds < stall.seconds:
        found[part] = stall


def _part_of(name: str, topic: Topic | None) -> str:
    if name in _PART_OF:
        return _PART_OF[name]
    if name.startswith("feeding "):
        return "feeds"
    if topic is INTAKE:
        return "intake"
    return "deciding" if topic in _DECIDED or name.startswith("timer ") else "derivations"


def _server(name: str, trouble: str, stalled: Mapping[str, StalledPart]) -> PartHealth:
    if trouble:
        return PartHealth(name, STALLED, None, None, trouble)
    stall = stalled.get(name)
    return PartHealth(name, OK, None, None, "") if stall is None else _stalled(name, None, stall)


def _stalled(name: str, waiting: int | None, stall: StalledPart) -> PartHealth:
    return PartHealth(name, STALLED, waiting, round(stall.seconds, 1), stall.detail)


def _work(name: str, waiting: int | None, trouble: str, stall: StalledPart | None) -> PartHealth:
    """A part with work that is counted."""
    if stall is not None:
        return _stalled(name, waiting, stall)
    if waiting is None:
        return PartHealth(name, UNKNOWN, None, None, trouble)
    return PartHealth(name, WAITING if waiting else OK, waiting, None, "")


def _group(seen: Observation, name: str, topics: Sequence[Topic], stalled: Mapping[str, StalledPart]) -> PartHealth:
    trouble = seen.kafka_trouble
    waiting: int | None = None
    if seen.groups is not None:
        pending = [at.pending for at in seen.groups if seen.topics.get(at.topic) in topics]
        waiting = sum(pending) if pending else None
        trouble = "nothing was consumed yet, or the group is hidden by an ACL"
    return _work(name, waiting, trouble, stalled.get(name))


def _fresh(seen: Observation) -> Iterator[ProcessStatus]:
    return (each.status for each in seen.processes if not each.is_silent)


def _redo(seen: Observation) -> PartHealth:
    for status in _fresh(seen):
        if (recovery := status.recovery) is not None:
            left = recovery.total - recovery.done if recovery.total else None
            total = f"{recovery.total:,}" if recovery.total else "an unknown number"
            detail = f"{status.process} brings Redis back: {recovery.phase}, {recovery.done:,} of {total}"
            return PartHealth("redo", WAITING, left, None, detail)
    if seen.shard is None:
        return PartHealth("redo", UNKNOWN, None, None, seen.redis_trouble)
    if not seen.shard.blessed:
        return PartHealth(
            "redo", WAITING, None, None, "this Redis is not taken over yet, and no worker says that it does"
        )
    return PartHealth("redo", OK, 0, None, "")


def _audit(seen: Observation) -> PartHealth:
    audits = [status.audit for status in _fresh(seen) if status.audit is not None]
    if not audits:
        return PartHealth("audit", UNKNOWN, None, None, "no worker that runs has audited yet")
    last = max(audits, key=lambda audit: audit.at)
    if last.drifts:
        return PartHealth("audit", STALLED, last.drifts, None, f"{last.drifts:,} keys drifted at {last.at}")
    if last.unfinished is not None:
        return PartHealth("audit", UNKNOWN, last.drifts, None, f"not finished at {last.at}: {last.unfinished}")
    return PartHealth("audit", OK, 0, None, f"no drift at {last.at}")


def _webhooks(found: Sequence[WebhookAnswer] | None, trouble: str) -> PartHealth:
    if found is None:
        return PartHealth("webhooks", UNKNOWN, None, None, trouble)
    waiting = sum(each.pending for each in found)
    seconds = max((each.lag_seconds for each in found if each.pending), default=None)
    bad = [f"{each.name} is {each.state}: {each.error}" for each in found if each.state in ("failing", "disabled")]
    if bad:
        return PartHealth("webhooks", STALLED, waiting, seconds, "; ".join(bad))
    return PartHealth("webhooks", WAITING if waiting else OK, waiting, seconds, "" if found else "there are none")


def _intake(part: PartHealth, letters: int | None) -> PartHealth:
    """The part, with the webhooks that wait for somebody."""
    if not letters:
        return part
    said = f"{letters:,} webhooks of platforms are open dead letters"
    return structs.replace(part, detail="; ".join(filter(None, (part.detail, said))))


def _feeds(seen: Observation, stall: StalledPart | None) -> PartHealth:
    if stall is not None:
        return _stalled("feeds", None, stall)
    if (reason := seen.readiness.reasons.get("feeds")) is not None:
        return PartHealth("feeds", WAITING, None, None, reason)
    detail = "feeds of channels wait long for a SKU" if seen.late else ""
    return PartHealth("feeds", WAITING if seen.late else OK, seen.late, None, detail)


def _workers(seen: Observation) -> PartHealth:
    workers = [each for each in judge_processes(seen.processes) if each.kind == "worker"]
    if not workers:
        return PartHealth("workers", UNKNOWN, None, None, seen.kafka_trouble or "no worker has said anything")
    states = [each.state for each in workers]
    # One that is silent is worse than one that says what it waits for.
    state = next(each for each in (UNKNOWN, STALLED, WAITING, OK) if each in states)
    shown = [each for each in workers if each.state == state != OK]
    detail = "; ".join(f"{each.process}: {each.detail}" for each in shown)
    seconds = max((each.seconds for each in shown), default=None) if state == UNKNOWN else None
    return PartHealth("workers", state, None, seconds, detail or f"{len(workers)} ready")
