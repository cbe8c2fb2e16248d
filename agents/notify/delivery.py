"""Sends the groups of one receiver, one call at a time.

In: groups that become due. Out: calls; places that are done. A receiver that fails is tried again with growing pauses,
for a day; then its message is given up and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

import aiohttp

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.notify.config import Receiver
from stocktide.agents.notify.groups import Groups, Message, Place
from stocktide.agents.notify.robots import ANSWER_BYTES_MAX, GAP_SECONDS, Content, answers_in_body, judge, make_request
from stocktide.streams.contract.times import now_ms
from stocktide.streams.webhooks.calls import CallResult, post

logger = logging.getLogger(__name__)

# Pauses between attempts, doubled each time. A robot that is back is used within a minute.
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 1.0, 60.0
# Part of a pause that is random.
JITTER = 0.3
# A message that was not taken for so long says nothing new any more; its alerts are in the topic for a week.
GIVE_UP_SECONDS = 86_400
# A look at the clock, which may be set while a group waits for the morning.
WAIT_SECONDS_MAX = 60.0
_HEADERS = {"content-type": "application/json; charset=utf-8", "user-agent": "Stocktide", "accept-encoding": "identity"}


class Delivery:
    """The calls of one receiver. `finish` gets the places of alerts that are done."""

    def __init__(
        self,
        receiver: Receiver,
        groups: Groups,
        session: aiohttp.ClientSession,
        finish: Callable[[Iterable[Place]], object],
        metrics: WorkerMetrics,
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._receiver = receiver
        self._groups = groups
        self._session = session
        self._finish = finish
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._wake = asyncio.Event()
        self._failures = 0
        self._next_call = 0.0

    def wake(self) -> None:
        """A group may have become due."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            if (wait := self._next_call - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            now = self._clock_ms()
            self._groups.forget_idle(now)
            if (message := self._groups.due(now)) is None:
                await self._wait(now)
            else:
                await self._send(message)
            self._metrics.pending_alerts.labels(self._receiver.name).set(len(self._groups))

    async def _wait(self, now: int) -> None:
        due = self._groups.next_due()
        self._wake.clear()
        try:
            async with asyncio.timeout(None if due is None else min(max(due - now, 1) / 1000, WAIT_SECONDS_MAX)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send(self, message: Message) -> None:
        alerts = [each.alert for each in message.waiting]
        content = Content(message.group.labels, alerts, message.more, message.repeats)
        result, count = await deliver(self._session, self._receiver, content)
        now = self._clock_ms()
        self._metrics.alert_messages.labels(self._receiver.name, "ok" if result.ok else "failed").inc()
        if result.ok:
            if self._failures:
                logger.warning("the receiver of alerts %s is back", self._receiver.name)
            self._failures = 0
            self._next_call = time.monotonic() + GAP_SECONDS[self._receiver.kind]
            self._finish(self._groups.sent(message, count, now))
            return
        self._fail(message, result, now)

    def _fail(self, message: Message, result: CallResult, now: int) -> None:
        name, group = self._receiver.name, message.group
        self._failures += 1
        if self._failures == 1:
            logger.warning("the receiver of alerts %s: %s; trying again", name, result.error)
        pause = min(PAUSE_SECONDS_MIN * 2.0 ** min(self._failures - 1, 16), PAUSE_SECONDS_MAX)
        pause = max(pause * (1 - JITTER * random.random()), result.retry_after or 0.0, GAP_SECONDS[self._receiver.kind])
        self._next_call = time.monotonic() + pause
        self._groups.failed(message, now + round(pause * 1000), now)
        if group.failing_since is not None and now - group.failing_since >= GIVE_UP_SECONDS * 1000:
            logger.error("%d alerts are given up for %s: %s", len(message.waiting) + message.more, name, result.error)
            self._metrics.alert_messages.labels(name, "given_up").inc()
            self._finish(self._groups.give_up(message))


async def deliver(session: aiohttp.ClientSession, receiver: Receiver, content: Content) -> tuple[CallResult, int]:
    """One attempt to send a content; how it ended, and how many of the alerts were in it."""
    request = make_request(receiver, content, now_ms())
    # A body that says nothing is not waited for: its call was taken, and would be made again.
    answer_bytes = ANSWER_BYTES_MAX if answers_in_body(receiver.kind) else 0
    result, body = await post(session, request.url, request.body, {**_HEADERS, **request.headers}, answer_bytes)
    return judge(receiver.kind, result, body), request.alerts
