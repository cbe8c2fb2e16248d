"""What an operator watches, over HTTP: alerts, dead letters, the health of the parts."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
import orjson

from stocktide.api.requests import ACTOR_HEADER
from stocktide.streams.contract import documents
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, order_placed, stock_received

# Parts of which a system that runs has nothing to say.
WELL = ("kafka", "redis", "redo", "webhooks", "feeds", "workers")


async def test_alerts_are_listed_newest_first_by_type_sku_channel_time_and_page(shop: ApiTestClient) -> None:
    channel = unique_name("channel")
    assert (await shop.put(f"/v1/policies/{channel}", {"safety_threshold": 5})).status == 200
    skus = [await shop.receive_new(10) for _ in range(3)]
    for sku in skus:
        assert (await shop.place(sku, 8, channel=channel)).status == 201
        # Alerts that are published at the same time have no order.
        await shop.get_when(f"/v1/alerts?sku={sku}&type=low_stock", lambda answer: bool(answer.body["items"]))

    def are_there(answer: Any) -> bool:
        return len(answer.body["items"]) == len(skus)

    every = f"/v1/alerts?channel={channel}"
    path = f"{every}&type=low_stock"
    whole = await shop.get_when(path, are_there)
    assert msgspec.convert(whole, documents.AlertPage).next is None
    assert [row["sku"] for row in whole["items"]] == skus[::-1]
    assert {row["type"] for row in whole["items"]} == {"low_stock"}
    paged, cursor = [], ""
    while cursor is not None:
        page = (await shop.get(f"{path}&limit=1{cursor and f'&cursor={cursor}'}")).body
        assert len(page["items"]) <= 1
        paged, cursor = paged + page["items"], page["next"]
    assert paged == whole["items"]
    assert [row["sku"] for row in (await shop.get(f"{path}&sku={skus[1]}")).body["items"]] == [skus[1]]
    began = whole["items"][1]["at"]
    assert (await shop.get(f"{path}&since={began}")).body["items"] == whole["items"][:2]
    assert (await shop.get(f"{every}&type=shortfall&type=stalled")).body == {"items": [], "next": None}
    assert len((await shop.get(f"{every}&type=shortfall&type=low_stock")).body["items"]) == len(skus)
    assert "low_stock" in (await shop.get("/v1/alerts/types")).body["items"]
    for query in ("since=now", "cursor=x", "limit=0", "type="):
        assert (await shop.get(f"/v1/alerts?{query}")).problem == (422, "invalid_field")


async def conflict(shop: ApiTestClient, lines: int = 1) -> tuple[str, Any]:
    """A second order under an id that is taken, and its dead letter."""
    skus = [await shop.receive_new(5)]
    placed = (await shop.place(skus[0])).body["order_id"]
    event = order_placed(placed, lines=lines_of(*((f"{skus[0]}-{number}", 1) for number in range(lines))))
    assert (await shop.send_events(event)).body["accepted"] == 1

    def is_there(answer: Any) -> bool:
        return any(item["key"] == placed for item in answer.body["items"])

    page = await shop.get_when("/v1/dead-letters?state=open&reason=conflict", is_there)
    msgspec.convert(page, documents.DeadLetterPage)
    return placed, next(item for item in page["items"] if item["key"] == placed)


def place_of(letter: Any) -> str:
    return f"/v1/dead-letters/{letter['partition']}/{letter['offset']}"


async def test_a_dead_letter_is_sent_again_once_and_comes_back_refused_then_it_is_dropped(shop: ApiTestClient) -> None:
    order, letter = await conflict(shop)
    assert (letter["state"], letter["cut"], letter["by"]) == ("open", False, None)
    assert orjson.loads(letter["raw"])["order_id"] == order and letter["bytes"] == len(letter["raw"].encode())
    assert (await shop.get(place_of(letter))).body == letter
    retried = await shop.call("POST", f"{place_of(letter)}/retry", headers={ACTOR_HEADER: "mei"})
    assert (retried.status, retried.body["state"], retried.body["by"]) == (200, "retried", "mei")
    assert (await shop.post(f"{place_of(letter)}/retry")).problem == (409, "dead_letter_closed")
    assert (await shop.post(f"{place_of(letter)}/drop")).problem == (409, "dead_letter_closed")

    def is_back(answer: Any) -> bool:
        return any(item["key"] == order for item in answer.body["items"])

    page = await shop.get_when("/v1/dead-letters?state=open", is_back)
    again = next(item for item in page["items"] if item["key"] == order)
    assert again["origin"] == letter["origin"] and place_of(again) != place_of(letter)
    dropped = await shop.call("POST", f"{place_of(again)}/drop", headers={ACTOR_HEADER: "mei"})
    assert (dropped.status, dropped.body["state"]) == (200, "dropped")
    shown = (await shop.get("/v1/dead-letters?state=retried&reason=conflict")).body["items"]
    assert [item["key"] for item in shown if item["key"] == order] == [order]


async def test_dead_letters_are_paged_newest_first_with_beginnings_of_long_events(shop: ApiTestClient) -> None:
    _, first = await conflict(shop, lines=100)
    _, second = await conflict(shop)
    assert first["cut"] and len(first["raw"].encode()) < first["bytes"]
    whole = (await shop.get(place_of(first))).body
    assert not whole["cut"] and len(whole["raw"].encode()) == whole["bytes"] and whole["raw"].startswith(first["raw"])
    found, cursor = [], ""
    while cursor is not None:
        page = (await shop.get(f"/v1/dead-letters?limit=1{cursor and f'&cursor={cursor}'}")).body
        found, cursor = found + page["items"], page["next"]
    assert found == (await shop.get("/v1/dead-letters?limit=500")).body["items"]
    assert found.index(second) < found.index(first)
    for path in ("0/999999", "x/0", "99/1"):
        assert (await shop.get(f"/v1/dead-letters/{path}")).problem == (404, "unknown_dead_letter")
        assert (await shop.post(f"/v1/dead-letters/{path}/retry")).problem == (404, "unknown_dead_letter")
    for query in ("state=closed", "cursor=x", "limit=0", "reason="):
        assert (await shop.get(f"/v1/dead-letters?{query}")).problem == (422, "invalid_field")


async def test_what_the_ledger_would_refuse_again_is_not_sent(shop: ApiTestClient) -> None:
    lost = {**stock_received(unique_name("lost"), (unique_name("sku"), -1), warehouse=unique_name("W"))}
    await shop.send_events({**lost, "type": "stock.adjusted", "reason": "lost"})

    def is_there(answer: Any) -> bool:
        return any(item["key"] == lost["warehouse"] for item in answer.body["items"])

    page = await shop.get_when("/v1/dead-letters?reason=unknown_sku", is_there)
    letter = next(item for item in page["items"] if item["key"] == lost["warehouse"])
    refused = await shop.post(f"{place_of(letter)}/retry")
    assert refused.problem == (409, "not_retriable") and "under a new one" in refused.body["detail"]
    assert (await shop.get(place_of(letter))).body["state"] == "open"


async def test_every_part_of_a_system_that_runs_has_a_state_and_no_number_that_nobody_knows(
    shop: ApiTestClient,
) -> None:
    for webhook in (await shop.get("/v1/webhooks")).body["items"]:  # of other tests, to endpoints that are not there
        await shop.call("DELETE", f"/v1/webhooks/{quote(webhook['name'], safe='')}")
    sku = await shop.receive_new(5)
    assert (await shop.place(sku)).status == 201

    def is_well(answer: Any) -> bool:
        states = {part["part"]: part["state"] for part in answer.body["parts"]}
        is_heard = any(each["kind"] == "worker" for each in answer.body["processes"])
        return is_heard and all(states[name] == "ok" for name in WELL)

    # On a busy machine a part may stand still for a while.
    health = msgspec.convert(await shop.get_when("/v1/health", is_well), documents.SystemHealth)
    assert health.ready
    parts = {part.part: part for part in health.parts}
    names = "kafka redis outbox settling deciding derivations redo audit webhooks intake feeds workers"
    assert " ".join(parts) == names
    assert parts["outbox"].waiting is not None and parts["settling"].state in ("ok", "waiting")
    assert (parts["audit"].state, parts["audit"].waiting) == ("unknown", None), "none has run yet"
    assert {(each.kind, each.state) for each in health.processes} == {("worker", "ok"), ("api", "ok")}
    assert all(each.seconds < 20 for each in health.processes)


async def test_many_boards_cost_what_one_costs(shop: ApiTestClient) -> None:
    answers = await asyncio.gather(*(shop.get("/v1/health") for _ in range(50)))
    assert len({answer.body["as_of"] for answer in answers}) <= 2


async def test_the_series_show_the_orders_of_this_process(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    for quantity in (1, 1, 9):
        await shop.place(sku, quantity)

    def are_counted(answer: Any) -> bool:
        return any(answer.body["series"]["rejections_per_second"][-2:])

    body = await shop.get_when("/v1/health/series", are_counted)
    shown = msgspec.convert(body, documents.HealthSeries)
    series = body["series"]
    assert shown.interval_seconds == 5 and {len(values) for values in series.values()} == {120}
    for orders, rejections, p50, p99 in zip(
        *(series[name] for name in ("orders_per_second", "rejections_per_second", "order_p50_ms", "order_p99_ms")),
        strict=True,
    ):
        assert (p50 is None) == (p99 is None) == (not orders and not rejections)
        assert p50 is None or 0 < p50 <= p99
