"""A command of the front door as a user runs it: a process of its own, ended where it takes too long.

In: its arguments, and what its environment has besides this one's. Out: how it ended and what it printed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import NamedTuple


class CommandResult(NamedTuple):
    """The exit status, and what went to the two streams."""

    status: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        """All that a user sees: the progress (standard error) first, then what came of it."""
        return self.err + self.out


async def stocktide(*arguments: str, seconds_max: float, environ: Mapping[str, str] | None = None) -> CommandResult:
    """Run it to its end. Raises TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stocktide", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds_max)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return CommandResult(process.returncode, out.decode(), err.decode())
