"""Makes the senders of alerts in a worker that publishes.

In: the settings. Out: one sender for each receiver of the file; without a file, nothing.
"""

from __future__ import annotations

import asyncio

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.notify.sender import ReceiverSender, SenderParts
from stocktide.alerts_settings import read_alerts
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.groups import alerts_group
from stocktide.streams.shutdown import end
from stocktide.streams.topics import ALERTS
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import make_session


class AlertsPart:
    """The senders of one worker. The file is read at once: a wrong one raises AlertsFileError."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._config = read_alerts(settings)
        self._since_ms = now_ms()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; the groups are joined in the background."""
        if self._config is not None:
            self._running = asyncio.create_task(self._run(), name="alerts")

    @property
    def failure(self) -> str | None:
        """Why it has ended; None while it runs."""
        if self._running is None or not self._running.done():
            return None
        return "cancelled" if self._running.cancelled() else repr(self._running.exception())

    async def stop(self) -> None:
        """Give up calls in flight, commit, and leave the groups."""
        if self._running is not None:
            await end(self._running)

    async def _run(self) -> None:
        settings, config = self._settings, self._config
        assert config is not None
        async with make_session(parse_networks(settings.webhook_allow)) as session:
            parts = SenderParts(
                kafka=settings.kafka,
                security=settings.kafka_access(),
                topic=ALERTS.full_name(settings.app_id),
                routes=config.routes,
                session=session,
                metrics=self._metrics,
                since_ms=self._since_ms,
            )
            async with asyncio.TaskGroup() as senders:
                for receiver in config.receivers:
                    sender = ReceiverSender(receiver, alerts_group(settings.app_id, receiver.name), parts)
                    senders.create_task(sender.run(), name=f"alerts for {receiver.name}")
