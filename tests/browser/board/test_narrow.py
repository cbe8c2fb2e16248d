"""On telephones and tablets: where columns do not fit, rows are blocks whose cells name their columns, and nothing is
scrolled sideways to be read."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Route, expect

from tests.browser.board.board import HEIGHT, NARROW, SIDEWAYS, WIDE, check_page, opened
from tests.browser.board.test_operation import conflict
from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.system import RunningSystem

TABLET_WIDTHS = (600, 768, 820, 1024, 1180, 1280)
FITS_SECONDS_MAX = 10.0
# The longest name that a SKU may have, in one word.
LONG_NAME = "n" * 128

# What stands before the text of each cell of the first row of a table.
COLUMNS = """[...document.querySelector('.foldable tbody tr').cells].map((cell) =>
  getComputedStyle(cell, '::before').content.match(/^"(.*?)"/)?.[1] ?? '')"""


async def test_a_row_is_a_block_that_names_its_columns_and_is_still_a_row(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem
) -> None:
    sku, order = unique_name("cup"), unique_name("order")
    await shop.receive(sku, 9)
    assert (await shop.place(sku, 2, order_id=order)).status == 201
    page = await opened(chromium, running, f"#/orders?sku={sku}", width=NARROW)
    row = page.view.get_by_role("row").filter(has_text=order)
    # An order of units on the shelf has no promised day: the cell is left out.
    await expect(row.get_by_role("cell")).to_have_count(5)
    await expect(row.get_by_role("rowheader")).to_have_text(order)
    assert await page.evaluate(COLUMNS) == ["", "Channel", "State", "Lines", "Units", "Placed", "Promised"]
    await page.view.set_viewport_size({"width": WIDE, "height": 900})
    assert set(await page.evaluate(COLUMNS)) == {""}
    await expect(page.view.get_by_role("columnheader", name="Placed")).to_be_visible()


async def rename_channel(route: Route) -> None:
    """A channel whose name needs a line of its own; a real one would be there for all other tests."""
    answer = await route.fetch()
    text = (await answer.text()).replace('"tmall"', '"a-channel-whose-name-needs-all-of-its-line"')
    await route.fulfill(response=answer, body=text)


async def test_nothing_is_scrolled_sideways_on_a_telephone(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    sku = await shop.receive_new(9)
    order = await conflict(shop, sku)
    assert (await shop.place(sku, 6)).status == 201
    pages = {
        f"#/sku/{sku}": ".sku-changes .switch",
        "#/stock": ".stock tbody td",
        f"#/orders/{order}": ".order-lines tbody td",
        "#/dead-letters": ".requests",
        "#/reports": ".score tbody td",
        "#/policies/tmall": ".policy-fields input",
    }
    page = await opened(chromium, running, "#/health", width=NARROW, dark=True, role="operator")
    await page.view.route("**/v1/stock/*/history**", rename_channel)
    for number, (address, shown) in enumerate(pages.items()):
        await page.evaluate(f"location.hash = {address!r}")
        await page.view.locator(shown).first.wait_for(state="attached")
        await check_page(page, tmp_path / f"{number}.png")


async def fits(page: BrowserPage, what: str) -> None:
    """Nothing of the page is scrolled sideways; a chart follows its place a moment later."""
    sideways: list[str] = []

    async def is_none() -> bool:
        sideways[:] = await page.evaluate(SIDEWAYS)
        return not sideways

    await eventually(is_none, FITS_SECONDS_MAX, lambda: f"{what}: {sideways}")


async def test_nothing_is_scrolled_sideways_on_a_tablet(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem
) -> None:
    order, refused = unique_name("waits"), unique_name("refused")
    await shop.receive(LONG_NAME, 9)
    assert (await shop.place(LONG_NAME, 6, order_id=f"{order}-{LONG_NAME}"[:128])).status == 201
    assert (await shop.place(LONG_NAME, 2, order_id=order)).body["lines"][0]["state"] == "preordered"
    assert (await shop.place(LONG_NAME, 900, order_id=refused)).problem == (409, "preorder_cap_reached")
    await shop.get_when(f"/v1/alerts?sku={LONG_NAME}", lambda answer: bool(answer.body["items"]))
    pages = {
        "#/stock": ".stock tbody td",
        f"#/sku/{LONG_NAME}": ".sku-changes .switch",
        f"#/orders?sku={LONG_NAME}": ".orders tbody td",
        f"#/orders/{refused}": ".order-lines tbody td",
        f"#/queue?sku={LONG_NAME}": ".queue tbody td",
        "#/policies/tmall": ".policy-fields input",
        "#/approvals": "#page-body .panel",
        f"#/alerts?sku={LONG_NAME}": ".alerts tbody td",
        "#/dead-letters": "#page-body .panel",
        "#/reports": ".score tbody td",
        "#/health": ".health tbody td",
    }
    page = await opened(chromium, running, role="operator")
    await page.view.route("**/v1/stock/*/history**", rename_channel)
    for address, shown in pages.items():
        await page.view.set_viewport_size({"width": TABLET_WIDTHS[0], "height": HEIGHT})
        await page.evaluate(f"location.hash = {address!r}")
        await page.view.locator(shown).first.wait_for(state="attached")
        for width in TABLET_WIDTHS:
            await page.view.set_viewport_size({"width": width, "height": HEIGHT})
            await fits(page, f"{address} at {width} px")
