"""An API process that is told to stop, as a deployment does, loses no request and no feed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp

from stocktide.embedded.ports import pick_free_port
from tests.harness.api_client import ApiTestClient, open_client, unique_name
from tests.harness.process import StocktideProcess, started
from tests.harness.system import RunningSystem

DRAIN_SECONDS = 2


async def test_a_process_that_is_told_to_stop_serves_on_and_sends_its_feeds_elsewhere(
    shop: ApiTestClient, running: RunningSystem, tmp_path: Path
) -> None:
    port, ready = pick_free_port(), running.ready
    environ = {
        "STOCKTIDE_APP_ID": ready["app_id"],
        "STOCKTIDE_KAFKA": ready["kafka"],
        "STOCKTIDE_REDIS": ready["redis"],
        "STOCKTIDE_DATA": str(tmp_path),
        "STOCKTIDE_PORT": str(port),
        "STOCKTIDE_DRAIN_SECONDS": str(DRAIN_SECONDS),
    }
    url, channel = f"http://127.0.0.1:{port}", unique_name("channel")
    await shop.put(f"/v1/policies/{channel}", {})
    sku = await shop.receive_new(5)
    async with started(StocktideProcess("old", ["api"], environ, tmp_path / "api.log", url)) as old:
        await old.wait_ready()
        async with (
            open_client(url) as client,
            client.session.get(f"{url}/v1/channels/{channel}/feed") as feed,
            client.session.ws_connect(f"{url}/v1/channels/{channel}/socket") as socket,
        ):
            reading = asyncio.create_task(feed.content.read())
            receiving = asyncio.create_task(_close_code(socket))
            old.send_signal(signal.SIGTERM)
            await old.wait_for_output("not ready any more")
            answer = await client.get("/readyz")
            assert (answer.status, answer.body["reasons"]) == (503, {"stop": "the process stops"})
            # Taken as before, and the connection is not used again.
            placed = await client.place(sku, 2, channel=channel)
            assert (placed.status, placed.headers["Connection"]) == (201, "close")
            assert not reading.done()
            sent = (await reading).decode()
            assert await receiving == 4503
        assert await old.wait() == 0, old.log_tail()
    assert '"reasons":{"stop":"the process stops"}' in sent
    *_, pause, error = sent.strip().split("\n\n")
    assert 1_000 <= int(pause.removeprefix("retry: ")) < 3_000
    assert error.startswith('event: error\ndata: {"code":"shutting_down"')
    assert (await shop.get(f"/v1/channels/{channel}/stock?sku={sku}")).status == 200


async def _close_code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async for _ in socket:
        pass
    return socket.close_code
