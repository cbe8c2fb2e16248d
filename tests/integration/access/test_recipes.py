"""The commands of docs/tour.md and of docs/recipes/ work as printed, on a system with keys."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.harness.process import LAUNCHER
from tests.harness.system import RunningSystem
from tests.intake_payloads import SECRET

ROOT = Path(__file__).parents[3]
STORY_SECONDS_MAX = 120.0
# What the end of each recipe prints.
RESULTS = {
    "shopify": '"order_id":"shopify-5001","id":"shopify-5001-paid"',
    "woocommerce": '"order_id":"woocommerce-6001","channel":"woocommerce","state":"paid"',
    "youzan": '"order_id":"youzan-E7001","channel":"youzan","state":"paid"',
    "qimen": "<flag>success</flag>",
    "own-site": '"order_id":"own-web-1"',
    "wms": '"id":"a-1","type":"stock.adjusted","outcome":"adjusted"',
}


def commands(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


async def printed(running: RunningSystem, script: str, folder: Path) -> str:
    """What a script prints that is typed in the repository's folder, here in a copy of what it names."""
    typed = script.replace("http://127.0.0.1:8080", running.api).replace("my-secret", SECRET)
    typed = typed.replace(".venv/bin/stocktide", shlex.join(LAUNCHER)).replace("streams/", f"{ROOT}/streams/")
    process = await asyncio.create_subprocess_exec(
        *("sh", "-ec", typed),
        cwd=folder,
        env={**os.environ, "STOCKTIDE_DATA": str(running.data), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), STORY_SECONDS_MAX)
    assert process.returncode == 0, (output.decode(), errors.decode())
    return output.decode()


async def test_the_tour_works_as_printed(running: RunningSystem, tmp_path: Path) -> None:
    story = "\n".join(commands("tour.md"))
    # Other tests of this system sell on the same channel.
    output = await printed(running, f'{story}\ncall -X DELETE -H "$OPERATOR" $API/v1/policies/own', tmp_path)
    assert re.findall(r'"quantity":(\d+),"mode":"(\w+)"', output)[:3] == [
        ("6", "in_stock"),
        ("0", "preorder"),
        ("5", "in_stock"),
    ]
    assert '"promised_at":"2099-11-20' in output
    assert '"outcome":"counted","change":-2,"on_hand":9' in output
    assert "order press-1 (own, forced by" in output
    assert "no drift" in output


@pytest.mark.parametrize("recipe", RESULTS)
async def test_a_recipe_works_as_printed(running: RunningSystem, tmp_path: Path, recipe: str) -> None:
    output = await printed(running, "".join(commands(f"recipes/{recipe}.md")), tmp_path)
    assert RESULTS[recipe] in output


def test_every_recipe_with_commands_is_run() -> None:
    pages = (ROOT / "docs/recipes").glob("*.md")
    assert {page.stem for page in pages if commands(f"recipes/{page.name}")} == set(RESULTS)
