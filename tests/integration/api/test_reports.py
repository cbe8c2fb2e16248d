"""Daily reports and the health score of a running system: known orders give exactly these numbers."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

from stocktide.streams.contract.daily import DAYS_KEPT
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually


async def sell(shop: ApiTestClient, channel: str) -> None:
    """Six orders: reserved, in part, two rejected, preordered, sold short; two changes of mode on the way."""
    sku, rare = await shop.receive_new(10), await shop.receive_new(3)
    preorder = {"below_threshold": "preorder", "preorder_cap": 5}
    assert (await shop.put(f"/v1/policies/{channel}/{sku}", preorder)).status == 200
    async with shop.feed(channel) as feed:  # a change of mode is one only once the mode before it was published
        missing = {sku, rare}
        while missing:
            update = (await feed.next()).data
            missing -= {update.get("sku")} if update.get("mode") == "in_stock" else set()
    outcomes = []
    for lines, more in (
        ([(sku, 10)], {}),  # nothing is left: the channel goes on with preorders
        ([(rare, 3), (unique_name("none"), 1)], {"accept": "partial"}),  # sold out
        ([(rare, 1)], {}),
        ([(unique_name("none"), 2)], {}),
        ([(sku, 4)], {}),
        ([(rare, 2)], {"accept": "sold"}),
    ):
        body = {
            "order_id": unique_name("order"),
            "channel": channel,
            "lines": [{"sku": sku, "quantity": units} for sku, units in lines],
        }
        answer = await shop.post("/v1/orders", {**body, **more})
        again = await shop.post("/v1/orders", {**body, **more})  # a repeat is no second order
        assert again.body.get("code") == answer.body.get("code")
        outcomes.append(answer.body.get("code", "taken"))
    assert outcomes == ["taken", "taken", "insufficient_stock", "unknown_sku", "taken", "taken"]


async def report_when(shop: ApiTestClient, channel: str, orders: int, changes: int) -> Any:
    """The report once so much is counted."""
    return await shop.get_when(
        f"/v1/reports/{channel}",
        lambda answer: (
            answer.status == 200 and answer.body["orders"] >= orders and answer.body["mode_changes"] >= changes
        ),
    )


async def test_the_report_of_a_channel_has_exactly_what_was_ordered(shop: ApiTestClient) -> None:
    channel = unique_name("report")
    assert (await shop.get(f"/v1/reports/{channel}")).problem == (404, "unknown_report")
    await sell(shop, channel)
    report = await report_when(shop, channel, 6, 2)
    decided, published = report.pop("decided_ms"), report.pop("published_ms")
    day = report["day"]
    assert report == {
        "day": day,
        "channel": channel,
        "time_zone": "UTC",
        "over": False,
        "orders": 6,
        "units": 10 + 4 + 1 + 2 + 4 + 2,
        "accepted": 4,
        "partial": 1,
        "rejected": 2,
        "rejections": {"insufficient_stock": 1, "unknown_sku": 1},
        "preorders": 1,
        "preordered_units": 4,
        "shorts": 1,
        "short_units": 2,
        "mode_changes": 2,
        "complaints": None,
    }
    assert decided["count"] == 6 and 0 <= decided["p50"] <= decided["p95"] <= decided["max"] < 60_000
    assert published["count"] == 2 and 0 <= published["max"] < 60_000
    listed = (await shop.get("/v1/reports")).body["items"]
    assert channel in next(each for each in listed if each["day"] == day)["channels"]

    async with shop.session.get(f"{shop.api}/v1/reports/{channel}?format=csv") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    values = {(row["section"], row["measure"]): row["value"] for row in rows}
    assert values["Rejections by reason", "unknown_sku"] == "1" and values["Orders", "orders"] == "6"
    assert values["Complaints", "reported"] == ""
    async with shop.session.get(f"{shop.api}/v1/reports/{channel}?format=html") as answer:
        assert (answer.status, answer.content_type) == (200, "text/html")
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert '<th scope="row">units sold short</th><td>2</td>' in await answer.text()


async def test_complaints_of_a_day_replace_the_number_before_and_count_in_the_score(shop: ApiTestClient) -> None:
    channel, path = unique_name("complained"), "/v1/complaints/"
    day = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    for number in (9, 2):
        answer = await shop.put(path + channel, {"day": day, "complaints": number})
        assert (answer.status, answer.body["complaints"], answer.body["channel"]) == (200, number, channel)
    assert (await shop.get(f"/v1/reports/{channel}?day={day}")).body["complaints"] == 2
    score = (await shop.get(f"/v1/health/score?day={day}")).body
    # Nobody ordered yesterday: two complaints are as bad as can be, and nothing else has data.
    assert score["over"] is True and score["score"] == 0.0
    assert [part["counted_weight"] for part in score["parts"]] == [0.0, 0.0, 0.0, 1.0, 0.0]
    for body, field in (
        ({"day": day}, "complaints"),
        ({"day": day, "complaints": -1}, "complaints"),
        ({"day": "2026-02-30", "complaints": 1}, "day"),
        ({"day": (date.fromisoformat(day) + timedelta(days=3)).isoformat(), "complaints": 1}, "day"),
    ):
        refused = await shop.put(path + channel, body)
        assert refused.status == 422 and field in str(refused.body), refused.body


async def test_the_score_of_today_has_a_weight_for_each_part_that_has_data(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    count = {"type": "stock.counted", "id": unique_name("count"), "warehouse": "SH1", "occurred_at": now()}
    await shop.move({**count, "lines": [{"sku": sku, "quantity": 5}]})
    await shop.place(sku, 1)

    async def is_counted() -> bool:
        parts = (await shop.get("/v1/health/score")).body["parts"]
        return all(part["points"] is not None for part in parts if part["name"] in ("processing_time", "accuracy"))

    await eventually(is_counted)
    score = (await shop.get("/v1/health/score")).body
    weights = [part["counted_weight"] for part in score["parts"]]
    assert abs(sum(weights) - 1) < 0.001 and 0 <= score["score"] <= 100 and score["over"] is False
    days = (await shop.get("/v1/health/score/days?days=2")).body["items"]
    assert days[0]["day"] == score["day"]
    async with shop.session.get(f"{shop.api}/v1/health/score/days?format=csv") as answer:
        rows = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [row["part"] for row in rows[:6]] == ["score", *(part["name"] for part in score["parts"])]


async def test_what_is_no_day_or_no_format_is_refused(shop: ApiTestClient) -> None:
    for path in ("score?day=yesterday", "score?day=2001-01-01", "score?format=html", "score/days?days=91"):
        refused = await shop.get(f"/v1/health/{path}")
        assert refused.status == 422, path
        assert refused.body["errors"][0]["path"] == path.partition("?")[2].partition("=")[0]


async def test_a_day_that_is_forgotten_is_refused_with_the_days_that_are_kept(shop: ApiTestClient) -> None:
    today = datetime.now(UTC).date()
    kept, forgotten = ((today - timedelta(days=days)).isoformat() for days in (DAYS_KEPT - 1, DAYS_KEPT))
    for path in ("/v1/reports/jd", "/v1/health/score"):
        answer = await shop.get(f"{path}?day={forgotten}")
        assert answer.problem == (422, "invalid_field") and f"from {kept} to" in answer.body["detail"], answer.body
        assert (await shop.get(f"{path}?day={kept}")).status in (200, 404)
    refused = await shop.put("/v1/complaints/jd", {"day": forgotten, "complaints": 1})
    assert refused.problem == (422, "invalid_field") and f"from {kept} to" in refused.body["detail"]


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
