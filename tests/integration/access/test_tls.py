"""`stocktide up` with a certificate, and the rate of a key, which needs a system of its own too."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from stocktide.api.access.connections import HEADER_SECONDS_MAX
from stocktide.api.access.keys import make_key
from stocktide.embedded.ports import pick_free_port
from tests.harness.api_client import ApiTestClient
from tests.harness.certificates import Certificates, make_certificates
from tests.harness.eventually import eventually
from tests.harness.process import WITH_KEYS
from tests.harness.servers import KafkaServer, RedisServer, new_app_id
from tests.harness.system import RunningSystem, running_system

# A second on a quiet machine.
RELOAD_SECONDS_MAX = 20.0
# The machine may be slow: what is never ended fails this.
RESERVE_SECONDS = 20.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def files(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate and the key that the system reads."""
    folder = tmp_path_factory.mktemp("tls")
    place = folder / "cert.pem", folder / "key.pem"
    renew(place, certificates.server, certificates.server_key)
    return place


@pytest.fixture(scope="module")
async def running(
    kafka: KafkaServer, valkey: RedisServer, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningSystem]:
    environ = {
        **WITH_KEYS,
        "STOCKTIDE_REQUESTS_PER_SECOND": "3",
        "STOCKTIDE_TLS_CERT": str(files[0]),
        "STOCKTIDE_TLS_KEY": str(files[1]),
    }
    data = tmp_path_factory.mktemp("tls-system") / "data"
    async with running_system(data, kafka.address, valkey.url, new_app_id(), environ) as system:
        yield system


@pytest.fixture(scope="module", autouse=True)
def silent(running: RunningSystem) -> Iterator[tuple[socket.socket, float]]:
    """A connection that begins no handshake, since the first test; and when it was made."""
    with socket.create_connection(place_of(running)) as made:
        yield made, time.monotonic()


def place_of(running: RunningSystem) -> tuple[str, int]:
    url = urlsplit(running.api)
    assert (url.scheme, bool(url.hostname), bool(url.port)) == ("https", True, True)
    return str(url.hostname), int(url.port or 0)


def renew(place: tuple[Path, Path], certificate: Path, key: Path) -> None:
    """Replace the files one after the other, as tools do that renew certificates."""
    for target, source in zip(place, (certificate, key), strict=True):
        scratch = target.with_suffix(".new")
        shutil.copy(source, scratch)
        scratch.replace(target)


async def shown(running: RunningSystem) -> bytes:
    """The certificate that a new connection gets."""
    return ssl.PEM_cert_to_DER_cert(await asyncio.to_thread(ssl.get_server_certificate, place_of(running)))


def content_of(certificate: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def complaints(running: RunningSystem) -> int:
    return (running.data / "logs" / "api.log").read_text().count("the earlier one stays")


async def until_shown(running: RunningSystem, certificate: Path) -> None:
    async def is_shown() -> bool:
        return await shown(running) == content_of(certificate)

    await eventually(is_shown, RELOAD_SECONDS_MAX, running.log_tail)


async def test_a_client_that_knows_the_authority_is_served_over_https_only(
    running: RunningSystem, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=str(certificates.ca))
    key = {"Authorization": f"Bearer {running.ready['keys']['channel']}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), headers=key) as session:
        client = ApiTestClient(session, running.api)
        assert (await client.get("/v1/channels/own/stock")).status == 200
        async with client.feed("own") as feed:
            assert (await feed.next()).event in ("status", "synced")
        async with session.ws_connect(f"{running.api}/v1/channels/own/socket") as opened:
            assert (await opened.receive()).type is aiohttp.WSMsgType.TEXT
    async with aiohttp.ClientSession() as nobody:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await nobody.get(f"{running.api}/healthz")
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientResponseError)):
            await nobody.get(f"{running.api.replace('https', 'http')}/healthz")


async def test_an_old_version_of_the_protocol_is_refused(running: RunningSystem) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(*place_of(running), ssl=context)


