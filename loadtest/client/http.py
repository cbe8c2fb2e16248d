"""Speaks HTTP with the API and waits out its restarts.

In: a method, a path, a body. Out: the answer's status and bytes; an `ApiError` where none came for too long.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp

from stocktide.errors import StocktideError

JSON = "application/json"
NDJSON = "application/x-ndjson"
REQUEST_SECONDS_MAX = 15.0
# A restart of the API or a takeover by another worker takes seconds; after this long it is an outage.
OUTAGE_SECONDS_MAX = 120.0
RETRY_SECONDS = 0.25
# So much of an answer tells what went wrong.
SAID_LENGTH_MAX = 200


class ApiError(StocktideError):
    """The API cannot be reached, or answers what it should not; the message says where and what."""


class ApiResponse(NamedTuple):
    """A status below 500 and its body."""

    status: int
    body: bytes

    def said(self) -> str:
        """The answer in short, for a message."""
        return f"{self.status} {self.body[:SAID_LENGTH_MAX].decode(errors='replace')}"


class StocktideClient:
    """A pool of at most `requests_max` connections; more calls than that wait for one."""

    def __init__(self, api: str, requests_max: int) -> None:
        self._api = api.rstrip("/")
        self._requests_max = requests_max
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._requests_max),
            # The time of one request, not of its wait for a connection.
            timeout=aiohttp.ClientTimeout(sock_connect=REQUEST_SECONDS_MAX, sock_read=REQUEST_SECONDS_MAX),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def reach(self) -> None:
        """Raise ApiError unless the API answers now."""
        assert self._session is not None
        try:
            async with self._session.get(f"{self._api}/healthz"):
                pass
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ApiError(f"no API answers at {self._api}") from error

    async def call(self, method: str, path: str, body: bytes | None = None, content: str = JSON) -> ApiResponse:
        """Ask until there is an answer below 500. No connection and a 5xx are tried again for a bounded time.

        Only for what may be repeated: reads, and events that carry an id.
        """
        assert self._session is not None
        said = ""
        deadline = asyncio.get_running_loop().time() + OUTAGE_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with self._session.request(
                    method, self._api + path, data=body, headers={"Content-Type": content}
                ) as response:
                    answer = ApiResponse(response.status, await response.read())
                if answer.status < 500:
                    return answer
                said = answer.said()
            except (aiohttp.ClientError, TimeoutError) as error:
                said = str(error) or type(error).__name__
            await asyncio.sleep(RETRY_SECONDS)
        raise ApiError(f"{method} {self._api}{path}: no answer for {OUTAGE_SECONDS_MAX:.0f} s: {said}")
