"""The commands of the README's chapter "A shopper's story" work as printed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

from tests.harness.process import LAUNCHER, WITH_KEYS
from tests.harness.system import RunningSystem, SystemFactory

ADDRESS, COMMAND = "http://127.0.0.1:8080", ".venv/bin/stocktide"
# The address, the key and the function `call`.
HEAD_LINES = 3
README = Path(__file__).parents[2] / "README.md"
STORY_SECONDS_MAX = 120.0
# The last update may reach the feed after the end of the last command.
FEED_SECONDS_MAX = 20.0


def story() -> list[str]:
    """The blocks of commands."""
    text = README.read_text()
    chapter = text.split("## A first order")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", chapter, re.DOTALL)


async def shell(script: str, running: RunningSystem) -> asyncio.subprocess.Process:
    """Run a block in a shell: with this system's address, and in a terminal that has the first lines of the story."""
    first_lines = "".join(line for line in story()[0].splitlines(keepends=True)[:HEAD_LINES])
    typed = script if script.startswith(first_lines) else first_lines + script
    return await asyncio.create_subprocess_exec(
        *("sh", "-ec", typed.replace(ADDRESS, running.api).replace(COMMAND, shlex.join(LAUNCHER))),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        # Only this system is found.
        env={**os.environ, "XDG_CACHE_HOME": str(cache_of(running.data.parent))},
    )


def cache_of(folder: Path) -> Path:
    return folder / "cache"


async def answers(script: str, running: RunningSystem) -> list[dict[str, Any]]:
    """The documents that a block prints."""
    process = await shell(script, running)
    printed, _ = await asyncio.wait_for(process.communicate(), STORY_SECONDS_MAX)
    assert process.returncode == 0, printed.decode()
    decoder, text, found = json.JSONDecoder(), printed.decode(), []
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


async def feed_until(feed: asyncio.subprocess.Process, last: dict[str, Any]) -> list[dict[str, Any]]:
    """The updates that the feed prints, to the one that has all of `last`."""
    assert feed.stdout is not None
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(FEED_SECONDS_MAX):
        async for line in feed.stdout:
            if line.startswith(b'data: {"channel":"tmall","sku"'):
                seen.append(json.loads(line[6:]))
                if last.items() <= seen[-1].items():
                    return seen
    raise AssertionError(f"the feed ended: {seen}")


async def test_the_shoppers_story_works_as_printed(system: SystemFactory, tmp_path: Path) -> None:
    running = await system(environ={**WITH_KEYS, "XDG_CACHE_HOME": str(cache_of(tmp_path))})
    watch, receive, shop, low, back = story()
    feed = await shell(watch, running)
    try:
        assert [each.get("outcome") for each in await answers(receive, running)] == [None, "received"]
        await feed_until(feed, {"quantity": 10, "mode": "in_stock"})
        placed, again, paid = await answers(shop, running)
        assert (placed["replayed"], again["replayed"], paid["state"]) == (False, True, "paid")
        await feed_until(feed, {"quantity": 8, "mode": "in_stock"})
        _, preordered = await answers(low, running)
        assert preordered["lines"][0]["state"] == "preordered"
        await feed_until(feed, {"quantity": 0, "mode": "preorder"})
        *_, stock = await answers(back, running)
        assert (stock["available"], stock["preordered"]) == (8, 0)
        seen = await feed_until(feed, {"quantity": 8, "mode": "in_stock"})
        assert all(update["mode"] == "preorder" for update in seen[:-1])
    finally:
        # The whole group: curl would hold the pipe open.
        os.killpg(feed.pid, signal.SIGKILL)
        await feed.communicate()
