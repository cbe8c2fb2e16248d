"""Makes what reads topics for calls of the API.

In: the settings. Out: readers of topics, and the handlers of dead letters.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer

from stocktide.api.dead_letter_log import DeadLetterLog
from stocktide.api.handlers.dead_letters import DeadLetterHandlers
from stocktide.api.topic_calls import TopicCalls
from stocktide.settings import Settings
from stocktide.streams.kafka.read_topic import open_consumer
from stocktide.streams.topics import DEAD_LETTERS, Topic
from stocktide.tables.dead_letters.reader import DeadLetterTopic
from stocktide.tables.dead_letters.retry import DeadLetterProcessor

# Every record that a call reads exists already; a fetch that waits for more delays the next one.
READ_WAIT_MS = 20


def opener(settings: Settings, topic: Topic, **client: Any) -> Callable[[], Awaitable[AIOKafkaConsumer]]:
    """What opens a reader of a topic at its beginning."""
    return partial(open_consumer, settings.kafka, topic.full_name(settings.app_id), **client, **settings.kafka_access())


def topic_calls(settings: Settings, topic: Topic) -> TopicCalls:
    """Calls that read a topic, each with a reader of its own."""
    return TopicCalls(topic.name, opener(settings, topic, fetch_max_wait_ms=READ_WAIT_MS))


def make_dead_letter_log(settings: Settings, stack: AsyncExitStack) -> DeadLetterLog:
    """The dead letters that are held while somebody looks."""
    log = DeadLetterLog(_letters(settings))
    stack.push_async_callback(log.close)
    return log


def make_dead_letters(settings: Settings, log: DeadLetterLog) -> DeadLetterHandlers:
    """The handlers of `/v1/dead-letters`."""
    topic = _letters(settings)
    processor = partial(DeadLetterProcessor, topic, settings.kafka_client(), settings.app_id)
    return DeadLetterHandlers(log, topic, DEAD_LETTERS.full_name(settings.app_id), processor)


def _letters(settings: Settings) -> DeadLetterTopic:
    return DeadLetterTopic(DEAD_LETTERS.full_name(settings.app_id), settings.kafka_client())
