"""Sends one webhook: one call in flight, over the newest state by SKU.

In: the queues of the partitions that this worker owns. Out: signed calls, rows of `webhook-acks` and `webhook-health`,
an alert when the webhook is disabled.

A batch is written to `webhook-acks` before it is sent, so that this worker or its successor sends the same content with
the same id. A retry leaves out the SKUs that have changed meanwhile: their new numbers come in a later call, with its
own id, and an old number is never sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

import aiohttp
from msgspec import Struct
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.webhooks.queues import Batch, Progress, Queue, progress_key
from stocktide.errors import StocktideError
from stocktide.streams.contract.documents import encode
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.membership import Membership, MembershipLost
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.topics import join_key
from stocktide.streams.webhooks.calls import GONE, CallResult, call
from stocktide.streams.webhooks.definition import PartitionHealth, Webhook

logger = logging.getLogger(__name__)

# Pauses between attempts, doubled each time. Stock is worth nothing when it is old: the longest pause is a minute.
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.5, 60.0
# Part of a pause that is random, so that endpoints of one failed host do not return together.
JITTER = 0.3
# Failures in a row that open the circuit breaker, and for how long.
BREAKER_FAILURES, BREAKER_SECONDS = 5, 20.0
# After an unexpected error.
RETRY_SECONDS = 1.0


def untraced(_: str, __: Batch) -> AbstractContextManager[object]:
    """Around a call where no traces are exported."""
    return nullcontext()


class EndpointParts(Struct, frozen=True):
    """What all endpoints of a worker share. `publish_acks(partition, rows)` and `publish_health(rows)` return when
    Kafka has the rows; they raise MembershipLost. `share` is this worker's part of all partitions."""

    session: aiohttp.ClientSession
    membership: Membership
    epoch: int
    share: float
    failing_ms_max: int
    publish_acks: Callable[[int, list[OutputRow]], Awaitable[object]]
    publish_health: Callable[[list[OutputRow]], Awaitable[object]]
    alert: Callable[[str, str], Awaitable[object]]
    metrics: WorkerMetrics
    # What is around each call, by the webhook's name.
    calling: Callable[[str, Batch], AbstractContextManager[object]] = untraced


class _CallFailed(StocktideError):
    """Tells the circuit breaker that a call has failed."""


