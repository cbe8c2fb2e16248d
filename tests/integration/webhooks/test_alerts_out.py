"""Alerts of a running system, sent to servers that check format and signature as the robots' makers document them."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer

from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from tests.harness.api_client import ApiTestClient, unique_name
from tests.harness.eventually import eventually
from tests.harness.robots import Robots
from tests.harness.system import RunningSystem
from tests.integration.webhooks.conftest import LATER, TO_ALL

KINDS = ("dingtalk", "wecom", "feishu", "slack", "webhook")


async def raise_alerts(system: RunningSystem, *skus: str, type_: str = "low_stock") -> None:
    """Write alerts about the SKUs, as a worker does."""
    async with AIOKafkaProducer(bootstrap_servers=system.ready["kafka"]) as producer:
        for number, sku in enumerate(skus):
            row = PublishedAlert(id=f"{sku}-{number}", type=type_, sku=sku, at=rfc3339(now_ms()), batch=1)
            await producer.send_and_wait(system.ready["topics"]["alerts"], encode(row), sku.encode())


async def test_a_change_of_mode_reaches_every_robot(
    running: RunningSystem, shop: ApiTestClient, robots: Robots
) -> None:
    sku = unique_name(TO_ALL)
    async with shop.feed("tmall") as feed:
        await shop.receive(sku, 2)
        await feed.until(sku, quantity=2)
        assert (await shop.place(sku, 2)).status == 201
    for kind in KINDS:
        await robots.until(kind, sku)
    items = [item for body in robots.taken["webhook"] for item in body["items"] if item["sku"] == sku]
    switch = next(item for item in items if item["type"] == "mode_switched")
    assert (switch["mode_before"], switch["mode"], switch["channel"]) == ("in_stock", "sold_out", "tmall")
    assert "in stock → sold out" in robots.text("dingtalk")


async def test_a_receiver_that_is_down_delays_no_other_and_gets_it_when_it_is_back(
    running: RunningSystem, robots: Robots
) -> None:
    sku = unique_name(TO_ALL)
    robots.down.add("webhook")
    robots.errors["wecom"] = 93000
    await raise_alerts(running, sku)
    for kind in ("dingtalk", "feishu", "slack"):
        await robots.until(kind, sku)
    failing = {"webhook", "wecom"}
    await eventually(lambda: failing <= {kind for kind, _ in robots.calls[-20:]}, 30.0, lambda: str(robots.calls[-20:]))
    assert not any(sku in robots.text(kind) for kind in failing)
    robots.down.clear()
    robots.errors.clear()
    for kind in failing:
        await robots.until(kind, sku)
    assert robots.text("slack").count(sku) == robots.text("feishu").count(sku) == 1


async def test_a_killed_worker_loses_no_alert_that_it_has_read_and_not_sent(
    running: RunningSystem, robots: Robots
) -> None:
    sent, waiting = unique_name(TO_ALL), [unique_name(LATER) for _ in range(6)]
    await raise_alerts(running, *waiting, sent)
    await robots.until("webhook", sent)  # so the others were read, and wait for their group
    assert waiting[0] not in robots.text("webhook")
    await running.restart_part("worker")
    await robots.until("webhook", waiting[-1])
    bodies = [body for body in robots.taken["webhook"] if waiting[0] in str(body)]
    assert len(bodies) == 1 and {item["sku"] for item in bodies[0]["items"]} == set(waiting)
