"""Rows of `reservations` that the restate pass writes again say so, and rows of changes do not."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from stocktide.agents.derive.rows import RowCollector
from stocktide.streams.topics import RESERVATIONS
from stocktide.tables.ledger.commands import Command, Restate
from stocktide.tables.ledger.raw_decision import decode_raw_decision
from tests.harness.servers import RedisServer
from tests.ledger.shop_client import RedisShopClient, open_shop


async def _rows(shop: RedisShopClient, *commands: Command) -> dict[str, Any]:
    """The rows of orders of one batch."""
    rows = RowCollector()
    applied = await shop.ledger.apply(commands, token=secrets.token_hex(8), now_ms=shop.now)
    rows.add(decode_raw_decision(applied.payload))
    orders = [msgspec.json.decode(value or b"") for _, value in dict(rows.by_topic())[RESERVATIONS]]
    return {order["order_id"]: order for order in orders}


async def test_a_row_that_is_written_again_is_marked(valkey: RedisServer) -> None:
    async with open_shop(valkey.url) as shop:
        await shop.receive("A", 10)
        placed = await _rows(shop, shop.place_command("o1", {"A": 2}), shop.place_command("o2", {"A": 2}))
        assert ["restated" in row for row in placed.values()] == [False, False]
        again = await _rows(shop, Restate(keys_max=1_000_000, every_ms=0))
        assert {name: row.pop("restated") for name, row in again.items()} == {"o1": True, "o2": True}
        for name, row in again.items():
            assert row | {"batch": 0} == placed[name] | {"batch": 0}
