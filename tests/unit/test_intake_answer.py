"""The intake answers within a second also where Kafka does not, and takes nothing then."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiokafka import AIOKafkaProducer

from stocktide.api.event_producer import InputEventProducer
from stocktide.api.handlers.intake import ANSWER_SECONDS_MAX, IntakeHandler
from stocktide.streams.mapping.mapping_reader import load_mappings
from stocktide.streams.mapping.verify import EnabledMapping
from tests.intake_payloads import SECRET, Webhook, qimen_order, shopify, shopify_order

ENABLED = {name: EnabledMapping(mapping, (SECRET,)) for name, mapping in load_mappings(None).items()}


class SilentKafka:
    """A producer whose broker accepts bytes and acknowledges nothing; `finds_topics` false: nor says what it has."""

    def __init__(self, finds_topics: bool) -> None:
        self.finds_topics = finds_topics

    async def partitions_for(self, topic: str) -> set[int]:
        if not self.finds_topics:
            await asyncio.Event().wait()
        return {0}

    def create_batch(self) -> SilentKafka:
        return self

    def append(self, **record: Any) -> object:
        return record

    def close(self) -> None:
        """Nothing is kept."""

    async def send_batch(self, batch: object, topic: str, partition: int) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("finds_topics", [True, False])
async def test_a_webhook_is_answered_within_a_second_where_kafka_is_silent(finds_topics: bool) -> None:
    producer = InputEventProducer(cast(AIOKafkaProducer, SilentKafka(finds_topics)))
    app = web.Application()
    app.router.add_post("/v1/intake/{name}", IntakeHandler(producer, "app", ENABLED).post)
    async with TestClient(TestServer(app)) as client:

        async def send(webhook: Webhook) -> tuple[int, bytes]:
            path = f"/v1/intake/{webhook.name}"
            response = await client.post(path, data=webhook.body, headers=webhook.headers, params=webhook.query)
            return response.status, await response.read()

        started = time.monotonic()
        by_shopify, by_qimen = await asyncio.gather(
            send(shopify("orders/create", shopify_order(1))), send(qimen_order("D1"))
        )
    assert ANSWER_SECONDS_MAX < 1
    # With a reserve for a busy machine: without the bound, nothing would come.
    assert time.monotonic() - started < 5
    assert by_shopify[0] == 503 and b'"unavailable"' in by_shopify[1]
    assert by_qimen[0] == 503 and b"<flag>failure</flag>" in by_qimen[1]
