"""Policies on a running system: only the one that was read is replaced, previewed on real stock, and taken back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from stocktide.api.requests import ACTOR_HEADER
from tests.harness.api_client import ApiAnswer, ApiTestClient, unique_name
from tests.harness.events import stock_received

SKUS = 40
Policy = dict[str, Any]


async def many_skus(shop: ApiTestClient) -> dict[str, int]:
    """New SKUs with a few units each."""
    chance, prefix = random.Random(7), unique_name("many")
    units = {f"{prefix}-{number:03}": chance.randint(1, 20) for number in range(SKUS)}
    await shop.move(stock_received(unique_name("wms"), *units.items()))
    return units


async def preview(shop: ApiTestClient, path: str, policy: Policy | None, limit: int = 5_000) -> list[Any]:
    """All pages of a preview."""
    pages: list[Any] = []
    cursor = ""
    while True:
        query = f"?limit={limit}" + (f"&cursor={cursor}" if cursor else "")
        body = b"null" if policy is None else policy
        answer = await shop.post(f"{path}/preview{query}", body)
        assert answer.status == 200, answer.body
        pages.append(answer.body)
        cursor = answer.body["next"]
        if cursor is None:
            return pages


async def offers(shop: ApiTestClient, channel: str, skus: dict[str, int]) -> dict[str, Any]:
    """What the channel may sell of each SKU."""
    found = {}
    for sku in skus:
        offer = (await shop.stock(sku))["channels"][channel]
        found[sku] = {name: offer[name] for name in ("mode", "quantity", "preorder_remaining")}
    return found


async def change(
    shop: ApiTestClient, method: str, path: str, body: Any = None, tag: str | None = None, by: str = "anna"
) -> ApiAnswer:
    headers = {ACTOR_HEADER: by} | ({} if tag is None else {"If-Match": tag})
    return await shop.call(method, path, body, headers=headers)


async def test_of_two_changes_of_what_both_have_read_one_wins(shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    for path in (f"/v1/policies/{unique_name('shop')}", f"/v1/policies/{unique_name('shop')}/{sku}"):
        for turn in range(3):
            tag = (await shop.get(path)).headers["ETag"]
            tried = [change(shop, "PUT", path, {"buffer": 10 * turn + each}, tag) for each in range(1, 5)]
            answers = await asyncio.gather(*tried)
            (won,) = [answer for answer in answers if answer.status == 200]
            assert sorted(answer.status for answer in answers) == [200, 412, 412, 412]
            assert {answer.code for answer in answers if answer.status == 412} == {"policy_changed"}
            found = await shop.get(path)
            assert (found.body["own"], found.headers["ETag"]) == (won.body["own"], won.headers["ETag"])
        assert (await change(shop, "DELETE", path, tag=tag)).problem == (412, "policy_changed")
        assert (await change(shop, "DELETE", path, tag="W/" + tag)).problem == (422, "invalid_field")
        assert (await change(shop, "DELETE", path, tag=found.headers["ETag"])).status == 204
        assert (await shop.get(path)).headers["ETag"] != tag


async def test_a_preview_is_what_the_change_then_does_and_writes_nothing(shop: ApiTestClient) -> None:
    skus, channel = await many_skus(shop), unique_name("shop")
    path = f"/v1/policies/{channel}"
    await shop.put(path, {"buffer": 2})
    policy = {"safety_threshold": 9, "below_threshold": "preorder", "preorder_cap": 4, "share": 0.5}
    before, tag = await offers(shop, channel, skus), (await shop.get(path)).headers["ETag"]
    pages = await preview(shop, path, policy, limit=17)
    assert len(pages) > 2
    assert [page["complete"] for page in pages] == [False] * (len(pages) - 1) + [True]
    assert (await offers(shop, channel, skus), (await shop.get(path)).headers["ETag"]) == (before, tag)
    put = await shop.put(path, policy)
    assert (pages[0]["own"], pages[0]["effective"]) == (put.body["own"], put.body["effective"])
    after = await offers(shop, channel, skus)
    told = {item["sku"]: item for page in pages for item in page["items"]}
    for sku in skus:
        expected = told.get(sku, {"before": before[sku], "after": before[sku]})
        assert (expected["before"], expected["after"]) == (before[sku], after[sku]), sku
    for page in pages:
        assert sum(page["modes"]["before"].values()) == sum(page["modes"]["after"].values()) == page["examined"]
        assert page["changed"] == len(page["items"])


async def test_a_preview_of_one_sku_and_of_a_removal(shop: ApiTestClient) -> None:
    sku, channel = await shop.receive_new(8), unique_name("shop")
    path = f"/v1/policies/{channel}/{sku}"
    assert (await shop.post(f"{path}/preview", b"null")).problem == (404, "unknown_policy")
    await shop.put(path, {"max_listed": 3})
    (page,) = await preview(shop, path, None)
    assert (page["own"], page["effective"]["max_listed"], page["examined"], page["complete"]) == (None, None, 1, True)
    assert (page["quantity"], page["items"][0]["sku"]) == ({"before": 3, "after": 8}, sku)
    (page,) = await preview(shop, path, {"below_threshold": "suspend", "safety_threshold": 20})
    assert page["modes"]["after"] == {"in_stock": 0, "preorder": 0, "sold_out": 0, "suspended": 1}
    wrong = await shop.post(f"{path}/preview", {"safety_threshold": 5, "resume_threshold": 4})
    assert (wrong.problem, wrong.body["errors"][0]["path"]) == ((422, "invalid_field"), "resume_threshold")
    everywhere = await preview(shop, f"/v1/policies/*/{sku}", {"preorder_cap": 1})
    assert everywhere[0]["examined"] == 1


async def test_a_change_is_taken_back_by_its_version(shop: ApiTestClient) -> None:
    channel = unique_name("shop")
    path, history = f"/v1/policies/{channel}", f"/v1/policy_history/{channel}"
    for buffer, by in ((1, "anna"), (2, "ben"), (3, "carl"), (3, "the same again")):
        await change(shop, "PUT", path, {"buffer": buffer}, by=by)
    await change(shop, "PUT", f"{path}/other", {"buffer": 9})
    assert (await change(shop, "DELETE", path)).status == 204
    found = await shop.get_when(history, lambda answer: len(answer.body["items"]) == 4)
    assert [(item["actor"], item["before"], item["after"]) for item in found["items"]] == [
        ("anna", {"buffer": 3}, None),
        ("carl", {"buffer": 2}, {"buffer": 3}),
        ("ben", {"buffer": 1}, {"buffer": 2}),
        ("anna", None, {"buffer": 1}),
    ]
    assert found["next"] is None
    paged, cursor = [], ""
    while cursor is not None:
        page = (await shop.get(f"{history}?limit=1{cursor and f'&cursor={cursor}'}")).body
        paged, cursor = paged + page["items"], page["next"]
    assert paged == found["items"]
    second = {"version": found["items"][2]["version"]}
    tag = (await shop.get(path)).headers["ETag"]
    back = await change(shop, "POST", f"{path}/rollback", second, tag, by="dora")
    assert (back.status, back.body["own"]) == (200, {"buffer": 2})
    assert (await change(shop, "POST", f"{path}/rollback", second, tag)).status == 200, "it is so already"
    gone = {"version": found["items"][0]["version"]}
    assert (await change(shop, "POST", f"{path}/rollback", gone, tag)).problem == (412, "policy_changed")
    assert (await change(shop, "POST", f"{path}/rollback", gone)).body["own"] is None
    assert (await change(shop, "POST", f"{path}/rollback", gone)).status == 200, "there is none already"
    for version in ("0", "1" * 30, "none"):
        unknown = await change(shop, "POST", f"{path}/rollback", {"version": version})
        assert unknown.problem == (404, "unknown_version")
    other = await shop.get(f"{history}/other")
    assert [item["after"] for item in other.body["items"]] == [{"buffer": 9}]
