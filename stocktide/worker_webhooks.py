"""Makes the sender of webhooks in a worker that publishes.

In: the settings. Out: a publisher to be started before it and stopped after it, and the sender to be run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
from aiokafka import AIOKafkaConsumer

from stocktide.agents.dead_letters import system_alert
from stocktide.agents.metrics import WorkerMetrics
from stocktide.agents.webhooks.endpoint import EndpointParts
from stocktide.agents.webhooks.service import HEARTBEAT_MS, SESSION_MS, WebhookSender
from stocktide.agents.webhooks.session import Session, SessionParts
from stocktide.settings import Settings
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.kafka.groups import webhooks_group
from stocktide.streams.kafka.membership import Membership
from stocktide.streams.kafka.publish import OutputRow, Publisher, make_producer
from stocktide.streams.topics import (
    ALERTS,
    CHANNEL_STOCK,
    RESERVATIONS,
    WEBHOOK_ACKS,
    WEBHOOK_HEALTH,
    WEBHOOKS,
    Topic,
    split_key,
)
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import make_session
from stocktide.streams.webhooks.definition import PartitionHealth, Webhook, decode_health, decode_webhook
from stocktide.traced_agents import make_agent_traces

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing

logger = logging.getLogger(__name__)


class WebhooksPart:
    """The sender of one worker, with its own consumer group and producer."""

    def __init__(self, settings: Settings, metrics: WorkerMetrics, tracing: Tracing | None = None) -> None:
        self._settings = settings
        self._traces = make_agent_traces(tracing)
        self._metrics = metrics
        self._membership = Membership(SESSION_MS / 1000)
        self.publisher = Publisher(make_producer(settings.kafka, **settings.kafka_access()), self._membership)

    def _name(self, topic: Topic) -> str:
        return topic.full_name(self._settings.app_id)

    async def run(self) -> None:
        """Join the group and send, until cancelled: then calls in flight are given up."""
        settings = self._settings
        consumer = AIOKafkaConsumer(
            **settings.kafka_client(),
            group_id=webhooks_group(settings.app_id),
            enable_auto_commit=False,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )
        view = CompactedView(
            settings.kafka,
            self._name(WEBHOOKS),
            self._name(WEBHOOK_HEALTH),
            changed=lambda: sender.definitions_changed(),
            **settings.kafka_access(),
        )
        async with make_session(parse_networks(settings.webhook_allow)) as client:

            def make(partitions: list[int], epoch: int) -> Session:
                parts = EndpointParts(
                    session=client,
                    membership=self._membership,
                    epoch=epoch,
                    share=len(partitions) / settings.partitions,
                    failing_ms_max=settings.webhook_failing_seconds * 1000,
                    publish_acks=lambda partition, rows: self._publish(WEBHOOK_ACKS, rows, epoch, partition),
                    publish_health=lambda rows: self._publish(WEBHOOK_HEALTH, rows, epoch, 0),
                    alert=lambda id_, reason: self._alert(id_, reason, epoch),
                    metrics=self._metrics,
                    calling=self._traces.calling_webhook,
                )
                return Session(partitions, self._session_parts(view), parts)

            sender = WebhookSender(consumer, self._name(CHANNEL_STOCK), self._membership, view, make)
            await sender.run()

    def _session_parts(self, view: CompactedView) -> SessionParts:
        def webhooks() -> dict[str, Webhook | None]:
            return {name: _decode(name, row) for name, row in view.rows(self._name(WEBHOOKS)).items()}

        def health(name: str) -> list[PartitionHealth]:
            rows = view.rows(self._name(WEBHOOK_HEALTH))
            return [decode_health(row) for key, row in rows.items() if split_key(key)[0] == name]

        return SessionParts(
            kafka=self._settings.kafka,
            security=self._settings.kafka_access(),
            stock_topic=self._name(CHANNEL_STOCK),
            orders_topic=self._name(RESERVATIONS),
            acks_topic=self._name(WEBHOOK_ACKS),
            webhooks=webhooks,
            health=health,
            trace_rows=self._traces.note_webhook_rows,
        )

    async def _publish(self, topic: Topic, rows: list[OutputRow], epoch: int, partition: int) -> None:
        await self.publisher.publish(self._name(topic), rows, epoch, to_partition=lambda _: partition)

    async def _alert(self, id_: str, reason: str, epoch: int) -> None:
        rows = [system_alert("webhook_disabled", id_, reason, 0)]
        await self.publisher.publish(self._name(ALERTS), rows, epoch)


def _decode(name: str, row: bytes) -> Webhook | None:
    """The definition; None if a newer version has written it, which stops no other webhook."""
    try:
        return decode_webhook(row)
    except msgspec.MsgspecError as error:
        logger.error("webhook %s cannot be read: %s", name, error)
        return None
