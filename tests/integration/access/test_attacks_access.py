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
from stocktide.api.requests import BODY_SECONDS_MAX
from stocktide.embedded.ports import pick_free_port
from tests.harness.api_client import ApiTestClient, open_client, unique_name
from tests.harness.events import order_event, stock_received
from tests.harness.eventually import eventually
from tests.harness.process import StocktideProcess, started
from tests.harness.system import RunningSystem
from tests.integration.access.conftest import CONNECTIONS_MAX

IDLE_CONNECTIONS = 10_000
# For all else that this process has open.
DESCRIPTORS_KEPT = 1_000
# Addresses from which they come: each may have fewer ports, and the system takes 8,000 of each.
SOURCES = 4
# A connection without a request has buffers, a parser and a task.
BYTES_PER_CONNECTION_MAX = 40_000
# To a call while all others wait.
ANSWER_SECONDS_MAX = 1.0
# The machine may be slow: an attack that is not ended at all fails this.
RESERVE_SECONDS = 30.0


@contextlib.asynccontextmanager
async def raw(api: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    url = urlsplit(api)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def answered(api: str, request: bytes) -> bytes:
    """All that is answered to a request until the connection is closed."""
    async with raw(api) as (reader, writer):
        writer.write(request)
        async with asyncio.timeout(RESERVE_SECONDS):
            return await reader.read()


def logged(running: RunningSystem) -> str:
    """Everything that every process has written."""
    files = (running.log, *(running.data / "logs").glob("*.log"))
    return "\n".join(file.read_bytes().decode(errors="replace") for file in files)


@contextlib.asynccontextmanager
async def client_from(running: RunningSystem, address: str) -> AsyncIterator[ApiTestClient]:
    """A client without a key, from another address of this machine."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as session:
        yield ApiTestClient(session, running.api)


@pytest.mark.parametrize("name", ["key", "token", "access_token", "q"])
async def test_a_key_in_a_url_is_refused_and_not_logged(running: RunningSystem, name: str) -> None:
    key = running.ready["keys"]["operator"]
    async with running.client() as client:
        for target in (f"/v1/channels?{name}={key}", f"/v1/channels?{name}={key.replace('_', '%5F')}", f"/v1/{key}"):
            answer = await client.get(URL(running.api + target, encoded=True))
            assert answer.problem == (400, "key_in_url")
    assert key.rpartition("_")[2] not in logged(running)


async def test_no_answer_or_log_repeats_a_refused_key(running: RunningSystem) -> None:
    wrong = make_key("test").text
    async with open_client(running.api, key=wrong) as client:
        for path in ("/v1/channels", "/v1/orders/a", "/metrics"):
            assert wrong not in str((await client.get(path)).body)
    assert wrong not in logged(running)


async def test_a_header_and_a_body_that_are_sent_slowly_are_ended(running: RunningSystem) -> None:
    """At the same time, to wait once."""
    key = running.ready["keys"]["operator"]
    orders = (
        f"POST /v1/orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    )
    intake = "POST /v1/intake/shopify HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"
    ended = await asyncio.gather(
        slowly(running.api, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n"),
        slowly(running.api, b"", b""),
        slowly(running.api, orders.encode(), b" "),
        slowly(running.api, intake.encode(), b" "),
    )
    assert [status for status, _ in ended] == [b"408"] * 4
    bounds = [HEADER_SECONDS_MAX] * 2 + [BODY_SECONDS_MAX] * 2
    for bound, (_, seconds) in zip(bounds, ended, strict=True):
        assert bound - 1 <= seconds < bound + RESERVE_SECONDS


async def slowly(api: str, head: bytes, piece: bytes) -> tuple[bytes, float]:
    """The status of the answer to a request whose pieces come one by one, and after how many seconds it came."""
    started = time.monotonic()
    async with raw(api) as (reader, writer):

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
    count = idle_connections()
    try:
        await asyncio.to_thread(open_idle, running.api, opened, count)
        started = time.monotonic()
        async with running.client() as client:
            assert (await client.get("/v1/channels")).status == 200
            assert time.monotonic() - started < ANSWER_SECONDS_MAX
            metrics = (await client.get("/metrics")).body.decode()
        shown = next(line for line in metrics.splitlines() if line.startswith("stocktide_api_connections "))
        # The others are there, but none more than the bound.
        assert min(count, CONNECTIONS_MAX) / 2 < float(shown.rpartition(" ")[2]) <= CONNECTIONS_MAX
        assert process.memory_info().rss - before < count * BYTES_PER_CONNECTION_MAX
    finally:
        for each in opened:
            each.close()

    async def is_answered() -> bool:
        async with running.client() as later:
            return (await later.get("/readyz")).status == 200

    await eventually(is_answered, RESERVE_SECONDS)


def idle_connections() -> int:
    """As many as this process may open; a machine that allows fewer gets fewer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, hard - DESCRIPTORS_KEPT)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + DESCRIPTORS_KEPT, hard))
    return count


