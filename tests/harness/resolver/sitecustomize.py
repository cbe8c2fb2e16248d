"""Names that a test can move, in every process that has this folder in PYTHONPATH: Python imports it at its start.

In: the file TEST_NAMES with lines `name address`, read anew for each look-up. Out: aiohttp's resolver, which finds
these names there and asks the system for others. No test can change the servers of the system's own resolver.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

_ask_system = ThreadedResolver.resolve


def _addresses_of(host: str) -> list[str]:
    lines = Path(os.environ["TEST_NAMES"]).read_text().splitlines()
    return [address for name, address in map(str.split, lines) if name == host]


async def _resolve(
    self: ThreadedResolver, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
) -> list[ResolveResult]:
    found = _addresses_of(host)
    if not found:
        return await _ask_system(self, host, port, family)
    return [
        ResolveResult(
            hostname=host,
            host=address,
            port=port,
            family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            flags=socket.AI_NUMERICHOST,
        )
        for address in found
    ]


ThreadedResolver.resolve = _resolve  # type: ignore[method-assign]
