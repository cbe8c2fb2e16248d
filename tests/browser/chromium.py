"""The installed Chromium, without a window, driven by Playwright.

    async with Chromium.started() as chromium:
        page = await chromium.open("http://127.0.0.1:8080/", width=1280, height=800)
        await page.until("document.title === 'Stocktide'")
        await page.view.get_by_role("button", name="Find").click()
        await page.picture(folder / "board.png")

Playwright's own browsers are not downloaded. Updates, sync and background traffic are off.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Error, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
START_SECONDS_MAX = 40.0
UNTIL_SECONDS_MAX = 40.0
POLL_SECONDS = 0.1
# What axe checks: WCAG 2.2 A and AA, and what its authors call best practice.
_AXE_OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],  # to describe what is right takes most of the time
}


def find_chromium() -> str | None:
    """The path of a Chromium: `CHROMIUM` in the environment, else the first of `NAMES` that is installed."""
    given = os.environ.get("CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserPage:
    """One tab with a storage of its own. `errors` collects what the page logs as errors and throws."""

    def __init__(self, view: Page) -> None:
        self.view = view
        self.errors: list[str] = []
        view.on("console", self._note)
        view.on("pageerror", lambda error: self.errors.append(str(error)))

    async def evaluate(self, script: str) -> Any:
        return await self.view.evaluate(script)

    async def until(self, script: str, seconds_max: float = UNTIL_SECONDS_MAX) -> Any:
        """Wait until the expression is true; its value. Unlike `wait_for_function` it needs no `eval` in the page,
        which its Content-Security-Policy refuses."""
        deadline = asyncio.get_running_loop().time() + seconds_max
        while not (value := await self._evaluate_once(script)):
            if asyncio.get_running_loop().time() > deadline:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {script}\n{self.errors}\n{text[:2000]}")
            await asyncio.sleep(POLL_SECONDS)
        return value

    async def _evaluate_once(self, script: str) -> Any:
        """The value; None while another page is loading."""
        try:
            return await self.evaluate(script)
        except Error as error:
            if "Execution context was destroyed" not in error.message:
                raise
            return None

    async def picture(self, file: Path) -> None:
        """Write a screenshot as a PNG."""
        await self.view.screenshot(path=file)

    async def barriers(self) -> list[str]:
        """What axe finds: each rule that is violated, with the elements."""
        found = await Axe().run(self.view, options=_AXE_OPTIONS)
        return [
            f"{rule['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for rule in found.response["violations"]
            for node in rule["nodes"]
        ]

    async def close(self) -> None:
        """Close the tab and its connections."""
        await self.view.context.close()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} {message.location.get('url', '')}")


class Chromium:
    """A running browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._pages: list[BrowserPage] = []

    @staticmethod
    @asynccontextmanager
    async def started() -> AsyncIterator[Chromium]:
        """A browser with an empty profile; it ends at the end."""
        path = find_chromium()
        assert path is not None, "there is no Chromium"
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=path, args=_FLAGS, timeout=START_SECONDS_MAX * 1000
            )
            try:
                yield Chromium(browser)
            finally:
                await browser.close()

    async def close_pages(self) -> None:
        while self._pages:
            await self._pages.pop().close()

    async def open(
        self, url: str, width: int, height: int, dark: bool = False, locale: str = "en-GB", script: str = ""
    ) -> BrowserPage:
        """A tab of that size, in CSS pixels, with `url` loading in it. `script` runs before those of each page."""
        context = await self._browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            locale=locale,
            reduced_motion="reduce",
        )
        if script:
            await context.add_init_script(script)
        page = BrowserPage(await context.new_page())
        self._pages.append(page)
        await page.view.goto(url, wait_until="commit")
        return page
