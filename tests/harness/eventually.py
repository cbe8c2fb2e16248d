"""Waiting for a condition in a test. In: a condition, sync or async. Out: nothing, or a failed assertion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from stocktide.retry import poll_until

SECONDS_MAX = 20.0
_Found = TypeVar("_Found")


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]],
    seconds_max: float = SECONDS_MAX,
    message: Callable[[], str] = lambda: "the condition did not come true",
) -> None:
    """Wait until `holds()` is true; fail with `message()` after `seconds_max`."""

    async def is_true() -> bool:
        held = holds()
        return held if isinstance(held, bool) else await held

    assert await poll_until(is_true, seconds_max), message()


def holds_already(holds: Callable[[_Found], bool], found: _Found) -> bool:
    """Whether it is true of what was found; not while a row or a field that it names is not there yet."""
    try:
        return holds(found)
    except KeyError:
        return False
