"""A list of SKUs over HTTP, and how the document of the API describes it and the audit."""

from __future__ import annotations

from stocktide.streams.contract import documents
from tests.harness.api_client import ApiTestClient, unique_name
from tests.integration.api.test_api import has_shape_of


async def test_skus_are_listed_by_prefix_and_page_with_the_numbers_that_each_has_alone(shop: ApiTestClient) -> None:
    prefix = unique_name("list")
    for number, units in enumerate((9, 1, 2, 3, 4)):
        await shop.receive(f"{prefix}-{number}", units)
    await shop.place(f"{prefix}-0", 2)
    items, cursor = [], ""
    while cursor is not None:
        page = (await shop.get(f"/v1/stock?prefix={prefix}&limit=2{cursor and f'&cursor={cursor}'}")).body
        has_shape_of(documents.StockPage, page)
        items += page["items"]
        cursor = page["next"]
    assert [item["sku"] for item in items] == [f"{prefix}-{number}" for number in range(5)]
    for item in items:
        assert item == (await shop.get(f"/v1/stock/{item['sku']}")).body
    low = (await shop.get(f"/v1/stock?prefix={prefix}&below=3")).body
    assert [item["available"] for item in low["items"]] == [1, 2]
    assert (await shop.get("/v1/stock?mode=open")).problem == (422, "invalid_field")


async def test_the_document_describes_the_list_and_the_audit_in_both_formats(shop: ApiTestClient) -> None:
    paths = (await shop.get("/openapi.json")).body["paths"]
    names = {each["name"] for each in paths["/v1/stock"]["get"]["parameters"]}
    assert names == {"sku", "prefix", "mode", "below", "cursor", "limit"}
    assert paths["/v1/audit"]["get"]["responses"]["200"]["content"].keys() == {"application/x-ndjson", "text/csv"}