def open_idle(api: str, opened: list[socket.socket], count: int) -> None:
    """Connect from several addresses of this machine, and send nothing."""
    url = urlsplit(api)
    for number in range(count):
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
            answer = await answered(running.api, b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + bomb + b"\r\n")
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


@pytest.fixture(scope="module")
async def chatty(running: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StocktideProcess]:
    """An API of the same system that logs all it can: at the usual level, little of a request is in the log."""
    folder, ready, port = tmp_path_factory.mktemp("chatty"), running.ready, pick_free_port()
    environ = {
        **{f"STOCKTIDE_{name.upper()}": ready[name] for name in ("app_id", "kafka", "redis")},
        "STOCKTIDE_DATA": str(folder),
        "STOCKTIDE_PORT": str(port),
        "STOCKTIDE_OPEN": "0",
        "STOCKTIDE_KEYS_FILE": str(running.data / "access" / "keys.json"),
        "STOCKTIDE_LOG_LEVEL": "DEBUG",
    }
    url = f"http://127.0.0.1:{port}"
    async with started(StocktideProcess("chatty", ["api"], environ, folder / "api.log", url)) as process:
        await process.wait_ready()
        yield process


@pytest.mark.parametrize("evil", ["\n", "\r\n", "\x1b[2J\x1b[1;1H", "\u2028", "\x85"])
async def test_nothing_that_a_client_sends_makes_a_line_or_moves_the_cursor(
    running: RunningSystem, chatty: StocktideProcess, evil: str
) -> None:
    mark = unique_name("injected")
    text = f"a{evil}2026-11-11 00:00:00,000 ERROR {mark}"
    escaped = quote(text, safe="")
    async with (
        open_client(chatty.url, key=running.ready["keys"]["operator"]) as client,
        open_client(chatty.url) as nobody,
    ):
        for path in ("v1/orders/{}", "v1/stock/{}", "v1/channels/{}/feed", "v1/channels?{}={}", "{}"):
            for each in (client, nobody):
                await each.get(URL(f"{chatty.url}/{path.replace('{}', escaped)}", encoded=True))
        for path in ("orders/{}/pay", "intake/{}", "approvals/{}/approve"):
            await client.call("POST", URL(f"{chatty.url}/v1/{path.replace('{}', escaped)}", encoded=True), {})
        await client.place(text, channel=text, order_id=text)
        await client.send_events(order_event("placed", text, lines=[]), stock_received(text, (text, 1), warehouse=text))
        await client.put(f"/v1/webhooks/{mark}", {"channel": "own", "url": f"http://127.0.0.1/{text}"})
        # A name that does not resolve is an error.
        await client.put(f"/v1/webhooks/{mark}", {"channel": "own", "url": f"http://{mark}.invalid/{quote(text)}"})
        await client.post(f"/v1/webhooks/{mark}/test")
        await client.call("DELETE", f"/v1/webhooks/{mark}")
    for name in ("X-Actor", "User-Agent", "X-Forwarded-For", "Authorization", "Last-Event-ID", "Origin", "Host"):
        head = f"GET /v1/orders/a HTTP/1.1\r\nConnection: close\r\n{name}: {text}\r\n\r\n"
        await answered(chatty.url, head.encode())
    await answered(chatty.url, f"GET /{text} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    lines = (chatty.log.read_bytes().decode(errors="replace") + logged(running)).splitlines()
    assert [line for line in lines if mark in line], "nothing of it is logged: this test proves nothing"
    assert not [line for line in lines if mark in line and line.startswith("2026-11-11 00:00:00,000")]
    assert not [line for line in lines if "\x1b[2J" in line]


async def test_an_unknown_key_takes_as_long_as_a_wrong_one(running: RunningSystem) -> None:
    """The comparisons are counted in the unit tests; here a wide margin would show a lookup that is left out."""
    import zlib

    body = f"stk_local_{id_of(running.ready['keys']['viewer'])}_{'a' * 32}"
    wrong, unknown = f"{body}{zlib.crc32(body.encode()):08x}", make_key("local").text
    seconds: dict[str, list[float]] = {wrong: [], unknown: []}
    async with client_from(running, "127.0.0.8") as nobody:
        for _ in range(200):
            for key, taken in seconds.items():
                started = time.perf_counter()
                answer = await nobody.call("GET", "/v1/channels", headers={"Authorization": f"Bearer {key}"})
                taken.append(time.perf_counter() - started)
                assert answer.status == 401
    medians = [statistics.median(taken) for taken in seconds.values()]
    assert max(medians) < 1.5 * min(medians)
