"""Fixtures: every scenario runs on the model, on Valkey, and on `redis-server` where it is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tables.ledger import Ledger
from tests.ledger.servers import binaries, opened, running
from tests.ledger.shop import Shop
from tests.ledger.tills import LedgerTill, ModelTill

_SERVERS = binaries()


@pytest.fixture(scope="session", params=sorted(_SERVERS))
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server of each kind."""
    with running(_SERVERS[request.param]) as url:
        yield url


@pytest.fixture(scope="session", params=["model", *sorted(_SERVERS)])
def decider(request: pytest.FixtureRequest) -> Iterator[str]:
    """`model`, or the URL of a server."""
    if request.param == "model":
        yield "model"
        return
    with running(_SERVERS[request.param]) as url:
        yield url


@pytest.fixture
async def ledger(server: str) -> AsyncIterator[Ledger]:
    """A blessed, empty ledger."""
    async with opened(server) as ledger:
        yield ledger


@pytest.fixture
async def shop(decider: str) -> AsyncIterator[Shop]:
    """An empty shop at the model's till or at the ledger's."""
    if decider == "model":
        yield Shop(ModelTill())
        return
    async with opened(decider) as ledger:
        yield Shop(LedgerTill(ledger))
