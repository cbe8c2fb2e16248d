"""`stocktide demo`: the shop opens and trades, and Ctrl-C leaves neither a process nor a folder."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp
import psutil
import pytest

from stocktide.demo import catalog
from stocktide.retry import poll_until

pytestmark = pytest.mark.integration

TRADING_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0


async def read_until(process: asyncio.subprocess.Process, words: str) -> str:
    """What it prints up to the line that has `words`."""
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(TRADING_SECONDS_MAX):
        async for line in process.stdout:
            printed += line.decode()
            if words in printed:
                return printed
    raise AssertionError(printed)


async def version(session: aiohttp.ClientSession, api: str, sku: str) -> int:
    """How often the SKU has changed; 0 where it is not known yet."""
    async with session.get(f"{api}/v1/stock/{sku}") as answer:
        return int((await answer.json()).get("version", 0))


def left_in(folder: Path) -> list[Path]:
    """What lies in a folder."""
    return list(folder.iterdir())


async def test_the_shop_trades_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stocktide", "demo", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    try:
        printed = await read_until(process, "everyday trade")
        found = re.search(r"Open (http://\S+)/ in a browser", printed)
        assert found is not None, printed
        api, sku = found[1], catalog.GOODS[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{api}/v1/channels") as answer:
                assert set((await answer.json())["items"]) == set(catalog.POLICIES)

            async def trades() -> bool:
                # One change for each warehouse's opening receipt, the rest are orders.
                return await version(session, api, sku) > len(catalog.WAREHOUSES) + 1

            assert await poll_until(trades, TRADING_SECONDS_MAX)
        parts = psutil.Process(process.pid).children(recursive=True)
        assert len(parts) >= 4
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX) == 0
        assert not psutil.wait_procs(parts, timeout=0)[1]
        assert not left_in(tmp_path)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
