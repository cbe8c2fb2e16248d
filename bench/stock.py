"""Stock through the public API: movements and their effects, documents.

In: a client of a ready API. Out: documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from bench.orders import encode_movement
from stocktide.loadtest.client.http import StocktideClient
from stocktide.retry import poll_until


async def receive(
    client: StocktideClient, warehouse: str, movement_id: str, units: dict[str, int], applied_seconds_max: float
) -> None:
    """Receive these units of each SKU, and wait for the effect. Raises RuntimeError, TimeoutError."""
    await post_receipt(client, warehouse, movement_id, units)
    await wait_until_applied(client, warehouse, movement_id, applied_seconds_max)


async def post_receipt(client: StocktideClient, warehouse: str, movement_id: str, units: dict[str, int]) -> None:
    """Post one `stock.received`. Raises RuntimeError if it is not accepted."""
    occurred_at = datetime.now(UTC).isoformat()
    movement = encode_movement("stock.received", movement_id, warehouse, units, occurred_at)
    response = await client.call("POST", "/v1/movements", movement)
    if response.status != 202:
        raise RuntimeError(f"a movement was answered with status {response.summary()}")


async def wait_until_applied(client: StocktideClient, warehouse: str, movement_id: str, seconds_max: float) -> None:
    """Wait for the effect of a movement. Raises TimeoutError."""

    async def is_applied() -> bool:
        return await get_json(client, f"/v1/warehouses/{warehouse}/movements/{movement_id}") is not None

    if not await poll_until(is_applied, seconds_max):
        raise TimeoutError(f"{movement_id} was not applied within {seconds_max:.0f} s")


async def get_json(client: StocktideClient, path: str) -> dict[str, Any] | None:
    """The document at a path; None for 404. Raises RuntimeError for any other status."""
    response = await client.call("GET", path)
    if response.status not in (200, 404):
        raise RuntimeError(f"{path}: status {response.status}")
    found: dict[str, Any] = orjson.loads(response.body)
    return found if response.status == 200 else None


async def get_all(client: StocktideClient, paths: Sequence[str]) -> list[dict[str, Any] | None]:
    """`get_json` of each path, concurrently."""
    return await asyncio.gather(*(get_json(client, path) for path in paths))
