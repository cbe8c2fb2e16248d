"""The board as tests open it, and what holds for each of its pages and states."""

from __future__ import annotations

from pathlib import Path

from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.system import RunningSystem

CONNECTED = "['live', 'connected'].includes(document.getElementById('connection')?.dataset.state)"
LIVE = "document.getElementById('connection')?.dataset.state === 'live'"
WIDE, NARROW = 1360, 390
HEIGHT = 900
# Of every word of a name: does it stand on one line, and inside what it stands in?
_WORDS = """[...document.querySelectorAll('.word')].filter((word) => word.offsetParent).map((word) => {
  const box = word.getBoundingClientRect();
  const place = word.closest('th, td, li, label, dd, h1, div').getBoundingClientRect();
  const line = parseFloat(getComputedStyle(word).lineHeight);
  return { text: word.textContent, broken: box.height > line * 1.5, outside: box.right > place.right + 1 };
}).filter((each) => each.broken || each.outside)"""


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
    """It fits, everyone can use it, no word is broken, and nothing failed. Keeps a picture."""
    await page.picture(picture)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    broken = await page.evaluate(_WORDS)
    assert broken == [], broken
    barriers = await page.barriers()
    assert barriers == [], "\n".join(barriers)
    assert page.errors == [], page.errors
