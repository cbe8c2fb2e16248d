"""Which addresses a webhook may call.

In: a URL, or the address that is about to be dialled. Out: a refusal, or a socket. Names are resolved anew for each
connection, so a name is judged when its address is dialled, and a literal address also when the webhook is defined.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_LENGTH_MAX = 2_048
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class AddressRefused(PermissionError):
    """The dialled address is not one that webhooks may call."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """The CIDR blocks of a list that is separated by commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def inner_address(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for: IPv4-mapped, 6to4, NAT64; else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def may_call(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether an address is public and of one host, or in a block that is allowed although private."""
    inner = inner_address(address)
    if any(inner in network or address in network for network in allowed):
        return True
    # The prefixes of translation are judged by the address inside; Teredo and IPv4-compatible ones are not global.
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def url_trouble(text: str, allowed: Iterable[Network]) -> str | None:
    """Why a URL can never be called; None if it may be."""
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        return "it is not a URL"
    if len(text) > URL_LENGTH_MAX or not text.isprintable() or " " in text or "\\" in text:
        return f"it has more than {URL_LENGTH_MAX} characters, or some that no URL has"
    if url.scheme not in ("http", "https") or not url.raw_host or not port:
        return "it has to be http:// or https:// with a host"
    if "@" in text.split("/")[2]:
        return "it must not contain a user or password"
    if (address := _literal(url.raw_host)) is not None and not may_call(address, allowed):
        return "its address is not public, and not in STOCKTIDE_WEBHOOK_ALLOW"
    return None


def _literal(host: str) -> Address | None:
    """The address that a host is, in any form that the system's resolver reads as one (such as 127.1); else None."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeError):
        return None


def make_socket_factory(allowed: Iterable[Network]) -> Callable[[Any], socket.socket]:
    """The `socket_factory` of an aiohttp connector: it gets the address that is dialled, also that of a literal."""
    networks = tuple(allowed)

    def make_socket(address_info: Any) -> socket.socket:
        family, kind, protocol, _, peer = address_info
        try:
            address = ip_address(peer[0].partition("%")[0])
        except ValueError as error:
            raise AddressRefused("the address cannot be judged") from error
        if not may_call(address, networks):
            raise AddressRefused("the address is not public, and not in STOCKTIDE_WEBHOOK_ALLOW")
        return socket.socket(family, kind, protocol)

    return make_socket
