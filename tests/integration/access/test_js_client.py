"""The client for browsers and Node, by its own tests against a running system."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from stocktide.api.feeds.close_codes import CloseCode
from tests.harness.system import RunningSystem

CLIENT = Path(__file__).parents[3] / "clients" / "js"
# A quiet machine needs a tenth.
TESTS_SECONDS_MAX = 150.0

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: the client is not tested")


async def run_node(*arguments: str, **environ: str) -> str:
    """The output of `node` in the folder of the client, which has to succeed."""
    node = await asyncio.create_subprocess_exec(
        "node",
        *arguments,
        cwd=CLIENT,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(node.communicate(), TESTS_SECONDS_MAX)
    assert node.returncode == 0, out.decode()
    return out.decode()


@needs_node
async def test_the_client_passes_its_own_tests(running: RunningSystem) -> None:
    environ = {
        "STOCKTIDE_URL": running.api,
        "STOCKTIDE_KEY": running.ready["keys"]["operator"],
        "STOCKTIDE_CLOSE_CODES": json.dumps({str(code.value): code.name.lower() for code in CloseCode}),
    }
    # Node before 22 has a WebSocket by this option only.
    tests = sorted(str(path.relative_to(CLIENT)) for path in (CLIENT / "test").glob("*.test.js"))
    out = await run_node("--experimental-websocket", "--test", *tests, **environ)
    assert "# fail 0" in out, out
