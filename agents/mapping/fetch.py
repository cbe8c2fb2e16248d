"""Gets from a platform's API what its webhook did not send.

In: the `fetch` of a mapping, a message. Out: the answer's JSON, or a Rejection. Calls are spaced, bounded in time and
size, never follow redirects, and read no proxy from the environment.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from stocktide.agents.mapping.values import Rejection, Values
from stocktide.streams.backoff import doubling_pauses
from stocktide.streams.mapping.mapping_file import Fetch
from stocktide.streams.mapping.unwrap import Unreadable, read_json

# One call; a platform that takes longer is down.
CALL_SECONDS_MAX = 10.0
# An order of 2,000 lines has less.
ANSWER_BYTES_MAX = 4 * 1024 * 1024
# Attempts before a message goes to the dead letters; the webhooks behind it wait meanwhile.
ATTEMPTS_MAX = 4
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.2, 2.0
# Answers after which the same call may succeed.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Fetcher:
    """Calls the API of one mapping. `token`, if not empty, is sent as a bearer's."""

    def __init__(self, fetch: Fetch, token: str) -> None:
        self._fetch = fetch
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def get(self, values: Values) -> Any:
        """The document for a message. Raises Rejection."""
        query = {name: values.text(sources) for name, sources in self._fetch.query.items()}
        pauses = doubling_pauses(PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            await self._wait_for_turn()
            try:
                return await self._attempt(query)
            except (aiohttp.ClientError, TimeoutError) as error:
                if attempt == ATTEMPTS_MAX:
                    detail = f"{self._fetch.url}: {type(error).__name__} in {attempt} attempts"
                    raise Rejection("fetch_failed", detail, "fetched") from error
            await asyncio.sleep(next(pauses))
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, query: dict[str, str]) -> Any:
        """One call. Raises Rejection, and ClientError or TimeoutError where another may succeed."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS_MAX)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False, headers=self._headers) as session,
            session.get(self._fetch.url, params=query, allow_redirects=False) as response,
        ):
            if response.status in _PASSING:
                raise aiohttp.ClientError(f"status {response.status}")
            if response.status != 200:
                raise Rejection("fetch_failed", f"{self._fetch.url} answered {response.status}", "fetched")
            body = b""
            async for part in response.content.iter_chunked(64 * 1024):
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    detail = f"{self._fetch.url} answered more than {ANSWER_BYTES_MAX} bytes"
                    raise Rejection("fetch_failed", detail, "fetched")
        try:
            return read_json(body)
        except Unreadable as error:
            raise Rejection("fetch_failed", f"{self._fetch.url} answered what is {error}", "fetched") from error

    async def _wait_for_turn(self) -> None:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next - time.monotonic()))
            self._next = time.monotonic() + 1 / self._fetch.per_second
