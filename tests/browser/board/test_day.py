"""An operator's day of work by keyboard alone: no step of it needs a mouse, and none loses the place of the reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.async_api import expect

from tests.browser.board.board import CONNECTED, HEIGHT, WIDE
from tests.browser.board.keyboard import Keyboard
from tests.browser.board.test_operation import conflict
from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.system import RunningSystem


async def sign_in(page: BrowserPage, keyboard: Keyboard, key: str) -> None:
    await keyboard.reach("textbox", "Key")
    await keyboard.type(key)
    await keyboard.press("Enter")
    await page.until(CONNECTED)
    await keyboard.is_somewhere()


async def sign_out(page: BrowserPage, keyboard: Keyboard) -> None:
    await keyboard.reach("button", "Sign out", back=True)
    await keyboard.press("Enter")
    await page.until("!(document.getElementById('sign-in')?.hidden ?? true)")


async def open_page(page: BrowserPage, keyboard: Keyboard, name: str) -> None:
    await keyboard.use("link", name, back=True)
    await expect(page.view.get_by_role("heading", level=1, name=name)).to_be_focused()


async def read_why(page: BrowserPage, keyboard: Keyboard, sku: str, order: str) -> None:
    """The alert, and from it the picture of the SKU: its causes, one by one."""
    await open_page(page, keyboard, "Alerts")
    await keyboard.write("searchbox", "SKU", sku)
    await expect(page.view.get_by_role("row", name=re.compile(f"low stock {re.escape(sku)}"))).to_be_visible()
    await keyboard.use("link", sku)
    await expect(page.view.get_by_role("heading", level=1, name=sku)).to_be_focused()
    chart = await keyboard.reach("slider", re.compile(""))
    told = [await chart.get_attribute("aria-valuetext") or ""]
    for _ in range(int(await chart.get_attribute("aria-valuemax") or 0) - 1):
        await keyboard.press("ArrowLeft")
        told.append(await chart.get_attribute("aria-valuetext") or "")
    assert "goods received SH1; available 10 (+10)" in told[-1], told
    (why,) = [text for text in told if f"order placed {order}" in text]
    assert "available 4 (-6)" in why and "tmall: in stock → preorder" in why, why


async def ask_for_a_lower_threshold(page: BrowserPage, keyboard: Keyboard, sku: str) -> None:
    """A policy of the SKU, with its effect seen and a second person asked."""
    await open_page(page, keyboard, "Policies")
    channels = await keyboard.reach("combobox", "Channel")
    await expect(channels.locator("option", has_text="tmall")).not_to_have_count(0)
    await keyboard.type("tmall")
    await expect(channels).to_have_value("tmall")
    await keyboard.write("searchbox", "SKU", sku)
    await keyboard.press("Enter")
    await keyboard.write("spinbutton", "Safety threshold", "2")
    await keyboard.write("spinbutton", "Resume threshold", "3")
    await keyboard.use("button", "Preview")
    preview = page.view.get_by_role("region", name="What this policy would do to the stock as it is")
    await expect(preview).to_be_focused()
    await expect(preview.get_by_role("row", name="in stock 0 1 +1")).to_be_visible()
    await expect(preview.get_by_role("row", name="preorder 1 0 -1")).to_be_visible()
    await expect(preview.get_by_role("row", name="Units for sale 0 4 +4")).to_be_visible()
    await keyboard.use("button", "Ask a second person", back=True)
    await keyboard.write("textbox", "Why", "four are enough for the day")
    await keyboard.use("button", "Ask")
    await expect(page.view.get_by_text("Another person was asked").first).to_be_visible()
    await keyboard.is_somewhere()


async def send_again(page: BrowserPage, keyboard: Keyboard, shop: ApiTestClient, order: str) -> None:
    """A dead letter goes back to its topic; its state says so."""
    await open_page(page, keyboard, "Dead letters")
    (letter,) = [item for item in (await shop.get("/v1/dead-letters?state=open")).body["items"] if item["key"] == order]
    await keyboard.use("button", f"Send again: {letter['partition']}/{letter['offset']}")
    await keyboard.use("button", "Send again")
    await expect(page.view.get_by_role("dialog")).to_have_count(0)
    await keyboard.is_somewhere()
    await keyboard.reach("combobox", "State", back=True)
    await keyboard.press("ArrowDown")
    sent = page.view.get_by_role("listitem").filter(has_text=order)
    await expect(sent.get_by_text("sent again by operator")).to_be_visible()


async def assign(page: BrowserPage, keyboard: Keyboard, sku: str, order: str) -> None:
    """An order of the queue gets units of the shelf, and its own page says so."""
    await open_page(page, keyboard, "Queue")
    await keyboard.write("searchbox", "SKU", sku)
    await keyboard.press("Enter")
    await keyboard.use("button", f"Assign: {order}")
    await keyboard.write("textbox", "Reason, for the audit", "they complained")
    await keyboard.use("button", "Assign")
    await expect(page.view.get_by_text("No order waits for this SKU.")).to_be_visible()
    await keyboard.is_somewhere()
    await open_page(page, keyboard, "Orders")
    await keyboard.write("searchbox", "Order", order)
    await keyboard.press("Enter")
    line = page.view.get_by_role("row", name=re.compile(re.escape(sku)))
    await expect(line.get_by_role("cell").nth(0)).to_have_text("reserved")
    await expect(line.get_by_role("cell").nth(2)).to_have_text("2")


async def test_a_day_of_work_is_done_by_keyboard_alone(
    chromium: Chromium, running: RunningSystem, shop: ApiTestClient, tmp_path: Path
) -> None:
    low, queued, sold, waiting = (unique_name(name) for name in ("low", "queued", "sold", "waiting"))
    for sku, order in ((low, sold), (queued, unique_name("sold"))):
        await shop.receive(sku, 10)
        assert (await shop.place(sku, 6, order_id=order)).status == 201
    assert (await shop.place(queued, 2, order_id=waiting)).body["lines"][0]["state"] == "preordered"
    refused = await conflict(shop, await shop.receive_new(9))

    def is_told(answer: Any) -> bool:
        return any(item["type"] == "low_stock" for item in answer.body["items"])

    await shop.get_when(f"/v1/alerts?sku={low}", is_told)
    keys = running.ready["keys"]
    page = await chromium.open(f"{running.api}/", WIDE, HEIGHT)
    keyboard = Keyboard(page)
    await sign_in(page, keyboard, keys["operator"])
    await read_why(page, keyboard, low, sold)
    await ask_for_a_lower_threshold(page, keyboard, low)
    await sign_out(page, keyboard)
    await sign_in(page, keyboard, keys["approver"])
    await open_page(page, keyboard, "Approvals")
    await keyboard.use("button", f"Approve: tmall {low}")
    await keyboard.use("button", "Approve")
    await expect(page.view.get_by_text(low)).to_have_count(0)
    await keyboard.is_somewhere()
    policy = (await shop.get(f"/v1/policies/tmall/{low}")).body
    assert policy["own"] == {"safety_threshold": 2, "resume_threshold": 3}
    assert (await shop.stock(low))["channels"]["tmall"]["mode"] == "in_stock"
    await sign_out(page, keyboard)
    await sign_in(page, keyboard, keys["operator"])
    await send_again(page, keyboard, shop, refused)
    await assign(page, keyboard, queued, waiting)
    await page.picture(tmp_path / "day.png")
    assert [error for error in page.errors if "401" not in error] == []
