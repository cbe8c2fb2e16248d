"""Fixtures: every scenario runs on the model, on Valkey, and on `redis-server` where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stocktide.tables.ledger.limits import LedgerLimits
from tests.harness.servers import RedisServer
from tests.ledger.drivers import ModelDriver
from tests.ledger.ledgers import LIMITS
from tests.ledger.shop_client import ShopClient, open_shop


@pytest.fixture(scope="session")
def server(ledger_server: RedisServer) -> str:
    """The URL of a server of each kind."""
    return ledger_server.url


@pytest.fixture(scope="session", params=["model", "valkey", "redis_server"])
def decider(request: pytest.FixtureRequest) -> str:
    """`model`, or the URL of a server."""
    if request.param == "model":
        return "model"
    server = request.getfixturevalue(request.param)
    assert isinstance(server, RedisServer)
    return server.url


@pytest.fixture
def limits() -> LedgerLimits:
    """The limits of the ledger, which a test may be parametrized with."""
    return LIMITS


@pytest.fixture
async def shop(decider: str, limits: LedgerLimits) -> AsyncIterator[ShopClient]:
    """An empty shop, decided by the model or by the ledger."""
    if decider == "model":
        yield ShopClient(ModelDriver())
        return
    async with open_shop(decider, limits) as shop:
        yield shop


@pytest.fixture(scope="module", autouse=True)
def leaves_no_keys(emptied_afterwards: None) -> None:
    """See `emptied_afterwards`."""
