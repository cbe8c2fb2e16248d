"""Orders that wait for stock, and orders that are already sold, by HTTP and by Kafka."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import AT, lines_of, order_placed


async def test_a_receipt_fills_a_paid_preorder_before_the_channel_reopens(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(1), unique_name("channel")
    policy = {"below_threshold": "preorder", "preorder_cap": 10}
    assert (await shop.put(f"/v1/policies/{channel}", policy)).status in (200, 201)
    assert (await shop.place(sku, 1, channel=channel)).status == 201
    placed = await shop.place(sku, 3, channel=channel)
    assert (placed.status, placed.body["lines"][0]["state"]) == (201, "preordered")
    path = f"/v1/orders/{placed.body['order_id']}"
    paid = await shop.post(f"{path}/pay", {})
    assert (paid.body["state"], paid.body["lines"][0]["preordered"]) == ("paid", 3)
    await shop.receive(sku, 3)
    body = await shop.get_when(path, lambda answer: answer.body["lines"][0]["state"] == "committed")
    assert (body["lines"][0]["reserved"], body["lines"][0]["preordered"]) == (3, 0)
    stock = await shop.stock(sku)
    assert (stock["committed"], stock["preordered"], stock["available"]) == (3, 0, 0)
    assert stock["channels"][channel]["mode"] == "preorder"


async def test_a_sold_order_by_kafka_is_short_until_goods_come(shop: ApiTestClient) -> None:
    sku, order_id = await shop.receive_new(2), unique_name("order")
    await shop.send_events({**order_placed(order_id, sku, 5), "accept": "sold"})
    path = f"/v1/orders/{order_id}"
    body = await shop.get_when(path, lambda answer: answer.status == 200)
    assert (body["state"], body["lines"][0]["reserved"], body["lines"][0]["short"]) == ("reserved", 2, 3)
    stock = await shop.stock(sku)
    assert (stock["short"], stock["available"], stock["locked"]) == (3, -3, 2)
    await shop.receive(sku, 4)
    body = await shop.get_when(path, lambda answer: answer.body["lines"][0]["short"] == 0)
    assert body["lines"][0]["reserved"] == 5
    assert (await shop.stock(sku))["available"] == 1


async def test_a_sold_order_makes_an_unknown_sku_known(shop: ApiTestClient) -> None:
    sku = unique_name("sku")
    placed = await shop.post("/v1/orders", {**_order(sku), "accept": "sold"})
    assert (placed.status, placed.body["lines"][0]["short"]) == (201, 2)
    assert (await shop.stock(sku))["on_hand"] == 0
    assert (await shop.post("/v1/orders", {**_order(unique_name("sku"))})).problem == (409, "unknown_sku")
    assert (await shop.post("/v1/orders", {**_order(sku), "accept": "gladly"})).status == 422


async def test_the_queue_of_a_sku_and_the_short_orders_are_listed(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(2), unique_name("channel")
    assert (await shop.put(f"/v1/policies/{channel}", {"below_threshold": "preorder", "preorder_cap": 9})).status == 200
    sold = await shop.place(sku, 5, accept="sold", allow_preorder=False)
    preordered = await shop.place(sku, 2, channel=channel)
    assert preordered.body["lines"][0]["state"] == "preordered"
    page = (await shop.get(f"/v1/preorders?sku={sku}")).body
    assert [(line["place"], line["order_id"], line["channel"]) for line in page["items"]] == [
        (1, sold.body["order_id"], "tmall"),
        (2, preordered.body["order_id"], channel),
    ]
    assert [(line["short"], line["preordered"]) for line in page["items"]] == [(3, 0), (0, 2)]
    assert page["next"] is None
    assert (await shop.get(f"/v1/preorders?sku={unique_name('sku')}")).problem == (404, "unknown_sku")
    assert (await shop.get("/v1/preorders")).problem == (422, "invalid_field")
    page = (await shop.get(f"/v1/orders?short=true&sku={sku}")).body
    assert page["items"] == [(await shop.get(f"/v1/orders/{sold.body['order_id']}")).body]
    query = f"/v1/orders?state=reserved&channel={channel}"
    page = (await shop.get(query)).body
    found = {order["order_id"] for order in page["items"]}
    while page["next"] is not None:
        page = (await shop.get(f"{query}&cursor={page['next']}")).body
        found |= {order["order_id"] for order in page["items"]}
    assert found == {preordered.body["order_id"]}
    assert (await shop.get("/v1/orders?state=gone")).problem == (422, "invalid_field")


async def test_which_orders_are_filled_first_is_set_for_all_channels_of_a_sku_alone(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(1), unique_name("channel")
    policy = {"fill": "complete_first"}
    answer = await shop.put(f"/v1/policies/{channel}/{sku}", policy)
    assert (answer.problem, answer.body["errors"][0]["path"]) == ((422, "invalid_field"), "fill")
    answer = await shop.put(f"/v1/policies/*/{sku}", policy)
    assert (answer.status, answer.body["own"]) == (200, policy)
    assert (await shop.put(f"/v1/policies/*/{sku}", {"fill": "at_random"})).status == 422


async def test_an_operator_holds_an_order_back_and_assigns_units_to_it_each_with_a_reason(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(1), unique_name("channel")
    policy = {"below_threshold": "preorder", "preorder_cap": 10, "safety_threshold": 5}
    await shop.put(f"/v1/policies/{channel}", policy)
    placed = await shop.place(sku, 3, channel=channel)
    order_id = placed.body["order_id"]
    path = f"/v1/preorders/{order_id}"
    held = await shop.post(f"{path}/hold_back", {"reason": "the shopper asked"})
    assert (held.status, held.body["lines"][0]["held_back"]) == (200, True)
    refused = await shop.post(f"{path}/assign", {"reason": "a promise"})
    assert refused.problem == (409, "insufficient_stock")
    reason = {"line": 0, "sku": sku, "quantity": 3, "reason": "insufficient_stock"}
    assert refused.body["lines"] == [reason]
    body = {"id": "a1", "reason": "a promise", "lines": [{"sku": sku, "quantity": 1}]}
    for is_repeat in (False, True):
        assigned = await shop.post(f"{path}/assign", body)
        assert (assigned.status, assigned.body["replayed"]) == (200, is_repeat)
        line = assigned.body["lines"][0]
        assert (line["reserved"], line["preordered"], line["held_back"]) == (1, 2, True)
    released = await shop.post(f"{path}/hold_back", {"reason": "she changed her mind", "sku": sku, "held": False})
    assert "held_back" not in released.body["lines"][0]
    too_many = await shop.post(f"{path}/assign", {"reason": "r", "lines": [{"sku": sku, "quantity": 3}]})
    assert too_many.problem == (409, "more_than_open")
    without = await shop.post(f"{path}/hold_back", {"sku": sku})
    assert (without.problem, without.body["errors"][0]["path"]) == ((422, "missing_field"), "reason")
    assert (await shop.post("/v1/preorders/nobody/hold_back", {"reason": "r"})).problem == (404, "unknown_order")


def _order(sku: str) -> dict[str, object]:
    return {"order_id": unique_name("order"), "channel": "tmall", "lines": lines_of((sku, 2)), "occurred_at": AT}
