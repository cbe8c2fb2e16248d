"""The feed over a WebSocket as a client gets it on a real connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from stocktide.embedded.ports import pick_free_port
from tests.harness.api_client import ApiTestClient, open_client, unique_name
from tests.harness.events import stock_received
from tests.harness.process import StocktideProcess, started
from tests.harness.system import RunningSystem

SECONDS_MAX = 20.0


class SocketReader:
    """An open socket; `last_id` is what a client sends when it connects again."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.last_id: str | None = None
        self.versions: dict[str, int] = {}

    async def next(self) -> dict[str, Any]:
        """The next event. A version that does not grow fails the test; EOFError if the socket was closed."""
        async with asyncio.timeout(SECONDS_MAX):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(f"{message.type}")
        event: dict[str, Any] = orjson.loads(message.data)
        self.last_id = event.get("id", self.last_id)
        if event["event"] == "stock":
            sku, version = event["data"]["sku"], event["data"]["version"]
            assert version > self.versions.get(sku, 0)
            self.versions[sku] = version
        return event

    async def until(self, name: str) -> tuple[Any, list[Any]]:
        """The data of the next event of this name, and the updates before it."""
        updates = []
        while (event := await self.next())["event"] != name:
            if event["event"] == "stock":
                updates.append(event["data"])
        return event["data"], updates

    async def until_update(self, sku: str, quantity: int) -> None:
        while (event := await self.next())["data"].get("sku") != sku or event["data"]["quantity"] != quantity:
            pass

    async def send(self, **message: Any) -> None:
        await self.socket.send_str(orjson.dumps(message).decode())

    async def close_code(self) -> int | None:
        """The code with which the server closes. A SKU that is subscribed again comes again: versions may repeat."""
        async with asyncio.timeout(SECONDS_MAX):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.socket.close_code


@asynccontextmanager
async def open_socket(
    shop: ApiTestClient, channel: str, query: str = "", compress: int = 0
) -> AsyncIterator[SocketReader]:
    """`compress`: bits of the window of per-message deflate."""
    url = f"{shop.api}/v1/channels/{channel}/socket{query}"
    async with shop.session.ws_connect(url, compress=compress) as socket:
        assert bool(socket.compress) == bool(compress)
        yield SocketReader(socket)


async def make_channel(shop: ApiTestClient) -> tuple[str, list[str]]:
    """A channel, and three SKUs with 10 units each, of which two have a common prefix."""
    channel, prefix = unique_name("channel"), unique_name("sku")
    skus = [f"{prefix}-1", f"{prefix}-2", unique_name("other")]
    await shop.move(stock_received(unique_name("wms"), *((sku, 10) for sku in skus)))
    await shop.put(f"/v1/policies/{channel}", {})
    return channel, skus


async def test_a_socket_begins_with_all_there_is_and_goes_on_with_what_changes(shop: ApiTestClient) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        data, updates = await socket.until("synced")
        assert data == {"channel": channel} and set(skus) <= {update["sku"] for update in updates}
        await shop.place(skus[0], 4)
        await socket.until_update(skus[0], 6)


async def test_a_socket_and_a_feed_say_the_same_and_each_goes_on_where_the_other_was(shop: ApiTestClient) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        _, by_socket = await socket.until("synced")
    async with shop.feed(channel) as feed:
        by_feed = {update["sku"]: update for update in await feed.until_synced()}
    assert {update["sku"]: update for update in by_socket if update["sku"] in skus} == {
        sku: by_feed[sku] for sku in skus
    }
    await shop.place(skus[1], 3)
    async with open_socket(shop, channel, f"?last_event_id={feed.last_id}") as socket:
        assert (await socket.next())["event"] == "resumed"
        await socket.until_update(skus[1], 7)
        assert not socket.versions.keys() & {skus[0], skus[2]}, "nothing that the feed had sent"
    async with shop.feed(channel, socket.last_id) as feed:
        assert (await feed.next()).event == "resumed"
        assert await feed.until_synced() == []


@pytest.mark.parametrize("compress", [0, 12, 15])
async def test_a_client_gets_the_skus_and_prefixes_that_it_subscribes_and_no_others(
    shop: ApiTestClient, compress: int
) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel, compress=compress) as socket:
        await socket.send(type="subscribe", id=1, skus=[skus[2]])
        data, _ = await socket.until("subscribed")
        assert data == {"id": 1, "channel": channel, "skus": 1, "prefixes": 0}
        _, updates = await socket.until("synced")
        assert [update["sku"] for update in updates] == [skus[2]]
        await socket.send(type="subscribe", id="two", prefixes=[skus[0][:-2]])
        assert (await socket.until("subscribed"))[0] == {"id": "two", "channel": channel, "skus": 1, "prefixes": 1}
        _, updates = await socket.until("synced")
        assert {update["sku"] for update in updates} == set(skus[:2])
        await socket.send(type="unsubscribe", id=3, skus=[skus[2]])
        assert (await socket.until("subscribed"))[0]["skus"] == 0
        await shop.place(skus[2], 1)
        await shop.place(skus[0], 1)
        event = await socket.next()
        assert (event["data"]["sku"], event["data"]["quantity"]) == (skus[0], 9)


