"""Access to a running system with keys: roles, scopes, rights, tickets, two persons, origins, rates."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from stocktide.streams.topics import ALERTS
from tests.harness.api_client import ApiTestClient, open_client, unique_name
from tests.harness.events import lines_of, order_event, order_paid, stock_received
from tests.harness.eventually import eventually
from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem
from tests.harness.workers import WorkerGroup
from tests.integration.access.conftest import SHOP_ORIGIN, until_rejected

UNAUTHORIZED, FORBIDDEN = (401, "unauthorized"), (403, "forbidden")


@pytest.fixture
async def own(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    """A client with the key of the channel `own`."""
    async with running.client("channel") as client:
        yield client


async def make_key(running: RunningSystem, role: str, *options: str) -> str:
    result = await run_stocktide("keys", "add", role, *options, "--data", str(running.data))
    assert result.status == 0, result.printed
    return result.out.strip()


async def until_known(client: ApiTestClient, path: str) -> None:
    await client.get_when(path, lambda answer: answer.status != 401)


async def placed(client: ApiTestClient, channel: str) -> str:
    sku = unique_name("sku")
    await client.receive(sku, 10)
    answer = await client.place(sku, channel=channel)
    assert answer.status == 201, answer.body
    return str(answer.body["order_id"])


async def test_files_with_keys_are_for_their_owner_only(running: RunningSystem) -> None:
    files = [running.ready_file, running.data / "running.json", *(running.data / "access").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {"operator", "channel", "warehouse", "viewer", "metrics"} <= set(running.ready["keys"])


async def test_without_a_key_only_health_is_answered(running: RunningSystem) -> None:
    async with open_client(running.api) as nobody:
        for path in ("/healthz", "/readyz"):
            assert (await nobody.get(path)).status == 200
        for path in ("/v1/channels", "/metrics", "/v1/no-such-path"):
            answer = await nobody.get(path)
            assert answer.problem == UNAUTHORIZED
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_an_order_of_another_channel_is_answered_as_an_unknown_one(
    shop: ApiTestClient, own: ApiTestClient
) -> None:
    theirs = await placed(shop, "jd")
    for action in ("", "/pay", "/cancel", "/change", "/extend"):
        method = "POST" if action else "GET"
        for_theirs, unknown = [
            await own.call(method, f"/v1/orders/{order_id}{action}", {} if action else None)
            for order_id in (theirs, unique_name("nobody"))
        ]
        assert for_theirs.problem == (404, "unknown_order")
        assert for_theirs.body == unknown.body
    assert (await shop.get(f"/v1/orders/{theirs}")).body["state"] == "reserved"


async def test_a_channel_sees_its_own_orders_without_warehouses(shop: ApiTestClient, own: ApiTestClient) -> None:
    mine, theirs = await placed(shop, "own"), await placed(shop, "jd")
    order = (await own.get(f"/v1/orders/{mine}")).body
    assert order["channel"] == "own"
    assert "warehouses" not in order["lines"][0]
    assert "warehouses" in (await shop.get(f"/v1/orders/{mine}")).body["lines"][0]
    page = (await own.get("/v1/orders?limit=500")).body
    found = {order["order_id"] for order in page["items"]}
    while page["next"] is not None:
        page = (await own.get(f"/v1/orders?limit=500&cursor={page['next']}")).body
        found |= {order["order_id"] for order in page["items"]}
    assert mine in found
    assert theirs not in found
    assert (await own.get("/v1/orders?channel=jd")).problem == FORBIDDEN


async def test_the_feed_of_orders_of_a_channel_names_no_warehouses(shop: ApiTestClient, own: ApiTestClient) -> None:
    async with own.feed("own", of="orders/feed") as feed:
        while (await feed.next()).event != "synced":
            pass
        mine = await placed(shop, "own")
        while (event := await feed.next()).data.get("order_id") != mine:
            pass
    assert "warehouses" not in event.data["lines"][0]


async def test_a_channel_sees_and_sells_for_itself_only(running: RunningSystem, own: ApiTestClient) -> None:
    sku = unique_name("sku")
    for what in ("stock", "feed", "orders/feed", "socket"):
        for_theirs, unknown = [await own.get(f"/v1/channels/{name}/{what}") for name in ("jd", unique_name("nobody"))]
        assert for_theirs.problem == (404, "unknown_channel")
        assert for_theirs.body == unknown.body
    refused = await own.get(f"/v1/stock/{sku}")
    assert "/v1/channels/own/stock" in refused.body["detail"]
    for path in (f"/v1/stock/{sku}", f"/v1/stock/{sku}/history", "/v1/channels", "/v1/preorders?sku=a", "/v1/pools"):
        assert (await own.get(path)).problem == FORBIDDEN
    assert (await own.get("/v1/channels/own/stock")).status == 200
    assert (await own.place(sku, channel="jd")).problem == FORBIDDEN
    assert (await own.place(sku, channel="own")).status == 409


@pytest.mark.parametrize(
    "wanted", [{"priority": "vip"}, {"accept": "sold"}, {"purpose": "p"}, {"force": True, "reason": "r"}]
)
async def test_a_right_that_a_key_has_not_is_refused(own: ApiTestClient, wanted: dict[str, Any]) -> None:
    assert (await own.place("any", channel="own", **wanted)).problem == FORBIDDEN


async def test_a_right_that_a_key_has_is_granted(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    options = ("--holder", unique_name("shop"), "--channel", "own", "--right", "priority_vip")
    async with open_client(running.api, key=await make_key(running, "channel", *options)) as vip:
        await until_known(vip, "/v1/channels/own/stock")
        assert (await vip.place(sku, channel="own", priority="vip")).status == 201


async def test_a_warehouse_reports_for_itself_only(running: RunningSystem) -> None:
    options = ("--holder", unique_name("wms"), "--warehouse", "SH1", "--warehouse", "BJ1")
    async with open_client(running.api, key=await make_key(running, "warehouse", *options)) as store:
        await until_known(store, "/v1/expected?warehouse=SH1")
        await store.receive(unique_name("sku"), 5, "SH1")
        movement = stock_received(unique_name("m"), ("a", 1), warehouse="XX9")
        assert (await store.post("/v1/movements", movement)).problem == FORBIDDEN
        assert (await store.get("/v1/warehouses/XX9/movements/a")).problem == FORBIDDEN
        assert (await store.get("/v1/expected?warehouse=XX9")).problem == FORBIDDEN
        assert (await store.get("/v1/expected")).problem == FORBIDDEN
        assert (await store.get("/v1/expected?warehouse=SH1")).status == 200
        assert (await store.put("/v1/policies/jd", {})).problem == FORBIDDEN
        assert (await store.get("/v1/policies/jd")).problem == FORBIDDEN


async def test_the_first_key_of_the_role_warehouse_is_for_all_warehouses(running: RunningSystem) -> None:
    async with running.client("warehouse") as store:
        await store.receive(unique_name("sku"), 5, unique_name("WH"))
        for path in ("/v1/expected", "/v1/expected?warehouse=XX9", "/v1/pools"):
            assert (await store.get(path)).status == 200
        assert (await store.get("/v1/policies/jd")).problem == FORBIDDEN


async def test_each_line_of_a_call_is_checked(shop: ApiTestClient, own: ApiTestClient) -> None:
    theirs, sku = await placed(shop, "jd"), await shop.receive_new(3)
    placed_by = order_event("placed", "", lines=lines_of((sku, 1)))
    mine = unique_name("mine")
    answer = await own.send_events(
        {**placed_by, "order_id": mine, "channel": "own"},
        {**placed_by, "order_id": unique_name("other"), "channel": "jd"},
        {
            "type": "order.cancelled",
            "id": "e",
            "occurred_at": "2025-11-11T00:00:00Z",
            "order_id": theirs,
            "channel": "jd",
        },
        stock_received(unique_name("m"), ("a", 1)),
    )
    assert answer.body["accepted"] == 1
    codes = [(line["line"], line["code"]) for line in answer.body["rejected"]]
    assert codes == [(2, "forbidden"), (3, "forbidden"), (4, "forbidden")]
    await own.get_when(f"/v1/orders/{mine}", lambda found: found.status == 200)
    assert (await shop.get(f"/v1/orders/{theirs}")).body["state"] == "reserved"


async def test_an_early_event_of_a_channel_waits_and_reaches_no_order_of_another(
    running: RunningSystem, shop: ApiTestClient, own: ApiTestClient
) -> None:
    sku, mine, theirs = await shop.receive_new(9), unique_name("early"), unique_name("early")
    known = await placed(shop, "jd")
    paid = [order_paid(order_id) for order_id in (mine, theirs, known)]
    answer = await own.send_events(*paid)
    # Nothing tells an order of another channel from an unknown one.
    assert (answer.body["accepted"], answer.body["rejected"]) == (3, [])
    for order_id, channel in ((mine, "own"), (theirs, "jd")):
        await shop.place(sku, channel=channel, order_id=order_id)
    await own.get_when(f"/v1/orders/{mine}", lambda found: found.body["state"] == "paid")
    await until_rejected(running, {known: "unknown_order", theirs: "unknown_order"})
    for order_id in (theirs, known):
        assert (await shop.get(f"/v1/orders/{order_id}")).body["state"] == "reserved"


async def test_the_actor_is_the_holder_of_the_key_and_approves_nothing_of_its_own(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    sku, order_id = await shop.receive_new(3), unique_name("forced")
    body = {"order_id": order_id, "channel": "own", "lines": lines_of((sku, 1)), "force": True, "reason": "r"}
    asked = await shop.call("POST", "/v1/orders", body, headers={"X-Actor": "someone-else"})
    assert asked.status == 202, asked.body
    assert asked.body["requested_by"] == "operator"
    path = f"/v1/approvals/{order_id}/approve"
    assert (await shop.call("POST", path, {}, headers={"X-Actor": "someone-else"})).problem == (403, "same_actor")
    async with running.client("viewer") as viewer, running.client("approver") as second:
        assert (await viewer.post(path, {})).problem == FORBIDDEN
        assert (await second.post(path, {})).status == 200


async def test_a_ticket_opens_one_feed(running: RunningSystem, own: ApiTestClient) -> None:
    answer = await own.post("/v1/feeds/tickets")
    assert (answer.status, answer.body["expires_in"]) == (201, 30)
    path = f"{running.api}/v1/channels/own/feed?ticket={answer.body['ticket']}"
    async with open_client(running.api) as nobody:
        async with nobody.session.get(path) as feed:
            assert feed.status == 200
        async with nobody.session.get(path) as again:
            assert again.status == 401
        other = (await own.post("/v1/feeds/tickets")).body["ticket"]
        assert (await nobody.get(f"/v1/channels/jd/feed?ticket={other}")).problem == (404, "unknown_channel")
        third = (await own.post("/v1/feeds/tickets")).body["ticket"]
        assert (await nobody.get(f"/v1/channels/own/stock?ticket={third}")).problem == UNAUTHORIZED


async def test_everyone_with_a_key_learns_whose_it_is(running: RunningSystem, own: ApiTestClient) -> None:
    of_channel = (await own.get("/v1/whoami")).body
    assert (of_channel["role"], of_channel["channel"]) == ("channel", "own")
    assert "warehouses" not in of_channel
    async with running.client("metrics") as metrics, open_client(running.api) as nobody:
        assert (await metrics.get("/v1/whoami")).body["role"] == "metrics"
        assert (await nobody.get("/v1/whoami")).problem == UNAUTHORIZED


async def test_only_a_listed_origin_is_let_in(running: RunningSystem, shop: ApiTestClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with open_client(running.api) as browser:
        good = await browser.call("OPTIONS", "/v1/orders", headers={"Origin": SHOP_ORIGIN, **asked})
        bad = await browser.call("OPTIONS", "/v1/orders", headers={"Origin": "https://evil.test", **asked})
    assert (good.status, good.headers["Access-Control-Allow-Origin"]) == (204, SHOP_ORIGIN)
    assert "Authorization" in good.headers["Access-Control-Allow-Headers"]
    assert bad.problem == (403, "foreign_origin")
    read = await shop.call("GET", "/v1/channels", headers={"Origin": SHOP_ORIGIN})
    assert read.headers["Access-Control-Allow-Origin"] == SHOP_ORIGIN
    assert "Access-Control-Allow-Origin" not in (await shop.get("/v1/channels")).headers


async def test_metrics_are_for_those_who_measure(running: RunningSystem) -> None:
    async with running.client("metrics") as metrics, running.client("viewer") as viewer:
        assert (await viewer.get("/metrics")).problem == FORBIDDEN
        answer = await metrics.get("/metrics")
        assert answer.status == 200
        assert (await metrics.get("/v1/channels")).problem == FORBIDDEN
    assert not any(key.encode() in answer.body for key in running.ready["keys"].values())


async def test_an_open_system_does_not_serve_another_address(tmp_path: Path) -> None:
    result = await run_stocktide("up", "--open", "--data", str(tmp_path), environ={"STOCKTIDE_HOST": "0.0.0.0"})
    assert result.status != 0
    assert "loopback only" in result.printed


async def test_a_new_key_is_listed_without_its_secret_and_its_end_is_an_alert(running: RunningSystem) -> None:
    holder = unique_name("li")
    key = await make_key(running, "viewer", "--holder", holder, "--expires-in", "1h")
    listed = await run_stocktide("keys", "list", "--data", str(running.data))
    assert holder in listed.out
    assert key.split("_")[2] in listed.out
    assert key.split("_")[3] not in listed.out

    async def is_raised() -> bool:
        group = WorkerGroup(running.ready["kafka"], running.ready["redis"], running.app_id, running.data)
        rows = [orjson.loads(record.value or b"{}") for record in await group.records(ALERTS)]
        found = [row["detail"] for row in rows if row["type"] == "key_expiring" and holder in row["detail"]]
        assert key not in str(rows)
        return len(found) == 1

    await eventually(is_raised, 60.0)
