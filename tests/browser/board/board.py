"""The board as tests open it, and what holds for each of its pages and states."""

from __future__ import annotations

from pathlib import Path

from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.system import RunningSystem

CONNECTED = "['live', 'connected'].includes(document.getElementById('connection')?.dataset.state)"
LIVE = "document.getElementById('connection')?.dataset.state === 'live'"
WIDE, NARROW = 1360, 390
HEIGHT = 900
# Names that stick out of what they stand in.
_OUTSIDE = """[...document.querySelectorAll('.name')].filter((name) => name.offsetParent).filter((name) => {
  const place = name.closest('th, td, li, label, dd, h1, h2, div').getBoundingClientRect();
  return name.getBoundingClientRect().right > place.right + 1;
}).map((name) => name.textContent)"""

# What has to be scrolled sideways to be read, by the names of its classes; a field has all of its text anyway.
SIDEWAYS = """[...document.querySelectorAll('html, main :not(input), dialog :not(input)')].filter((each) =>
  each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
  && (each === document.documentElement || getComputedStyle(each).overflowX !== 'visible')
).map((each) => `${each.tagName} ${each.className} ${each.firstElementChild?.className}`)"""


async def opened(
    chromium: Chromium,
    running: RunningSystem,
    address: str = "#/stock",
    *,
    role: str = "viewer",
    width: int = WIDE,
    dark: bool = False,
    locale: str = "en-GB",
) -> BrowserPage:
    """A page of the board, once the holder of that key is connected."""
    key = f"sessionStorage.setItem('stocktide-key', {running.ready['keys'][role]!r})"
    page = await chromium.open(f"{running.api}/{address}", width, HEIGHT, dark, locale, key)
    await page.until(CONNECTED)
    return page


async def check_page(page: BrowserPage, picture: Path) -> None:
    """It fits, everyone can use it, no name sticks out, and nothing failed; on a telephone nothing in it is scrolled
    sideways. Keeps a picture."""
    await page.picture(picture)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    if page.view.viewport_size == {"width": NARROW, "height": HEIGHT}:
        sideways = await page.evaluate(SIDEWAYS)
        assert sideways == [], sideways
    outside = await page.evaluate(_OUTSIDE)
    assert outside == [], outside
    barriers = await page.barriers()
    assert barriers == [], "\n".join(barriers)
    # The browser logs each request of a page that was taken off the net.
    errors = [error for error in page.errors if "ERR_INTERNET_DISCONNECTED" not in error]
    assert errors == [], errors
