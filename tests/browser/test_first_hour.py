"""The commands of docs/first-hour.md work as printed, and its page runs in a browser, on a system with keys."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.chromium import BrowserPage, Chromium
from tests.harness.eventually import eventually
from tests.harness.process import WITH_KEYS
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system

ROOT = Path(__file__).parents[2]
PAGE = Path("examples/storefront/index.html")
BLOCK_SECONDS_MAX = 90.0
SKU = "mug-teal"


def chapters() -> dict[str, list[str]]:
    """The blocks of commands by chapter, in the order of the document."""
    parts = (ROOT / "docs/first-hour.md").read_text().split("\n## ")[1:]
    return {part.partition("\n")[0]: re.findall(r"```(?:sh)?\n(.*?)```", part, re.DOTALL) for part in parts}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Newcomer:
    """Types the blocks in a folder that has the repository's `.venv` and the page; only ports differ."""

    system: RunningSystem
    folder: Path
    page_port: int

    def typed(self, text: str) -> str:
        """The text with the ports of this test."""
        return re.sub(r"\b8000\b", str(self.page_port), text.replace("http://127.0.0.1:8080", self.system.api))

    async def start(self, block: str) -> asyncio.subprocess.Process:
        environ = {**os.environ, "STOCKTIDE_DATA": str(self.system.data), "STOCKTIDE_APP_ID": self.system.app_id}
        return await asyncio.create_subprocess_exec(
            *("sh", "-ec", self.typed(block)),
            cwd=self.folder,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    async def run(self, block: str) -> str:
        """What a block prints."""
        process = await self.start(block)
        printed, _ = await asyncio.wait_for(process.communicate(), BLOCK_SECONDS_MAX)
        assert process.returncode == 0, (block, printed.decode(), self.system.logs)
        return printed.decode()


@pytest.fixture(scope="module")
async def newcomer(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Newcomer]:
    """The system of the first block: its variables, its command with free ports and the session's servers."""
    folder, port = tmp_path_factory.mktemp("first-hour"), free_port()
    (start,) = chapters()["Start"][:1]
    *exports, command = start.splitlines()
    assert command == ".venv/bin/stocktide up"
    given = dict(line.removeprefix("export ").split("=", 1) for line in exports)
    environ = WITH_KEYS | {name: value.replace("8000", str(port)) for name, value in given.items()}
    (folder / ".venv").symlink_to(ROOT / ".venv")
    async with running_system(folder / "data", kafka.address, valkey.url, new_app_id(), environ) as system:
        (folder / PAGE.parent).mkdir(parents=True)
        made = Newcomer(system, folder, port)
        (folder / PAGE).write_text(made.typed((ROOT / PAGE).read_text()))
        yield made


def test_the_storefront_has_less_than_sixty_lines() -> None:
    assert len((ROOT / PAGE).read_text().splitlines()) < 60


async def opened(newcomer: Newcomer, chromium: Chromium, key: str) -> BrowserPage:
    page = await chromium.open(f"http://127.0.0.1:{newcomer.page_port}/", 900, 600)
    await page.until("document.getElementById('enter') !== null")
    await page.evaluate(
        f"document.getElementById('key').value = {key!r}; document.querySelector('#enter button').click()"
    )
    return page


async def shows(page: BrowserPage, number: int) -> None:
    row = f"document.querySelector('[data-sku={SKU}]')"
    await page.until(f"{row} && {row}.cells[1].textContent === '{number} (in_stock)'")


async def test_the_first_hour_works_as_printed(newcomer: Newcomer, chromium: Chromium) -> None:
    story = chapters()
    (_, receive), (show_key, serve) = story["Start"], story["A storefront"][0].splitlines()
    assert '"outcome":"received"' in await newcomer.run(receive)
    key = (await newcomer.run(show_key)).strip()
    server = await newcomer.start(serve)
    try:
        await eventually(lambda: listens(newcomer.page_port))
        page = await opened(newcomer, chromium, "stk_wrong")
        await page.until("document.getElementById('state').textContent === 'wrong key'")
        await page.close()
        page = await opened(newcomer, chromium, key)
        await shows(page, 10)
        await page.evaluate(f"document.querySelector('[data-sku={SKU}] button').click()")
        await shows(page, 9)
        await page.until("document.getElementById('answer').textContent.includes('reserved as own-')")
        assert page.errors == []
        order, again, refund = story["A Shopify store"]
        assert '"state":"paid"' in await newcomer.run(order)
        await shows(page, 6)
        await newcomer.run(again)
        await newcomer.run(refund)
        # The repeat came before the refund, in the same partition.
        await shows(page, 7)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        await server.communicate()
