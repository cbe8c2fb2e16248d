"""Attacks on the open streams of a running system: keys that end, tickets that were used, feeds of other channels."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest

from stocktide.api.access.key_file import KeyFile, KeyRecord
from stocktide.api.access.keys import id_of, make_key
from stocktide.api.feeds.close_codes import CloseCode
from stocktide.streams.contract.times import now_ms
from tests.harness.api_client import ApiTestClient, FeedReader, open_client, unique_name
from tests.harness.system import RunningSystem
from tests.integration.api.test_socket import SocketReader, open_socket

# A revoked key ends within a second or two on a quiet machine.
END_SECONDS_MAX = 30.0


def add_key(running: RunningSystem, seconds: int | None = None) -> str:
    """A key of the channel `own`; the command `keys add` has tests of its own, and takes seconds on a busy machine."""
    key, now = make_key("local"), now_ms() // 1000
    ends = None if seconds is None else now + seconds
    record = KeyRecord(
        id=key.id,
        role="channel",
        holder=unique_name("shop"),
        digest=key.digest,
        created_at=now,
        expires_at=ends,
        channel="own",
    )
    assert key_file(running).add(record, now) is None
    return key.text


def key_file(running: RunningSystem) -> KeyFile:
    return KeyFile(running.data / "access" / "keys.json")


async def until_accepted(client: ApiTestClient) -> None:
    await client.get_when("/v1/channels/own/stock", lambda answer: answer.status == 200)


async def until_ended(feed: FeedReader) -> list[str]:
    """The codes of errors until the feed ends."""
    codes = []
    async with asyncio.timeout(END_SECONDS_MAX):
        with contextlib.suppress(EOFError):
            while True:
                event = await feed.next()
                if event.event == "error":
                    codes.append(event.data["code"])
    return codes


async def all_ended(feeds: list[FeedReader], sockets: list[SocketReader]) -> None:
    """Wait until each has ended as one of a key that is not valid any more; a socket has to be answered meanwhile."""
    codes = await asyncio.gather(*map(until_ended, feeds), *(each.close_code() for each in sockets))
    assert codes == [["key_not_valid"]] * len(feeds) + [4401] * len(sockets)
    assert CloseCode.KEY_NOT_VALID == 4401


async def test_a_revoked_key_ends_its_open_feeds_and_sockets(running: RunningSystem) -> None:
    key = add_key(running)
    async with open_client(running.api, key=key) as client:
        await until_accepted(client)
        ticket = (await client.post("/v1/feeds/tickets")).body["ticket"]
        async with (
            client.feed("own") as feed,
            client.feed("own", of="orders/feed") as orders,
            open_socket(client, "own") as socket,
            open_client(running.api) as nobody,
            open_socket(nobody, "own", f"?ticket={ticket}") as ticketed,
        ):
            for each in (feed, orders):
                while (await each.next()).event != "synced":
                    pass
            for each in (socket, ticketed):
                await each.until("synced")
            assert key_file(running).revoke(str(id_of(key)))
            await all_ended([feed, orders], [socket, ticketed])
        assert (await client.get("/v1/channels/own/stock")).status == 401
        assert await refused_socket(client, "own") == 401


async def test_an_expired_key_ends_its_open_feeds_and_sockets_and_those_of_its_tickets(running: RunningSystem) -> None:
    key = add_key(running, seconds=5)
    async with open_client(running.api, key=key) as client:
        await until_accepted(client)
        tickets = [(await client.post("/v1/feeds/tickets")).body["ticket"] for _ in range(3)]
        address = f"{running.api}/v1/channels/own/feed?ticket={tickets[0]}"
        async with (
            client.feed("own") as feed,
            open_socket(client, "own") as socket,
            open_client(running.api) as nobody,
            nobody.session.get(address) as ticketed,
            open_socket(nobody, "own", f"?ticket={tickets[1]}") as ticketed_socket,
        ):
            assert ticketed.status == 200
            await all_ended([feed, FeedReader(ticketed)], [socket, ticketed_socket])
            assert await refused_socket(nobody, "own", f"?ticket={tickets[2]}") == 401


async def test_a_ticket_opens_one_feed_or_one_socket(running: RunningSystem) -> None:
    async with running.client("channel") as own, open_client(running.api) as nobody:
        first, second = [(await own.post("/v1/feeds/tickets")).body["ticket"] for _ in range(2)]
        async with open_socket(nobody, "own", f"?ticket={first}") as socket:
            await socket.until("synced")
            assert await refused_socket(nobody, "own", f"?ticket={first}") == 401
            assert (await nobody.get(f"/v1/channels/own/feed?ticket={first}")).status == 401
        assert await refused_socket(nobody, "own", f"?ticket={first}") == 401
        async with nobody.session.get(f"{running.api}/v1/channels/own/feed?ticket={second}") as feed:
            assert feed.status == 200
        assert await refused_socket(nobody, "own", f"?ticket={second}") == 401
        # Used at the same time, it opens one.
        ticket = (await own.post("/v1/feeds/tickets")).body["ticket"]
        path = f"/v1/channels/own/feed?ticket={ticket}"
        opened = await asyncio.gather(*(nobody.session.get(running.api + path) for _ in range(10)))
        assert sorted(each.status for each in opened) == [200] + [401] * 9
        for each in opened:
            each.close()


async def test_the_socket_of_another_channel_is_that_of_an_unknown_one(running: RunningSystem) -> None:
    async with running.client("channel") as own, running.client("warehouse") as store:
        assert [await refused_socket(own, name) for name in ("jd", unique_name("nobody"))] == [404, 404]
        ticket = (await own.post("/v1/feeds/tickets")).body["ticket"]
        assert await refused_socket(own, "jd", f"?ticket={ticket}") == 404
        assert await refused_socket(store, "own") == 403


async def refused_socket(client: ApiTestClient, channel: str, query: str = "") -> int:
    """The status with which a socket is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        async with open_socket(client, channel, query):
            pass
    return raised.value.status
