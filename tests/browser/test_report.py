"""The report of a load test in a real Chromium, opened from a file: complete, readable, without network access.

Screenshots stay in the test's folder; `--basetemp` selects where.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stocktide.loadtest.measure.results import LoadTestResults
from stocktide.loadtest.report.page import write_page
from tests.browser.chromium import BrowserPage, Chromium
from tests.unit.sample_results import NASTY, broken, flash_sale, nasty, not_valid, search

# WCAG 2.1 AA for text; large bold text needs less.
CONTRAST_MIN = 4.5
# The texts whose contrast is measured against the nearest background that is not transparent.
TEXTS = ".verdict-word, .verdict-told, .subtitle, .figures dt, .figures dd, figcaption, th, td, caption, .by, .limit"
CONTRAST = """(() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parts(colour).slice(0, 3).map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour).length < 4 || parts(colour)[3] > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll(%r)].map((element) => {
    const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    return [(pair[0] + 0.05) / (pair[1] + 0.05), element.className + " " + element.textContent];
  }).sort((a, b) => a[0] - b[0])[0];
})()""" % (TEXTS,)  # noqa: UP031  # braces are JavaScript's here

# The name of each plot, whether it lies inside its card, and whether it has traces.
PLOTS = """[...document.querySelectorAll('.plot')].map((plot) => {
  const card = plot.closest('figure').getBoundingClientRect();
  const svg = plot.querySelector('svg.main-svg').getBoundingClientRect();
  return [plot.getAttribute('aria-label'), svg.left >= card.left - 1 && svg.right <= card.right + 1,
          plot.querySelectorAll('.trace, .bars path, .points path').length > 0];
})"""


async def drawn(
    chromium: Chromium, folder: Path, results: LoadTestResults, width: int = 1280, height: int = 900, dark: bool = False
) -> BrowserPage:
    file = folder / "report.html"
    await asyncio.to_thread(write_page, results, file)
    page = await chromium.open(file.as_uri(), width, height, dark)
    await page.until("document.documentElement?.dataset.drawn")
    return page


async def check_page(page: BrowserPage, dark: bool = False) -> None:
    """Check that the page fits, is readable, has every plot inside its card and loads nothing."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    ratio, text = await page.evaluate(CONTRAST)
    assert ratio >= CONTRAST_MIN, text
    assert await page.evaluate("document.documentElement.dataset.drawn") == ("dark" if dark else "light")
    plots = await page.evaluate(PLOTS)
    assert len(plots) >= 8
    assert all(name and inside and traces for name, inside, traces in plots), plots
    assert page.errors == []


@pytest.mark.parametrize(
    ("results", "width", "dark"),
    [(flash_sale(), 420, False), (search(), 1280, True), (not_valid(), 1280, False)],
    ids=["kept", "search", "not-valid"],
)
async def test_the_page_fits_is_readable_and_asks_nothing_of_the_network(
    chromium: Chromium, tmp_path: Path, results: LoadTestResults, width: int, dark: bool
) -> None:
    page = await drawn(chromium, tmp_path, results, width, dark=dark)
    await page.picture(tmp_path / "report.png")
    await check_page(page, dark)


async def test_a_broken_promise_is_seen_without_scrolling_on_a_telephone(chromium: Chromium, tmp_path: Path) -> None:
    page = await drawn(chromium, tmp_path, broken(), 420, 800, dark=True)
    box = await page.evaluate(
        "(({top, bottom}) => [top, bottom])(document.querySelector('.first .what').getBoundingClientRect())"
    )
    assert 0 <= box[0] < box[1] <= 800
    await check_page(page, dark=True)


async def test_a_name_from_the_run_is_text_in_the_plots_too(chromium: Chromium, tmp_path: Path) -> None:
    page = await drawn(chromium, tmp_path, nasty(), 420)
    legends = await page.evaluate("[...document.querySelectorAll('.legendtext')].map((each) => each.textContent)")
    assert NASTY in legends
    ticks = await page.evaluate("[...document.querySelectorAll('.ytick text, .y2tick text')].map((e) => e.textContent)")
    assert "<i>jd</i>" in ticks
    assert await page.evaluate("document.scripts.length") == 3
    await check_page(page)


async def test_the_page_follows_the_colour_scheme_and_runs_only_its_scripts(chromium: Chromium, tmp_path: Path) -> None:
    page = await drawn(chromium, tmp_path, flash_sale())
    colour = "getComputedStyle(document.querySelector('#plot-rate .legendtext')).fill"
    light = await page.evaluate(colour)
    await page.view.emulate_media(color_scheme="dark")
    await page.until("document.documentElement.dataset.drawn === 'dark'")
    assert await page.evaluate(colour) != light
    await page.evaluate(
        "(() => { const s = document.createElement('script'); s.textContent = 'globalThis.ran = 1';"
        " document.body.append(s); })()"
    )
    assert await page.evaluate("typeof ran") == "undefined"
    assert await page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')") == "refused"
    assert any("Content Security Policy" in error for error in page.errors)
