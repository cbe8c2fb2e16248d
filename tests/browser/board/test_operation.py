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
            await page.view.get_by_role("dialog").wait_for()
            await page.view.keyboard.press("Enter")
            await expect(page.view.get_by_role("dialog")).to_have_count(0, timeout=20_000)

            def is_done(answer: Any, order: str = order) -> bool:
                return any(item["key"] == order for item in answer.body["items"])

            await shop.get_when(f"/v1/dead-letters?state={state}", is_done)
        await page.view.get_by_label("State").select_option("dropped")
        done = page.view.get_by_role("listitem").filter(has_text=first)
        await expect(done.get_by_text("dropped by operator")).to_be_visible()
        await expect(done.get_by_role("button", name="Drop")).to_have_count(0)


async def test_who_may_not_change_a_dead_letter_reads_what_it_means_and_sees_no_button(
    chromium: Chromium, running: RunningSystem
) -> None:
    async with running.client() as shop:
        order = await conflict(shop, await shop.receive_new(5))
    page = await opened(chromium, running, "#/dead-letters", role="approver", locale="zh-CN")
    letter = page.view.get_by_role("listitem").filter(has_text=order)
    # The meaning of the code, and the API's own sentence.
    await expect(letter.get_by_text("此编号已用于其他内容。")).to_be_visible()
    await expect(letter.get_by_text("the order_id is taken by an order with another body")).to_be_visible()
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
    # The type alone may have been searched before: the row was there then, too.
    await page.until(f"location.hash === '#/alerts?type=low_stock&sku={sku}'")
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


@pytest.mark.parametrize(("width", "dark", "locale"), [(1360, True, "en-GB"), (NARROW, False, "zh-CN")])
async def test_health_shows_each_part_and_what_was_measured(
    chromium: Chromium, running: RunningSystem, tmp_path: Path, width: int, dark: bool, locale: str
) -> None:
    async with running.client() as shop:
        sku = await shop.receive_new(30)
        for _ in range(3):
            assert (await shop.place(sku)).status == 201
        health = (await shop.get("/v1/health")).body
    page = await opened(chromium, running, "#/health", width=width, dark=dark, locale=locale)
    await page.until("document.querySelectorAll('.plot canvas').length === 3")
    rows = "document.querySelector('.health')?.tBodies[0].rows.length"
    await page.until(f"{rows} === {len(health['parts'])}")
    workers = "1 ready" if locale == "en-GB" else "工作进程已就绪。"
    await expect(page.view.get_by_role("row").filter(has_text=workers)).to_have_count(1)
    told = await page.view.get_by_role("img").first.get_attribute("aria-label")
    assert told and ("/s" in told or "/秒" in told)
    await check_page(page, tmp_path / "health.png")


async def test_a_page_says_when_the_api_is_away_and_keeps_what_it_has_read(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, "#/health")
    await page.until("document.querySelector('.health') !== null")
    await page.view.context.set_offline(True)
    await expect(page.view.get_by_text("Shown is what was read").first).to_be_visible(timeout=30_000)
    assert await page.evaluate("document.querySelector('.health') !== null")
    await page.picture(tmp_path / "cut-off.png")
    await page.evaluate("location.hash = '#/alerts'")
    await expect(page.view.get_by_role("button", name="Try again")).to_be_visible(timeout=30_000)
    await page.picture(tmp_path / "away.png")
    assert await page.barriers() == []
    await page.view.context.set_offline(False)
    await expect(page.view.get_by_role("button", name="Try again")).to_have_count(0, timeout=30_000)


async def test_the_history_of_modes_is_a_list_of_alerts(chromium: Chromium, running: RunningSystem) -> None:
    sku = unique_name("mode")
    async with running.client() as shop:
        await shop.receive(sku, 9)
        assert (await shop.place(sku, 6)).status == 201
    page = await opened(chromium, running, f"#/alerts?type=mode_switched&sku={sku}")
    row = page.view.get_by_role("row").filter(has_text=sku).filter(has_text="tmall")
    await expect(row.filter(has_text="in stock → preorder")).to_have_count(1, timeout=20_000)
