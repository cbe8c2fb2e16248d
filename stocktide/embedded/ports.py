"""Free ports on loopback, and the same ones again after a restart."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Sequence
from pathlib import Path

# Below the kernel's range for outgoing connections (32768 and up on Linux), where any client could take a port
# between the check and the server's bind.
PORTS_FROM, PORTS_TO = 20_000, 32_000
TRIES_MAX = 200
# Long enough for a killed server to release its port.
OLD_PORT_SECONDS_MAX = 3.0
POLL_SECONDS = 0.05
# Ports that this process has chosen and whose servers may not listen yet: they do within a minute.
RESERVED_MAX = 64
_reserved: dict[int, socket.socket] = {}


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port with only TIME_WAIT connections counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _reserve(port: int) -> bool:
    """Keep other processes that pick a port off this one until its server has it: false if one of them has picked it.
    The UDP port of the same number is the sign, since it ends with the process and servers here use TCP."""
    sign = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sign.bind(("127.0.0.1", port))
    except OSError:
        sign.close()
        return False
    while len(_reserved) >= RESERVED_MAX:
        _reserved.pop(next(iter(_reserved))).close()
    _reserved[port] = sign
    return True


def pick_free_port(host: str = "127.0.0.1", avoid: Sequence[int] = ()) -> int:
    """A port that is free now, and that no other process picks. Raises RuntimeError if none is found."""
    for _ in range(TRIES_MAX):
        port = random.randrange(PORTS_FROM, PORTS_TO)
        if port not in avoid and is_port_free(port, host) and _reserve(port):
            return port
    raise RuntimeError(f"no free port between {PORTS_FROM} and {PORTS_TO}")


async def persisted_ports(file: Path, names: Sequence[str]) -> dict[str, int]:
    """The ports in `file` where they are free, else new ones, which `file` then holds."""
    saved = _read(file)
    ports: dict[str, int] = {}
    for name in names:
        old = saved.get(name)
        if (
            old is not None
            and old not in ports.values()
            and await _becomes_free(old)
            and (old in _reserved or _reserve(old))
        ):
            ports[name] = old
        else:
            ports[name] = pick_free_port(avoid=list(ports.values()))
    _write(file, ports)
    return ports


async def _becomes_free(port: int) -> bool:
    deadline = asyncio.get_running_loop().time() + OLD_PORT_SECONDS_MAX
    while not is_port_free(port):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def _write(file: Path, ports: dict[str, int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(ports))


def _read(file: Path) -> dict[str, int]:
    """The saved ports; none where the file is absent or incomplete."""
    try:
        saved = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(saved, dict):
        return {}
    return {name: port for name, port in saved.items() if isinstance(port, int) and 0 < port < 65_536}
