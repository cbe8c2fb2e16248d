"""The spans of orders that a client traces, in a running system that exports them by OTLP."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, order_placed
from tests.harness.otlp import Collector, new_traceparent
from tests.harness.receiver import CHANNEL, define_webhook, running_receiver
from tests.integration.access.conftest import ALLOWED_ADDRESS

WORKER, API = "stocktide-worker", "stocktide-api"
# What an order causes on its way to a channel's webhook.
AFTER_THE_REQUEST = {
    (WORKER, "journal batch"),
    (WORKER, "derive rows"),
    (WORKER, "publish channel-stock"),
    (WORKER, "call webhook"),
}


async def test_a_traced_order_has_spans_from_the_request_to_the_channels_update(
    shop: ApiTestClient, collector: Collector
) -> None:
    sku, before = unique_name("sku"), len(collector.spans)
    async with running_receiver(host=ALLOWED_ADDRESS) as receiver:
        await define_webhook(shop, receiver, skus=[sku])
        await shop.receive(sku, 9)
        await receiver.until(lambda: bool(receiver.versions(sku)))
        assert len(collector.spans) == before, "nobody has asked for a trace yet"

        header, span = new_traceparent()
        order = {"order_id": unique_name("order"), "channel": CHANNEL, "lines": lines_of((sku, 1))}
        assert (await shop.call("POST", "/v1/orders", order, headers={"traceparent": header})).status == 201
        wanted = AFTER_THE_REQUEST | {(API, "POST /v1/orders"), (API, "decide batch")}
        await collector.until(lambda: {(each.service, each.name) for each in collector.caused_by(span)} == wanted)
        request = next(each for each in collector.caused_by(span) if each.name == "POST /v1/orders")
        assert request.causes == {span} and request.trace == header.split("-")[1]
        assert request.attributes["http.response.status_code"] == "201"
        assert {each.trace for each in collector.caused_by(span)} == {request.trace}

        # By Kafka: the header of the request becomes one of the record.
        header, span = new_traceparent()
        event = order_placed(unique_name("order"), sku, channel=CHANNEL)
        headers = {"traceparent": header, "Content-Type": "application/x-ndjson"}
        assert (await shop.call("POST", "/v1/events", event, headers=headers)).status == 202
        wanted = AFTER_THE_REQUEST | {(API, "POST /v1/events"), (WORKER, "decide batch")}
        await collector.until(lambda: {(each.service, each.name) for each in collector.caused_by(span)} == wanted)
