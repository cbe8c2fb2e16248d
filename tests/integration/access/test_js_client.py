"""The client for browsers and Node, by its own tests against a running system, and its README as typed."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from stocktide.api.feeds.close_codes import CloseCode
from tests.harness.document import openapi_document
from tests.harness.system import RunningSystem
from tests.packages import CLIENT, find_node, has_client_tools
from tests.packages import CLIENT_TOOLS as TOOLS

# A quiet machine needs a twentieth.
TESTS_SECONDS_MAX = 300.0

needs_node = pytest.mark.skipif(find_node() is None, reason="there is no Node 20: the client is not tested")
needs_tools = pytest.mark.skipif(not has_client_tools(), reason="`npm ci` was not run in clients/js")


def environ_of(running: RunningSystem) -> dict[str, str]:
    """What the tests and the examples find the system by."""
    return {"STOCKTIDE_URL": running.api, "STOCKTIDE_KEY": running.ready["keys"]["operator"]}


async def run_in(folder: Path, *command: str | Path, **environ: str) -> str:
    """The output of a command, which has to succeed."""
    running = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(running.communicate(), TESTS_SECONDS_MAX)
    finally:
        if running.returncode is None:
            running.kill()
    assert running.returncode == 0, out.decode()
    return out.decode()


@needs_node
async def test_the_client_passes_its_own_tests(running: RunningSystem) -> None:
    codes = json.dumps({str(code.value): code.name.lower() for code in CloseCode})
    tests = sorted(str(path.relative_to(CLIENT)) for path in (CLIENT / "test").glob("*.test.js"))
    # Node before 22 has a WebSocket by this option only.
    command = ("node", "--experimental-websocket", "--test", *tests)
    out = await run_in(CLIENT, *command, STOCKTIDE_CLOSE_CODES=codes, **environ_of(running))
    assert "# fail 0" in out, out


@needs_node
async def test_the_commands_and_examples_of_the_readme_work(running: RunningSystem, tmp_path: Path) -> None:
    text = (CLIENT / "README.md").read_text()
    (install,) = re.findall(r"```sh\n(.*)\n```", text)
    await run_in(tmp_path, *install.replace("./clients/js", str(CLIENT)).split(), "--offline")
    outs = []
    for number, example in enumerate(re.findall(r"```js\n(.*?)```", text, re.DOTALL)):
        (tmp_path / f"{number}.mjs").write_text(example)
        outs.append(await run_in(tmp_path, "node", f"{number}.mjs", **environ_of(running)))
    calls, feed = outs
    assert re.fullmatch(r"\d+ orders\n409 \w+ .+\n", calls), calls
    assert re.fullmatch(r"connecting\nsyncing\n(was TEE-.*\n)*idle\nclosed\n", feed), feed


@needs_tools
async def test_its_types_fit_and_are_those_of_the_api(tmp_path: Path) -> None:
    """Types of the source and of the tests; `openapi.d.ts` is made anew when a call changes: `npm run generate`."""
    (tmp_path / "openapi.json").write_bytes(openapi_document())
    made = tmp_path / "openapi.d.ts"
    options = ("--default-non-nullable", "false")
    await run_in(CLIENT, TOOLS / "openapi-typescript", tmp_path / "openapi.json", "-o", made, *options)
    assert made.read_text() == (CLIENT / "types" / "openapi.d.ts").read_text(), "see clients/js/README.md, Work on it"
    await run_in(CLIENT, TOOLS / "tsc")


@pytest.mark.soak
@needs_tools
@pytest.mark.parametrize("way", ["packed", "folder"])
async def test_the_client_has_types_in_another_project(tmp_path: Path, way: str) -> None:
    if way == "packed":
        packed = (await run_in(CLIENT, "npm", "pack", "--silent", "--pack-destination", tmp_path)).split()[-1]
        await run_in(tmp_path, "npm", "install", "--offline", f"./{packed}")
    else:
        assert "`npm ci && npm run prepack`" in (CLIENT / "README.md").read_text()
        await run_in(CLIENT, "npm", "run", "prepack")
        await run_in(tmp_path, "npm", "install", "--offline", CLIENT)
    # A list of no types cannot be said on the command line.
    options = {"noEmit": True, "strict": True, "module": "NodeNext", "target": "ES2022", "types": []}
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options}))
    head = 'import { createClient } from "@stocktide/client";\nconst client = createClient({ key: "" });\n'
    (tmp_path / "right.ts").write_text(head + "export const name: string = (await client.stock('A')).sku;\n")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    await run_in(tmp_path, TOOLS / "tsc")
    (tmp_path / "wrong.ts").write_text(head + "await client.request('GET', '/v1/order');\n")
    with pytest.raises(AssertionError, match="TS2345"):
        await run_in(tmp_path, TOOLS / "tsc")
