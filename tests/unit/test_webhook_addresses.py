"""Which addresses a webhook may call: as literals in a URL, and when they are dialled."""

from __future__ import annotations

import socket

import pytest

from stocktide.streams.webhooks.addresses import AddressRefused, make_socket_factory, parse_networks, url_trouble

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
]
PUBLIC = ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]


def dial(address: str, allowed: str = "") -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    peer = (address, 443, 0, 0) if ":" in address else (address, 443)
    return make_socket_factory(parse_networks(allowed))((family, socket.SOCK_STREAM, 6, "", peer))


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_refused_in_a_url_and_when_it_is_dialled(address: str) -> None:
    assert url_trouble(f"http://[{address}]/" if ":" in address else f"http://{address}/", ()) is not None
    with pytest.raises(AddressRefused):
        dial(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_dialled(address: str) -> None:
    assert url_trouble(f"https://[{address}]/" if ":" in address else f"https://{address}/", ()) is None
    dial(address).close()


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::ffff:7f00:1]"])
def test_other_forms_of_a_private_address_are_recognized(host: str) -> None:
    assert url_trouble(f"http://{host}/", ()) is not None


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://shop.example/",
        "//shop.example/",
        "shop.example",
        "http://",
        "http:///hook",
        "http://user@shop.example/",
        "http://@shop.example/",
        "http://shop.example:99999/",
        "http://shop.example/a b",
        "http://shop.example\\@127.0.0.1/",
        "http://shop.example/\n",
        "",
    ],
)
def test_a_url_that_is_not_one_of_http_is_refused(url: str) -> None:
    assert url_trouble(url, ()) is not None


def test_a_name_is_judged_when_it_is_dialled_and_not_before() -> None:
    assert url_trouble("https://shop.example/hook?token=1@2", ()) is None


def test_a_block_that_is_allowed_is_dialled_also_as_ipv4_mapped() -> None:
    for address in ("127.0.0.9", "::ffff:127.0.0.9"):
        dial(address, "127.0.0.0/8, fd00::/8").close()
    with pytest.raises(AddressRefused):
        dial("10.0.0.1", "127.0.0.0/8, fd00::/8")


def test_a_block_that_is_no_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="has host bits set"):
        parse_networks("127.0.0.1/8")
