"""Makes the handlers of webhooks in an API process.

In: the settings and a producer. Out: handlers, whose view follows the definitions until the stack is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from aiokafka import AIOKafkaProducer

from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.webhooks import WebhookHandlers
from stocktide.api.known_channels import KnownChannels
from stocktide.settings import Settings
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.shutdown import end
from stocktide.streams.topics import WEBHOOK_HEALTH, WEBHOOKS
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import make_session


async def prepare_webhooks(
    settings: Settings, stack: AsyncExitStack, producer: AIOKafkaProducer
) -> Callable[[KnownChannels], WebhookHandlers]:
    """Makes the handlers of `/v1/webhooks`."""
    topic, health_topic = (each.full_name(settings.app_id) for each in (WEBHOOKS, WEBHOOK_HEALTH))
    allowed = parse_networks(settings.webhook_allow)
    view = CompactedView(settings.kafka, topic, health_topic, **settings.kafka_access())
    session = await stack.enter_async_context(make_session(allowed))
    stack.push_async_callback(end, asyncio.create_task(view.run(), name="webhook definitions"))
    return partial(
        WebhookHandlers,
        view,
        InputEventProducer(producer),
        topic,
        health_topic,
        allowed,
        session,
        settings.request_seconds,
    )
