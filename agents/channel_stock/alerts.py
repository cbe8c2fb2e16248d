"""The alerts of changes of mode of one partition.

In: rows of `alerts`. Out: the same rows in the topic, in order. What a channel may sell does not depend on this topic:
while it takes no rows, they wait up to a limit, and updates go on.
"""

from __future__ import annotations

import asyncio
import logging

from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import OutputRow, Publisher

logger = logging.getLogger(__name__)

# Updates wait so long for the alerts of their changes of mode, so that a worker that ends between both loses none.
ALERTS_FIRST_SECONDS = 1.0
# Of the alerts of a partition that wait for the topic: more than two full writes of updates give.
ALERTS_WAITING_BYTES_MAX = 2 * 1024 * 1024
# After a write failed with an unexpected error.
RETRY_SECONDS = 1.0


class ModeAlerts:
    """Writes rows to `topic`, the full name of `alerts`, during one epoch."""

    def __init__(self, publisher: Publisher, topic: str, epoch: int) -> None:
        self._publisher = publisher
        self._topic = topic
        self._epoch = epoch
        self._waiting: list[OutputRow] = []
        self._bytes = 0
        # The write in progress or the newest one; it ends by itself with the epoch.
        self.task: asyncio.Task[None] | None = None

    async def write(self, rows: list[OutputRow]) -> None:
        """Return when the rows are written, after `ALERTS_FIRST_SECONDS`, or at once if earlier rows wait already."""
        if not rows:
            return
        is_late = self.task is not None and not self.task.done()
        self._add(rows)
        if not is_late:
            self.task = asyncio.create_task(self._write_waiting())
            await asyncio.wait((self.task,), timeout=ALERTS_FIRST_SECONDS)

    def _add(self, rows: list[OutputRow]) -> None:
        for index, row in enumerate(rows):
            size = len(row[0]) + len(row[1] or b"")
            if self._bytes + size > ALERTS_WAITING_BYTES_MAX:
                dropped = len(rows) - index
                logger.error("%s takes no rows: %d alerts of changes of mode are not written", self._topic, dropped)
                return
            self._waiting.append(row)
            self._bytes += size

    async def _write_waiting(self) -> None:
        while self._waiting:
            rows = list(self._waiting)
            try:
                await self._publisher.publish(self._topic, rows, self._epoch)
            except MembershipLost:
                return
            except Exception:
                logger.exception("%d alerts of changes of mode failed, trying again", len(rows))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                del self._waiting[: len(rows)]
                self._bytes = sum(len(key) + len(value or b"") for key, value in self._waiting)
