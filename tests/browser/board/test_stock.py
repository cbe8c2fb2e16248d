"""The board in a real Chromium: it shows the state of the system live, narrow and wide, light and dark.

Screenshots stay in the test's folder; `--basetemp` selects where.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import ApiTestClient, open_client
from tests.harness.events import AT, lines_of, stock_expected
from tests.harness.process import WITH_KEYS, run_stocktide
from tests.harness.servers import KafkaServer, RedisServer
from tests.harness.system import RunningSystem, running_system

HIDDEN = "document.getElementById('{}')?.hidden ?? true"
LIVE = "document.getElementById('connection')?.dataset.state === 'live'"
TOLD = "document.getElementById('sign-in-error').textContent"
POLICY = {"safety_threshold": 5, "resume_threshold": 8, "below_threshold": "preorder", "preorder_cap": 20}


def cell(sku: str, channel: str) -> str:
    """An expression for the text of a cell of the table."""
    return f"""(() => {{
      const heads = [...document.querySelectorAll('#heads th')].map((head) => head.textContent);
      const row = [...document.querySelectorAll('#rows tr')].find(
        (each) => each.querySelector('button').textContent === {sku!r});
      return row ? row.children[heads.indexOf({channel!r})].innerText.replace(/\\s+/g, ' ') : '';
    }})()"""


@pytest.fixture(scope="module")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """A system with two channels and two SKUs."""
    data = tmp_path_factory.mktemp("board") / "data"
    async with running_system(data, kafka.address, valkey.url, "board", WITH_KEYS) as system:
        async with system.client() as shop:
            assert (await shop.put("/v1/policies/tmall", POLICY)).status == 200
            assert (await shop.put("/v1/policies/jd", {"below_threshold": "suspend"})).status == 200
            await shop.receive("mug-teal", 10)
            await shop.receive("<b>odd</b>", 3)
        yield system


async def sign_in(page: BrowserPage, key: str) -> None:
    """Type a key into the form, once it is there, and send it."""
    await page.until(f"!({HIDDEN.format('sign-in')})")
    field, form = "document.getElementById('sign-in-key')", "document.getElementById('sign-in')"
    await page.evaluate(f"{field}.value = {key!r}; {form}.requestSubmit()")


async def opened(
    chromium: Chromium, running: RunningSystem, width: int = 1360, height: int = 900, dark: bool = False
) -> BrowserPage:
    """The board, once a viewer has signed in and it is live."""
    page = await chromium.open(f"{running.api}/", width, height, dark)
    await sign_in(page, running.ready["keys"]["viewer"])
    await page.until(f"{LIVE} && document.querySelectorAll('#rows tr').length >= 2")
    # The browser logs the 401 that asked for a key.
    page.errors.clear()
    return page


async def test_a_channel_switches_at_its_threshold_and_back(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running)
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")
    assert (await shop.place("mug-teal", 6)).status == 201
    await page.until(f"{cell('mug-teal', 'tmall')} === '20 preorder'")
    await page.until(f"{cell('mug-teal', 'jd')} === '4 in stock'")
    await page.until("document.getElementById('recent').innerText.includes('preorder')")
    await page.picture(tmp_path / "board.png")
    await shop.receive("mug-teal", 6)
    await page.until(f"{cell('mug-teal', 'tmall')} === '10 in stock'")
    assert page.errors == []


async def test_a_click_on_a_sku_shows_where_its_units_are(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    await page.evaluate("[...document.querySelectorAll('#rows button')].find((b) => b.textContent[0] === 'm').click()")
    await page.until("document.getElementById('detail-body').innerText.includes('SH1')")
    assert await page.evaluate("document.getElementById('detail-title').textContent") == "mug-teal"


async def test_a_name_from_outside_is_text_and_never_markup(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    await page.until("document.getElementById('rows').textContent.includes('<b>odd</b>')")
    assert await page.evaluate("document.querySelectorAll('#rows b').length") == await page.evaluate(
        "document.querySelectorAll('#rows .cell > b').length"
    )


async def test_the_search_finds_a_sku_and_says_where_there_is_none(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    search = "const s = document.getElementById('search'); s.value = {!r}; s.dispatchEvent(new Event('input'))"
    await page.evaluate(search.format("TEAL"))
    await page.until("document.querySelectorAll('#rows tr').length === 1")
    await page.evaluate(f"{{ {search.format('nothing')} }}")
    await page.until("!document.getElementById('empty').hidden")


@pytest.mark.parametrize("width", [360, 1360])
@pytest.mark.parametrize("dark", [False, True])
async def test_the_page_fits_and_follows_the_scheme(
    chromium: Chromium, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    page = await opened(chromium, running, width, 800, dark)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == (
        "dark" if dark else "light"
    )
    await page.picture(tmp_path / "board.png")


async def test_nothing_is_loaded_from_elsewhere(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem
) -> None:
    page = await opened(chromium, running)
    loaded = await page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert loaded
    assert all(name.startswith(running.api) for name in loaded), loaded


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


@pytest.fixture(scope="module")
async def long_names(running: RunningSystem) -> None:
    """Channels and SKUs with long names, and their stock: received once for all widths."""
    assert {len(name) for name in LONG_CHANNELS} == {30}
    async with running.client() as shop:
        for channel in LONG_CHANNELS:
            assert (await shop.put(f"/v1/policies/{channel}", POLICY)).status == 200
        for sku, units in zip(LONG_SKUS, (3_000, 4, 987_654, 1_000_000), strict=True):
            await shop.receive(sku, units)


@pytest.mark.parametrize(("width", "whole"), [(1024, 11), (1280, 15)])
async def test_five_channels_and_long_names_fit_and_no_word_is_broken(
    chromium: Chromium, running: RunningSystem, long_names: None, tmp_path: Path, width: int, whole: int
) -> None:
    """`whole`: characters of the longest word that is seen whole at that width."""
    page = await opened(chromium, running, width)
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
        assert page.errors == []
    finally:
        await page.evaluate(f"localStorage.setItem('channels', {remembered!r})")


async def test_a_request_for_approval_is_shown_until_it_is_decided(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running)
    assert await page.evaluate("document.getElementById('requests').hidden")
    reason = "<i>for</i> the press"
    answer = await shop.place("mug-teal", 2, order_id="press-1", force=True, reason=reason)
    assert answer.status == 202
    await page.until("!document.getElementById('requests').hidden")
    shown = await page.evaluate("document.getElementById('requests-list').textContent")
    assert "press-1 on tmall: 2 of mug-teal, requested by operator: <i>for</i> the press" in shown
    await page.picture(tmp_path / "requests.png")
    await shop.post("/v1/approvals/press-1/reject", {"reason": "no"})
    await page.until("document.getElementById('requests').hidden")
    assert page.errors == []


async def let_orders_wait(shop: ApiTestClient, sku: str) -> None:
    """22 orders wait for a SKU with an announcement and a pool."""
    await shop.receive(sku, 6)
    pool = {
        "type": "stock.reserved",
        "id": f"pool-{sku}",
        "occurred_at": AT,
        "warehouse": "SH1",
        "purpose": "double-11",
    }
    await shop.move({**pool, "until": "2099-11-12T00:00:00Z", "lines": lines_of((sku, 2))})
    await shop.move(stock_expected(f"po-{sku}", (sku, 500), warehouse="HZ2"))
    assert (await shop.put(f"/v1/policies/tmall/{sku}", {"preorder_cap": 100})).status == 200
    sold = {"channel": "jd", "accept": "sold", "allow_preorder": False}
    assert (await shop.place(sku, 7, order_id=f"sold-{sku}", **sold)).status == 201
    for number in range(21):
        rank = {"order_id": f"tmall-flagship-store-{sku}-{number:04}", "priority": "standard" if number else "vip"}
        assert (await shop.place(sku, 1 + number % 3, **rank)).body["lines"][0]["state"] == "preordered"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
async def test_the_detail_shows_who_waits_and_what_is_to_come(
    chromium: Chromium, shop: ApiTestClient, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    waited_for = f"lamp-{width}-{'dark' if dark else 'light'}"
    await let_orders_wait(shop, waited_for)
    page = await opened(chromium, running, width, 900 if width > 1_000 else 2_200, dark)
    button = f"[...document.querySelectorAll('#rows button')].find((b) => b.textContent === {waited_for!r})"
    await page.until(f"{button} !== undefined")
    await page.evaluate(f"{button}.click()")
    await page.until("document.querySelectorAll('#detail .waiting').length === 3")
    queue = "[...document.querySelectorAll('#detail .waiting')[0].querySelectorAll('li')]"
    assert await page.evaluate(f"{queue}.length") == 20
    first = await page.evaluate(f"{queue}.slice(0, 2).map((each) => each.textContent)")
    assert first == [
        f"sold-{waited_for}3 shorton jd, promised 1 Jan 2099",
        f"tmall-flagship-store-{waited_for}-00001 preorderedVIP, on tmall, promised 1 Jan 2099",
    ]
    text = await page.evaluate("document.getElementById('detail-body').textContent")
    for part in (
        "− short (sold beyond the shelf)3",
        "The first 20; others wait behind them.",
        f"po-{waited_for}500 of 500to HZ2, due 1 Jan 2099",
        "double-112at SH1, until 12 Nov 2099",
    ):
        assert part in text, text
    await page.picture(tmp_path / "board.png")
    for box in ("document.documentElement", "document.querySelector('#detail')"):
        assert await page.evaluate(f"{box}.scrollWidth <= {box}.clientWidth"), box
    assert [each for each in await page.evaluate(WORDS) if each["broken"] or each["outside"]] == []
    for day in ("12", "13"):
        later = {"at": f"2026-11-{day}T00:00:00Z", "eta": f"2099-01-{day}T00:00:00Z", "warehouse": "HZ2"}
        await shop.move(stock_expected(f"po-{waited_for}", (waited_for, 500), **later))
    await page.until(
        f"{queue}[1].textContent.includes('promised 13 Jan 2099, moved 2 times, first 1 Jan 2099')", seconds_max=20
    )
    await shop.receive(waited_for, 3)
    await page.until(f"!{queue}[0].textContent.includes('short')")  # no channel can see the change
    assert page.errors == []


async def test_a_board_without_a_channel_says_what_it_waits_for(chromium: Chromium, shop: ApiTestClient) -> None:
    page = await chromium.open(f"{shop.api}/", 1280, 800)
    nothing = "window.fetch = async () => new Response(JSON.stringify({ items: [] }))"
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=nothing)
    await page.call("Page.reload")
    await page.until("document.getElementById('connection')?.innerText.includes('waiting for the first channel')")
    assert "A channel appears with its first order or policy" in await page.evaluate("document.body.innerText")


async def test_a_restart_of_the_api_is_shown(chromium: Chromium, shop: ApiTestClient, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    restarting = asyncio.create_task(running.restart_part("api"))
    await page.until(f"!({LIVE})")
    await restarting
    await page.until(LIVE)
    await shop.receive("mug-teal", 100)
    await page.until(f"{cell('mug-teal', 'tmall')}.startsWith('110 ')")


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1360, True)])
async def test_the_board_shows_nothing_before_a_valid_key_and_nothing_after_the_sign_out(
    chromium: Chromium, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    page = await chromium.open(f"{running.api}/", width, 800, dark)
    await page.until(f"!({HIDDEN.format('sign-in')})")
    assert await page.evaluate("document.querySelector('main').offsetParent") is None
    assert await page.evaluate("document.activeElement.id") == "sign-in-key"
    await page.picture(tmp_path / "sign-in.png")
    for wrong in (f"{running.ready['keys']['viewer'][:-1]}!", "钥匙"):
        await sign_in(page, wrong)
        await page.until(f"{TOLD}.includes('not valid')")
    await page.picture(tmp_path / "wrong-key.png")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await sign_in(page, running.ready["keys"]["metrics"])
    await page.until(f"{TOLD}.includes('may not read the board')")
    await sign_in(page, running.ready["keys"]["viewer"])
    await page.until(LIVE)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.picture(tmp_path / "signed-in.png")
    await page.evaluate("document.getElementById('sign-out').click()")
    await page.until(f"!({HIDDEN.format('sign-in')}) && sessionStorage.length === 0")
    assert await page.evaluate(TOLD) == ""


async def test_the_key_stays_in_its_tab(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    await page.call("Page.reload")
    await page.until(f"performance.getEntriesByType('navigation')[0]?.type === 'reload' && {LIVE}")
    key = running.ready["keys"]["viewer"]
    addresses = await page.evaluate("[location.href, ...performance.getEntriesByType('resource').map((e) => e.name)]")
    kept = await page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert not any(key in text for text in (kept, *addresses))
    assert await page.evaluate("JSON.stringify(sessionStorage)") == f'{{"stocktide-key":"{key}"}}'
    other = await chromium.open(f"{running.api}/", 1280, 800)
    await other.until(f"!({HIDDEN.format('sign-in')})")


async def test_a_key_that_is_revoked_ends_the_session(chromium: Chromium, running: RunningSystem) -> None:
    data = ("--data", str(running.data))
    key = (await run_stocktide("keys", "add", "viewer", "--holder", "guest", *data)).out.strip()
    page = await chromium.open(f"{running.api}/", 1280, 800)
    # The API reads the file once a second.
    async with open_client(running.api, key=key) as guest:
        await guest.get_when("/v1/channels", lambda answer: answer.status == 200)
    await sign_in(page, key)
    await page.until(LIVE)
    await run_stocktide("keys", "revoke", key.split("_")[2], *data)
    await page.until(f"!({HIDDEN.format('sign-in')}) && {TOLD}.includes('revoked')")
    assert await page.evaluate("document.querySelector('main').offsetParent") is None
