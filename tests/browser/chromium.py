"""A real Chromium without a window, driven over its DevTools protocol.

    async with Chromium.started(folder) as chromium:
        page = await chromium.open("http://127.0.0.1:8080/", width=1280, height=800)
        await page.until("document.title === 'Stocktide'")
        await page.picture(folder / "board.png")

Updates, sync and background traffic are off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_SECONDS_MAX = 40.0
ANSWER_SECONDS_MAX = 30.0
UNTIL_SECONDS_MAX = 40.0
POLL_SECONDS = 0.1
# A picture of a tall page in base64.
MESSAGE_BYTES_MAX = 64 * 1024 * 1024


def find_chromium() -> str | None:
    """The path of a Chromium: `CHROMIUM` in the environment, else the first of `NAMES` that is installed."""
    given = os.environ.get("CHROMIUM")
    return given or next((path for name in NAMES if (path := shutil.which(name))), None)


class BrowserPage:
    """One tab. `errors` collects what the page logs as errors and throws."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.create_task(self._read())
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        number = next(self._ids)
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(waiting, ANSWER_SECONDS_MAX)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def evaluate(self, script: str) -> Any:
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, script: str, seconds_max: float = UNTIL_SECONDS_MAX) -> Any:
        """Wait until the expression is true; its value."""
        deadline = asyncio.get_running_loop().time() + seconds_max
        while not (value := await self.evaluate(script)):
            if asyncio.get_running_loop().time() > deadline:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {script}\n{self.errors}\n{text[:2000]}")
            await asyncio.sleep(POLL_SECONDS)
        return value

    async def picture(self, file: Path) -> None:
        """Write a screenshot as a PNG."""
        shot = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(file.write_bytes, base64.b64decode(shot["data"]))

    async def close(self) -> None:
        """Close the tab and its connections."""
        if not self._socket.closed:
            await self.call("Page.close")
        self._reading.cancel()
        await self._socket.close()

    async def _read(self) -> None:
        async for message in self._socket:
            event = message.json()
            if (waiting := self._answers.pop(event.get("id", 0), None)) is not None:
                waiting.set_result(event)
            elif event.get("method") == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]))
            elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                entry = event["params"]["entry"]
                self.errors.append(f"{entry['text']} {entry.get('url', '')}")


class Chromium:
    """A running browser."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._address = f"http://127.0.0.1:{port}"
        self._pages: list[BrowserPage] = []

    @staticmethod
    @asynccontextmanager
    async def started(folder: Path) -> AsyncIterator[Chromium]:
        """A browser with its profile below `folder`; killed at the end."""
        path = find_chromium()
        assert path is not None, "there is no Chromium"
        profile = folder / "chromium"
        port_file = profile / "DevToolsActivePort"
        port_file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            path,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession() as session:
                chromium = Chromium(session, await _port_of(port_file, process))
                try:
                    yield chromium
                finally:
                    await chromium.close_pages()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), START_SECONDS_MAX)
            finally:
                if process.returncode is None:
                    process.kill()

    async def close_pages(self) -> None:
        while self._pages:
            await self._pages.pop().close()

    async def open(self, url: str, width: int, height: int, dark: bool = False) -> BrowserPage:
        """A tab of that size, in CSS pixels, with `url` loading in it."""
        async with self._session.put(f"{self._address}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        socket = await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=MESSAGE_BYTES_MAX)
        page = BrowserPage(socket)
        self._pages.append(page)
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        await page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await page.call("Emulation.setEmulatedMedia", features=[scheme])
        await page.call("Page.navigate", url=url)
        return page


async def _port_of(port_file: Path, process: asyncio.subprocess.Process) -> int:
    deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
    while asyncio.get_running_loop().time() < deadline:
        assert process.returncode is None, f"Chromium ended with status {process.returncode}"
        if (port := _read_port(port_file)) is not None:
            return port
        await asyncio.sleep(POLL_SECONDS)
    raise AssertionError("Chromium did not say where it listens")


def _read_port(port_file: Path) -> int | None:
    text = port_file.read_text().split() if port_file.exists() else []
    return int(text[0]) if text else None