class Endpoint:
    """One webhook in one epoch of the membership. `queues` are filled by the session, which calls `wake` afterwards."""

    def __init__(
        self, webhook: Webhook, queues: Iterable[Queue], parts: EndpointParts, before: Iterable[PartitionHealth] = ()
    ) -> None:
        self.webhook = webhook
        self.queues = list(queues)
        self._parts = parts
        own = [row for row in before if row.revision == webhook.revision]
        self.disabled = any(row.state == "disabled" for row in own)
        self._last_success_ms = max((row.last_success_ms for row in own), default=0)
        self._failing_since_ms = min((row.failing_since_ms for row in own if row.failing_since_ms), default=0)
        self._failures = max((row.failures for row in own), default=0)
        self._error = next((row.error for row in own if row.error), "")
        self._wake = asyncio.Event()
        self._breakers = AsyncCircuitBreakerFactory(BREAKER_FAILURES, BREAKER_SECONDS)
        self._open = False
        self._turn = 0
        self._next_call = 0.0
        self._reported: dict[int, PartitionHealth] = {}

    def wake(self) -> None:
        """Something may have become pending."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled, or until the epoch ends."""
        try:
            await self._send()
        finally:
            self._parts.metrics.forget_webhook(self.webhook.name)

    async def _send(self) -> None:
        has_begun = False
        while True:
            try:
                if not has_begun:
                    await self._write_begin()
                    has_begun = True
                await self._send_next()
            except MembershipLost:
                return
            except Exception:
                logger.exception("webhook %s: sending failed, trying again", self.webhook.name)
                await asyncio.sleep(RETRY_SECONDS)

    async def _write_begin(self) -> None:
        """Keep where the orders of a new webhook begin, so that a successor does not begin later."""
        for queue in self.queues:
            if queue.kind == "orders":
                await self._write_progress(queue, queue.progress)

    async def _write_progress(self, queue: Queue, progress: Progress) -> None:
        key = join_key(self.webhook.name, progress_key(queue.kind)).encode()
        await self._parts.publish_acks(queue.partition, [(key, encode(progress))])

    async def _forget(self) -> None:
        """Remove rows of SKUs that the webhook has no more."""
        for queue in self.queues:
            if seconds := queue.forget():
                rows: list[OutputRow] = [(join_key(self.webhook.name, each).encode(), None) for each in seconds]
                await self._parts.publish_acks(queue.partition, rows)

    async def _send_next(self) -> None:
        await self._forget()
        queue = None if self.disabled else self._next_queue()
        if queue is None:
            self._wake.clear()
            await self._wake.wait()
            return
        if (wait := self._next_call - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        batch = queue.next_batch()  # made after the wait: it is the newest
        if batch is None:
            return
        if (progress := queue.sending(batch)) is not None:
            await self._write_progress(queue, progress)
        await self._parts.membership.wait_until_may_produce(self._parts.epoch)
        self._next_call = time.monotonic() + 1 / (self.webhook.per_second * self._parts.share)
        result = await self._call(batch)
        if result is None:
            return
        self._parts.metrics.webhook_calls.labels(self.webhook.name, "ok" if result.ok else "failed").inc()
        if result.ok:
            await self._succeed(queue, batch)
        else:
            await self._fail(result)

    def _next_queue(self) -> Queue | None:
        """The next queue in turn that has something to send."""
        for step in range(len(self.queues)):
            index = (self._turn + step) % len(self.queues)
            if self.queues[index].ready and len(self.queues[index]):
                self._turn = index + 1
                return self.queues[index]
        return None

    async def _call(self, batch: Batch) -> CallResult | None:
        """The result; None while the circuit breaker is open, after which `_next_call` is when it will not be."""
        result: CallResult | None = None
        breaker = await self._breakers.get_breaker(self.webhook.name)
        try:
            async with breaker:
                with self._parts.calling(self.webhook.name, batch):
                    result = await call(self._parts.session, self.webhook, batch.id, batch.body)
                if not result.ok:
                    raise _CallFailed
        except OpenedState:
            opened = breaker.context.opened_at or now_ms() / 1000
            self._next_call = time.monotonic() + max(RETRY_SECONDS, opened + BREAKER_SECONDS - now_ms() / 1000)
        except _CallFailed:
            pass
        self._open = breaker.context.state == OpenedState.name
        return result

    async def _succeed(self, queue: Queue, batch: Batch) -> None:
        self._last_success_ms = now_ms()
        self._failures = self._failing_since_ms = 0
        self._error = ""
        name = self.webhook.name
        rows: list[OutputRow] = [(join_key(name, key).encode(), value) for key, value in queue.acknowledge(batch)]
        await self._parts.publish_acks(queue.partition, rows)

    async def _fail(self, result: CallResult) -> None:
        now = now_ms()
        self._failures += 1
        self._failing_since_ms = self._failing_since_ms or now
        self._error = result.error
        if result.status == GONE:
            await self._disable("the endpoint answered 410")
        elif now - self._failing_since_ms >= self._parts.failing_ms_max:
            hours = (now - self._failing_since_ms) / 3_600_000
            await self._disable(f"every call has failed for {hours:.1f} h: {result.error}")
        else:
            pause = min(PAUSE_SECONDS_MIN * 2.0 ** min(self._failures - 1, 16), PAUSE_SECONDS_MAX)
            pause *= 1 - JITTER * random.random()
            self._next_call = time.monotonic() + max(pause, result.retry_after or 0.0)
            if self._failures == 1:
                logger.warning("webhook %s: %s; trying again", self.webhook.name, result.error)

    async def _disable(self, reason: str) -> None:
        self.disabled, self._error = True, reason
        logger.warning("webhook %s is disabled: %s", self.webhook.name, reason)
        await self.report()
        await self._parts.alert(
            f"webhook-{self.webhook.name}-{self.webhook.revision}", f"{self.webhook.name}: {reason}"
        )

    async def report(self) -> None:
        """Write the rows of health that have changed. Raises MembershipLost."""
        rows = {partition: row for partition, row in self._health() if self._reported.get(partition) != row}
        if rows:
            name = self.webhook.name
            values: list[OutputRow] = [(health_key(name, part).encode(), encode(row)) for part, row in rows.items()]
            await self._parts.publish_health(values)
            self._reported.update(rows)
        self._parts.metrics.webhook_pending.labels(self.webhook.name).set(sum(map(len, self.queues)))

    def _health(self) -> Iterable[tuple[int, PartitionHealth]]:
        state = "disabled" if self.disabled else "failing" if self._failures else "ok"
        for partition in sorted({queue.partition for queue in self.queues}):
            queues = [queue for queue in self.queues if queue.partition == partition]
            yield (
                partition,
                PartitionHealth(
                    revision=self.webhook.revision,
                    state=state,  # type: ignore[arg-type]
                    last_success_ms=self._last_success_ms,
                    pending=sum(map(len, queues)),
                    pending_since_ms=min((queue.since_ms for queue in queues if len(queue)), default=0),
                    failures=self._failures,
                    failing_since_ms=self._failing_since_ms,
                    error=self._error,
                    open=self._open and bool(self._failures),
                ),
            )


def health_key(name: str, partition: int) -> str:
    """The key of a row of `webhook-health`."""
    return join_key(name, str(partition))
