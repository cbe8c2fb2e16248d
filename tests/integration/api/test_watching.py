"""What an operator watches, over HTTP: alerts, dead letters, the health of the parts."""

from __future__ import annotations

from typing import Any

import msgspec

from stocktide.streams.contract import documents
from tests.harness.api_client import ApiTestClient, unique_name


async def test_alerts_are_listed_newest_first_by_type_sku_channel_time_and_page(shop: ApiTestClient) -> None:
    channel = unique_name("channel")
    assert (await shop.put(f"/v1/policies/{channel}", {"safety_threshold": 5})).status == 200
    skus = [await shop.receive_new(10) for _ in range(3)]
    for sku in skus:
        assert (await shop.place(sku, 8, channel=channel)).status == 201

    def are_there(answer: Any) -> bool:
        return len(answer.body["items"]) == len(skus)

    path = f"/v1/alerts?channel={channel}"
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
    assert (await shop.get(f"{path}&type=shortfall&type=stalled")).body == {"items": [], "next": None}
    assert len((await shop.get(f"{path}&type=shortfall&type=low_stock")).body["items"]) == len(skus)
    assert "low_stock" in (await shop.get("/v1/alerts/types")).body["items"]
    for query in ("since=now", "cursor=x", "limit=0", "type="):
        assert (await shop.get(f"/v1/alerts?{query}")).problem == (422, "invalid_field")
