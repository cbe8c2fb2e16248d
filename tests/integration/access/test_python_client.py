"""The Python client against a running system, through a proxy that cuts connections; its wheel, and its README as
typed."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import pytest

from stocktide.client import (
    ApiError,
    ChannelUpdate,
    Client,
    Feed,
    OrderOutcome,
    Reset,
    Resumed,
    Retry,
    Status,
    SyncClient,
    Synced,
)
from tests.harness.api_client import WAIT_SECONDS_MAX, ApiTestClient, unique_name
from tests.harness.system import RunningSystem
from tests.integration.access.test_js_client import environ_of, run_in
from tests.integration.faulty_proxy import faulty_proxy

SOURCES = Path(__file__).parents[3] / "clients/python"


def key_of(running: RunningSystem) -> str:
    return str(running.ready["keys"]["operator"])


@pytest.fixture
async def shop(running: RunningSystem) -> AsyncIterator[ApiTestClient]:
    async with running.client("operator") as client:
        yield client


async def within_time(feed: Feed[ChannelUpdate]) -> AsyncIterator[ChannelUpdate | Synced | Resumed | Reset | Status]:
    """The events of a feed, which otherwise waits for ever for one that does not come."""
    async with asyncio.timeout(WAIT_SECONDS_MAX):
        async for event in feed:
            yield event


def order_of(sku: str, quantity: int) -> dict[str, object]:
    return {"order_id": unique_name("py"), "channel": "own", "lines": [{"sku": sku, "quantity": quantity}]}


async def test_what_lost_its_answer_is_sent_again_and_counts_once(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    async with faulty_proxy(running.api, "cut-answer") as (api, proxy), Client(api, key=key_of(running)) as client:
        order = order_of(sku, 4)
        placed = await client.place_order(order)
        assert placed.order is not None and placed.order.replayed
        order_id = placed.order.order_id
        # Without an id a repeat would give back two more.
        changed = await client.change_order(order_id, remove=[{"sku": sku, "quantity": 2}])
        assert changed.order is not None and changed.order.lines[0].reserved == 2
        paid = await client.pay_order(order_id)
        assert paid.order is not None and paid.order.state == "paid"
        stock = await client.stock(sku)
        assert stock is not None and (stock.available, stock.committed) == (8, 2)
        assert proxy.injected == 3


async def test_refusals_of_orders_are_values_and_others_are_errors(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(1)
    async with Client(running.api, key=key_of(running)) as client:
        refused: OrderOutcome = await client.place_order(order_of(sku, 2))
        assert (refused.status, refused.order, refused.code) == (409, None, "insufficient_stock")
        assert await client.stock("no-such-sku") is None
        assert await client.order("no-such-order") is None
        assert await client.movement("SH1", "no-such-movement") is None
        with pytest.raises(ApiError) as wrong:
            await client.place_order({**order_of(sku, 1), "lines": [{"sku": sku, "quantity": 0}]})
        assert (wrong.value.status, wrong.value.code) == (422, "invalid_field")
        assert wrong.value.path is not None and "quantity" in wrong.value.path
        with pytest.raises(ApiError, match="POST /v1/events") as line:
            await client.send_event({"type": "order.shipped", "id": unique_name("ship")})
        assert line.value.status == 422
    async with Client(running.api, key="stk_wrong") as client:
        with pytest.raises(ApiError, match="STOCKTIDE_KEY") as unauthorized:
            await client.stock(sku)
        assert unauthorized.value.code == "unauthorized"
        with pytest.raises(ApiError) as feed:
            async for _ in client.feed("own"):
                pass
        assert (feed.value.status, feed.value.code) == (401, "unauthorized")
        with pytest.raises(ApiError, match="401"):
            async for _ in client.feed("own", transport="websocket"):
                pass


async def test_a_policy_is_changed_only_as_it_was_read(running: RunningSystem, shop: ApiTestClient) -> None:
    channel = unique_name("channel")
    async with Client(running.api, key=key_of(running)) as client:
        read = await client.policy(channel)
        assert read.own is None and read.etag
        written = await client.put_policy(channel, None, {"safety_threshold": 3}, read.etag)
        assert written.own and written.own["safety_threshold"] == 3
        with pytest.raises(ApiError) as changed:
            await client.put_policy(channel, None, {}, read.etag)
        assert changed.value.code == "policy_changed"
        await client.delete_policy(channel, etag=written.etag)
        await client.delete_policy(channel)
        assert (await client.policy(channel)).own is None


async def test_a_feed_goes_on_where_it_was_and_misses_nothing(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(10)
    async with faulty_proxy(running.api, "cut-feed") as (api, proxy), Client(api, key=key_of(running)) as client:
        events: list[str | int] = []
        async for event in within_time(client.feed("own", prefixes=[sku])):
            if isinstance(event, ChannelUpdate):
                events.append(event.quantity)
                if event.quantity == 7:
                    break
            elif isinstance(event, Synced | Resumed):
                events.append(type(event).__name__)
                if events == [10, "Synced"]:
                    # The connection is cut behind this; it is sold meanwhile.
                    await client.place_order(order_of(sku, 3))
        assert proxy.injected == 1
    assert [each for each in events if each != "Synced"] == [10, "Resumed", 7]


async def test_a_socket_goes_on_where_a_feed_of_another_process_was(
    running: RunningSystem, shop: ApiTestClient
) -> None:
    sku = await shop.receive_new(10)
    async with Client(running.api, key=key_of(running)) as client:
        feed = client.feed("own", [sku])
        async for event in within_time(feed):
            if isinstance(event, Synced):
                break
        assert feed.is_live and feed.last_event_id
        await client.place_order(order_of(sku, 3))
        updates = []
        again = client.feed("own", [sku], last_event_id=feed.last_event_id, transport="websocket")
        async for event in within_time(again):
            updates += [event.quantity] if isinstance(event, ChannelUpdate) else []
            if 7 in updates:
                break
        assert updates == [7]


async def test_without_asyncio_there_is_the_same(running: RunningSystem, shop: ApiTestClient) -> None:
    sku = await shop.receive_new(5)
    order = order_of(sku, 2)
    # It has a loop of its own, so that it may be called from within another one.
    with SyncClient(running.api, key_of(running), Retry(seconds_max=10)) as client:
        outcome = client.place_order(order)
        assert outcome.order is not None and not outcome.order.replayed
        assert [each.order_id for each in client.orders("own", sku=sku)] == [order["order_id"]]
        assert [each.sku for each in client.stocks(prefix=sku)] == [sku]
        assert "own" in client.channels()
        assert any(update.sku == sku for update in client.channel_stock("own"))
        assert [alert.sku for alert in client.alerts(sku=sku)] == []
        feed = client.feed("own", [sku])
        updates = (event for event in feed if isinstance(event, ChannelUpdate))
        # The one of the receipt may come first.
        assert next(update.sku for update in updates if update.quantity == 3) == sku
        assert client.cancel_order(outcome.order.order_id).order is not None


async def test_its_wheel_needs_no_stocktide_and_its_readme_works_as_typed(
    running: RunningSystem, tmp_path: Path
) -> None:
    text = (SOURCES / "README.md").read_text()
    (install,) = re.findall(r"```sh\n(.*)\n```", text)
    # A copy: what a build leaves behind is not wanted among the sources.
    shutil.copytree(SOURCES, tmp_path / "clients/python", ignore=shutil.ignore_patterns("*.egg-info", "build"))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--target", "site")
    await run_in(tmp_path, sys.executable, "-m", *install.split(), "--quiet", *options)
    assert (tmp_path / "site/stocktide_client/py.typed").exists()
    # Both are released together.
    assert (tmp_path / f"site/stocktide_client-{version('stocktide')}.dist-info").exists()
    environ = {**environ_of(running), "PYTHONPATH": str(tmp_path / "site")}
    outs = []
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        (tmp_path / "example.py").write_text(f"{example}\nimport sys\nassert 'stocktide' not in sys.modules\n")
        outs.append(await run_in(tmp_path, sys.executable, "example.py", **environ))
    calls, feed = outs
    pattern = r"held until .+Z\npaid\n409 unknown_sku\nPY-MUG \d+ in_stock\n422 \w+ \w+\n"
    assert re.fullmatch(pattern, calls), calls
    assert re.fullmatch(r"was PY-MUG \d+ in_stock\nthat is all there is\n", feed), feed
