"""Promised dates over HTTP and in a feed, on a running system."""

from __future__ import annotations

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import stock_expected

SOON, LATER, LAST = (f"2099-01-0{day}T00:00:00.000Z" for day in (1, 2, 9))
AMENDED = "2026-11-11T00:00:01Z"


async def test_a_preorder_is_promised_a_date_that_slips_with_its_announcement(shop: ApiTestClient) -> None:
    sku, po, channel = unique_name("sku"), unique_name("po"), unique_name("channel")
    policy = {"below_threshold": "preorder", "preorder_cap": 50, "slip_days_max": 2}
    shown = (await shop.put(f"/v1/policies/{channel}/{sku}", policy)).body
    assert shown["own"]["slip_days_max"] == shown["effective"]["slip_days_max"] == 2
    async with shop.feed(channel) as feed:
        await feed.until_synced()
        await shop.move(stock_expected(po, (sku, 4), eta=SOON))
        await feed.until(sku, mode="preorder", available_from=SOON)
        placed = await shop.place(sku, 4, channel=channel)
        line = placed.body["lines"][0]
        assert (line["promised_at"], line["first_promised_at"], line["slips"]) == (SOON, SOON, 0)
        update = await feed.until(sku, mode="preorder", preorder_remaining=46)
        assert "available_from" not in update, "every announced unit is promised"
        await shop.move(stock_expected(unique_name("po"), (sku, 1), eta=LATER))
        await feed.until(sku, mode="preorder", available_from=LATER)
        await shop.move(stock_expected(po, (sku, 4), eta=LAST, at=AMENDED))
        path = f"/v1/orders/{placed.body['order_id']}"
        order = await shop.get_when(path, lambda answer: answer.body["sequence"] > 1)
        line = order["lines"][0]
        assert (line["promised_at"], line["first_promised_at"], line["slips"]) == (LAST, SOON, 1)
        assert order["choice_due"] is True
        cancelled = (await shop.post(f"{path}/cancel", {})).body
        assert "promised_at" not in cancelled["lines"][0] and "choice_due" not in cancelled
        await feed.until(sku, mode="preorder", available_from=LATER)
        assert (await shop.stock(sku))["channels"][channel]["available_from"] == LATER
        listed = (await shop.get(f"/v1/channels/{channel}/stock?sku={sku}")).body["items"]
        assert listed[0]["available_from"] == LATER


async def test_an_order_without_announcements_has_no_promise(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(1), unique_name("channel")
    await shop.put(f"/v1/policies/{channel}", {"below_threshold": "preorder", "preorder_cap": 10})
    assert (await shop.place(sku, 1, channel=channel)).status == 201
    placed = await shop.place(sku, 3, channel=channel)
    assert placed.body["lines"][0]["state"] == "preordered"
    assert not {"promised_at", "first_promised_at", "slips"} & placed.body["lines"][0].keys()


async def test_slip_days_max_is_a_number_of_days(shop: ApiTestClient) -> None:
    channel = unique_name("channel")
    shown = (await shop.put(f"/v1/policies/{channel}", {"slip_days_max": 0})).body
    assert shown["effective"]["slip_days_max"] == 0
    answer = await shop.put(f"/v1/policies/{channel}", {"slip_days_max": -1})
    assert (answer.status, answer.body["errors"][0]["path"]) == (422, "slip_days_max")
