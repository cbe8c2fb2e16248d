"""The pages of operation: what happened, what could not be taken and what becomes of it, requests of orders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.board.board import NARROW, check_page, opened
from tests.browser.chromium import Chromium
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of, order_placed
from tests.harness.system import RunningSystem

HOSTILE = "<img src=x onerror=document.title='taken'>"


async def conflict(shop: ApiTestClient, sku: str) -> str:
    """An order whose event comes again with other lines, a dead letter; its id. The lines name `HOSTILE`."""
    placed = str((await shop.place(sku)).body["order_id"])
    await shop.send_events(order_placed(placed, note=f"{HOSTILE}\u202e", lines=lines_of((sku, 2))))

    def is_there(answer: Any) -> bool:
        return any(item["key"] == placed for item in answer.body["items"])

    await shop.get_when("/v1/dead-letters?state=open&reason=conflict", is_there)
    return placed


async def test_a_dead_letter_shows_its_bytes_as_text_and_is_sent_again_or_dropped(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    async with running.client() as shop:
        sku = await shop.receive_new(9)
        first, second = [await conflict(shop, sku) for _ in range(2)]
        page = await opened(chromium, running, "#/dead-letters", role="operator")
        letter = page.view.get_by_role("listitem").filter(has_text=first)
        await letter.get_by_text("The event as it came").click()
        shown = await letter.locator("pre").inner_text()
        assert HOSTILE in shown and "\\u202e" in shown
        assert await page.evaluate("document.querySelector('img[src=x]')") is None
        await check_page(page, tmp_path / "dead-letters.png")
        for order, verb, state in ((first, "Drop", "dropped"), (second, "Send again", "retried")):
            await page.view.get_by_role("listitem").filter(has_text=order).get_by_role("button", name=verb).focus()
            await page.view.keyboard.press("Enter")
            await page.view.keyboard.press("Enter")

            def is_done(answer: Any, order: str = order) -> bool:
                return any(item["key"] == order for item in answer.body["items"])

            await shop.get_when(f"/v1/dead-letters?state={state}", is_done)
        await page.view.get_by_label("State").select_option("dropped")
        done = page.view.get_by_role("listitem").filter(has_text=first)
        await expect(done.get_by_text("dropped by operator")).to_be_visible()
        await expect(done.get_by_role("button", name="Drop")).to_have_count(0)


async def test_who_may_not_change_a_dead_letter_sees_no_button(chromium: Chromium, running: RunningSystem) -> None:
    async with running.client() as shop:
        order = await conflict(shop, await shop.receive_new(5))
    page = await opened(chromium, running, "#/dead-letters", role="approver")
    letter = page.view.get_by_role("listitem").filter(has_text=order)
    await expect(letter).to_be_visible()
    await expect(letter.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize(("width", "dark", "locale"), [(1360, False, "en-GB"), (NARROW, True, "zh-CN")])
async def test_alerts_are_found_by_type_and_sku(
    chromium: Chromium, running: RunningSystem, tmp_path: Path, width: int, dark: bool, locale: str
) -> None:
    sku = unique_name("low")
    async with running.client() as shop:
        await shop.receive(sku, 9)
        assert (await shop.place(sku, 6)).status == 201
        path = f"/v1/alerts?sku={sku}"
        await shop.get_when(path, lambda answer: any(item["type"] == "low_stock" for item in answer.body["items"]))
    page = await opened(chromium, running, "#/alerts", width=width, dark=dark, locale=locale)
    await page.view.locator("#alerts-type").select_option("low_stock")
    await page.view.locator("#alerts-sku").fill(sku)
    row = page.view.get_by_role("row").filter(has_text=sku)
    await expect(row).to_have_count(1)
    assert ("low stock" if locale == "en-GB" else "库存偏低") in await row.inner_text()
    assert await page.evaluate("location.hash") == f"#/alerts?type=low_stock&sku={sku}"
    await check_page(page, tmp_path / "alerts.png")
    await page.view.locator("#alerts-sku").fill("nothing-of-this-name")
    nothing = "No alert matches." if locale == "en-GB" else "没有符合条件的告警。"
    await expect(page.view.get_by_text(nothing)).to_be_visible()


async def test_a_forced_order_is_rejected_with_a_reason(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    async with running.client() as shop:
        sku = await shop.receive_new(3)
        request = (await shop.place(sku, 2, force=True, reason="a friend of the house")).body["id"]
        page = await opened(chromium, running, "#/approvals", role="approver", width=NARROW)
        await page.view.get_by_role("button", name=f"Reject: {request}").focus()
        await page.view.keyboard.press("Enter")
        await check_page(page, tmp_path / "reject.png")
        await page.view.keyboard.type("no friend of ours")
        await page.view.get_by_role("dialog").get_by_role("button", name="Reject").focus()
        await page.view.keyboard.press("Enter")
        await expect(page.view.get_by_role("dialog")).to_have_count(0)
        decided = (await shop.get(f"/v1/approvals/{request}")).body
        assert (decided["state"], decided["comment"]) == ("rejected", "no friend of ours")
