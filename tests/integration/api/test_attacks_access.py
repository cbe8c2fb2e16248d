"""Attacks on a running system with keys: what was taken away, bytes that do not come, too many, or disguised."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import statistics
import time
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import aiohttp
import psutil
import pytest
from yarl import URL

from stocktide.api.access.connections import HEADER_SECONDS_MAX
from stocktide.api.access.keys import id_of, make_key
from stocktide.api.feeds.close_codes import CloseCode
from stocktide.api.requests import BODY_SECONDS_MAX
from tests.harness.api_client import ApiTestClient, FeedReader, open_client, unique_name
from tests.harness.events import order_event, stock_received
from tests.harness.eventually import eventually
from tests.harness.process import run_stocktide
from tests.harness.system import RunningSystem
from tests.integration.api.conftest import CONNECTIONS_MAX
from tests.integration.api.test_socket import open_socket

IDLE_CONNECTIONS = 10_000
# Addresses from which they come: each may have fewer ports, and the system takes 8,000 of each.
SOURCES = 4
# A connection without a request has buffers, a parser and a task.
BYTES_PER_CONNECTION_MAX = 40_000
# To a call while all others wait.
ANSWER_SECONDS_MAX = 1.0
# A revoked key ends within a second or two on a quiet machine.
END_SECONDS_MAX = 30.0
# The machine may be slow: an attack that is not ended at all fails this.
RESERVE_SECONDS = 30.0


@pytest.fixture(scope="module")
def running(keyed: RunningSystem) -> RunningSystem:
    return keyed


@contextlib.asynccontextmanager
async def raw(running: RunningSystem) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    url = urlsplit(running.api)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(running: RunningSystem, request: bytes) -> bytes:
    """All that is answered to a request until the connection is closed."""
    async with raw(running) as (reader, writer):
        writer.write(request)
        async with asyncio.timeout(RESERVE_SECONDS):
            return await reader.read()


async def keyed_client(running: RunningSystem, *options: str) -> str:
    arguments = ("keys", "add", "channel", "--channel", "own", "--holder", unique_name("shop"), *options)
    result = await run_stocktide(*arguments, "--data", str(running.data))
    assert result.status == 0, result.printed
    return result.out.strip()


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


async def test_a_revoked_key_ends_its_open_feeds_and_sockets(running: RunningSystem) -> None:
    key = await keyed_client(running)
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
            await run_stocktide("keys", "revoke", str(id_of(key)), "--data", str(running.data))
            for each in (feed, orders):
                assert await until_ended(each) == ["key_not_valid"]
            for each in (socket, ticketed):
                assert await each.close_code() == CloseCode.KEY_NOT_VALID == 4401
        assert (await client.get("/v1/channels/own/stock")).status == 401
        assert await refused_socket(client, "own") == 401


async def test_an_expired_key_ends_its_open_feeds_and_sockets_and_those_of_its_tickets(running: RunningSystem) -> None:
    key = await keyed_client(running, "--expires-in", "8s")
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
            for each in (feed, FeedReader(ticketed)):
                assert await until_ended(each) == ["key_not_valid"]
            for each in (socket, ticketed_socket):
                assert await each.close_code() == CloseCode.KEY_NOT_VALID
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


@pytest.mark.parametrize("name", ["key", "token", "access_token", "q"])
async def test_a_key_in_a_url_is_refused_and_not_logged(running: RunningSystem, name: str) -> None:
    key = running.ready["keys"]["operator"]
    async with running.client() as client:
        for target in (f"/v1/channels?{name}={key}", f"/v1/channels?{name}={key.replace('_', '%5F')}", f"/v1/{key}"):
            answer = await client.get(URL(running.api + target, encoded=True))
            assert answer.problem == (400, "key_in_url")
    assert key.rpartition("_")[2] not in running.logs + running.output


async def test_no_answer_or_log_repeats_a_refused_key(running: RunningSystem) -> None:
    wrong = make_key("test").text
    async with open_client(running.api, key=wrong) as client:
        for path in ("/v1/channels", "/v1/orders/a", "/metrics"):
            assert wrong not in str((await client.get(path)).body)
    assert wrong not in running.logs + running.output


async def test_a_header_and_a_body_that_are_sent_slowly_are_ended(running: RunningSystem) -> None:
    """At the same time, to wait once."""
    key = running.ready["keys"]["operator"]
    orders = (
        f"POST /v1/orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    intake = "POST /v1/intake/shopify HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"
    ended = await asyncio.gather(
        slowly(running, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n"),
        slowly(running, b"", b""),
        slowly(running, orders.encode(), b" "),
        slowly(running, intake.encode(), b" "),
    )
    assert [status for status, _ in ended] == [b"408"] * 4
    bounds = [HEADER_SECONDS_MAX] * 2 + [BODY_SECONDS_MAX] * 2
    for bound, (_, seconds) in zip(bounds, ended, strict=True):
        assert bound - 1 <= seconds < bound + RESERVE_SECONDS


async def slowly(running: RunningSystem, head: bytes, piece: bytes) -> tuple[bytes, float]:
    """The status of the answer to a request whose pieces come one by one, and after how many seconds it came."""
    started = time.monotonic()
    async with raw(running) as (reader, writer):

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(head)
                while piece:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.5)

        sending = asyncio.create_task(trickle())
        async with asyncio.timeout(BODY_SECONDS_MAX + RESERVE_SECONDS):
            answer = await reader.read(1024)
        seconds = time.monotonic() - started
        sending.cancel()
    return answer[9:12], seconds


async def test_ten_thousand_idle_connections_do_not_stop_the_api(running: RunningSystem) -> None:
    process = psutil.Process(running.part_pid("api"))
    before = process.memory_info().rss
    opened: list[socket.socket] = []
    try:
        await asyncio.to_thread(open_idle, running.api, opened)
        assert len(opened) == IDLE_CONNECTIONS
        started = time.monotonic()
        async with running.client() as client:
            assert (await client.get("/v1/channels")).status == 200
            assert time.monotonic() - started < ANSWER_SECONDS_MAX
            metrics = (await client.get("/metrics")).body.decode()
        count = next(line for line in metrics.splitlines() if line.startswith("stocktide_api_connections "))
        # The others are there, but none more than the bound.
        assert CONNECTIONS_MAX / 2 < float(count.rpartition(" ")[2]) <= CONNECTIONS_MAX
        assert process.memory_info().rss - before < IDLE_CONNECTIONS * BYTES_PER_CONNECTION_MAX
    finally:
        for each in opened:
            each.close()

    async def is_answered() -> bool:
        async with running.client() as later:
            return (await later.get("/readyz")).status == 200

    await eventually(is_answered, RESERVE_SECONDS)


def open_idle(api: str, opened: list[socket.socket]) -> None:
    """Connect from several addresses of this machine, and send nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, IDLE_CONNECTIONS + 1_000)), hard))
    url = urlsplit(api)
    for number in range(IDLE_CONNECTIONS):
        made = socket.socket()
        opened.append(made)
        made.settimeout(RESERVE_SECONDS)
        made.bind((f"127.0.0.{3 + number % SOURCES}", 0))
        made.connect((url.hostname, url.port))


