"""The metrics of a running system that has orders, webhooks and, where it is installed, a Prometheus."""

from __future__ import annotations

import asyncio
import stat
from typing import Any

import aiohttp
import pytest

from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.events import order_placed
from tests.harness.eventually import eventually
from tests.harness.expressions import all_expressions, exposed_by, unknown_names
from tests.harness.receiver import define_webhook, running_receiver
from tests.harness.system import RunningSystem
from tests.integration.access.conftest import ALLOWED_ADDRESS
from tests.packages import needs_promtool


async def fetch(url: str, key: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.text()


async def work(shop: ApiTestClient) -> None:
    """An order by HTTP, one by Kafka, a webhook's call, and an alert."""
    sku, order = unique_name("sku"), unique_name("order")
    async with running_receiver(host=ALLOWED_ADDRESS) as receiver:
        await define_webhook(shop, receiver, skus=[sku])
        await shop.receive(sku, 5)
        assert (await shop.place(sku)).status == 201
        assert (await shop.send_events(order_placed(order, sku))).status == 202
        await shop.get_when(f"/v1/orders/{order}", lambda answer: answer.status == 200)
        assert (await shop.place(sku, 3)).status == 201  # the last units
        await receiver.until(lambda: bool(receiver.versions(sku)))


@pytest.fixture
async def answers(running: RunningSystem, shop: ApiTestClient) -> list[str]:
    """What worker and API answer once every kind of work was done."""
    await work(shop)
    worker = f"{running.ready['worker']}/metrics"

    async def has_counted() -> bool:
        rows = [line for line in (await fetch(worker)).splitlines() if not line.startswith("#")]
        names = (
            "stocktide_webhook_calls_total",
            "stocktide_webhook_pending_items",
            "stocktide_outcomes_total",
            "stocktide_alert_messages_total",
        )
        return all(any(row.startswith(name) for row in rows) for name in names)

    await eventually(has_counted, 30.0, running.log_tail)
    return [await fetch(worker), await fetch(f"{running.api}/metrics", running.ready["keys"]["metrics"])]


async def test_every_metric_and_label_of_the_rules_and_dashboards_is_exposed(answers: list[str]) -> None:
    exposed = exposed_by(*answers)
    unknown = {place: names for place, text in all_expressions() if (names := unknown_names(text, exposed))}
    assert unknown == {}
    assert set(exposed["stocktide_build_info"]) == {"version"}
    assert not [name for name in exposed if name.endswith("_created")]


@needs_promtool
async def test_promtool_finds_nothing_wrong_with_the_names(answers: list[str]) -> None:
    for answer in answers:
        checking = await asyncio.create_subprocess_exec(
            *("promtool", "check", "metrics"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await checking.communicate(answer.encode())
        assert (checking.returncode, output.decode()) == (0, "")


@needs_promtool
async def test_the_prometheus_of_up_reads_worker_and_api_and_judges_our_rules(running: RunningSystem) -> None:
    address = running.ready["prometheus"]
    assert address in running.output and running.part_pid("prometheus")

    async def ask(path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(f"{address}/api/v1/{path}") as answer:
            return (await answer.json())["data"]

    async def are_up() -> bool:
        targets = (await ask("targets"))["activeTargets"]
        return [(target["labels"]["job"], target["health"]) for target in targets] == [
            ("stocktide-api", "up"),
            ("stocktide-worker", "up"),
        ]

    await eventually(are_up, 40.0, running.log_tail)  # two scrapes, the first at any moment of an interval
    rules = [rule for group in (await ask("rules"))["groups"] for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"alerting"} and len(rules) > 10
    folder = running.data / "prometheus"
    assert stat.S_IMODE((folder / "metrics.key").stat().st_mode) == 0o600
    assert (folder / "data").is_dir() and any((folder / "data").iterdir())
