"""`stocktide demo`: the shop opens and trades, and Ctrl-C leaves neither a process nor a folder."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil

from stocktide.demo import catalog
from tests.harness.api_client import open_client
from tests.harness.eventually import eventually
from tests.harness.process import StocktideProcess, started

TRADING_SECONDS_MAX = 120.0


async def test_the_shop_trades_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    async with started(StocktideProcess("demo", ("demo", "--port", "0"), environ, tmp_path / "demo.log")) as demo:
        printed = await demo.wait_for_output("everyday trade", TRADING_SECONDS_MAX)
        found = re.search(r"Open (http://\S+)/ in a browser", printed)
        assert found is not None, printed
        async with open_client(found[1]) as shop:
            assert set((await shop.get("/v1/channels")).body["items"]) == set(catalog.POLICIES)

            async def is_trading() -> bool:
                stock = (await shop.get(f"/v1/stock/{catalog.GOODS[0]}")).body
                # One change for each warehouse's opening receipt; the others are orders.
                return int(stock.get("version", 0)) > len(catalog.WAREHOUSES) + 1

            await eventually(is_trading, TRADING_SECONDS_MAX, demo.log_tail)
        parts = demo.children()
        assert len(parts) >= 4
        assert await demo.stop(signal.SIGINT) == 0
        assert not psutil.wait_procs(parts, timeout=0)[1]
        assert not list(scratch.iterdir())
