"""The pages of orders and of the queue: what they find, and what operators do there."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.board.board import NARROW, WIDE, check_page, opened
from tests.browser.board.test_sku import let_orders_wait
from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import ApiTestClient
from tests.harness.system import RunningSystem

IDS = "[...document.querySelectorAll('.orders tbody th')].map((each) => each.textContent)"
QUEUE = "[...document.querySelectorAll('.queue tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
BODY = "document.getElementById('page-body').innerText"


async def open_orders(page: BrowserPage, sku: str) -> None:
    await page.view.get_by_label("Holds SKU").fill(sku)
    await page.view.get_by_role("button", name="Search").click()


async def test_orders_are_found_by_sku_state_and_channel(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    await shop.receive("jar", 20)
    assert (await shop.place("jar", 2, order_id="jar-1", channel="tmall")).status == 201
    assert (await shop.place("jar", 3, order_id="jar-2", channel="jd")).status == 201
    await shop.post("/v1/orders/jar-2/pay", {"id": "jar-pay"})
    page = await opened(chromium, running, "#/orders")
    await open_orders(page, "jar")
    await page.until(f"{IDS}.sort().join() === 'jar-1,jar-2'")
    assert "Read at " in await page.evaluate(BODY)
    await check_page(page, tmp_path / "orders.png")
    await page.view.get_by_label("State").select_option("paid")
    await page.view.get_by_role("button", name="Search").click()
    await page.until(f"{IDS}.join() === 'jar-2'")
    await page.view.get_by_label("Channel").select_option("tmall")
    await page.view.get_by_role("button", name="Search").click()
    await page.until(f"{BODY}.includes('No order matches')")
    await check_page(page, tmp_path / "none.png")
    await page.view.get_by_label("Order", exact=True).fill("jar-1")
    await page.view.get_by_role("button", name="Open").click()
    await page.until(f"{BODY}.includes('reserved')")
    assert await page.view.get_by_role("button", name="Cancel the order").count() == 0  # a viewer


@pytest.mark.parametrize(("width", "dark"), [(WIDE, True), (NARROW, False)])
async def test_an_operator_pays_and_cancels_an_order(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    order = f"bowl-{width}"
    await shop.receive("bowl", 5)
    assert (await shop.place("bowl", 2, order_id=order)).status == 201
    page = await opened(chromium, running, f"#/orders/{order}", role="operator", width=width, dark=dark)
    await page.view.get_by_role("button", name="Mark as paid").click()
    await check_page(page, tmp_path / "pay.png")
    await page.view.get_by_role("dialog").get_by_role("button", name="Mark as paid").click()
    await page.until("document.querySelector('.facts')?.innerText.includes('paid')")
    await check_page(page, tmp_path / "paid.png")
    await page.view.get_by_role("button", name="Cancel the order").click()
    await page.view.get_by_role("dialog").get_by_role("button", name="Cancel the order").click()
    await page.until("document.querySelector('.facts')?.innerText.includes('cancelled')")
    assert (await shop.get(f"/v1/orders/{order}")).body["state"] == "cancelled"


async def test_the_time_that_is_left_of_a_hold_runs_down_while_nothing_else_changes(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem
) -> None:
    await shop.receive("clock", 5)
    assert (await shop.place("clock", 1, order_id="clock-1")).status == 201
    page = await opened(chromium, running, "#/orders/clock-1")
    await page.view.clock.install()
    await page.view.reload()
    left = page.view.locator(".facts time.from-now")
    await expect(left).to_have_text("in 14 min")
    await page.view.clock.fast_forward("05:00")
    await expect(left).to_have_text("in 9 min")


async def test_an_order_that_is_not_there_is_said_to_be_unknown(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running, "#/orders/none")
    await page.until(f"{BODY}.includes('no order of this name')")


@pytest.mark.parametrize(("width", "dark", "locale"), [(WIDE, False, "en-GB"), (NARROW, True, "zh-CN")])
async def test_the_queue_shows_who_is_next(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path, width: int, dark: bool, locale: str
) -> None:
    sku = f"queued-{width}"
    await let_orders_wait(shop, sku)
    look = {"width": width, "dark": dark, "locale": locale}
    page = await opened(chromium, running, f"#/queue?sku={sku}", role="operator", **look)
    await page.until(f"{QUEUE}.length === 22")
    rows = await page.evaluate(QUEUE)
    assert rows[0].startswith(f"1 sold-{sku}")
    assert rows[1].startswith(f"2 tmall-flagship-store-{sku}-0000 VIP")
    await check_page(page, tmp_path / "queue.png")
    await page.evaluate("location.hash = '#/queue'")
    await page.until(f"[...document.querySelectorAll('.choices a')].some((each) => each.textContent === {sku!r})")
    await check_page(page, tmp_path / "choose.png")


async def test_an_operator_holds_an_order_back_and_serves_it_first(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    assert (await shop.put("/v1/policies/tmall/stool", {"preorder_cap": 100})).status == 200
    await shop.receive("stool", 1)
    assert (await shop.place("stool", 1)).status == 201
    for name in ("stool-a", "stool-b"):
        assert (await shop.place("stool", 2, order_id=name)).body["lines"][0]["state"] == "preordered"
    page = await opened(chromium, running, "#/queue?sku=stool", role="operator")
    await page.view.get_by_role("button", name="Hold back: stool-a").click()
    await check_page(page, tmp_path / "ask.png")
    await page.view.get_by_label("Reason, for the audit").fill("the buyer is away")
    await page.view.get_by_role("dialog").get_by_role("button", name="Hold back").click()
    await page.until(f"!{QUEUE}.some((row) => row.includes('stool-a'))")
    await page.view.get_by_role("button", name="Assign: stool-b").click()
    await page.view.get_by_label("Reason, for the audit").fill("they complained")
    await page.view.get_by_role("dialog").get_by_role("button", name="Assign").click()
    # There is no unit on the shelf: the refusal is told, and the question stays.
    await page.until("document.querySelector('dialog .error')?.textContent.length > 5")
    page.errors.clear()  # the browser logs the refusal
    await page.view.keyboard.press("Escape")
    await page.evaluate("location.hash = '#/orders/stool-a'")
    await page.view.get_by_role("button", name="Release: stool").click()
    await page.view.get_by_label("Reason, for the audit").fill("the buyer is back")
    await page.view.get_by_role("dialog").get_by_role("button", name="Release").click()
    await page.until(f"!{BODY}.includes('held back')")
    await page.evaluate("location.hash = '#/queue?sku=stool'")
    await page.until(f"{QUEUE}.some((row) => row.includes('stool-a'))")
    assert page.errors == []


async def test_the_list_of_orders_fits_a_telephone(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    await shop.receive("tin", 9)
    await shop.place("tin", 1, order_id="tin-" + "o" * 120)
    page = await opened(chromium, running, "#/orders?sku=tin", width=NARROW, dark=True, locale="zh-CN")
    await page.until(f"{IDS}.length === 1")
    await check_page(page, tmp_path / "orders.png")
    await page.view.locator(".orders tbody th a").click()
    await page.until("document.querySelector('.facts')")
    await check_page(page, tmp_path / "order.png")
