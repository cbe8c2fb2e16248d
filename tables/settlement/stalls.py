"""Work that waits while nothing moves (rule 48): the one mechanism by which a process says so.

In: standings, a look a second: how much of a part's work waits, and a position that moves with it. Out: stalls, each
with topic, partition, offset and reason, for readiness and metrics; and an alert when one begins and when it is over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

import orjson
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from stocktide.tables.views import rfc3339

logger = logging.getLogger(__name__)

# Work that waits so long while nothing moves is a stall (rule 48).
STALL_SECONDS = 10.0
# Between two looks: small against STALL_SECONDS, and a look costs a few small requests.
CHECK_SECONDS = 1.0
# A longer time between two looks was seen by nobody: this process itself was halted, and says nothing of others. Above
# what a look takes that waits for servers that do not answer.
GAP_SECONDS_MAX = 6.0
# What a client's error adds is seldom more than a line.
_REASON_CHARACTERS_MAX = 500
# Alerts that wait for Kafka; each part has at most two.
_ALERTS_WAITING_MAX = 200


class PartStatus(Struct, frozen=True):
    """One part's work as it is now. `position` differs as soon as anything was done; `pending` 0: nothing waits.

    `topic` is a full name. `offset` None: it is about no record.
    """

    part: str
    pending: int
    position: object
    reason: str = ""
    topic: str = ""
    partition: int = 0
    offset: int | None = None


class Stall(Struct, frozen=True):
    """A part whose work has waited for `seconds` while nothing moved."""

    standing: PartStatus
    seconds: float

    @property
    def part(self) -> str:
        """Which part stands still."""
        return self.standing.part

    @property
    def sentence(self) -> str:
        """What an operator reads."""
        at = self.standing
        place = ""
        if at.topic:
            place = f" at topic {at.topic}, partition {at.partition}"
            place += "" if at.offset is None else f", offset {at.offset}"
        return (
            f"{at.part} has made no progress for {self.seconds:.0f} s{place}, and {at.pending:,} "
            f"{'waits' if at.pending == 1 else 'wait'}: {describe_error(at.reason)}"
        )


def describe_error(error: object) -> str:
    """An error as a part of a sentence, cut where it is long."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = " ".join(str(error).split())
    return text[:_REASON_CHARACTERS_MAX] or "no error was reported"


class StepStatus:
    """What a timer says of its steps: how many were done, and why the newest one was not, None where it was."""

    def __init__(self) -> None:
        self.done = 0
        self.trouble: str | None = None

    def did(self) -> None:
        """A step was done."""
        self.done, self.trouble = self.done + 1, None

    def failed(self, why: object) -> None:
        """A step was not done."""
        self.trouble = describe_error(why)


def make_stall_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """The metrics of every process: whether a part stands still, and for how long."""
    return (
        Gauge("stocktide_stalled", "1 where work waits and nothing moves", ["part"], registry=registry),
        Gauge("stocktide_stalled_seconds", "For how long", ["part"], registry=registry),
    )


class _Seen(Struct):
    position: object
    since: float


class StallDetector:
    """Compares each look with the ones before. `clock` is monotonic, in seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, unseen_seconds_max: float = GAP_SECONDS_MAX
    ) -> None:
        self._clock = clock
        self._unseen_seconds_max = unseen_seconds_max
        self._seen: dict[str, _Seen] = {}
        self._looked_at: float | None = None

    @property
    def parts(self) -> list[str]:
        """What was looked at the last time."""
        return list(self._seen)

    def look(self, standings: Iterable[PartStatus]) -> tuple[Stall, ...]:
        """The stalls as of now. A part that is not among `standings` is forgotten."""
        now = self._clock()
        unseen = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        before, self._seen = self._seen, {}
        stalls: list[Stall] = []
        for standing in standings:
            seen = before.get(standing.part)
            if seen is None or not standing.pending or seen.position != standing.position:
                seen = _Seen(standing.position, now)
            elif unseen > self._unseen_seconds_max:
                seen.since += unseen
            self._seen[standing.part] = seen
            if standing.pending and (seconds := now - seen.since) >= STALL_SECONDS:
                stalls.append(Stall(standing, seconds))
        return tuple(stalls)


class StallMonitor:
    """Looks every CHECK_SECONDS, and raises alerts. `look` gives the standings and raises nothing; `publish` writes
    rows of the topic `alerts` and may take as long as Kafka does; `process` names this process in alerts."""

    def __init__(
        self,
        look: Callable[[], Awaitable[list[PartStatus]]],
        publish: Callable[[list[tuple[bytes, bytes | None]]], Awaitable[object]],
        process: str,
        watch: StallDetector | None = None,
    ) -> None:
        self._look = look
        self._publish = publish
        self._process = process
        self._watch = watch or StallDetector()
        self._alerts: list[tuple[bytes, bytes | None]] = []
        self._telling: asyncio.Task[None] | None = None
        # As of the last look.
        self.found: tuple[Stall, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What stands still, for readiness."""
        return [stall.sentence for stall in self.found]

    def show(self, stalled: Gauge, seconds: Gauge) -> None:
        """Set the gauges of each part: 1 and its seconds where it stands still, else 0."""
        standing_still = {stall.part: stall.seconds for stall in self.found}
        stalled.clear()  # parts come and go
        seconds.clear()
        for part in self._watch.parts:
            stalled.labels(part).set(int(part in standing_still))
            seconds.labels(part).set(standing_still.get(part, 0.0))

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        try:
            while True:
                try:
                    await self.check_once()
                except Exception:  # a bug: who only looks must not end who works
                    logger.exception("what stands still could not be looked for")
                await asyncio.sleep(CHECK_SECONDS)
        finally:
            if self._telling is not None:
                self._telling.cancel()

    async def check_once(self) -> None:
        """One look."""
        before = {stall.part: stall for stall in self.found}
        self.found = self._watch.look(await self._look())
        now = {stall.part: stall for stall in self.found}
        for part, stall in now.items():
            if part not in before:
                logger.error("%s", stall.sentence)
                self._alerts.append(make_alert_row("stalled", stall, self._process))
        for part, stall in before.items():
            if part not in now:
                logger.warning("%s goes on", part)
                self._alerts.append(make_alert_row("stall_over", stall, self._process))
        del self._alerts[:-_ALERTS_WAITING_MAX]
        if self._alerts and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell(), name="alerts of stalls")

    async def _tell(self) -> None:
        """Write the alerts that wait; what is not taken now is written after a later look."""
        rows = self._alerts[:]
        try:
            await self._publish(rows)
        except Exception as error:  # Kafka is away, or the partitions are: the next look tries again
            logger.warning("alerts of stalls wait: %s", describe_error(error))
        else:
            self._alerts = [row for row in self._alerts if row not in rows]


def make_alert_row(kind: str, stall: Stall, process: str) -> tuple[bytes, bytes | None]:
    """A row of `alerts` of type `stalled` or `stall_over`; the same on a repeat."""
    at, now = stall.standing, time.time_ns() // 1_000_000
    view: dict[str, Any] = {
        "id": f"{kind}-{process}-{at.part}-{now}",
        "type": kind,
        "sku": "",
        "warehouse": None,
        "channel": None,
        "order_id": None,
        "quantity": at.pending,
        "orders": [],
        "at": rfc3339(now),
        "batch": 0,
        "process": process,
        "part": at.part,
        "topic": at.topic or None,
        "partition": at.partition if at.topic else None,
        "offset": at.offset,
        "reason": describe_error(at.reason),
        "detail": stall.sentence,
    }
    return b"", orjson.dumps(view)
