"""The board, in a real Chromium: what it shows is what the system says, live, narrow and wide, light and dark.

Pictures are left in the test's folder; run with `--basetemp` to keep them where you want.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stocktide.embedded import EmbeddedKafka
from stocktide.retry import poll_until
from tests.browser.chromium import BrowserPage, Chromium, find_chromium
from tests.harness.servers import RedisServer
from tests.harness.system import RunningSystem, start_system

pytestmark = [pytest.mark.browser, pytest.mark.integration]

SETTLED_SECONDS_MAX = 20.0
LIVE = "document.getElementById('connection')?.dataset.state === 'live'"
POLICY = {"safety_threshold": 5, "resume_threshold": 8, "below_threshold": "preorder", "preorder_cap": 20}


def cell(sku: str, channel: str) -> str:
    """An expression for the text of a cell of the table."""
    return f"""(() => {{
      const heads = [...document.querySelectorAll('#heads th')].map((head) => head.textContent);
      const row = [...document.querySelectorAll('#rows tr')].find(
        (each) => each.querySelector('button').textContent === {sku!r});
      return row ? row.children[heads.indexOf({channel!r})].innerText.replace(/\\s+/g, ' ') : '';
    }})()"""


class Shop:
    """Calls of the API."""

    def __init__(self, session: aiohttp.ClientSession, api: str) -> None:
        self._session = session
        self.api = api

    async def call(self, method: str, path: str, body: Any) -> int:
        """One call; its status."""
        async with self._session.request(method, self.api + path, json=body) as answer:
            return answer.status

    async def receive(self, id: str, sku: str, quantity: int) -> None:
        """Receive units and wait until they count."""
        event = {"type": "stock.received", "id": id, "occurred_at": "2026-11-11T00:00:00Z", "warehouse": "SH1"}
        lines = [{"sku": sku, "quantity": quantity}]
        assert await self.call("POST", "/v1/movements", {**event, "lines": lines}) == 202
        path = f"{self.api}/v1/warehouses/SH1/movements/{id}"

        async def counted() -> bool:
            async with self._session.get(path) as answer:
                return answer.status == 200

        assert await poll_until(counted, SETTLED_SECONDS_MAX)

    async def order(self, order_id: str, sku: str, quantity: int) -> int:
        """Place an order on tmall; the status."""
        lines = [{"sku": sku, "quantity": quantity}]
        return await self.call("POST", "/v1/orders", {"order_id": order_id, "channel": "tmall", "lines": lines})


@pytest.fixture(scope="module")
async def chromium(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chromium]:
    """The browser; where there is none the tests are skipped, and the run says so."""
    if find_chromium() is None:
        warnings.warn("Chromium is not installed: the board was NOT tested", stacklevel=1)
        pytest.skip("Chromium is not installed: apt-get install chromium")
    async with Chromium.started(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
async def running(
    kafka: EmbeddedKafka, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """A system with two channels and two SKUs."""
    given = ["--kafka", kafka.address, "--redis", valkey.url]
    system = await start_system(tmp_path_factory.mktemp("board") / "data", given, {"STOCKTIDE_APP_ID": "board"})
    try:
        await system.wait_ready()
        async with aiohttp.ClientSession() as session:
            shop = Shop(session, system.api)
            assert await shop.call("PUT", "/v1/policies/tmall", POLICY) == 200
            assert await shop.call("PUT", "/v1/policies/jd", {"below_threshold": "suspend"}) == 200
            await shop.receive("first", "mug-teal", 10)
            await shop.receive("second", "<b>odd</b>", 3)
        yield system
    finally:
        await system.stop()


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[Shop]:
    """A client of that system."""
    async with aiohttp.ClientSession() as session:
        yield Shop(session, running.api)


async def opened(
    chromium: Chromium, shop: Shop, width: int = 1360, height: int = 900, dark: bool = False
) -> BrowserPage:
    """The board, once it is live."""
    page = await chromium.open(f"{shop.api}/", width, height, dark)
    await page.until(f"{LIVE} && document.querySelectorAll('#rows tr').length >= 2")
    return page


async def test_a_channel_is_seen_to_switch_at_its_threshold_and_back(
    chromium: Chromium, shop: Shop, tmp_path: Path
) -> None:
    page = await opened(chromium, shop)
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")
    assert await shop.order("tmall-1", "mug-teal", 6) == 201
    await page.until(f"{cell('mug-teal', 'tmall')} === '20 preorder'")
    await page.until(f"{cell('mug-teal', 'jd')} === '4 in stock'")
    await page.until("document.getElementById('recent').innerText.includes('preorder')")
    await page.picture(tmp_path / "board.png")
    await shop.receive("third", "mug-teal", 6)
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")
    assert page.complaints == []
    await page.close()


async def test_a_click_on_a_sku_shows_where_its_units_are(chromium: Chromium, shop: Shop) -> None:
    page = await opened(chromium, shop)
    await page.evaluate("[...document.querySelectorAll('#rows button')].find((b) => b.textContent[0] === 'm').click()")
    await page.until("document.getElementById('detail-body').innerText.includes('SH1')")
    assert await page.evaluate("document.getElementById('detail-title').textContent") == "mug-teal"
    await page.close()


async def test_a_name_from_outside_is_text_and_never_markup(chromium: Chromium, shop: Shop) -> None:
    page = await opened(chromium, shop)
    await page.until("document.getElementById('rows').textContent.includes('<b>odd</b>')")
    assert await page.evaluate("document.querySelectorAll('#rows b').length") == await page.evaluate(
        "document.querySelectorAll('#rows .cell > b').length"
    )
    await page.close()


async def test_the_search_finds_a_sku_and_says_where_there_is_none(chromium: Chromium, shop: Shop) -> None:
    page = await opened(chromium, shop)
    search = "const s = document.getElementById('search'); s.value = {!r}; s.dispatchEvent(new Event('input'))"
    await page.evaluate(search.format("TEAL"))
    await page.until("document.querySelectorAll('#rows tr').length === 1")
    await page.evaluate(f"{{ {search.format('nothing')} }}")
    await page.until("!document.getElementById('empty').hidden")
    await page.close()


@pytest.mark.parametrize("width", [360, 1360])
@pytest.mark.parametrize("dark", [False, True])
async def test_the_page_fits_and_follows_the_colours_of_the_machine(
    chromium: Chromium, shop: Shop, tmp_path: Path, width: int, dark: bool
) -> None:
    page = await opened(chromium, shop, width, 800, dark)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == (
        "dark" if dark else "light"
    )
    await page.picture(tmp_path / "board.png")
    await page.close()


async def test_nothing_is_loaded_from_elsewhere(chromium: Chromium, shop: Shop) -> None:
    page = await opened(chromium, shop)
    loaded = await page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert all(name.startswith(shop.api) for name in loaded), loaded
    await page.close()


LONG_CHANNELS = (
    "tmall-flagship-store-shanghai1",
    "xiaohongshu-official-account-9",
    "pinduoduo_outlet_store_beijing",
    "douyin.livestream.channel.0042",
    "own-shop-united-kingdom-online",
)
LONG_SKUS = ("CONSOLE-X-LIMITED-EDITION-BLK1", "STAINLESS_STEEL_BOTTLE_750ML_1", "A" * 30, "b" * 120 + "-ROUND-1")
# Of every word of a name: does it stand on one line, is all of it seen, does it stay inside what it stands in?
WORDS = """[...document.querySelectorAll('.word')].filter((word) => word.offsetParent).map((word) => {
  const box = word.getBoundingClientRect();
  const place = word.closest('th, td, li, label').getBoundingClientRect();
  const line = parseFloat(getComputedStyle(word).lineHeight);
  const cut = [word, ...word.children].some((each) => each.scrollWidth > each.clientWidth + 1);
  return { text: word.textContent, broken: box.height > line * 1.5, cut, outside: box.right > place.right + 1 };
})"""


@pytest.mark.parametrize(("width", "whole"), [(1024, 11), (1280, 15)])
async def test_five_channels_and_long_names_fit_and_no_word_is_broken(
    chromium: Chromium, shop: Shop, tmp_path: Path, width: int, whole: int
) -> None:
    """`whole`: characters of the longest word that is seen whole at that width."""
    assert {len(name) for name in LONG_CHANNELS} == {30}
    for channel in LONG_CHANNELS:
        assert await shop.call("PUT", f"/v1/policies/{channel}", POLICY) == 200
    for sku, units in zip(LONG_SKUS, (3_000, 4, 987_654, 1_000_000), strict=True):
        await shop.receive(f"long-{sku[:20]}", sku, units)
    page = await opened(chromium, shop, width)
    remembered = await page.evaluate("localStorage.getItem('channels')")
    try:
        await page.evaluate(f"localStorage.setItem('channels', JSON.stringify({list(LONG_CHANNELS)}))")
        await page.call("Page.reload")
        await page.until(f"{LIVE} && document.querySelectorAll('#heads th').length === 6")
        await page.until(f"{cell(LONG_SKUS[-1], LONG_CHANNELS[-1])} === '1M in stock'")
        await page.evaluate(
            "[...document.querySelectorAll('#rows button')].find((b) => b.textContent[0] === 'C').click()"
        )
        await page.until("document.getElementById('detail-body').innerText.includes('SH1')")
        await page.picture(tmp_path / "board.png")
        for box in (
            "document.querySelector('.scroll')",
            "document.documentElement",
            "document.querySelector('#detail')",
        ):
            assert await page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth"), box
        seen = await page.evaluate(WORDS)
        assert len(seen) > 30
        assert [each for each in seen if each["broken"] or each["outside"]] == []
        assert [each for each in seen if each["cut"] and len(each["text"]) <= whole] == []
        numbers = "[...document.querySelectorAll('#table .cell')].filter((each) => each.scrollWidth > each.clientWidth)"
        assert await page.evaluate(f"{numbers}.map((each) => each.textContent)") == []
        assert page.complaints == []
    finally:
        await page.evaluate(f"localStorage.setItem('channels', {remembered!r})")
        await page.close()


async def test_a_board_without_a_channel_says_what_it_waits_for(chromium: Chromium, shop: Shop) -> None:
    page = await chromium.open(f"{shop.api}/", 1280, 800)
    nothing = "window.fetch = async () => new Response(JSON.stringify({ items: [] }))"
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=nothing)
    await page.call("Page.reload")
    await page.until("document.getElementById('connection')?.innerText.includes('waiting for the first channel')")
    assert "A channel appears with its first order or policy" in await page.evaluate("document.body.innerText")
    await page.close()


async def test_a_restart_of_the_api_is_shown_and_survived(
    chromium: Chromium, shop: Shop, running: RunningSystem
) -> None:
    page = await opened(chromium, shop)
    old = running.kill("api")
    await page.until(f"!({LIVE})")
    await running.comes_back("api", old)
    await page.until(LIVE)
    await shop.receive("fourth", "mug-teal", 100)
    await page.until(f"{cell('mug-teal', 'tmall')}.startsWith('110 ')")
    await page.close()
