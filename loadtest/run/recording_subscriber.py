"""A feed subscriber that records every connection, every update and every `synced`.

In: the API's addresses and a channel. Out: records, to `add`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from stocktide.loadtest.client.contract import ChannelUpdateView
from stocktide.loadtest.client.feed import FeedFrame, FeedSubscriber
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryRecord,
    Subscribed,
    Synced,
    UnreadableRow,
    Unsubscribed,
    UpdateReceived,
)

# With several APIs, a dead one is left soon.
CONNECT_SECONDS_MAX = 2.0

_UPDATE = msgspec.json.Decoder(ChannelUpdateView)


class RecordingSubscriber(FeedSubscriber):
    """Follows one channel until it is stopped. `name` is unique in the run."""

    def __init__(
        self,
        name: str,
        channel: str,
        apis: Sequence[str],
        clock: HistoryClock,
        add: Callable[[HistoryRecord], None],
        connect_seconds_max: float = CONNECT_SECONDS_MAX,
    ) -> None:
        super().__init__(apis, channel, connect_seconds_max)
        self.name = name
        self._clock = clock
        self._add = add
        self._requested_at = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the channel."""
        self._task = asyncio.create_task(self.run(), name=f"subscriber {self.name}")

    async def stop(self) -> None:
        """Unsubscribe for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._add(Unsubscribed(self._clock.now(), self.name, "the run is over", left=True))

    def on_request(self) -> None:
        """Note the time of the request."""
        self._requested_at = self._clock.now()

    def on_connected(self) -> None:
        """Record the subscription."""
        self._add(Subscribed(self._clock.now(), self.name, self.channel, self.last_event_id, self._requested_at))

    def on_disconnected(self, reason: str) -> None:
        """Record its end."""
        self._add(Unsubscribed(self._clock.now(), self.name, reason))

    def on_frames(self, frames: Sequence[FeedFrame]) -> None:
        """Record updates and `synced`."""
        for frame in frames:
            if frame.event == b"stock":
                self.record_update(frame.data)
            elif frame.event == b"synced":
                self.record_synced()

    def record_update(self, data: bytes) -> None:
        """Record an update from its JSON."""
        now = self._clock.now()
        try:
            self._add(UpdateReceived(now, self.name, _UPDATE.decode(data)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._add(UnreadableRow(now, -1, -1, f"feed of {self.channel}", str(error)))

    def record_synced(self) -> None:
        """Record that the snapshot is complete."""
        self._add(Synced(self._clock.now(), self.name))
