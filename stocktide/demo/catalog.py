"""The demo's data: goods, channels with policies, warehouses, opening stock.

In: a seeded random generator, so that the shop is the same each time. Out: stock and receipts in whole units.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from stocktide.loadtest.client.events import LINES_MAX, Event

WAREHOUSES = ("SH1", "BJ1", "GZ1")

# Each channel reacts differently to low stock.
POLICIES: dict[str, dict[str, Any]] = {
    # Takes preorders below 100 units, resumes at 200.
    "tmall": {
        "safety_threshold": 100,
        "resume_threshold": 200,
        "below_threshold": "preorder",
        "preorder_cap": 300,
    },
    # Stops selling below 50, resumes at 120.
    "jd": {"safety_threshold": 50, "resume_threshold": 120, "below_threshold": "suspend"},
    # Sells half of the available units, and never the last 20.
    "pinduoduo": {"share": 0.5, "buffer": 20},
    # Lists at most 100; takes 40 preorders, then is sold out.
    "douyin": {
        "max_listed": 100,
        "safety_threshold": 150,
        "resume_threshold": 250,
        "below_threshold": "preorder",
        "preorder_cap": 40,
    },
    # The shop's own site sells down to the last unit.
    "shopify": {"primary": True, "safety_threshold": 30, "below_threshold": "suspend"},
}

_KINDS = ("MUG", "SHIRT", "LAMP", "SCARF", "KETTLE", "BACKPACK", "NOTEBOOK", "CANDLE")
_COLOURS = ("WHITE", "BLACK", "RED", "TEAL", "SAND", "PLUM")
_SIZES = 5
GOODS = tuple(f"{kind}-{colour}-{size}" for kind in _KINDS for colour in _COLOURS for size in range(1, _SIZES + 1))
# The units of the goods in the flash sale.
FLASH_GOODS = {"CONSOLE-X": 900, "PHONE-12": 700, "SNEAKER-RED": 500}
# Units of a SKU of the sale that SH1 keeps for the campaign; its other orders cannot have them.
POOL_SKU, POOL_UNITS, POOL_PURPOSE = "PHONE-12", 50, "double-11"
# One in so many has low stock, so that every mode shows from the start.
_LOW_EVERY = 20
_STOCK = (400, 900)
_LOW_STOCK = (15, 140)


def opening_stock(chance: random.Random) -> dict[str, int]:
    """Units of each SKU, over all warehouses."""
    stock = {
        sku: chance.randint(*(_LOW_STOCK if index % _LOW_EVERY == 7 else _STOCK)) for index, sku in enumerate(GOODS)
    }
    return {**FLASH_GOODS, **stock}


def opening_receipts(stock: dict[str, int], run: str, at: str) -> Iterator[Event]:
    """Receipts that spread the stock evenly over the warehouses."""
    for index, warehouse in enumerate(WAREHOUSES):
        share = {sku: (units + index) // len(WAREHOUSES) for sku, units in stock.items()}
        lines = [{"sku": sku, "quantity": units} for sku, units in share.items() if units]
        for start in range(0, len(lines), LINES_MAX):
            yield receipt(f"{run}-opening-{start}", warehouse, lines[start : start + LINES_MAX], at)


def receipt(id: str, warehouse: str, lines: list[dict[str, Any]], at: str) -> Event:
    """A `stock.received`."""
    return {"type": "stock.received", "id": id, "occurred_at": at, "warehouse": warehouse, "lines": lines}


def pool(id: str, at: str) -> Event:
    """A `stock.reserved`: the pool of the campaign."""
    event = receipt(id, WAREHOUSES[0], [{"sku": POOL_SKU, "quantity": POOL_UNITS}], at)
    return {**event, "type": "stock.reserved", "purpose": POOL_PURPOSE}


def basket(chance: random.Random) -> list[dict[str, Any]]:
    """One to three everyday goods; a few are bought often, most rarely."""
    count = chance.choices((1, 2, 3), (6, 3, 1))[0]
    skus = {GOODS[int(len(GOODS) * chance.random() ** 2.5)] for _ in range(count)}
    return [{"sku": sku, "quantity": chance.choices((1, 2, 5), (7, 2, 1))[0]} for sku in sorted(skus)]
