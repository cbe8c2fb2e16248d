"""The parts of an API process that decide who may do what.

In: the settings and a Redis. Out: `Access`, with what has to run beside the API.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from stocktide.api.access.connections import DESCRIPTORS_RESERVED, ConnectionLimits, Connections
from stocktide.api.access.guard import AccessGuard
from stocktide.api.access.key_ring import KeyRing
from stocktide.api.access.origins import Origins
from stocktide.api.access.rates import Rates
from stocktide.api.access.scopes import OrderOwners
from stocktide.api.access.tickets import Tickets
from stocktide.api.access.tls import Certificate
from stocktide.errors import SettingsError
from stocktide.security import read_file_of
from stocktide.settings import Settings


@dataclass(frozen=True, slots=True)
class Access:
    """The parts. Without keys (`is_open`) the ring is empty and not looked at."""

    is_open: bool
    ring: KeyRing
    tickets: Tickets
    owners: OrderOwners
    guard: AccessGuard
    connections: Connections
    certificate: Certificate | None

    def watches(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the API until it is cancelled."""
        yield self.connections.watch()
        if not self.is_open:
            yield self.ring.watch()
        if self.certificate is not None:
            yield self.certificate.watch()


def make_access(settings: Settings, redis: Redis) -> Access:
    """The parts, with the keys read. Raises SettingsError."""
    ring = read_keys(settings)
    is_open = bool(settings.open)
    tickets = Tickets(ring, redis, settings.app_id)
    owners = OrderOwners(_unknown)
    guard = AccessGuard(
        None if is_open else ring,
        tickets,
        owners,
        Origins(settings.origins),
        Rates(0 if is_open else settings.requests_per_second),
    )
    limits = ConnectionLimits(_connections_max(settings.connections_max), settings.connections_per_address_max)
    return Access(is_open, ring, tickets, owners, guard, Connections(limits), read_certificate(settings))


def read_keys(settings: Settings) -> KeyRing:
    """The keys of the file; none where every call is open. Raises SettingsError."""
    ring = KeyRing(settings.keys_path)
    if not settings.open:
        try:
            ring.load()
        except (OSError, ValueError) as error:
            raise SettingsError(f"the file of keys {settings.keys_path} cannot be read: {error}") from error
    return ring


async def _unknown(order_id: str) -> None:
    """Every order is unknown until the ledger can be asked."""


def read_certificate(settings: Settings) -> Certificate | None:
    """The certificate of the API; None where it serves without TLS. Raises SettingsError."""
    if not settings.tls_cert:
        return None
    for name in ("tls_cert", "tls_key"):
        read_file_of(name, getattr(settings, name))
    try:
        return Certificate(Path(settings.tls_cert), Path(settings.tls_key))
    except OSError as error:  # an SSLError is one
        raise SettingsError(
            f"STOCKTIDE_TLS_CERT is {settings.tls_cert} and STOCKTIDE_TLS_KEY is {settings.tls_key}: no certificate in "
            "PEM with its own key, without a passphrase"
        ) from error


def _connections_max(wanted: int) -> int:
    """As many as there are file descriptors for."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - DESCRIPTORS_RESERVED))
