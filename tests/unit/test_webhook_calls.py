"""Calls of webhooks, made to real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
import time
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import TCPConnector, web

from stocktide.streams.webhooks import calls
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import RETRY_AFTER_SECONDS_MAX, CallResult, call, make_session
from stocktide.streams.webhooks.definition import ROTATION_MS, Webhook, new_secret
from tests.harness.receiver import Receiver, running_receiver

LOOPBACK = "127.0.0.1/32"


def webhook(url: str, **fields: Any) -> Webhook:
    known: dict[str, Any] = {"name": "w", "channel": "c", "url": url, "batch": 1, "per_second": 1, "events": ("stock",)}
    return Webhook(**{**known, "secret": new_secret(), "epoch": "a-0", "revision": "b", **fields})


async def call_once(url: str, allowed: str = LOOPBACK, **fields: Any) -> CallResult:
    async with make_session(parse_networks(allowed)) as session:
        return await call(session, webhook(url, **fields), "msg_1", b"{}")


def answering(receiver: Receiver, status: int, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    receiver.answer = lambda _: web.Response(status=status, headers=named)


class ChangingResolver:
    """Gives another address each time, as a name does that is rebound."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        address = self._addresses.pop(0)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}]

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_name_that_is_rebound_to_a_private_address_is_refused_then() -> None:
    async with running_receiver() as receiver, make_session(parse_networks(LOOPBACK)) as session:
        answering(receiver, 204, Connection="close")
        rebound = webhook(receiver.url.replace("127.0.0.1", "rebound.example"))
        connector = session.connector
        assert isinstance(connector, TCPConnector)
        connector._resolver = ChangingResolver("127.0.0.1", "127.0.0.2")  # type: ignore[assignment]
        assert (await call(session, rebound, "msg_1", b"{}")).ok
        connector.clear_dns_cache()
        assert (await call(session, rebound, "msg_1", b"{}")).error == "address_not_allowed"
        assert len(receiver.calls) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_private_address_gets_no_call_by_whatever_name(host: str) -> None:
    async with running_receiver() as receiver:
        result = await call_once(receiver.url.replace("127.0.0.1", host), allowed="")
        assert (result.status, result.error) == (0, "address_not_allowed")
        assert not receiver.calls


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    async with running_receiver() as receiver:
        answering(receiver, status, Location=f"{receiver.url}?again")
        result = await call_once(receiver.url)
        assert (result.ok, result.status, len(receiver.calls)) == (False, status, 1)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_receiver() as receiver, running_receiver() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert (await call_once(receiver.url)).ok
        assert not proxy.calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), ("99999999", RETRY_AFTER_SECONDS_MAX), ("soon", None), ("-1", None), ("\u0663", None)],
)
async def test_the_wait_that_a_receiver_asks_for_is_read_and_bounded(text: str, expected: float | None) -> None:
    async with running_receiver() as receiver:
        answering(receiver, 429, Retry_After=text)
        assert (await call_once(receiver.url)).retry_after == expected


async def test_a_wait_may_be_a_date() -> None:
    async with running_receiver() as receiver:
        answering(receiver, 503, Retry_After=formatdate(time.time() + 60, usegmt=True))
        assert (await call_once(receiver.url)).retry_after == pytest.approx(60, abs=3)


async def test_a_receiver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "CALL_SECONDS_MAX", 0.2)
    async with running_receiver() as receiver:
        receiver.gate.clear()
        result = await call_once(receiver.url)
        assert (result.ok, result.status, result.error) == (False, 0, "no answer within 0 s")


async def test_an_endless_answer_is_not_read() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except OSError:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        assert (await call_once(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")).ok


async def test_an_answer_with_an_endless_head_is_a_failure() -> None:
    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    async with server, asyncio.timeout(10):
        result = await call_once(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        assert (result.ok, result.status) == (False, 0)


async def test_both_secrets_sign_while_rotating_and_only_the_new_one_afterwards() -> None:
    old, new, now = new_secret(), new_secret(), int(time.time() * 1000)
    async with running_receiver() as receiver:
        await call_once(receiver.url, secret=new, old_secret=old, rotated_ms=now)
        await call_once(receiver.url, secret=new, old_secret=old, rotated_ms=now - ROTATION_MS - 1)
        both, after = receiver.calls
        both.verify(old)
        both.verify(new)
        after.verify(new)
        assert len(after.headers["webhook-signature"].split()) == 1


def test_a_definition_is_not_printed_with_its_secrets() -> None:
    found = webhook("https://shop.example/", old_secret=new_secret())
    assert found.secret not in repr(found) and str(found.old_secret) not in f"{found}"
