"""Forced orders on a running system: requested by HTTP and by Kafka, approved over HTTP by a second person."""

from __future__ import annotations

from typing import Any

from stocktide.api.requests import ACTOR_HEADER
from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.events import order_placed

FORCE: dict[str, Any] = {"force": True, "reason": "for the press"}


async def suspended(shop: ApiTestClient, units: int) -> tuple[str, str]:
    """A channel that does not sell a new SKU of `units` units; both names."""
    sku, channel = await shop.receive_new(units), unique_name("shop")
    policy = {"safety_threshold": 100, "below_threshold": "suspend", "buffer": 100}
    assert (await shop.put(f"/v1/policies/{channel}", policy)).status == 200
    return sku, channel


async def force(shop: ApiTestClient, body: dict[str, Any], by: str = "anna") -> ApiAnswer:
    return await shop.call("POST", "/v1/orders", {**body, **FORCE}, headers={ACTOR_HEADER: by})


def order_of(sku: str, channel: str, units: int = 1) -> dict[str, Any]:
    return {"order_id": unique_name("order"), "channel": channel, "lines": [{"sku": sku, "quantity": units}]}


async def decide(shop: ApiTestClient, how: str, order_id: str, by: str = "ben", body: Any = None) -> ApiAnswer:
    return await shop.call("POST", f"/v1/approvals/{order_id}/{how}", body, headers={ACTOR_HEADER: by})


async def test_a_forced_order_waits_for_a_second_person_and_then_takes_its_units(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 10)
    body = order_of(sku, channel, 10)
    asked = await force(shop, body)
    path = f"/v1/approvals/{body['order_id']}"
    assert (asked.status, asked.body["id"], asked.body["kind"]) == (202, body["order_id"], "force_order")
    assert (asked.body["state"], asked.body["requested_by"], asked.body["approved_by"]) == ("waiting", "anna", None)
    assert (asked.body["reason"], asked.body["channel"]) == ("for the press", channel)
    assert asked.body["lines"] == [{"sku": sku, "quantity": 10}]
    again = await force(shop, body, by="carl")
    assert (again.status, again.body) == (200, {**asked.body, "replayed": True})
    assert (await shop.get(path)).body == asked.body
    assert (await shop.get(f"/v1/orders/{body['order_id']}")).problem == (404, "unknown_order")
    assert (await shop.post(f"/v1/orders/{body['order_id']}/pay")).problem == (404, "unknown_order")
    assert (await decide(shop, "approve", body["order_id"], by="anna")).problem == (403, "same_actor")
    given = await decide(shop, "approve", body["order_id"])
    assert (given.status, given.body["state"], given.body["replayed"]) == (200, "reserved", False)
    repeated = await decide(shop, "approve", body["order_id"])
    assert (repeated.status, repeated.body) == (200, {**given.body, "replayed": True})
    assert (await decide(shop, "approve", body["order_id"], by="carl")).problem == (409, "already_final")
    known = (await shop.get(path)).body
    assert (known["state"], known["approved_by"], known["outcome"]) == ("approved", "ben", "reserved")
    assert (await shop.get(f"/v1/orders/{body['order_id']}")).body == given.body
    assert (await force(shop, body)).body == {**given.body, "replayed": True}, "it is an order now"
    assert (await shop.stock(sku))["available"] == 0


async def test_an_approved_order_whose_units_are_not_there_is_refused_with_the_reasons(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 3)
    body = order_of(sku, channel, 4)
    await force(shop, body)
    for replayed in (False, True):
        refused = await decide(shop, "approve", body["order_id"])
        assert refused.problem == (409, "insufficient_stock")
        assert (refused.body["lines"][0]["reason"], refused.body["replayed"]) == ("insufficient_stock", replayed)
    known = (await shop.get(f"/v1/approvals/{body['order_id']}")).body
    assert (known["state"], known["approved_by"]) == ("refused", "ben")


