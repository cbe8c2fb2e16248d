"""A pass over all keys: what it finds at once may be more than a page and its cursor hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp.test_utils import make_mocked_request

from stocktide.api.handlers.order_lists import KEYS_MAX, READS_MAX, OrderListHandler
from stocktide.api.requests import QUERY_BYTES_MAX
from stocktide.tables.ledger.client import LedgerRead
from stocktide.tables.ledger.order_pages import FoundOrder, KeyPage
from stocktide.tables.ledger.records import OrderRecord
from tests.unit.test_pool_pages import FakeReads, ledger_alone


class FakeLedger:
    """A ledger with orders in the order in which `read_orders` scans them; it counts the calls."""

    def __init__(self, orders: dict[str, str]) -> None:
        self._names = list(orders)
        self._states = orders
        self.calls = 0

    async def read_orders(self, run_id: str, cursor: str, keys: int, ids: Sequence[str]) -> LedgerRead[KeyPage]:
        self.calls += 1
        if not ids:
            end = int(cursor) + keys
            ids, cursor = self._names[int(cursor) : end], str(end) if end < len(self._names) else "0"
        rows = [FoundOrder(name, msgspec.Raw(self._packed(name))) for name in ids[:300]]
        return LedgerRead(KeyPage("server", cursor, tuple(rows), tuple(ids[300:])), 1, "t", 1)

    def _packed(self, name: str) -> bytes:
        return msgspec.msgpack.encode(OrderRecord(state=self._states[name], channel="tmall"))


async def test_a_pass_over_rare_orders_that_then_are_many_shows_each_once_in_cursors_that_fit() -> None:
    names = [f"{number:05}-{'店' * 110}" for number in range(4_000)]
    orders = {name: "paid" if 3_000 <= number < 3_700 else "rejected" for number, name in enumerate(names)}
    ledger = FakeLedger(orders)
    handler = OrderListHandler(ledger, FakeReads(), ledger_alone(FakeReads()))  # type: ignore[arg-type]
    found: list[str] = []
    query = "state=paid&limit=100"
    for _ in range(200):
        response = await handler.orders(make_mocked_request("GET", f"/v1/orders?{query}"))
        page: dict[str, Any] = msgspec.json.decode(response.body)  # type: ignore[arg-type]
        assert response.status == 200 and len(page["items"]) <= 100
        assert ledger.calls <= READS_MAX
        ledger.calls = 0
        found += [order["order_id"] for order in page["items"]]
        if page["next"] is None:
            break
        query = f"state=paid&limit=100&cursor={page['next']}"
        assert len(query) < QUERY_BYTES_MAX
    assert found == names[3_000:3_700]
    assert KEYS_MAX * len(names[0].encode()) > 2 * QUERY_BYTES_MAX, "one call finds more than fits"
