"""Makes the handlers of daily reports in an API process.

In: the settings and a producer. Out: handlers, whose view follows the totals until the stack is closed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaProducer

from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.reports import ReportHandlers
from stocktide.settings import Settings
from stocktide.streams.kafka.compacted_view import CompactedView
from stocktide.streams.shutdown import end
from stocktide.streams.topics import COMPLAINTS, DAILY, retention_of


def prepare_reports(settings: Settings, stack: AsyncExitStack, producer: AIOKafkaProducer) -> ReportHandlers:
    """The handlers of `/v1/reports`, `/v1/health/score` and `/v1/complaints`."""
    daily, complaints = (topic.full_name(settings.app_id) for topic in (DAILY, COMPLAINTS))
    kept_ms = retention_of(settings.app_id, DAILY, COMPLAINTS)
    view = CompactedView(settings.kafka, daily, complaints, kept_ms=kept_ms, **settings.kafka_access())
    stack.push_async_callback(end, asyncio.create_task(view.run(), name="daily totals"))
    handlers = (view, InputEventProducer(producer), daily, complaints)
    return ReportHandlers(*handlers, settings.zone(), settings.request_seconds)
