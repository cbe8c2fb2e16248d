"""Every row of the table of counters: what an event does to on_hand, committed, physical, locked and available."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.ledger.drivers import CommandReply
from tests.ledger.shop_client import ShopClient


async def _expire(shop: ShopClient) -> CommandReply:
    shop.advance(seconds=60)
    return await shop.tick()


STEPS: dict[str, Callable[[ShopClient], Awaitable[CommandReply]]] = {
    "place": lambda shop: shop.place("o1", {"A": 1}, hold_seconds=60),
    "pay": lambda shop: shop.pay("o1"),
    "ship": lambda shop: shop.ship("o1", ("A", 1, "SH1")),
    "cancel": lambda shop: shop.cancel("o1"),
    "return": lambda shop: shop.take_back("o1", ("A", 1, "SH1")),
    "expire": _expire,
}


@pytest.mark.parametrize(
    ("steps", "outcome", "counters"),
    [
        ("", "received", (100, 0, 100, 0, 100)),
        ("place", "reserved", (100, 0, 100, 1, 99)),
        ("place cancel", "cancelled", (100, 0, 100, 0, 100)),
        ("place expire", "expired", (100, 0, 100, 0, 100)),
        ("place pay", "paid", (100, 1, 99, 0, 99)),
        ("place pay ship", "shipped", (99, 0, 99, 0, 99)),
        ("place pay cancel", "cancelled", (100, 0, 100, 0, 100)),
        ("place pay ship return", "returned", (100, 0, 100, 0, 100)),
    ],
)
async def test_events_change_the_counters_as_the_table_says(
    shop: ShopClient, steps: str, outcome: str, counters: tuple[int, ...]
) -> None:
    reply = await shop.receive("A", 100)
    for step in steps.split():
        reply = await STEPS[step](shop)
    stock = shop.stock("A")
    assert reply.outcome == outcome
    assert (stock.on_hand, stock.committed, stock.physical, stock.locked, stock.available) == counters
    assert steps != "place expire" or shop.order("o1").state == "expired"


async def test_a_batch_decides_its_commands_one_after_the_other(shop: ShopClient) -> None:
    await shop.receive("A", 3)
    replies = await shop.submit_all(*(shop.place_command(f"o{number}", {"A": 2}) for number in range(3)))
    assert [reply.outcome for reply in replies] == ["reserved", "insufficient_stock", "insufficient_stock"]
    assert shop.stock("A").available == 1
