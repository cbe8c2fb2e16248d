"""Makes the handlers of requests for policies in an API process.

In: the settings, a producer and what changes policies. Out: the handlers, whose view follows the requests, and which
finish approved changes, until the stack is closed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaProducer

from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.policy_changes import PolicyChanges
from stocktide.api.handlers.policy_requests import PolicyRequestHandlers
from stocktide.api.policy_requests import PolicyRequests
from stocktide.settings import Settings
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.shutdown import end
from stocktide.streams.topics import ALERTS, POLICY_REQUESTS, retention_of


def make_policy_requests(
    settings: Settings, stack: AsyncExitStack, producer: AIOKafkaProducer, changes: PolicyChanges
) -> PolicyRequestHandlers:
    """The handlers, which work until the stack is closed."""
    topic = POLICY_REQUESTS.full_name(settings.app_id)
    kept_ms = retention_of(settings.app_id, POLICY_REQUESTS)
    view = CompactedView(settings.kafka, topic, kept_ms=kept_ms, **settings.kafka_access())
    requests = PolicyRequests(
        view, InputEventProducer(producer), topic, ALERTS.full_name(settings.app_id), settings.request_seconds
    )
    handlers = PolicyRequestHandlers(changes, requests, settings.approval_seconds * 1000)
    for name, work in (("policy requests", view.run()), ("approved policies", handlers.resume())):
        stack.push_async_callback(end, asyncio.create_task(work, name=name))
    return handlers