async def test_a_rejected_request_keeps_its_reason_and_takes_nothing(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 3)
    body = order_of(sku, channel)
    await force(shop, body)
    wrong = await decide(shop, "reject", body["order_id"], body={})
    assert (wrong.status, wrong.body["errors"][0]["path"]) == (422, "reason")
    rejected = await decide(shop, "reject", body["order_id"], body={"reason": "too few"})
    assert (rejected.status, rejected.body["state"], rejected.body["rejected_by"]) == (200, "rejected", "ben")
    assert (rejected.body["comment"], rejected.body["approved_by"]) == ("too few", None)
    assert (await decide(shop, "approve", body["order_id"], by="carl")).problem == (409, "already_final")
    assert (await force(shop, body)).body == {**rejected.body, "replayed": True}
    order = (await shop.get(f"/v1/orders/{body['order_id']}")).body
    assert (order["state"], order["lines"][0]["reason"]) == ("rejected", "not_approved")
    assert (await shop.stock(sku))["available"] == 3


async def test_requests_by_kafka_wait_too_and_are_listed_by_page(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 10)
    ids = sorted(unique_name("order") for _ in range(3))
    await shop.send_events(*(order_placed(each, sku, channel=channel, actor="anna", **FORCE) for each in ids[:2]))
    await shop.send_events(order_placed(ids[2], sku, channel=channel, **FORCE))
    for each in ids:
        await shop.get_when(f"/v1/approvals/{each}", lambda answer: answer.status == 200)
    listed, cursor = [], f"{ids[0]}"
    listed.append(cursor)
    while cursor is not None:
        page = (await shop.get(f"/v1/approvals?state=waiting&limit=1&cursor={cursor}")).body
        listed += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert [each for each in listed if each in ids] == ids
    assert (await shop.get(f"/v1/approvals/{ids[2]}")).body["requested_by"] == channel, "nobody is named"
    assert (await decide(shop, "approve", ids[0])).status == 200
    page = (await shop.get("/v1/approvals?limit=1000")).body
    assert ids[0] not in [item["id"] for item in page["items"]]


async def test_a_request_that_cannot_be_is_rejected_with_its_path(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 1)
    body = order_of(sku, channel)
    for more, path in (
        ({"force": True}, "reason"),
        ({"force": True, "reason": " "}, "reason"),
        ({**FORCE, "accept": "sold"}, "accept"),
    ):
        answer = await shop.post("/v1/orders", {**body, **more})
        assert (answer.status, answer.body["errors"][0]["path"]) == (422, path)
        rejected = (await shop.send_events(order_placed(body["order_id"], sku, channel=channel, **more))).body
        assert rejected["rejected"][0]["path"] == path
    assert (await force(shop, body, by="a b")).body["errors"][0]["path"] == ACTOR_HEADER
    assert (await decide(shop, "approve", unique_name("none"))).problem == (404, "unknown_approval")
    assert (await shop.get(f"/v1/approvals/{unique_name('none')}")).problem == (404, "unknown_approval")
    assert (await shop.get("/v1/approvals?state=approved")).body["errors"][0]["path"] == "state"
    plain = await shop.place(sku)
    assert (await shop.get(f"/v1/approvals/{plain.body.get('order_id', 'none')}")).status == 404


async def test_a_change_of_a_policy_names_its_actor_too(shop: ApiTestClient) -> None:
    path = f"/v1/policies/{unique_name('shop')}"
    for method in ("PUT", "DELETE"):
        answer = await shop.call(method, path, {} if method == "PUT" else None, headers={ACTOR_HEADER: "a b"})
        assert (answer.status, answer.body["errors"][0]["path"]) == (422, ACTOR_HEADER)
    document = (await shop.get("/openapi.json")).body
    parameters = document["paths"]["/v1/policies/{channel}"]["put"]["parameters"]
    assert (ACTOR_HEADER, "header") in [(each["name"], each["in"]) for each in parameters]


async def test_without_a_name_all_are_one_person(shop: ApiTestClient) -> None:
    sku, channel = await suspended(shop, 1)
    body = order_of(sku, channel)
    assert (await shop.post("/v1/orders", {**body, **FORCE})).status == 202
    assert (await shop.post(f"/v1/approvals/{body['order_id']}/approve")).problem == (403, "same_actor")
    assert (await decide(shop, "approve", body["order_id"])).status == 200