async def test_header_bombs_are_refused(running: RunningSystem) -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(5_000))
    long = b"X: " + b"y" * 100_000 + b"\r\n"
    for bomb in (many, long):
        with contextlib.suppress(ConnectionResetError):
            answer = await answered(running, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + bomb + b"\r\n")
            assert answer.split(b" ")[1] in (b"400", b"431")
    async with running.client() as client:
        assert (await client.get("/healthz")).status == 200


async def test_deep_json_is_refused(running: RunningSystem) -> None:
    async with running.client() as client:
        for body in (b"[" * 500_000, b'{"a":' * 100_000, b'{"order_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
            for method, path in (("POST", "/v1/orders"), ("POST", "/v1/movements"), ("PUT", "/v1/policies/jd")):
                assert (await client.call(method, path, body)).status in (400, 413, 422)
            taken = await client.send_events(body)
            assert taken.status in (202, 413) and not (taken.body or {}).get("accepted")
        assert (await client.get("/readyz")).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v1/channels/own%2F..%2Fjd/stock",
        "/v1/channels/own/../jd/stock",
        "//v1/channels/jd/stock",
        "/v1//channels/jd/stock",
        "/v1/channels/JD/stock",
        "/v1/channels/own%00/stock",
        "/v1/channels/%6a%64/stock",
        "/V1/channels/jd/stock",
        "/healthz/../v1/channels/jd/stock",
        "/board/..%2f..%2fapp.py",
        "/board/%2e%2e/app.py",
    ],
)
async def test_no_form_of_a_path_leads_to_another_channel(running: RunningSystem, target: str) -> None:
    async with running.client("channel") as own:
        answer = await own.get(URL(running.api + target, encoded=True))
        assert answer.status in (400, 403, 404, 422), answer.body


