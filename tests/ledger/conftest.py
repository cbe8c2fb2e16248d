"""Fixtures: every scenario runs on the model, on Valkey, and on `redis-server` where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.ledger.ledgers import opened
from tests.ledger.shop import Shop
from tests.ledger.tills import LedgerTill, ModelTill
from tests.servers import RedisServer


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
async def shop(decider: str) -> AsyncIterator[Shop]:
    """An empty shop at the model's till or at the ledger's."""
    if decider == "model":
        yield Shop(ModelTill())
        return
    async with opened(decider) as ledger:
        yield Shop(LedgerTill(ledger))


@pytest.fixture(scope="module", autouse=True)
def leaves_no_keys(emptied_afterwards: None) -> None:
    """See `emptied_afterwards`."""
