"""`stocktide demo`: the shop opens and trades, and Ctrl-C leaves neither a process nor a folder."""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path

import psutil

from stocktide.demo import catalog
from stocktide.demo.shop import ORDER_UNITS, PREORDER_SKU, SHORT_UNITS, SOLD_SKU, DemoShop
from stocktide.loadtest.client.http import StocktideClient
from tests.harness.api_client import open_client
from tests.harness.eventually import eventually
from tests.harness.process import WITH_KEYS, StocktideProcess, started
from tests.harness.system import SystemFactory

TRADING_SECONDS_MAX = 120.0


async def test_the_shop_trades_until_ctrl_c_and_leaves_nothing(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", **WITH_KEYS}
    async with started(StocktideProcess("demo", ("demo", "--port", "0"), environ, tmp_path / "log")) as demo:
        printed = await demo.wait_for_output("everyday trade", TRADING_SECONDS_MAX)
        found = re.search(r"Open (http://\S+)/ in a browser, and sign in with this key:\n  (stk_\S+)\n", printed)
        assert found is not None, printed
        async with open_client(found[1], key=found[2]) as shop:
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


async def test_the_truck_brings_what_a_preorder_and_a_sold_order_wait_for(system: SystemFactory) -> None:
    running = await system()
    printed: list[str] = []
    async with running.client() as shop, StocktideClient(running.api) as client:
        demo = DemoShop(client, random.Random(1), printed.append, "demo")
        await demo.open()
        pools = await shop.get_when("/v1/pools", lambda answer: bool(answer.body["items"]))
        assert [(pool["sku"], pool["quantity"]) for pool in pools["items"]] == [(catalog.POOL_SKU, catalog.POOL_UNITS)]
        for sku, units in catalog.FLASH_GOODS.items():
            left = units - (catalog.POOL_UNITS if sku == catalog.POOL_SKU else 0)
            await shop.get_when(f"/v1/stock/{sku}", lambda answer, left=left: answer.body.get("available") == left)
            # The shop's own site sells to the last unit; seven are left, and jd sells none of them.
            assert (await shop.place(sku, left - 7, channel="shopify", paid=True)).status == 201
        await demo.sell_beyond_the_shelf()
        assert (await shop.stock(PREORDER_SKU))["preordered"] == ORDER_UNITS
        assert (await shop.stock(SOLD_SKU))["short"] == SHORT_UNITS
        assert (await shop.stock(catalog.POOL_SKU))["reserved"] == catalog.POOL_UNITS - ORDER_UNITS
        await demo.receive_truck()
        for sku in (PREORDER_SKU, SOLD_SKU):
            stock = await shop.stock(sku)
            assert (stock["preordered"], stock["short"]) == (0, 0), sku
    story = "\n".join(printed)
    assert f"{SHORT_UNITS + 7} {SOLD_SKU} already" in story and f"7 are there, {SHORT_UNITS} are short" in story
    assert story.count("has all of its units") == 2
