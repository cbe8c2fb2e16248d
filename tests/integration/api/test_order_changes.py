"""Changes of placed orders, by HTTP and by Kafka."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import AT, lines_of, order_event, order_paid, order_placed, stock_received


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


async def expired(shop: ApiTestClient, *lines: tuple[str, int]) -> str:
    """The path of an order whose hold has ended."""
    placed = await shop.place(lines=lines_of(*lines), hold_seconds=1)
    path = f"/v1/orders/{placed.body['order_id']}"
    await shop.get_when(path, lambda answer: answer.body["state"] == "expired")
    return path


async def test_a_late_payment_takes_an_expired_order_again(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    order = await expired(shop, (sku, 4))
    assert (await shop.post(f"{order}/pay")).problem == (409, "already_final")
    paid, again = [await shop.post(f"{order}/pay", {"id": "p", "if_expired": "take_again"}) for _ in range(2)]
    assert (paid.status, paid.body["state"], paid.body["lines"][0]["reserved"]) == (200, "paid", 4)
    assert (again.status, again.body["replayed"]) == (200, True)
    assert (await shop.stock(sku))["committed"] == 4
    wrong = await shop.post(f"{order}/pay", {"if_expired": "try"})
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "if_expired")


async def test_a_late_payment_that_finds_no_units_has_a_reason_per_line(shop: ApiTestClient) -> None:
    plenty, scarce = await shop.receive_new(10), await shop.receive_new(4)
    order = await expired(shop, (plenty, 2), (scarce, 3))
    await shop.place(scarce, 2)
    refused = await shop.post(f"{order}/pay", {"if_expired": "take_again"})
    assert refused.problem == (409, "already_final")
    assert refused.body["lines"] == [{"line": 1, "sku": scarce, "quantity": 3, "reason": "insufficient_stock"}]
    assert refused.body["order"]["state"] == "expired"
    assert (await shop.stock(plenty))["available"] == 10


async def test_a_late_payment_by_kafka_takes_its_order_again(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    order = await expired(shop, (sku, 4))
    await shop.send_events(order_paid(order.rpartition("/")[2], if_expired="take_again"))
    await shop.get_when(order, lambda answer: answer.body["state"] == "paid")
    assert (await shop.stock(sku))["committed"] == 4


async def test_an_order_is_paid_with_its_placing(shop: ApiTestClient) -> None:
    sku, by_kafka = await shop.receive_new(10), unique_name("order")
    placed, again = [await shop.place(sku, 4, order_id="paid-" + by_kafka, paid=True) for _ in range(2)]
    assert (placed.status, placed.body["state"], placed.body["expires_at"]) == (201, "paid", None)
    assert (again.status, placed.body["lines"][0]["state"]) == (200, "committed")
    await shop.send_events(order_placed(by_kafka, sku, 3, paid=True), order_paid(by_kafka))
    await shop.get_when(f"/v1/orders/{by_kafka}", lambda answer: answer.status == 200)
    stock = await shop.stock(sku)
    assert (stock["committed"], stock["locked"], stock["available"]) == (7, 0, 3)
    wrong = await shop.place(sku, 1, paid="yes")
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "paid")


async def test_a_movement_is_voided_once(shop: ApiTestClient) -> None:
    sku, first, second = await shop.receive_new(10), unique_name("wms"), unique_name("wms")
    await shop.move(stock_received(first, (sku, 7)))
    void = {"type": "stock.voided", "occurred_at": AT, "warehouse": "SH1", "movement_id": first}
    voided = await shop.move({**void, "id": second})
    assert (voided["type"], voided["outcome"], voided["movement_id"]) == ("stock.voided", "voided", first)
    assert [(line["sku"], line["change"]) for line in voided["lines"]] == [(sku, -7)]
    assert (await shop.movement("SH1", first))["voided_by"] == second
    assert (await shop.stock(sku))["on_hand"] == 10
    for movement_id, outcome in ((first, "already_voided"), (second, "not_voidable"), ("never", "unknown_movement")):
        refused = await shop.move({**void, "id": unique_name("wms"), "movement_id": movement_id})
        assert (refused["outcome"], refused["detail"]) == (outcome, "movement_id")
    missing = await shop.post("/v1/movements", {name: value for name, value in void.items() if name != "movement_id"})
    assert missing.status == 422
    assert (await shop.stock(sku))["on_hand"] == 10


async def test_units_are_exchanged_by_http(shop: ApiTestClient) -> None:
    old, new = await shop.receive_new(10), await shop.receive_new(5)
    order = f"/v1/orders/{(await shop.place(old, 4, paid=True)).body['order_id']}"
    body = {"id": "c", "remove": lines_of((old, 3)), "add": lines_of((new, 2))}
    changed, again = [await shop.post(f"{order}/change", body) for _ in range(2)]
    assert (changed.status, changed.body["state"], changed.body["replayed"]) == (200, "paid", False)
    assert (again.status, again.body["replayed"]) == (200, True)
    assert [(line["sku"], line["state"], line["reserved"]) for line in changed.body["lines"]] == [
        (old, "committed", 1),
        (new, "committed", 2),
    ]
    assert ((await shop.stock(old))["committed"], (await shop.stock(new))["committed"]) == (1, 2)
    refused = await shop.post(f"{order}/change", {"remove": lines_of((old, 1)), "add": lines_of((old, 1), (new, 9))})
    assert refused.problem == (409, "insufficient_stock")
    assert refused.body["lines"] == [{"line": 1, "sku": new, "quantity": 9, "reason": "insufficient_stock"}]
    assert refused.body["order"]["sequence"] == changed.body["sequence"]
    beyond = await shop.post(f"{order}/change", {"remove": lines_of((old, 2))})
    assert (beyond.problem, beyond.body["errors"][0]["path"]) == ((409, "more_than_open"), "remove[0].quantity")
    for wrong in ({}, {"remove": [], "add": []}):
        answer = await shop.post(f"{order}/change", wrong)
        assert (answer.status, answer.body["errors"][0]["path"]) == (422, "add")
    assert (await shop.post(f"/v1/orders/{unique_name('order')}/change", body)).problem == (404, "unknown_order")


async def test_units_are_exchanged_by_kafka(shop: ApiTestClient) -> None:
    old, new, order_id = await shop.receive_new(10), await shop.receive_new(5), unique_name("order")
    await shop.send_events(
        order_event("changed", order_id, remove=lines_of((old, 3)), add=lines_of((new, 2))),
        order_placed(order_id, old, 4),
    )
    body = await shop.get_when(
        f"/v1/orders/{order_id}", lambda answer: answer.status == 200 and len(answer.body["lines"]) == 2
    )
    assert [(line["sku"], line["reserved"]) for line in body["lines"]] == [(old, 1), (new, 2)]
