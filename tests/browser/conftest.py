"""One browser for all tests; its pages are closed after each test."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator

import pytest

from tests.browser.chromium import Chromium, find_chromium


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Chromium]:
    """The browser; the tests are skipped with a warning where it is not installed."""
    if find_chromium() is None:
        warnings.warn("Chromium is not installed: the pages were NOT tested", stacklevel=1)
        pytest.skip("Chromium is not installed: apt-get install chromium")
    async with Chromium.started() as started:
        yield started


@pytest.fixture
async def chromium(browser: Chromium) -> AsyncIterator[Chromium]:
    yield browser
    await browser.close_pages()