async def test_a_query_selects_as_a_message_does_on_both_transports(shop: ApiTestClient) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel, f"?sku={skus[2]}&prefix={skus[0]}") as socket:
        _, updates = await socket.until("synced")
        assert {update["sku"] for update in updates} == {skus[0], skus[2]}
    timeout = aiohttp.ClientTimeout(total=SECONDS_MAX)
    path = f"{shop.api}/v1/channels/{channel}/feed?sku={skus[1]}"
    async with shop.session.get(path, timeout=timeout) as response:
        text = (await response.content.readuntil(b"event: synced")).decode()
    assert text.count("event: stock") == 1 and skus[1] in text


async def test_a_message_that_is_wrong_in_a_field_is_rejected_and_the_socket_goes_on(shop: ApiTestClient) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        for message, code, path in (
            ({"type": "subscribe", "id": 7, "skus": ["a b"]}, "invalid_field", "skus[0]"),
            ({"type": "subscribe", "id": 7, "skus": "A"}, "invalid_field", "skus"),
            ({"type": "subscribe", "id": 7, "skus": [f"s{n}" for n in range(1_001)]}, "too_many_subscriptions", None),
            ({"type": "unsubscribe", "id": 7, "skus": ["never"]}, "not_subscribed", None),
            (
                {"type": "subscribe", "id": 7, "skus": [skus[0]], "last_event_id": "x"},
                "not_first_message",
                "last_event_id",
            ),
        ):
            await socket.send(**message)
            data, _ = await socket.until("rejected")
            assert (data["id"], data["code"], data["path"]) == (7, code, path), message
        await shop.place(skus[0], 4)
        await socket.until_update(skus[0], 6)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"type":"order.placed"}', "[" * 50_000])
async def test_what_is_no_message_closes_the_socket_with_its_code(shop: ApiTestClient, text: str) -> None:
    channel, _ = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        await socket.socket.send_str(text)
        assert await socket.close_code() == 4400


async def test_a_client_that_floods_is_closed_with_its_code(shop: ApiTestClient) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        for number in range(200):
            await socket.send(type="subscribe", id=number, skus=[skus[0]])
        assert await socket.close_code() == 4429


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("nonsense", "malformed_id"),
        ("{epoch}.1-2", "malformed_id"),
        ("{epoch}.99999-99999-99999-99999", "unknown_id"),
        ("0123456789ab.0-0-0-0", "other_epoch"),
        ("{epoch}.0-0-0-0.0123456789ab", "other_subscription"),
    ],
)
async def test_an_id_that_is_not_of_this_log_gets_a_whole_snapshot(
    shop: ApiTestClient, given: str, reason: str
) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        await socket.until("synced")
        assert socket.last_id is not None
    given = given.format(epoch=socket.last_id.partition(".")[0])
    async with open_socket(shop, channel, f"?last_event_id={given}") as socket:
        event = await socket.next()
        assert (event["event"], event["data"]) == ("reset", {"channel": channel, "reason": reason})
        _, updates = await socket.until("synced")
        assert set(skus) <= {update["sku"] for update in updates}


async def test_any_api_process_goes_on_from_an_id_of_another(
    shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    channel, skus = await make_channel(shop)
    async with open_socket(shop, channel) as socket:
        await socket.until("synced")
    await shop.place(skus[0], 4)
    port, ready = pick_free_port(), running.ready
    environ = {
        "STOCKTIDE_APP_ID": ready["app_id"],
        "STOCKTIDE_KAFKA": ready["kafka"],
        "STOCKTIDE_REDIS": ready["redis"],
        "STOCKTIDE_DATA": str(tmp_path),
        "STOCKTIDE_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    async with started(StocktideProcess("other", ["api"], environ, tmp_path / "api.log", url)) as process:
        await process.wait_ready()
        async with open_client(url) as other, open_socket(other, channel, f"?last_event_id={socket.last_id}") as second:
            assert (await second.next())["event"] == "resumed"
            await second.until_update(skus[0], 6)
            await shop.place(skus[1], 1)
            await second.until_update(skus[1], 9)


async def test_a_plain_request_and_a_page_of_another_origin_are_refused(shop: ApiTestClient) -> None:
    path = f"/v1/channels/{unique_name('channel')}/socket"
    assert (await shop.get(path)).problem == (426, "upgrade_required")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await shop.session.ws_connect(f"{shop.api}{path}", headers={"Origin": "https://elsewhere.example"})
    assert refused.value.status == 403
