"""Attacks on a running system with keys: what was taken away, bytes that do not come, too many, or disguised."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from yarl import URL

from stocktide.api.access.connections import HEADER_SECONDS_MAX
from stocktide.api.access.keys import id_of, make_key
from stocktide.api.requests import BODY_SECONDS_MAX
from tests.harness.api_client import ApiTestClient, FeedReader, open_client, unique_name
from tests.harness.eventually import eventually
from tests.harness.process import run_stocktide
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system

# Fewer than this process may open; more than the system takes.
CONNECTIONS_MAX, IDLE_CONNECTIONS = 300, 700
# A revoked key ends within a second or two on a quiet machine.
END_SECONDS_MAX = 30.0
# The machine may be slow: an attack that is not ended at all fails this.
RESERVE_SECONDS = 30.0


@pytest.fixture(scope="module")
async def running(
    kafka: KafkaServer, valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    """`stocktide up` with keys and few connections."""
    data = tmp_path_factory.mktemp("attacked") / "data"
    environ = {"STOCKTIDE_OPEN": "0", "STOCKTIDE_CONNECTIONS_MAX": str(CONNECTIONS_MAX)}
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


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


async def keyed(running: RunningSystem, *options: str) -> str:
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


@pytest.mark.parametrize("of", ["feed", "orders/feed"])
async def test_a_revoked_key_ends_its_open_feeds(running: RunningSystem, of: str) -> None:
    key = await keyed(running)
    async with open_client(running.api, key=key) as client:
        await until_accepted(client)
        async with client.feed("own", of=of) as feed:  # type: ignore[arg-type]
            while (await feed.next()).event != "synced":
                pass
            await run_stocktide("keys", "revoke", str(id_of(key)), "--data", str(running.data))
            assert await until_ended(feed) == ["key_not_valid"]
        assert (await client.get("/v1/channels/own/stock")).status == 401


async def test_an_expired_key_ends_its_open_feeds_and_those_of_its_tickets(running: RunningSystem) -> None:
    key = await keyed(running, "--expires-in", "12s")
    async with open_client(running.api, key=key) as client:
        await until_accepted(client)
        ticket = (await client.post("/v1/feeds/tickets")).body["ticket"]
        address = f"{running.api}/v1/channels/own/feed?ticket={ticket}"
        async with (
            client.feed("own") as feed,
            open_client(running.api) as nobody,
            nobody.session.get(address) as ticketed,
        ):
            assert ticketed.status == 200
            assert await until_ended(feed) == ["key_not_valid"]
            assert await until_ended(FeedReader(ticketed)) == ["key_not_valid"]


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


async def test_a_header_that_is_sent_slowly_is_ended(running: RunningSystem) -> None:
    started = time.monotonic()
    async with raw(running) as (reader, writer):

        async def trickle() -> None:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
                while True:
                    writer.write(b"X: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.5)

        sending = asyncio.create_task(trickle())
        async with asyncio.timeout(HEADER_SECONDS_MAX + RESERVE_SECONDS):
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
                assert b"408 Request Timeout" in answer
        sending.cancel()
    assert time.monotonic() - started >= HEADER_SECONDS_MAX - 1


async def test_a_body_that_is_sent_slowly_is_ended(running: RunningSystem) -> None:
    key = running.ready["keys"]["operator"]
    async with raw(running) as (reader, writer):
        writer.write(
            f"POST /v1/orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{".encode()
        )
        async with asyncio.timeout(BODY_SECONDS_MAX + RESERVE_SECONDS):
            head = await reader.readuntil(b"\r\n")
    assert b"408" in head


async def test_idle_connections_beyond_the_bound_do_not_stop_the_api(running: RunningSystem) -> None:
    url = urlsplit(running.api)
    opened = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            opened.append(await asyncio.open_connection(url.hostname, url.port))
        async with running.client() as client:
            assert (await client.get("/v1/channels")).status == 200
            metrics = (await client.get("/metrics")).body.decode()
        count = next(line for line in metrics.splitlines() if line.startswith("stocktide_api_connections "))
        assert float(count.rpartition(" ")[2]) <= CONNECTIONS_MAX
    finally:
        for _, writer in opened:
            writer.close()

    async def is_answered() -> bool:
        async with running.client() as later:
            return (await later.get("/readyz")).status == 200

    await eventually(is_answered, RESERVE_SECONDS)


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
            answer = await client.post("/v1/orders", body)
            assert answer.status in (400, 413, 422)
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


async def test_a_request_cannot_write_a_line_into_the_log(running: RunningSystem) -> None:
    mark = unique_name("injected")
    async with running.client() as client:
        target = f"/v1/orders/a%0A2025-11-11%20ERROR%20{mark}%0Db"
        await client.get(URL(running.api + target, encoded=True))
        await client.call("POST", f"/v1/orders/a%0A{mark}/pay", {}, headers={"X-Actor": mark})
    assert not [line for line in running.logs.splitlines() if line.startswith(("2025-11-11", mark))]


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
