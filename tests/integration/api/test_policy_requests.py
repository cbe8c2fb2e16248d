"""Policies that a second person approves, on a running system."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from msgspec.json import decode, encode

from stocktide.api.policy_requests import Decided
from stocktide.api.requests import ACTOR_HEADER
from stocktide.embedded.ports import pick_free_port
from stocktide.streams.contract.times import now_ms
from stocktide.streams.kafka.read_topic import open_consumer, read_topic
from stocktide.streams.topics import ALERTS, POLICY_REQUESTS
from tests.harness.api_client import ApiAnswer, ApiTestClient, open_client, unique_name
from tests.harness.events import stock_received
from tests.harness.process import StocktideProcess, started
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


async def test_an_alert_says_that_a_policy_waits(shop: ApiTestClient, running: RunningSystem) -> None:
    sku, channel = await shop.receive_new(1), unique_name("shop")
    asked = (await ask(shop, f"/v1/policies/{channel}/{sku}", {"buffer": 4})).body
    consumer = await open_consumer(running.ready["kafka"], ALERTS.full_name(running.app_id))
    found: list[Any] = []
    async for _, records in read_topic(consumer):
        found += (decode(record.value or b"null") for record in records)
    await consumer.stop()
    (alert,) = [row for row in found if row.get("event_id") == asked["id"]]
    assert (alert["type"], alert["sku"], alert["channel"]) == ("approval_waiting", sku, channel)
    assert (alert["detail"], alert["at"]) == ("requested by anna: double eleven", asked["requested_at"])


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


async def test_an_approval_whose_process_stopped_is_carried_out_by_another(
    shop: ApiTestClient, running: RunningSystem
) -> None:
    path = f"/v1/policies/{unique_name('shop')}"
    asked = (await ask(shop, path, {"buffer": 7})).body["id"]
    long_ago = Decided(id=asked, approved=True, by="ben", at=now_ms() - 60_000)
    async with AIOKafkaProducer(bootstrap_servers=running.ready["kafka"]) as producer:
        topic = POLICY_REQUESTS.full_name(running.app_id)
        await producer.send_and_wait(topic, encode(long_ago), key=f"{asked}/1".encode())
    await shop.get_when(path, lambda answer: answer.body["own"] == {"buffer": 7})
    known = await shop.get_when(f"/v1/approvals/{asked}", lambda answer: answer.body["outcome"] is not None)
    assert (known["state"], known["approved_by"], known["outcome"]) == ("approved", "ben", "policy_set")


async def test_many_modes_need_a_second_person_and_of_two_one_decides(
    shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    skus = [unique_name("sku") for _ in range(4)]
    await shop.move(stock_received(unique_name("wms"), *((sku, 5) for sku in skus)))
    path = f"/v1/policies/{unique_name('shop')}"
    await shop.put(path, {})
    port = pick_free_port()
    environ = {f"STOCKTIDE_{name.upper()}": running.ready[name] for name in ("kafka", "redis", "app_id")}
    environ |= {"STOCKTIDE_OPEN": "1", "STOCKTIDE_PORT": str(port), "STOCKTIDE_POLICY_APPROVAL_SKUS": "3"}
    log, url = tmp_path / "api.log", f"http://127.0.0.1:{port}"
    async with started(StocktideProcess("api", ("api",), environ, log, url)) as process, open_client(url) as second:
        await process.wait_ready()
        open_to_all = {"max_listed": 1_000_000}
        assert (await second.put(path, open_to_all)).status == 200, "no mode changes"
        closed = {"buffer": 1_000_000, "below_threshold": "suspend"}
        assert (await second.put(path, closed)).problem == (403, "approval_required")
        assert (await second.put(f"{path}/{skus[0]}", closed)).status == 200, "of one SKU"
        asked = (await ask(second, path, closed)).body["id"]
        tried = [
            decide(api, how, asked, by=f"{how}-{number}")
            for number, api in enumerate((shop, second))
            for how in ("approve", "reject")
        ]
        answers = await asyncio.gather(*tried)
        assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
        (won,) = [answer.body for answer in answers if answer.status == 200]
        is_closed = won["state"] == "approved"
        assert (await second.get(path)).body["own"] == (closed if is_closed else open_to_all)
        if not is_closed:
            assert (await shop.put(path, closed)).status == 200, "the other process has no such limit"
        assert (await second.call("DELETE", path)).problem == (403, "approval_required")
        history = await second.get_when(
            path.replace("policies", "policy_history"), lambda answer: len(answer.body["items"]) == 3
        )
        version = {"version": history["items"][1]["version"]}
        assert (await second.post(f"{path}/rollback", version)).problem == (403, "approval_required")
        assert (await shop.post(f"{path}/rollback", version)).body["own"] == open_to_all
