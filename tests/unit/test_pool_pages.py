"""Pages of pools: every pool once, in order, whatever the limit and the filter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from stocktide.api.handlers.pools import PoolHandler
from stocktide.api.stale.reads import StaleReads
from stocktide.tables.ledger.client import LedgerRead, PooledSku, PooledSkus

POOLS: dict[str, dict[str, tuple[int, int, int]]] = {
    "A": {"vip@SH1": (5, 0, 0), "vip@BJ1": (2, 0, 0), "sale@SH1": (1, 0, 1_700_000_000_000)},
    "B": {"vip@SH1": (3, 1_700_000_000_000, 0), "vip-b@SH1": (3, 0, 0)},
    "C": {"sale@BJ1": (0, 0, 1_700_000_000_000), "vip@a@b": (1, 0, 0)},
}
ALL = [(sku, pool) for sku in sorted(POOLS) for pool in sorted(POOLS[sku], key=lambda pool: pool.split("@", 1))]


class FakeLedger:
    """A ledger with POOLS, which pages as `read.lua` does."""

    async def read_pools(self, first: str, limit: int, passed: bool = False) -> LedgerRead[PooledSkus]:
        names = [name for name in sorted(POOLS) if name > first or (name == first and not passed)]
        rows: list[PooledSku] = []
        for name in names:
            if sum(len(row.pools) for row in rows) >= limit:
                return LedgerRead(PooledSkus(tuple(rows), True), 1, "t", 1)
            rows.append(PooledSku(name, POOLS[name]))
        return LedgerRead(PooledSkus(tuple(rows), False), 1, "t", 1)


def ledger_alone(reads: FakeReads) -> StaleReads:
    """Reads of a ledger that is never away."""
    return StaleReads(reads, None)  # type: ignore[arg-type]


class FakeReads:
    """Reads of a ledger that is settled."""

    request_seconds = 5.0

    def deadline(self) -> float:
        return 0.0

    async def settled(self, read: Any, deadline: float = 0.0) -> Any:
        return (await read()).value


async def get(query: str) -> Any:
    handler = PoolHandler(FakeLedger(), FakeReads())  # type: ignore[arg-type]
    response = await handler.get(make_mocked_request("GET", f"/v1/pools{query}"))
    return msgspec.json.decode(response.body)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", range(1, 8))
@pytest.mark.parametrize("query", ["", "&purpose=vip", "&warehouse=SH1", "&sku=A", "&purpose=none"])
async def test_pages_hold_every_pool_once(limit: int, query: str) -> None:
    wanted = dict(part.split("=") for part in query.split("&") if part)
    found, cursor, pages = [], "", 0
    while True:
        page = await get(f"?limit={limit}{query}{cursor}")
        assert len(page["items"]) <= limit
        found += [(each["sku"], f"{each['purpose']}@{each['warehouse']}") for each in page["items"]]
        pages += 1
        assert pages < 20
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    expected = [
        (sku, pool)
        for sku, pool in ALL
        if wanted.get("sku") in (None, sku)
        and wanted.get("purpose") in (None, pool.partition("@")[0])
        and wanted.get("warehouse") in (None, pool.partition("@")[2])
    ]
    assert found == expected


async def test_a_pool_shows_its_times_and_units() -> None:
    items = (await get(""))["items"]
    assert items[0] == {
        "purpose": "sale",
        "warehouse": "SH1",
        "sku": "A",
        "quantity": 1,
        "from": None,
        "until": "2023-11-14T22:13:20.000Z",
    }
    assert (items[3]["sku"], items[3]["from"], items[3]["until"]) == ("B", "2023-11-14T22:13:20.000Z", None)
    assert (items[6]["purpose"], items[6]["warehouse"]) == ("vip", "a@b")


@pytest.mark.parametrize(("query", "path"), [("?cursor=x", "cursor"), ("?limit=0", "limit"), ("?sku=", "sku")])
async def test_a_wrong_parameter_is_named(query: str, path: str) -> None:
    assert (await get(query))["errors"][0]["path"] == path
