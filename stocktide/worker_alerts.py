"""Makes the senders of alerts in a worker that publishes.

In: the settings. Out: one sender for each receiver of the file; without a file, nothing.
"""

from __future__ import annotations

import asyncio

from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.notify.config import AlertsConfig
from stocktide.agents.notify.sender import ReceiverSender, SenderParts
from stocktide.alerts_settings import read_alerts
from stocktide.settings import Settings
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.groups import alerts_group
from stocktide.streams.topics import ALERTS
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import make_session


class AlertsPart:
    """The senders of one worker."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics, config: AlertsConfig) -> None:
        self._settings = settings
        self._metrics = metrics
        self._config = config
        self._since_ms = now_ms()

    async def run(self) -> None:
        """Join the groups and send, until cancelled: then calls in flight are given up."""
        settings, config = self._settings, self._config
        async with make_session(parse_networks(settings.webhook_allow)) as session:
            parts = SenderParts(
                kafka=settings.kafka,
                security=settings.kafka_access(),
                topic=ALERTS.full_name(settings.app_id),
                routes=config.routes,
                session=session,
                metrics=self._metrics,
                since_ms=self._since_ms,
                receivers=len(config.receivers),
            )
            async with asyncio.TaskGroup() as senders:
                for receiver in config.receivers:
                    sender = ReceiverSender(receiver, alerts_group(settings.app_id, receiver.name), parts)
                    senders.create_task(sender.run(), name=f"alerts for {receiver.name}")


def make_alerts_part(settings: Settings, metrics: WorkerMetrics) -> AlertsPart | None:
    """None without a file. It is read at once: a wrong one raises AlertsFileError."""
    config = read_alerts(settings)
    return None if config is None else AlertsPart(settings, metrics, config)
