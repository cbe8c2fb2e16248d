"""The files of the board, in its folders and in no other."""

from __future__ import annotations

import pytest
from yarl import URL

from tests.harness.system import RunningSystem


@pytest.mark.parametrize("path", ["/board/styles/base.css", "/board/client/index.js", "/board/client/errors.js"])
async def test_a_file_in_a_folder_of_the_board_is_served(running: RunningSystem, path: str) -> None:
    async with running.client() as shop:
        answer = await shop.get(path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(("application/javascript", "text/javascript", "text/css"))
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "client",
        "client/",
        "client/../../app.py",
        "client/..%2f..%2f..%2fpyproject.toml",
        "client/%2e%2e/%2e%2e/%2e%2e/clients/js/src/index.js",
        "..%5c..%5capp.py",
        "client//index.js",
        "%2fetc%2fhosts.js",
        "client/.hidden.js",
        "client/index.js%00",
        "client/index.js%0a",
        "%E3%80%82%E3%80%82/index.js",
    ],
)
async def test_no_path_leads_out_of_the_folder_of_the_board(running: RunningSystem, path: str) -> None:
    async with running.client() as shop:
        answer = await shop.get(URL(f"{running.api}/board/{path}", encoded=True))
        assert answer.status in (400, 404), answer.body
