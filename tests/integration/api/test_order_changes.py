"""Changes of placed orders, by HTTP and by Kafka."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, order_event, order_paid, order_placed


async def test_units_of_lines_are_cancelled_by_http(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    order = f"/v1/orders/{(await shop.place(sku, 4)).body['order_id']}"
    first, again = [await shop.post(f"{order}/cancel", {"id": "c", "lines": lines_of((sku, 1))}) for _ in range(2)]
    assert (first.status, first.body["state"], first.body["replayed"]) == (200, "reserved", False)
    assert (again.status, again.body["replayed"]) == (200, True)
    line = first.body["lines"][0]
    assert (line["quantity"], line["reserved"], line["cancelled"], line["state"]) == (4, 3, 1, "reserved")
    assert (await shop.stock(sku))["available"] == 7
    refused = await shop.post(f"{order}/cancel", {"lines": lines_of((sku, 2), (sku, 2))})
    assert refused.problem == (409, "more_than_open")
    assert refused.body["errors"][0]["path"] == "lines[1].quantity"
    assert refused.body["order"]["lines"][0]["reserved"] == 3
    for lines, path in (
        ([], "lines"),
        (lines_of((sku, 0)), "lines[0].quantity"),
        ([{"sku": sku}], "lines[0].quantity"),
    ):
        wrong = await shop.post(f"{order}/cancel", {"lines": lines})
        assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, path)
    assert (await shop.post(f"{order}/cancel", {"lines": lines_of((sku, 3))})).body["state"] == "cancelled"
    assert (await shop.stock(sku))["available"] == 10


async def test_units_of_lines_are_cancelled_by_kafka_and_a_refusal_is_in_the_dead_letters(shop: ApiTestClient) -> None:
    sku, order_id = await shop.receive_new(10), unique_name("order")
    await shop.send_events(
        order_placed(order_id, sku, 4),
        order_paid(order_id),
        order_event("cancelled", order_id, id="too-many", lines=lines_of((sku, 5))),
        order_event("cancelled", order_id, lines=lines_of((sku, 3))),
    )
    body = await shop.get_when(
        f"/v1/orders/{order_id}", lambda answer: answer.status == 200 and answer.body["lines"][0]["cancelled"]
    )
    assert (body["state"], body["lines"][0]["reserved"], body["lines"][0]["cancelled"]) == ("paid", 1, 3)
    stock = await shop.stock(sku)
    assert (stock["committed"], stock["available"]) == (1, 9)
