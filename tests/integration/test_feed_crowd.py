"""Thousands of subscribers of one API process, by both transports, in a flash sale."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.load import ReserveOutcome
from bench.servers import run_servers
from bench.subscribers import CHANGED, LAST_UNITS, ORDERS_EACH, SOCKETS, SSE, run_crowd


@pytest.mark.soak
async def test_2000_event_streams_and_2000_sockets_of_one_api_converge_in_a_flash_sale(tmp_path: Path) -> None:
    async with run_servers(tmp_path) as servers:
        found = await run_crowd(servers, SSE, SOCKETS // 2, SOCKETS // 2)
    assert found.subscribers == 4_000
    for each in (found.synced, found.changed, found.sold):
        assert each.is_whole(found.subscribers), each
    sellable = len(CHANGED) * LAST_UNITS
    assert found.outcomes == {
        ReserveOutcome.HELD: sellable,
        ReserveOutcome.REFUSED: len(CHANGED) * ORDERS_EACH - sellable,
    }
    assert found.is_memory_bounded, f"{found.bytes_before:,} bytes before, at most {found.bytes_peak:,}"