async def test_a_renewed_certificate_is_shown_to_new_connections_and_a_broken_one_changes_nothing(
    running: RunningSystem, certificates: Certificates, files: tuple[Path, Path], tmp_path: Path
) -> None:
    connector = aiohttp.TCPConnector(ssl=False, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = ApiTestClient(session, running.api)
        assert (await client.get("/healthz")).status == 200
        other = certificates.untrusted, certificates.untrusted.with_name("x-key.pem")
        renew(files, *other)
        await until_shown(running, other[0])
        broken = tmp_path / "broken.pem"
        broken.write_text("-----BEGIN CERTIFICATE-----\nnone\n")
        for certificate, key in ((broken, other[1]), (certificates.client, other[1])):
            said = complaints(running)
            renew(files, certificate, key)
            await eventually(lambda said=said: complaints(running) > said, RELOAD_SECONDS_MAX)  # type: ignore[misc]
            assert await shown(running) == content_of(other[0])
        said = complaints(running)
        files[1].unlink()
        await eventually(lambda: complaints(running) > said, RELOAD_SECONDS_MAX)
        assert await shown(running) == content_of(other[0])
        renew(files, certificates.server, certificates.server_key)
        await until_shown(running, certificates.server)
        # The connection from before the first change.
        assert (await client.get("/healthz")).status == 200


async def test_a_certificate_with_the_key_of_another_is_refused_at_the_start(
    running: RunningSystem, certificates: Certificates
) -> None:
    pair = {"STOCKTIDE_TLS_CERT": str(certificates.server), "STOCKTIDE_TLS_KEY": str(certificates.client_key)}
    refused = await running.run("api", environ={**pair, "STOCKTIDE_OPEN": "1", "STOCKTIDE_PORT": str(pick_free_port())})
    assert refused.status == 2
    assert f"STOCKTIDE_TLS_CERT is {certificates.server} and STOCKTIDE_TLS_KEY is " in refused.printed


async def test_a_key_that_is_not_there_is_named_with_its_setting(
    running: RunningSystem, certificates: Certificates, tmp_path: Path
) -> None:
    pair = {"STOCKTIDE_TLS_CERT": str(certificates.server), "STOCKTIDE_TLS_KEY": str(tmp_path / "none")}
    refused = await running.run("api", environ={**pair, "STOCKTIDE_OPEN": "1", "STOCKTIDE_PORT": str(pick_free_port())})
    assert refused.status == 2
    assert f"STOCKTIDE_TLS_KEY is {tmp_path / 'none'}: No such file or directory" in refused.printed


async def test_the_doctor_asks_an_api_with_a_certificate(running: RunningSystem) -> None:
    result = await running.run("doctor", "--data", str(running.data))
    assert f"the API at {running.api}" in result.printed
    assert "the API at http:" not in result.printed
    assert result.status == 0, result.printed


async def test_a_key_that_asks_too_often_gets_429(running: RunningSystem) -> None:
    key = {"Authorization": f"Bearer {running.ready['keys']['viewer']}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=key) as session:
        viewer = ApiTestClient(session, running.api)
        answers = await asyncio.gather(*(viewer.get("/v1/channels") for _ in range(20)))
    refused = [answer for answer in answers if answer.status == 429]
    assert refused
    assert refused[0].code == "too_many_requests"
    assert int(refused[0].headers["Retry-After"]) >= 1


async def test_an_address_that_guesses_is_told_to_wait_and_valid_keys_are_served(running: RunningSystem) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session:
        stranger = ApiTestClient(session, running.api)
        wrong = [{"Authorization": f"Bearer {make_key('local').text}"} for _ in range(20)]
        calls = [stranger.call("GET", "/v1/orders", headers=each) for each in wrong]
        valid = {"Authorization": f"Bearer {running.ready['keys']['metrics']}"}
        *answers, served = await asyncio.gather(*calls, stranger.call("GET", "/metrics", headers=valid))
    assert {answer.problem for answer in answers} == {(401, "unauthorized"), (429, "too_many_requests")}
    assert served.status == 200


async def test_a_connection_that_begins_no_handshake_is_ended(silent: tuple[socket.socket, float]) -> None:
    made, since = silent
    made.settimeout(HEADER_SECONDS_MAX + RESERVE_SECONDS)
    assert await asyncio.to_thread(made.recv, 1) == b""
    assert time.monotonic() - since >= HEADER_SECONDS_MAX - 1
