"""What a webhook does not hold is fetched from the platform's API, within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stocktide.agents.mapping import fetch
from stocktide.agents.mapping.agent import Mapper
from stocktide.streams.mapping.mapping_reader import FOLDER, read_mapping
from tests.intake_payloads import LARGE_ID, douyin
from tests.unit.test_mapping import envelope_of, write_mapping


async def _serve(handler: Any) -> tuple[web.AppRunner, str]:
    app = web.Application()
    app.router.add_get("/detail", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/detail"


def douyin_mapper(folder: Path, url: str) -> Mapper:
    text = (FOLDER / "douyin.yaml").read_text()
    line = next(line for line in text.splitlines() if line.startswith("  url:"))
    own = text.replace(line, f"  url: {url}\n  allow_loopback: true").replace("per_second: 5", "per_second: 100")
    return Mapper(read_mapping(write_mapping(folder, own)), "the-token")


async def test_the_lines_of_a_douyin_order_are_fetched(tmp_path: Path) -> None:
    calls: list[Any] = []

    async def detail(request: web.Request) -> web.Response:
        calls.append((request.query["shop_order_id"], request.headers["Authorization"]))
        if len(calls) == 1:
            return web.Response(status=503)
        lines = [{"sku_id": 8, "code": "MUG", "item_num": 2}]
        return web.json_response(
            {"data": {"shop_order_detail": {"create_time": 1_762_819_200, "sku_order_list": lines}}}
        )

    runner, url = await _serve(detail)
    try:
        events, rejections = await douyin_mapper(tmp_path, url).map(envelope_of(douyin(2)))
    finally:
        await runner.cleanup()
    assert not rejections
    placed, paid = [json.loads(event.raw) for event in events]
    assert placed["order_id"] == paid["order_id"] == f"douyin-{LARGE_ID}"
    assert placed["lines"] == [{"sku": "MUG", "quantity": 2}]
    assert placed["occurred_at"] == "2025-11-11T00:00:00.000Z"
    assert calls == [(str(LARGE_ID), "Bearer the-token")] * 2


@pytest.mark.parametrize("answer", ["redirect", "large", "no-json", "refused"])
async def test_a_fetch_that_fails_is_a_rejection(tmp_path: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ANSWER_BYTES_MAX", 1000)
    followed: list[str] = []

    async def detail(request: web.Request) -> web.Response:
        if "followed" in request.query:
            followed.append(request.path_qs)
        if answer == "redirect":
            return web.Response(status=302, headers={"Location": "/detail?followed=1"})
        return web.Response(status=403 if answer == "refused" else 200, text="x" * (5000 if answer == "large" else 5))

    runner, url = await _serve(detail)
    try:
        events, (rejection,) = await douyin_mapper(tmp_path, url).map(envelope_of(douyin(1)))
    finally:
        await runner.cleanup()
    assert (events, followed, rejection.code) == ([], [], "fetch_failed")
