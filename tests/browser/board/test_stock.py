"""The page of stock: live numbers of the SKUs that are seen, of any number of SKUs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Route

from tests.browser.board.board import LIVE, NARROW, WIDE, check_page, opened
from tests.browser.board.conftest import POLICY
from tests.browser.chromium import Chromium
from tests.harness.api_client import ApiTestClient
from tests.harness.events import stock_received
from tests.harness.system import RunningSystem

ROWS = "[...document.querySelectorAll('.stock tbody tr')]"
SKUS = f"{ROWS}.map((row) => row.querySelector('th').textContent)"
STATE = "document.querySelector('#page-body .panel').dataset.state"


def cell(sku: str, channel: str) -> str:
    """An expression for the text of a cell of the table."""
    return f"""(() => {{
      const heads = [...document.querySelectorAll('.stock thead th')].map((head) => head.textContent);
      const row = {ROWS}.find((each) => each.querySelector('th').textContent === {sku!r});
      return row ? row.children[heads.indexOf({channel!r})].innerText.replace(/\\s+/g, ' ') : '';
    }})()"""


async def received(shop: ApiTestClient, movement: str, *skus: str) -> None:
    """Receive 7 units of each SKU by one movement."""
    await shop.move(stock_received(movement, *((sku, 7) for sku in skus)))


async def test_a_channel_switches_at_its_threshold_and_back(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, "#/stock?prefix=mug-teal")
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")
    assert (await shop.place("mug-teal", 6)).status == 201
    await page.until(f"{cell('mug-teal', 'tmall')} === '20 preorder'")
    await page.until(f"{cell('mug-teal', 'jd')} === '4 in stock'")
    await page.until(f"{cell('mug-teal', 'Available')} === '4'")
    await page.until("document.querySelector('.recent').innerText.includes('preorder')")
    await check_page(page, tmp_path / "stock.png")
    await shop.receive("mug-teal", 6)
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")


async def test_a_name_from_outside_is_text_and_never_markup(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, "#/stock?prefix=%3C")
    await page.until(f"{SKUS}.includes('<b>odd</b>')")
    assert await page.evaluate("document.querySelectorAll('.stock th b').length") == 0
    await page.view.get_by_role("link", name="<b>odd</b>").click()
    await page.until("document.getElementById('title').textContent === '<b>odd</b>'")
    await page.until("document.querySelector('.sum')?.textContent.includes('available')")
    await check_page(page, tmp_path / "odd.png")


async def test_the_search_finds_skus_by_prefix_mode_and_units_and_says_where_there_is_none(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    await received(shop, "find-1", "find-a", "find-b")
    await shop.place("find-b", 7)
    page = await opened(chromium, running)
    await page.view.get_by_label("SKU begins with").fill("find-")
    await page.until(f"{SKUS}.join() === 'find-a,find-b'")
    await page.view.get_by_label("Available below").fill("5")
    await page.until(f"{SKUS}.join() === 'find-b'")
    await page.view.get_by_label("Mode in some channel").select_option("suspended")
    await page.until("location.hash.includes('mode=suspended')")
    await page.until(f"{SKUS}.join() === 'find-b'")
    assert "below=5" in page.view.url
    await page.view.get_by_label("SKU begins with").fill("nothing-")
    await page.until(f"{STATE} === 'empty'")
    await check_page(page, tmp_path / "none.png")


@pytest.fixture(scope="module")
async def catalogue(running: RunningSystem) -> AsyncIterator[list[str]]:
    """More SKUs than one page has."""
    skus = [f"many-{number:03}" for number in range(120)]
    async with running.client() as shop:
        await received(shop, "many-1", *skus)
    yield skus


async def test_pages_are_turned_and_only_the_skus_of_the_page_are_subscribed(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, catalogue: list[str]
) -> None:
    page = await opened(chromium, running, "#/stock?prefix=many-")
    sent = set[str]()

    def note(payload: str | bytes) -> None:
        frame = json.loads(payload)
        if frame["event"] == "stock":
            sent.add(frame["data"]["sku"])

    page.view.on("websocket", lambda socket: socket.on("framereceived", note))
    await page.view.reload()
    await page.until(f"{LIVE} && {SKUS}.length === 50")
    await page.until(f"{cell('many-049', 'jd')} === '7 in stock'")
    assert sent <= set(catalogue[:50])
    await page.view.get_by_role("button", name="Next page").click()
    await page.until(f"{SKUS}[0] === 'many-050' && {LIVE}")
    await shop.place("many-060", 3)
    await page.until(f"{cell('many-060', 'jd')} === '4 in stock'")
    assert sent <= set(catalogue[:100])
    await page.view.get_by_role("button", name="Next page").click()
    await page.until(f"{SKUS}.length === 20")
    assert await page.view.get_by_role("button", name="Next page").is_disabled()
    await page.view.get_by_role("button", name="Previous page").click()
    await page.until(f"{SKUS}[0] === 'many-050'")
    assert not any(sku.startswith("mug") for sku in sent)


async def test_channels_are_chosen_and_remembered(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running, "#/stock?prefix=mug-teal")
    heads = "[...document.querySelectorAll('.stock thead th')].map((head) => head.textContent).join()"
    await page.until(f"{heads}.includes('jd')")
    await page.view.locator(".chooser summary").click()
    await page.view.locator(".chooser").get_by_label("jd", exact=True).uncheck()
    assert "jd" not in (await page.evaluate(heads)).split(",")
    await page.view.reload()
    await page.until(f"{heads}.includes('tmall')")
    assert "jd" not in (await page.evaluate(heads)).split(",")


LONG_CHANNELS = (
    "tmall-flagship-store-shanghai1",
    "xiaohongshu-official-account-9",
    "pinduoduo_outlet_store_beijing",
    "douyin.livestream.channel.0042",
    "own-shop-united-kingdom-online",
)
LONG_SKUS = ("long-CONSOLE-X-LIMITED-EDITION", "long-STEEL_BOTTLE_750ML_1", "long-" + "A" * 25, "long-" + "b" * 123)


@pytest.mark.parametrize(("width", "dark"), [(WIDE, True), (NARROW, False)])
async def test_long_names_break_no_page(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    for channel in LONG_CHANNELS:
        assert (await shop.put(f"/v1/policies/{channel}", POLICY)).status == 200
    for sku, units in zip(LONG_SKUS, (3_000, 4, 987_654, 1_000_000), strict=True):
        await shop.receive(sku, units)
    page = await opened(chromium, running, "#/stock?prefix=long-", width=width, dark=dark)
    await page.evaluate(f"localStorage.setItem('channels', JSON.stringify({list(LONG_CHANNELS)}))")
    await page.view.reload()
    await page.until(f"{LIVE} && document.querySelectorAll('.stock thead th').length === 7")
    await page.until(f"{cell(LONG_SKUS[3], LONG_CHANNELS[4])}.endsWith('M in stock')")
    await check_page(page, tmp_path / "long.png")
    numbers = "[...document.querySelectorAll('.stock .cell')].filter((each) => each.scrollWidth > each.clientWidth)"
    assert await page.evaluate(f"{numbers}.map((each) => each.textContent)") == []
    await page.view.locator(".stock tbody th a").last.click()
    await page.until("document.querySelector('.sum') && document.querySelector('.chart canvas')")
    await check_page(page, tmp_path / "long-sku.png")


async def test_old_numbers_are_marked_as_old(chromium: Chromium, running: RunningSystem, tmp_path: Path) -> None:
    """The answer is the API's own, with the mark that it has while the ledger cannot be read."""
    page = await opened(chromium, running, "#/stock?prefix=mug-teal")
    await page.until(f"{SKUS}.length === 1")

    async def mark(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json={**await answer.json(), "stale": True})

    await page.view.route("**/v1/stock?**", mark)
    await page.until("document.querySelector('.banner:not([hidden])')?.textContent.includes('may be out of date')")
    await check_page(page, tmp_path / "stale.png")
    await page.view.unroute_all(behavior="wait")
    await page.until("document.querySelector('.banner').hidden")


async def test_a_page_without_the_api_says_so_and_keeps_what_it_has(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, "#/stock?prefix=mug-teal")
    await page.until(f"{SKUS}.length === 1")
    await page.view.context.set_offline(True)
    await page.until("document.querySelector('.banner:not([hidden])')?.textContent.includes('does not answer')")
    page.errors.clear()
    assert await page.evaluate(SKUS) == ["mug-teal"]
    await page.evaluate("location.hash = '#/sku/mug-teal'")
    await page.until("document.querySelector('.state.cut-off')")
    page.errors.clear()
    await check_page(page, tmp_path / "cut-off.png")
    await page.view.context.set_offline(False)
    await page.until("document.querySelector('.sum')")


async def test_a_restart_of_the_api_is_shown_and_overcome(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem
) -> None:
    page = await opened(chromium, running, "#/stock?prefix=mug-teal")
    await page.until(LIVE)
    restarting = asyncio.create_task(running.restart_part("api"))
    await page.until(f"!({LIVE})")
    await restarting
    await page.until(LIVE)
    await shop.receive("mug-teal", 100)
    await page.until(f"{cell('mug-teal', 'tmall')}.startsWith('110 ')")
