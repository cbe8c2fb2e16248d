"""The shell of the board: the key, the languages, the themes, the navigation by keyboard and on a telephone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.board.board import CONNECTED, LIVE, NARROW, check_page, opened
from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.api_client import open_client
from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem

BOARD = Path(__file__).parents[3] / "api/board"
FORM = "!(document.getElementById('sign-in')?.hidden ?? true)"
TOLD = "document.getElementById('sign-in-error').textContent"


async def sign_in(page: BrowserPage, key: str) -> None:
    """Type a key into the form, once it is there, and send it."""
    await page.until(FORM)
    await page.view.locator("#sign-in-key").fill(key)
    await page.view.keyboard.press("Enter")


@pytest.mark.parametrize(("width", "dark"), [(NARROW, False), (1360, True)])
async def test_the_board_shows_nothing_before_a_valid_key_and_nothing_after_the_sign_out(
    chromium: Chromium, running: RunningSystem, tmp_path: Path, width: int, dark: bool
) -> None:
    page = await chromium.open(f"{running.api}/", width, 800, dark)
    await page.until(FORM)
    assert await page.evaluate("document.activeElement.id") == "sign-in-key"
    assert await page.evaluate("document.getElementById('page').offsetParent") is None
    page.errors.clear()  # the browser logs the 401 that asked for a key
    await check_page(page, tmp_path / "sign-in.png")
    for wrong in (f"{running.ready['keys']['viewer'][:-1]}!", "钥匙"):
        await sign_in(page, wrong)
        await page.until(f"{TOLD}.includes('not valid')")
    await page.picture(tmp_path / "wrong-key.png")
    assert await page.barriers() == []
    await sign_in(page, running.ready["keys"]["metrics"])
    await page.until(f"{TOLD}.includes('may not read the board')")
    await sign_in(page, running.ready["keys"]["viewer"])
    await page.until(LIVE)
    await page.evaluate("document.getElementById('sign-out').click()")
    await page.until(f"{FORM} && sessionStorage.length === 0")
    assert await page.evaluate(TOLD) == ""


async def test_while_a_key_is_checked_the_page_says_that_it_loads(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    await page.view.route("**/v1/whoami", lambda route: None)
    await page.view.reload()
    await expect(page.view.get_by_text("Loading…")).to_be_visible()
    assert await page.evaluate("document.getElementById('sign-in').hidden")


async def test_the_key_stays_in_its_tab(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    await page.view.reload()
    await page.until(LIVE)
    key = running.ready["keys"]["viewer"]
    addresses = await page.evaluate("[location.href, ...performance.getEntriesByType('resource').map((e) => e.name)]")
    assert all(address.startswith(running.api) for address in addresses), addresses
    kept = await page.evaluate("JSON.stringify(localStorage) + document.cookie")
    assert not any(key in text for text in (kept, *addresses))
    assert await page.evaluate("JSON.stringify(sessionStorage)") == f'{{"stocktide-key":"{key}"}}'


async def test_a_key_that_is_revoked_ends_the_session(chromium: Chromium, running: RunningSystem) -> None:
    data = ("--data", str(running.data))
    key = (await run_stocktide("keys", "add", "viewer", "--holder", "guest", *data)).out.strip()
    # The API reads the file once a second.
    async with open_client(running.api, key=key) as guest:
        await guest.get_when("/v1/channels", lambda answer: answer.status == 200)
    page = await chromium.open(f"{running.api}/", 1280, 800)
    await sign_in(page, key)
    await page.until(LIVE)
    await run_stocktide("keys", "revoke", key.split("_")[2], *data)
    await page.until(f"{FORM} && {TOLD}.includes('revoked')")
    assert await page.evaluate("document.getElementById('page').offsetParent") is None


async def test_the_language_is_switched_and_remembered(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    assert await page.evaluate("document.documentElement.lang") == "en"
    await page.view.get_by_label("Language").select_option("zh")
    assert await page.evaluate("document.getElementById('title').textContent") == "库存"
    await page.view.reload()
    await page.until("document.documentElement.lang === 'zh-Hans' && document.title === '库存 · Stocktide'")
    assert await page.evaluate("document.getElementById('sign-out').textContent") == "退出"


async def test_a_reader_of_chinese_finds_the_board_in_chinese(chromium: Chromium, running: RunningSystem) -> None:
    page = await chromium.open(f"{running.api}/", 1280, 800, locale="zh-CN")
    await page.until("document.getElementById('sign-in-title')?.textContent === '登录后查看库存'")


async def test_the_theme_is_switched_against_the_system(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    scheme = "getComputedStyle(document.documentElement).colorScheme"
    assert await page.evaluate(scheme) == "light"
    await page.view.get_by_label("Theme").select_option("dark")
    assert await page.evaluate(scheme) == "dark"
    await page.view.reload()
    assert await page.evaluate(scheme) == "dark"


async def test_the_keyboard_skips_to_the_page_and_a_new_page_has_the_focus(
    chromium: Chromium, running: RunningSystem
) -> None:
    page = await opened(chromium, running)
    await page.view.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "skip"
    await page.view.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "main"
    await page.evaluate("location.hash = '#/nowhere'")
    await page.until("document.activeElement.id === 'title'")
    assert await page.evaluate("document.title") == "Not found · Stocktide"


async def test_on_a_telephone_the_navigation_is_behind_a_button(
    chromium: Chromium, running: RunningSystem, tmp_path: Path
) -> None:
    page = await opened(chromium, running, width=NARROW)
    menu, link = page.view.get_by_role("button", name="Menu"), page.view.locator("#nav a").first
    assert not await link.is_visible()
    await menu.click()
    assert await link.is_visible()
    await check_page(page, tmp_path / "menu.png")
    await page.view.keyboard.press("Escape")
    assert not await link.is_visible()
    assert await page.evaluate("document.activeElement.id") == "menu"


async def test_the_page_says_that_the_api_is_away_and_that_it_is_back(
    chromium: Chromium, running: RunningSystem
) -> None:
    page = await opened(chromium, running)
    await page.view.context.set_offline(True)
    await page.until("document.getElementById('connection').textContent.startsWith('no answer since')")
    await page.view.context.set_offline(False)
    await page.until(CONNECTED)


async def test_the_page_may_load_and_run_nothing_but_its_own_files(chromium: Chromium, running: RunningSystem) -> None:
    page = await opened(chromium, running)
    script = "const s = document.createElement('script'); s.textContent = 'globalThis.ran = 1'; document.body.append(s)"
    await page.evaluate(f"{{ {script} }}")
    assert await page.evaluate("typeof ran") == "undefined"
    assert await page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')") == "refused"
    assert any("Content Security Policy" in error for error in page.errors)


def words_of(file: Path) -> dict[str, dict[str, set[str]]]:
    """Per language the keys and the values that their texts have."""
    found = dict[str, dict[str, set[str]]]()
    for language, body in re.findall(r"export const (\w+) = \{\n(.*?)\n\};", file.read_text(), re.DOTALL):
        rows = re.findall(r'^  (\w+): "((?:[^"\\]|\\.)*)",$', body, re.MULTILINE)
        assert len(rows) == len(body.splitlines()), f'{file.name}: a line is no `key: "text",`'
        assert len({key for key, _ in rows}) == len(rows), f"{file.name}: a key is there twice"
        found[language] = {key: set(re.findall(r"\{\w+\}", text)) for key, text in rows}
    return found


@pytest.mark.parametrize("file", sorted((BOARD / "words").glob("*.js")), ids=lambda file: file.stem)
def test_every_text_is_there_in_every_language(file: Path) -> None:
    words = words_of(file)
    assert words.keys() == {"en", "zh"}
    assert words["en"] == words["zh"]


def test_every_text_that_a_page_asks_for_is_there() -> None:
    known = {f"{file.stem}.{key}" for file in (BOARD / "words").glob("*.js") for key in words_of(file)["en"]}
    modules = {key.partition(".")[0] for key in known}
    for file in (*BOARD.glob("*.js"), *BOARD.glob("pages/*.js"), BOARD / "index.html"):
        for name in re.findall(r'"(\w+\.[a-z_0-9]+)"', file.read_text()):
            assert name in known or name.partition(".")[0] not in modules, f"{file.name}: {name}"


def test_no_text_becomes_markup() -> None:
    for file in (*BOARD.glob("*.js"), *BOARD.glob("pages/*.js")):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text()), file
