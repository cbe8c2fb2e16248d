"""Policies that a second person approves, on a running system."""

from __future__ import annotations

from typing import Any

from stocktide.api.requests import ACTOR_HEADER
from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.system import RunningSystem


async def ask(shop: ApiTestClient, path: str, policy: Any, by: str = "anna", tag: str | None = None) -> ApiAnswer:
    headers = {ACTOR_HEADER: by} | ({} if tag is None else {"If-Match": tag})
    body = {"policy": policy, "reason": "double eleven"}
    return await shop.call("POST", f"{path}/request", body, headers=headers)


async def decide(shop: ApiTestClient, how: str, request_id: str, by: str = "ben") -> ApiAnswer:
    body = {"reason": "too early"} if how == "reject" else None
    return await shop.call("POST", f"/v1/approvals/{request_id}/{how}", body, headers={ACTOR_HEADER: by})


async def listed(shop: ApiTestClient, query: str = "") -> list[Any]:
    """The ids of all requests that wait, by pages of one."""
    ids: list[Any] = []
    cursor = ""
    while True:
        page = await shop.get(f"/v1/approvals?limit=1{query}{cursor and f'&cursor={cursor}'}")
        assert page.status == 200, page.body
        ids += [item["id"] for item in page.body["items"]]
        if (cursor := page.body["next"]) is None:
            return ids


async def test_a_policy_is_set_when_a_second_person_approves_it(shop: ApiTestClient) -> None:
    channel = unique_name("shop")
    path = f"/v1/policies/{channel}"
    await shop.put(path, {"buffer": 1})
    asked = await ask(shop, path, {"buffer": 4, "warehouses": ["SH1"]})
    assert (asked.status, asked.body["kind"], asked.body["state"]) == (202, "policy", "waiting")
    assert (asked.body["before"], asked.body["after"]) == ({"buffer": 1}, {"buffer": 4, "warehouses": ["SH1"]})
    assert (asked.body["channel"], asked.body["sku"], asked.body["requested_by"]) == (channel, None, "anna")
    again = await ask(shop, path, {"buffer": 4, "warehouses": ["SH1"]})
    assert (again.status, again.body) == (200, {**asked.body, "replayed": True})
    one = asked.headers["Location"]
    assert (await shop.get(one)).body == asked.body
    assert (await shop.get(path)).body["own"] == {"buffer": 1}
    assert (await decide(shop, "approve", asked.body["id"], by="anna")).problem == (403, "same_actor")
    given = await decide(shop, "approve", asked.body["id"])
    assert (given.status, given.body["state"], given.body["approved_by"]) == (200, "approved", "ben")
    assert given.body["outcome"] == "policy_set"
    assert (await shop.get(path)).body["own"] == {"buffer": 4, "warehouses": ["SH1"]}
    repeated = await decide(shop, "approve", asked.body["id"])
    assert (repeated.status, repeated.body) == (200, {**given.body, "replayed": True})
    for how, by in (("approve", "carl"), ("reject", "ben")):
        assert (await decide(shop, how, asked.body["id"], by=by)).problem == (409, "already_final")
    history = await shop.get_when(f"/v1/policy_history/{channel}", lambda answer: len(answer.body["items"]) == 2)
    assert [(each["actor"], each["requested_by"]) for each in history["items"]] == [("ben", "anna"), ("operator", None)]
    rows = await shop.get("/v1/audit?actor=ben&format=csv")
    assert isinstance(rows.body, bytes)
    assert asked.body["id"].encode() in rows.body


async def test_a_policy_that_was_changed_meanwhile_is_not_overwritten(shop: ApiTestClient) -> None:
    path = f"/v1/policies/{unique_name('shop')}/{await shop.receive_new(1)}"
    asked = await ask(shop, path, {"buffer": 4})
    tag = (await shop.get(path)).headers["ETag"]
    await shop.put(path, {"buffer": 2})
    assert (await ask(shop, path, {"buffer": 5}, tag=tag)).problem == (412, "policy_changed")
    for _ in range(2):
        assert (await decide(shop, "approve", asked.body["id"])).problem == (409, "policy_changed")
    known = (await shop.get(asked.headers["Location"])).body
    assert (known["state"], known["outcome"], known["approved_by"]) == ("refused", "policy_changed", "ben")
    assert (await shop.get(path)).body["own"] == {"buffer": 2}


async def test_a_removal_is_asked_for_and_a_rejection_keeps_its_reason(shop: ApiTestClient) -> None:
    path = f"/v1/policies/{unique_name('shop')}"
    assert (await ask(shop, path, None)).problem == (404, "unknown_policy")
    wrong = await ask(shop, path, {"fill": "in_part"})
    assert (wrong.problem, wrong.body["errors"][0]["path"]) == ((422, "invalid_field"), "fill")
    await shop.put(path, {"buffer": 2})
    asked = await ask(shop, path, None)
    rejected = await decide(shop, "reject", asked.body["id"])
    assert (rejected.status, rejected.body["state"], rejected.body["comment"]) == (200, "rejected", "too early")
    assert (await decide(shop, "approve", asked.body["id"])).problem == (409, "already_final")
    asked = await ask(shop, path, None)
    assert (await decide(shop, "approve", asked.body["id"])).body["outcome"] == "policy_deleted"
    assert (await shop.get(path)).body["own"] is None
    assert (await decide(shop, "approve", "policy-0")).problem == (404, "unknown_approval")


async def test_requests_of_both_kinds_are_listed_and_a_restart_keeps_them(
    shop: ApiTestClient, running: RunningSystem
) -> None:
    sku, path = await shop.receive_new(3), f"/v1/policies/{unique_name('shop')}"
    asked = [(await ask(shop, path, {"buffer": buffer})).body["id"] for buffer in (1, 2)]
    orders = [f"{asked[0]}-order", unique_name("order")]
    for order_id in orders:
        order = {"order_id": order_id, "channel": "tmall", "lines": [{"sku": sku, "quantity": 1}]}
        await shop.post("/v1/orders", order | {"force": True, "reason": "for the press"})
    assert {*asked, *orders} <= set(await listed(shop))
    assert await listed(shop) == sorted(await listed(shop))
    assert set(await listed(shop, "&kind=policy")) & {*asked, *orders} == set(asked)
    assert set(await listed(shop, "&kind=order")) & {*asked, *orders} == set(orders)
    assert (await shop.get("/v1/approvals?kind=other")).problem == (422, "invalid_field")
    await running.restart_part("api")
    await running.wait_ready()
    assert set(asked) <= set(await listed(shop, "&kind=policy"))
    assert (await decide(shop, "approve", asked[1])).status == 200
    assert (await shop.get(path)).body["own"] == {"buffer": 2}
    for order_id in orders:
        assert (await decide(shop, "reject", order_id)).status == 200, "an order may have an id like a policy's request"