@pytest.mark.parametrize("evil", ["\n", "\r\n", "\x1b[2J\x1b[1;1H", "\u2028", "\x85"])
async def test_nothing_that_a_client_sends_makes_a_line_or_moves_the_cursor(running: RunningSystem, evil: str) -> None:
    mark = unique_name("injected")
    text = f"a{evil}2026-11-11 00:00:00,000 ERROR {mark}"
    escaped = quote(text, safe="")
    async with running.client() as client, open_client(running.api) as nobody:
        for path in (
            f"/v1/orders/{escaped}",
            f"/v1/stock/{escaped}",
            f"/{escaped}",
            f"/v1/channels?{escaped}={escaped}",
        ):
            for each in (client, nobody):
                await each.get(URL(running.api + path, encoded=True))
        for path in (f"/v1/orders/{escaped}/pay", f"/v1/intake/{escaped}", f"/v1/approvals/{escaped}/approve"):
            await client.call("POST", URL(running.api + path, encoded=True), {})
        await client.place(text, channel=text, order_id=text)
        await client.send_events(order_event("placed", text, lines=[]), stock_received(text, (text, 1), warehouse=text))
        await client.put(f"/v1/webhooks/{mark}", {"channel": "own", "url": f"http://127.0.0.1/{text}"})
        # A receiver's answer is somebody's text too; a name that does not resolve is an error.
        await client.put(f"/v1/webhooks/{mark}", {"channel": "own", "url": f"http://{mark}.test/{quote(text)}"})
        await client.post(f"/v1/webhooks/{mark}/test")
        await client.call("DELETE", f"/v1/webhooks/{mark}")
    for name in ("X-Actor", "User-Agent", "X-Forwarded-For", "Authorization", "Last-Event-ID", "Origin", "Host"):
        head = f"GET /v1/orders/a HTTP/1.1\r\nConnection: close\r\n{name}: {text}\r\n\r\n"
        await answered(running, head.encode())
    await answered(running, f"GET /{text} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    logs = [
        file.read_bytes().decode(errors="replace") for file in (*(running.data / "logs").glob("*.log"), running.log)
    ]
    for text in logs:
        assert not [line for line in text.splitlines() if mark in line and line.startswith("2026-11-11 00:00:00,000")]
        assert "\x1b[2J" not in text


async def test_an_unknown_key_takes_as_long_as_a_wrong_one(running: RunningSystem) -> None:
    """The comparisons are counted in the unit tests; here a wide margin would show a lookup that is left out."""
    import zlib

    body = f"stk_local_{id_of(running.ready['keys']['viewer'])}_{'a' * 32}"
    wrong, unknown = f"{body}{zlib.crc32(body.encode()):08x}", make_key("local").text
    seconds: dict[str, list[float]] = {wrong: [], unknown: []}
    async with open_client(running.api) as nobody:
        for _ in range(200):
            for key, taken in seconds.items():
                started = time.perf_counter()
                answer = await nobody.call("GET", "/v1/channels", headers={"Authorization": f"Bearer {key}"})
                taken.append(time.perf_counter() - started)
                assert answer.status == 401
    medians = [statistics.median(taken) for taken in seconds.values()]
    assert max(medians) < 1.5 * min(medians)
