"""The connections of an API process: how many, of which address, and how long one may take to send a header.

In: connections as they are made and lost. Out: those that are closed, because they are idle and others come, or because
their header takes too long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from msgspec import Struct

# A header comes in one packet, or in a few.
HEADER_SECONDS_MAX = 10.0
# Between requests of one connection; longer than a load balancer's minute.
KEEP_ALIVE_SECONDS = 75.0
SWEEP_SECONDS = 1.0
# File descriptors for Kafka, Redis, files and listening sockets.
DESCRIPTORS_RESERVED = 256
# Busy connections that are passed over before a new one is refused.
LOOKED_AT_MAX = 20_000


class Connection(Protocol):
    """What is known of a connection."""

    address: str

    @property
    def is_idle(self) -> bool:
        """Whether it has no request."""
        ...

    def header_began(self) -> float | None:
        """When it was made or the first byte of an incomplete header came; None where it may wait."""
        ...

    def refuse(self, status: int) -> None:
        """Say why, and close."""
        ...


class ConnectionLimits(Struct, frozen=True):
    """The bounds of a process."""

    connections: int
    per_address: int


class Connections:
    """The connections of a process, the oldest first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._open: dict[Connection, None] = {}
        self._of_address: Counter[str] = Counter()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> bool:
        """Take a connection, if need be in the place of the oldest idle one; else refuse it with 503."""
        address = connection.address
        if self._of_address[address] >= self._limits.per_address and not self._close_idle(address):
            return self._refuse(connection)
        if len(self._open) >= self._limits.connections and not self._close_idle(None):
            return self._refuse(connection)
        self._open[connection] = None
        self._of_address[address] += 1
        return True

    def remove(self, connection: Connection) -> None:
        """A connection is lost."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._of_address[connection.address] -= 1
        if not self._of_address[connection.address]:
            del self._of_address[connection.address]

    async def watch(self) -> None:
        """Close connections whose header takes too long, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            latest = loop.time() - HEADER_SECONDS_MAX
            for connection in list(self._open):
                began = connection.header_began()
                if began is not None and began < latest:
                    connection.refuse(408)
                    self.remove(connection)

    def _close_idle(self, address: str | None) -> bool:
        for looked_at, connection in enumerate(self._open):
            if looked_at >= LOOKED_AT_MAX:
                break
            if connection.is_idle and address in (None, connection.address):
                self.remove(connection)
                connection.refuse(503)
                return True
        return False

    def _refuse(self, connection: Connection) -> bool:
        self.refused += 1
        connection.refuse(503)
        return False
