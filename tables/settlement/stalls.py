"""Detects and reports stalls: parts of a process whose work waits without progress (rule 48).

In: the status of each part, once a second: how much work is pending, and a position that changes with progress. Out:
stalls, each with topic, partition, offset and reason, for readiness and metrics; and an alert when one begins or ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

from msgspec import UNSET, Struct
from prometheus_client import CollectorRegistry, Gauge

from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339

logger = logging.getLogger(__name__)

# Pending work without progress for this long is a stall (rule 48).
STALL_SECONDS = 10.0
# Interval of the checks: small against STALL_SECONDS; a check costs a few small requests.
CHECK_SECONDS = 1.0
# A longer time between two checks does not count: this process itself was stopped. Above the duration of a check whose
# servers do not answer.
GAP_SECONDS_MAX = 6.0
# A client's error message seldom has more than a line.
_REASON_CHARACTERS_MAX = 500
# Alerts queued for Kafka; each part has at most two.
_ALERTS_WAITING_MAX = 200


class PartStatus(Struct, frozen=True):
    """The status of one part's work. `position` changes with any progress; `pending` 0: no work waits.

    `topic` is a full name. `offset` None: the status concerns no particular record.
    """

    part: str
    pending: int
    position: object
    reason: str = ""
    topic: str = ""
    partition: int = 0
    offset: int | None = None


class Stall(Struct, frozen=True):
    """A part whose work has waited for `seconds` without progress."""

    status: PartStatus
    seconds: float

    @property
    def part(self) -> str:
        """The name of the part."""
        return self.status.part

    @property
    def sentence(self) -> str:
        """The stall as a sentence for operators."""
        at = self.status
        place = ""
        if at.topic:
            place = f" at topic {at.topic}, partition {at.partition}"
            place += "" if at.offset is None else f", offset {at.offset}"
        return (
            f"{at.part} has made no progress for {self.seconds:.0f} s{place}, and {at.pending:,} "
            f"{'waits' if at.pending == 1 else 'wait'}: {describe_error(at.reason)}"
        )


def describe_error(error: object) -> str:
    """An error as part of a sentence, truncated if it is long."""
    if isinstance(error, BaseException):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = " ".join(str(error).split())
    return text[:_REASON_CHARACTERS_MAX] or "no error was reported"


class StepStatus:
    """The steps of a timer: how many succeeded, and the error of the newest one (None: it succeeded)."""

    def __init__(self) -> None:
        self.done = 0
        self.trouble: str | None = None

    def did(self) -> None:
        """Record a success."""
        self.done, self.trouble = self.done + 1, None

    def failed(self, why: object) -> None:
        """Record a failure."""
        self.trouble = describe_error(why)


def make_stall_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """The metrics of every process: whether a part is stalled, and for how long."""
    return (
        Gauge("stocktide_stalled", "1 where work waits and nothing moves", ["part"], registry=registry),
        Gauge("stocktide_stalled_seconds", "For how long", ["part"], registry=registry),
    )


class _LastChange(Struct):
    position: object
    since: float


class StallDetector:
    """Compares each check with the ones before. `clock` is monotonic, in seconds."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, unseen_seconds_max: float = GAP_SECONDS_MAX
    ) -> None:
        self._clock = clock
        self._unseen_seconds_max = unseen_seconds_max
        self._changes: dict[str, _LastChange] = {}
        self._checked_at: float | None = None

    @property
    def parts(self) -> list[str]:
        """The parts of the last check."""
        return list(self._changes)

    def look(self, statuses: Iterable[PartStatus]) -> tuple[Stall, ...]:
        """The current stalls. A part that is not among `statuses` is forgotten."""
        now = self._clock()
        gap = 0.0 if self._checked_at is None else now - self._checked_at
        self._checked_at = now
        before, self._changes = self._changes, {}
        stalls: list[Stall] = []
        for status in statuses:
            change = before.get(status.part)
            if change is None or not status.pending or change.position != status.position:
                change = _LastChange(status.position, now)
            elif gap > self._unseen_seconds_max:
                change.since += gap
            self._changes[status.part] = change
            if status.pending and (seconds := now - change.since) >= STALL_SECONDS:
                stalls.append(Stall(status, seconds))
        return tuple(stalls)


class StallMonitor:
    """Checks every CHECK_SECONDS and raises alerts. `probe` gives the statuses and does not raise; `publish` writes
    rows of the topic `alerts` and may take long; `process` names this process in alerts."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[list[PartStatus]]],
        publish: Callable[[list[tuple[bytes, bytes | None]]], Awaitable[object]],
        process: str,
        detector: StallDetector | None = None,
    ) -> None:
        self._probe = probe
        self._publish = publish
        self._process = process
        self._detector = detector or StallDetector()
        self._alerts: list[tuple[bytes, bytes | None]] = []
        self._publishing: asyncio.Task[None] | None = None
        # As of the last check.
        self.found: tuple[Stall, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """The current stalls, for readiness."""
        return [stall.sentence for stall in self.found]

    def show(self, stalled: Gauge, seconds: Gauge) -> None:
        """Set the gauges of each part: 1 and its seconds if it is stalled, else 0."""
        by_part = {stall.part: stall.seconds for stall in self.found}
        stalled.clear()  # parts come and go
        seconds.clear()
        for part in self._detector.parts:
            stalled.labels(part).set(int(part in by_part))
            seconds.labels(part).set(by_part.get(part, 0.0))

    async def run(self) -> NoReturn:
        """Check until cancelled."""
        try:
            while True:
                try:
                    await self.check_once()
                except Exception:  # a bug here must not end the process
                    logger.exception("the check for stalls failed")
                await asyncio.sleep(CHECK_SECONDS)
        finally:
            if self._publishing is not None:
                self._publishing.cancel()

    async def check_once(self) -> None:
        """Check once."""
        before = {stall.part: stall for stall in self.found}
        self.found = self._detector.look(await self._probe())
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
        if self._alerts and (self._publishing is None or self._publishing.done()):
            self._publishing = asyncio.create_task(self._publish_alerts(), name="alerts of stalls")

    async def _publish_alerts(self) -> None:
        """Publish the queued alerts; on failure they stay queued until a later check."""
        rows = self._alerts[:]
        try:
            await self._publish(rows)
        except Exception as error:
            logger.warning("alerts of stalls wait: %s", describe_error(error))
        else:
            self._alerts = [row for row in self._alerts if row not in rows]


def make_alert_row(kind: str, stall: Stall, process: str) -> tuple[bytes, bytes | None]:
    """A row of `alerts` of type `stalled` or `stall_over`."""
    at, now = stall.status, now_ms()
    alert = PublishedAlert(
        id=f"{kind}-{process}-{at.part}-{now}",
        type=kind,
        quantity=at.pending,
        event_id=UNSET,
        event_type=UNSET,
        at=rfc3339(now),
        batch=0,
        process=process,
        part=at.part,
        topic=at.topic or None,
        partition=at.partition if at.topic else None,
        offset=at.offset,
        reason=describe_error(at.reason),
        detail=stall.sentence,
    )
    return b"", encode(alert)
