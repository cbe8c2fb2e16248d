"""Bounds of connections, rates, origins and tickets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request
from redis.asyncio import Redis

from stocktide.api.access.connections import ConnectionLimits, Connections
from stocktide.api.access.key_file import KeyFile, KeyRecord
from stocktide.api.access.key_ring import KeyRing
from stocktide.api.access.keys import make_key
from stocktide.api.access.origins import Origins
from stocktide.api.access.rates import STRANGER_WINDOWS, Rates
from stocktide.api.access.tickets import TICKET_SECONDS, TICKETS_PER_KEY_MAX, Tickets


class FakeConnection:
    def __init__(self, address: str, is_idle: bool = True) -> None:
        self.address = address
        self.is_idle = is_idle
        self.status: int | None = None

    def header_began(self) -> float | None:
        return None

    def refuse(self, status: int) -> None:
        self.status = status


def test_the_oldest_idle_connection_makes_room_for_a_new_one() -> None:
    connections = Connections(ConnectionLimits(3, 3))
    made = [FakeConnection("a", is_idle=False), FakeConnection("a"), FakeConnection("a"), FakeConnection("a")]
    assert all(connections.add(each) for each in made)
    assert [each.status for each in made] == [None, 503, None, None]
    assert len(connections) == 3


def test_an_address_closes_its_own_idle_connections_only() -> None:
    connections = Connections(ConnectionLimits(10, 1))
    other, first, second = FakeConnection("b"), FakeConnection("a"), FakeConnection("a")
    for each in (other, first, second):
        connections.add(each)
    assert (other.status, first.status, second.status) == (None, 503, None)


def test_a_new_connection_is_refused_where_all_are_busy() -> None:
    connections = Connections(ConnectionLimits(1, 1))
    busy, new = FakeConnection("a", is_idle=False), FakeConnection("b")
    assert connections.add(busy)
    assert not connections.add(new)
    assert (busy.status, new.status, connections.refused) == (None, 503, 1)
    connections.remove(busy)
    assert connections.add(FakeConnection("b"))


def test_a_key_that_asks_too_often_is_told_when_it_may_ask_again() -> None:
    rates = Rates(3)
    answers = [rates.refuse("k") for _ in range(7)]  # at most one turn of the second lies between
    refused = [answer for answer in answers if answer is not None]
    assert refused
    assert refused[0].status == 429
    assert refused[0].headers["Retry-After"] == "1"
    assert rates.refuse("other") is None


def test_an_address_that_guesses_keys_is_told_to_wait_and_no_other_with_it() -> None:
    rates = Rates(3)
    refused = [answer for _ in range(7) if (answer := rates.refuse_stranger("2001:db8::1")) is not None]
    assert refused[-1].status == 429
    assert refused[-1].headers["Retry-After"] == "1"
    assert any(rates.refuse_stranger("2001:db8::ffff") for _ in range(4)), "the same network"
    for other in ("2001:db8:0:1::1", "127.0.0.1", None, "a name", "k"):
        assert rates.refuse_stranger(other) is None


def test_addresses_take_a_bounded_number_of_windows() -> None:
    rates = Rates(5_000)
    for number in range(3 * STRANGER_WINDOWS):
        rates.refuse_stranger(f"10.0.{number // 256}.{number % 256}")
    assert rates.windows <= STRANGER_WINDOWS


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("http://api.test", True),
        ("https://shop.test", True),
        ("https://shop.test.evil", False),
        ("null", False),
        ("http://[half", False),
    ],
)
def test_only_listed_origins_may_change_something(origin: str | None, is_allowed: bool) -> None:
    headers = {"Host": "api.test"} | ({} if origin is None else {"Origin": origin})
    request = make_mocked_request("POST", "/v1/orders", headers=headers)
    assert (Origins("https://shop.test, https://b.test").refuse(request) is None) == is_allowed


class FakeRedis:
    """`SET NX` of a Redis that two API processes share."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    async def set(self, name: str, value: Any, *, ex: int, nx: bool) -> bool | None:
        assert nx
        assert ex > TICKET_SECONDS
        if name in self.names:
            return None
        self.names.add(name)
        return True


class Processes:
    """Two API processes with the same file of keys and the same Redis."""

    def __init__(self, file: Path) -> None:
        key = make_key("test")
        self.file, self.key_id, self.now = file, key.id, 1_800_000_000.0
        record = KeyRecord(id=key.id, role="viewer", holder="chen", digest=key.digest, created_at=0)
        KeyFile(file).add(record, self.now)
        redis = cast(Redis, FakeRedis())
        self.rings = [KeyRing(file, lambda: self.now) for _ in range(2)]
        self.first, self.second = (Tickets(ring, redis, "app", lambda: self.now) for ring in self.rings)
        self.reload()
        self.caller = self.rings[0].authenticate(key.text)

    def reload(self) -> None:
        for ring in self.rings:
            ring.load()

    def issue(self) -> str:
        assert self.caller is not None
        ticket = self.first.issue(self.caller)
        assert ticket is not None
        return ticket


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path / "keys.json")


async def test_any_process_accepts_a_ticket_and_only_once(processes: Processes) -> None:
    ticket = processes.issue()
    assert await processes.second.accept(ticket) == processes.caller
    assert await processes.second.accept(ticket) is None
    assert await processes.first.accept(ticket) is None


async def test_a_ticket_expires(processes: Processes) -> None:
    ticket = processes.issue()
    processes.now += TICKET_SECONDS
    assert await processes.first.accept(ticket) is None


async def test_a_changed_ticket_is_refused(processes: Processes) -> None:
    key_id, expires, nonce, signature = processes.issue().split(".")
    later = f"{key_id}.{int(expires) + 1000}.{nonce}.{signature}"
    for wrong in (later, f"{key_id}.{expires}.{nonce}.", "", ".", "é", f"{key_id}.{expires}.{nonce[:-1]}.{signature}"):
        assert await processes.first.accept(wrong) is None


async def test_a_ticket_ends_with_its_key(processes: Processes) -> None:
    ticket = processes.issue()
    KeyFile(processes.file).revoke(processes.key_id)
    processes.reload()
    assert await processes.first.accept(ticket) is None


async def test_a_key_gets_a_bounded_number_of_tickets(processes: Processes) -> None:
    assert processes.caller is not None
    for _ in range(TICKETS_PER_KEY_MAX):
        processes.issue()
    assert processes.first.issue(processes.caller) is None
    processes.now += TICKET_SECONDS
    assert processes.first.issue(processes.caller) is not None
