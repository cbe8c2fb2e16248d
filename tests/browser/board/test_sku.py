"""The page of a SKU: its sum, its history as a picture and as a table, and who waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.board.board import LIVE, NARROW, WIDE, check_page, opened
from tests.browser.chromium import Chromium
from tests.harness.api_client import ApiTestClient
from tests.harness.events import AT, lines_of, stock_expected
from tests.harness.system import RunningSystem

TOLD = "document.querySelector('.story')?.textContent ?? ''"
ROWS = "[...document.querySelectorAll('.sku-changes tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))"


async def test_each_change_of_the_picture_is_selected_and_told(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    await shop.receive("vase", 10)
    assert (await shop.place("vase", 6, order_id="vase-order")).status == 201
    await shop.post("/v1/orders/vase-order/pay", {"id": "vase-pay"})
    page = await opened(chromium, running, "#/sku/vase")
    await page.until("document.querySelectorAll('.sku-changes tbody tr').length === 3")
    chart = page.view.get_by_role("slider")
    await chart.focus()
    assert "order paid vase-order; available 4 (unchanged)" in await page.evaluate(TOLD)
    await page.view.keyboard.press("ArrowLeft")
    placed = await page.evaluate(TOLD)
    assert "order placed vase-order; available 4 (-6)" in placed
    assert "tmall: in stock → preorder" in placed
    assert await chart.get_attribute("aria-valuetext") == f"Change 2 of 3: {placed}"
    await page.view.keyboard.press("Home")
    assert "goods received SH1; available 10 (+10)" in await page.evaluate(TOLD)
    box = await chart.bounding_box()
    assert box is not None
    await page.view.mouse.click(box["x"] + box["width"] - 30, box["y"] + 100)
    assert "order paid" in await page.evaluate(TOLD)
    rows = await page.evaluate(ROWS)
    assert ["order paid" in rows[0], "order placed" in rows[1], "goods received" in rows[2]] == [True] * 3
    assert "preorder" in rows[1]
    await check_page(page, tmp_path / "sku.png")
    await page.until(LIVE)
    await shop.post("/v1/orders/vase-order/cancel", {"id": "vase-cancel"})
    await page.until(f"{TOLD}.includes('order cancelled vase-order; available 10 (+6)')")


async def let_orders_wait(shop: ApiTestClient, sku: str) -> None:
    """22 orders wait for a SKU with an announcement and a pool."""
    await shop.receive(sku, 6)
    pool = {"type": "stock.reserved", "id": f"pool-{sku}", "occurred_at": AT, "warehouse": "SH1"}
    until = {"purpose": "double-11", "until": "2099-11-12T00:00:00Z"}
    await shop.move({**pool, **until, "lines": lines_of((sku, 2))})
    await shop.move(stock_expected(f"po-{sku}", (sku, 500), warehouse="HZ2"))
    assert (await shop.put(f"/v1/policies/tmall/{sku}", {"preorder_cap": 100})).status == 200
    sold = {"channel": "jd", "accept": "sold", "allow_preorder": False}
    assert (await shop.place(sku, 7, order_id=f"sold-{sku}", **sold)).status == 201
    for number in range(21):
        rank = {"order_id": f"tmall-flagship-store-{sku}-{number:04}", "priority": "standard" if number else "vip"}
        assert (await shop.place(sku, 1 + number % 3, **rank)).body["lines"][0]["state"] == "preordered"


@pytest.mark.parametrize(("width", "dark", "locale"), [(WIDE, True, "zh-CN"), (NARROW, False, "en-GB")])
async def test_the_page_shows_who_waits_and_what_is_to_come(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path, width: int, dark: bool, locale: str
) -> None:
    sku = f"lamp-{width}"
    await let_orders_wait(shop, sku)
    page = await opened(chromium, running, f"#/sku/{sku}", width=width, dark=dark, locale=locale)
    await page.until("document.querySelectorAll('ol.waiting li').length === 20")
    await check_page(page, tmp_path / "sku.png")
    await page.view.screenshot(path=tmp_path / "whole.png", full_page=True)
    if locale != "en-GB":
        return
    lists = "[...document.querySelectorAll('.waiting')].map((list) => list.children[{}].textContent)"
    first = await page.evaluate(lists.format(0))
    assert first == [
        f"sold-{sku}3 shorton jd, promised 1 Jan 2099",
        f"po-{sku}500 of 500to HZ2, due 1 Jan 2099",
        "double-112at SH1, until 12 Nov 2099",
    ]
    second = await page.evaluate("document.querySelector('ol.waiting').children[1].textContent")
    assert second == f"tmall-flagship-store-{sku}-00001 preorderedVIP, on tmall, promised 1 Jan 2099"
    text = await page.evaluate("document.getElementById('page-body').textContent")
    assert "− short (sold beyond the shelf)3" in text
    assert "The first 20; others wait behind them." in text
    for day in ("12", "13"):
        later = {"at": f"2026-11-{day}T00:00:00Z", "eta": f"2099-01-{day}T00:00:00Z", "warehouse": "HZ2"}
        await shop.move(stock_expected(f"po-{sku}", (sku, 500), **later))
    await page.until(
        "document.querySelector('ol.waiting').children[1].textContent.includes("
        "'promised 13 Jan 2099, moved 2×, first 1 Jan 2099')"
    )


async def test_a_name_that_no_sku_has_is_said_to_be_unknown(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, "#/sku/nothing%2Fhere")
    await page.until("document.getElementById('page-body').innerText.includes('no SKU of this name')")
    await page.view.route("**/v1/stock/**", lambda route: None)  # the browser logs each 404: no further one now
    page.errors.clear()
    await check_page(page, tmp_path / "unknown.png")
