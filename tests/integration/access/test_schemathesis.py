"""schemathesis calls a running system as `/openapi.json` describes it: nothing fails, nothing undocumented is answered.

Feeds and sockets are left out: their answers have no end.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from tests.harness import schemathesis_hooks
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import lines_of
from tests.harness.system import RunningSystem

if TYPE_CHECKING:
    from schemathesis import Response

ROOT = Path(__file__).parents[3]
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "use_after_free",
    "ensure_resource_availability",
)
ENDLESS = "/(feed|socket)$"
# Most names that are made of all of Unicode hold a character that cannot be printed, and reach no further.
PRINTABLE = ("--generation-codec", "ascii")
# Far beyond what a run takes on a loaded machine.
SECONDS_MAX = 240
SOAK_SECONDS_MAX = 1_800


async def run_schemathesis(
    running: RunningSystem, *options: str, role: str = "operator", seconds_max: float = SECONDS_MAX
) -> None:
    """Run the command line on a system; a failure shows what it printed."""
    header = f"Authorization: Bearer {running.ready['keys'][role]}"
    command = ("run", f"{running.api}/openapi.json", "--header", header, "--exclude-path-regex", ENDLESS, "--no-color")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli"),
        *(*command, "--continue-on-failure", "--no-shrink", "--checks", ",".join(CHECKS), *options),
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": schemathesis_hooks.__name__},
        cwd=running.data,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds_max):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, printed.decode(errors="replace")[-20_000:]


class LinkedCalls:
    """The calls of a system as schemathesis makes and checks them, and as it links them by `Location`."""

    def __init__(self, document: dict[str, Any], api: str, key: str) -> None:
        import schemathesis  # two seconds, which every process of tests would spend

        self._schema = schemathesis.openapi.from_dict(document)
        self._schema.config.update(base_url=api)
        self._headers = {"Authorization": f"Bearer {key}"}

    async def call(self, name: str, **parts: Any) -> Response:
        """Make the call of this `operationId`, and check the answer."""
        case = self._schema.find_operation_by_id(name).Case(media_type="application/json", **parts)
        return await asyncio.to_thread(case.call_and_validate, headers=self._headers)

    def linked(self, name: str, response: Response) -> dict[str, dict[str, str]]:
        """The calls to which the `Location` of an answer leads, with the parameters of their paths."""
        from schemathesis.engine.observations import LocationHeaderEntry
        from schemathesis.specs.openapi.stateful.inference import LinkInferencer

        (location,) = response.headers["location"]
        operation = self._schema.find_operation_by_id(name)
        entry = LocationHeaderEntry(response.status_code, location)
        LinkInferencer.from_schema(self._schema).inject_links(operation, [entry])
        found = operation.responses.find_by_status_code(response.status_code)
        return {
            link["operationId"]: {
                parameter: unquote(re.search(expression.partition("#regex:")[2], location)[1])
                for parameter, expression in link["parameters"].items()
            }
            for link in found.definition["links"].values()
        }


async def test_every_call_answers_only_what_is_described(running: RunningSystem, shop: ApiTestClient) -> None:
    await shop.receive(schemathesis_hooks.SKU, 1_000_000)
    options = ("--phases", "fuzzing,stateful", "--max-examples", "2", "--generation-deterministic", *PRINTABLE)
    await run_schemathesis(running, *options)


async def test_by_its_location_an_order_is_placed_paid_and_cancelled(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    document = (await shop.get("/openapi.json")).body
    calls = LinkedCalls(document, running.api, running.ready["keys"]["operator"])
    order = {"order_id": unique_name("天"), "channel": "tmall", "lines": lines_of((await shop.receive_new(5), 2))}
    placed = await calls.call("post_orders", body=order)
    linked = calls.linked("post_orders", placed)
    assert set(linked) >= {"get_orders_by_order_id", "post_orders_pay", "post_orders_cancel"}
    for name, state in (("post_orders_pay", "paid"), ("post_orders_cancel", "cancelled")):
        answer = await calls.call(name, path_parameters=linked[name], body={})
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    shown = await calls.call("get_orders_by_order_id", path_parameters=linked["get_orders_by_order_id"])
    assert (shown.json()["order_id"], shown.json()["state"]) == (order["order_id"], "cancelled")


@pytest.mark.soak
@pytest.mark.parametrize("role", ["operator", "viewer", "channel", "warehouse"])
@pytest.mark.parametrize("names", [PRINTABLE, ()], ids=["printable", "any"])
async def test_a_long_run_answers_only_what_is_described(
    running: RunningSystem, shop: ApiTestClient, role: str, names: tuple[str, ...]
) -> None:
    await shop.receive(schemathesis_hooks.SKU, 1_000_000)
    options = ("--max-examples", "60", "--seed", "1", *names)
    await run_schemathesis(running, *options, role=role, seconds_max=SOAK_SECONDS_MAX)
