"""A reader who has a keyboard and nothing else: a control is reached by the tabulator, or it is not reached."""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import Locator, expect

from tests.browser.chromium import BrowserPage

# More than any page here has controls: whoever has passed so many has been at all of them.
TABS_MAX = 250


class Keyboard:
    """Presses keys, as a person would, until what has the focus is what is wanted."""

    def __init__(self, page: BrowserPage) -> None:
        self._view = page.view
        self._keys = page.view.keyboard
        self._focused = page.view.locator(":focus")

    async def reach(self, role: Any, name: str | re.Pattern[str], back: bool = False) -> Locator:
        """Tab, or tab back, until a control of that role and name has the focus."""
        exact = isinstance(name, str)
        wanted = self._view.get_by_role(role, name=name, exact=exact)
        await expect(wanted.first).to_be_visible()
        for _ in range(TABS_MAX):
            if await wanted.and_(self._focused).count():
                return self._focused
            await self.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"{role} {name!r} cannot be reached by keyboard")

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._keys.press(key)

    async def use(self, role: Any, name: str | re.Pattern[str], back: bool = False) -> None:
        """Reach a control and press Enter; afterwards the focus has to be somewhere."""
        await self.reach(role, name, back)
        await self.press("Enter")
        await self.is_somewhere()

    async def write(self, role: Any, name: str, text: str, back: bool = False) -> None:
        """Reach a field and type into it, in place of what is there."""
        await self.reach(role, name, back)
        await self.press("Control+A")
        await self.type(text)

    async def type(self, text: str) -> None:
        await self._keys.type(text)

    async def is_somewhere(self) -> None:
        """What was done has not thrown the focus out of the page."""
        await expect(self._focused).to_have_count(1)
