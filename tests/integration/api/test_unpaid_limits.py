"""Limits of unpaid units over HTTP and over Kafka."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import order_placed


async def test_a_buyer_who_never_pays_holds_no_more_than_the_policy_allows(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(100), unique_name("channel")
    policy = {"held_units_max": 6, "buyer_units_max": 3}
    shown = (await shop.put(f"/v1/policies/{channel}", policy)).body
    assert (shown["own"], shown["effective"]["held_units_max"]) == (policy, 6)
    first = await shop.place(sku, 3, channel=channel, buyer="mei li, Lane 3")
    assert (first.status, first.body["buyer"]) == (201, "mei li, Lane 3")
    path = f"/v1/orders/{first.body['order_id']}"
    assert (await shop.get(path)).body == first.body
    refused = await shop.place(sku, 1, channel=channel, buyer="mei li, Lane 3")
    assert refused.problem == (409, "too_many_held")
    assert refused.body["lines"][0]["reason"] == "too_many_held"
    assert (await shop.place(sku, 3, channel=channel, buyer="ravi")).status == 201
    assert (await shop.place(sku, 1, channel=channel)).problem == (409, "too_many_held")
    assert (await shop.post(f"{path}/pay")).status == 200
    assert (await shop.place(sku, 1, channel=channel, buyer="mei li, Lane 3")).status == 201


async def test_an_order_by_kafka_over_the_limit_is_rejected_as_any_other(shop: ApiTestClient) -> None:
    sku, channel, order_id = await shop.receive_new(9), unique_name("channel"), unique_name("order")
    assert (await shop.put(f"/v1/policies/{channel}", {"buyer_units_max": 1})).status == 200
    await shop.send_events({**order_placed(order_id, sku, 2), "channel": channel, "buyer": "mei"})
    body = await shop.get_when(f"/v1/orders/{order_id}", lambda answer: answer.status == 200)
    assert (body["state"], body["lines"][0]["reason"], body["buyer"]) == ("rejected", "too_many_held", "mei")


async def test_a_limit_is_of_a_channel_and_a_buyer_is_printable_text(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(9), unique_name("channel")
    for path in (f"/v1/policies/{channel}/{sku}", f"/v1/policies/*/{sku}"):
        answer = await shop.put(path, {"held_units_max": 5})
        assert (answer.problem, answer.body["errors"][0]["path"]) == ((422, "invalid_field"), "held_units_max")
    for buyer in ("", "x" * 129, "two\nlines", 5):
        answer = await shop.place(sku, 1, channel=channel, buyer=buyer)
        assert (answer.status, answer.body["errors"][0]["path"]) == (422, "buyer"), buyer
    assert "buyer" not in (await shop.place(sku, 1, channel=channel)).body
