"""Requests: a pool of connections, one attempt, and attempts that are repeated until one has an answer.

In: the address of one or more APIs. Out: `ApiResponse`s, read whole.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Container, Mapping, Sequence
from itertools import cycle
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from .errors import ApiError, NoApiResponse, StocktideError

KEY_VARIABLE = "STOCKTIDE_KEY"
JSON = "application/json"
NDJSON = "application/x-ndjson"
# Connections of one client: an API that answers in 5 ms gives 10,000 calls/s over so many.
REQUESTS_MAX = 64
# Per socket operation: the wait for a free connection does not count. The API itself gives up after 5 s.
DEFAULT_TIMEOUT = aiohttp.ClientTimeout(sock_connect=15.0, sock_read=15.0)
# Characters of a body that an error message quotes.
SUMMARY_LENGTH_MAX = 200

_HEADERS = {kind: {"Content-Type": kind} for kind in (JSON, NDJSON)}
KEY_REFUSED = (401, 403)
_T = TypeVar("_T")


class Retry(msgspec.Struct, frozen=True):
    """For how long a call is repeated, and its pauses: they grow, and are random, so that clients that failed together
    do not return together."""

    # A restart of the API takes a few seconds, a takeover by another worker some more.
    seconds_max: float = 30.0
    pause_seconds: float = 0.2
    pause_seconds_max: float = 5.0
    # A longer `Retry-After` is shortened to this.
    retry_after_seconds_max: float = 60.0

    def pause(self, attempt: int, retry_after: str = "") -> float:
        """The seconds after attempt `attempt` (from 1), at least as many as the header says."""
        longest = min(self.pause_seconds_max, self.pause_seconds * 2 ** min(attempt - 1, 16))
        asked = min(float(retry_after), self.retry_after_seconds_max) if retry_after.isdecimal() else 0.0
        pause: float = max(asked, longest * random.uniform(0.5, 1.0))
        return pause


class ApiResponse(NamedTuple):
    """A response, read whole."""

    status: int
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later: 408, 429 or a 5xx."""
        return self.status >= 500 or self.status in (408, 429)

    def summary(self) -> str:
        """Status and the beginning of the body, for a message."""
        return f"{self.status} {self.body[:SUMMARY_LENGTH_MAX].decode(errors='replace')}"

    def problem(self) -> dict[str, Any]:
        """The problem document; empty where the body is none."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return {}


class HttpClient:
    """A pool of at most `requests_max` connections; further calls wait for a free one.

    `key` is sent with each call, by default that of `STOCKTIDE_KEY`. With several addresses in `api`, each attempt uses
    the next of them, so a retry reaches another API.
    """

    def __init__(
        self,
        api: str | Sequence[str],
        requests_max: int = REQUESTS_MAX,
        timeout: aiohttp.ClientTimeout = DEFAULT_TIMEOUT,
        key: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.apis = [address.rstrip("/") for address in ([api] if isinstance(api, str) else api)]
        if not self.apis or not all(address.startswith(("http://", "https://")) for address in self.apis):
            # A feed would try such an address for ever.
            raise StocktideError(f"an API has an address with http:// or https://, not {api!r}")
        self.retry = retry or Retry()
        self._next_api = cycle(self.apis)
        self._requests_max = requests_max
        self._headers = key_headers(key)
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._requests_max)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._session is not None:
            await self._session.close()

    def open_session(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        """Connections beside the pool, for feeds."""
        return aiohttp.ClientSession(timeout=timeout, headers=self._headers)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content: str = JSON,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> ApiResponse:
        """One attempt, whatever its status. Raises NoApiResponse."""
        assert self._session is not None, "a client is opened by `with`"
        api, headers = next(self._next_api), {**_HEADERS[content], **headers} if headers else _HEADERS[content]
        try:
            async with self._session.request(method, api + path, data=body, headers=headers) as response:
                return ApiResponse(response.status, await response.read(), response.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = error_reason(error)
            raise NoApiResponse(reason, f"{api}{path}: {str(error) or reason}") from error

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        content: str = JSON,
        expected: Container[int] | None = None,
    ) -> ApiResponse:
        """Retry until a response is neither 408, 429 nor a 5xx, for a bounded time. Only for requests that may be
        repeated.

        Raises ApiError where that time is over, or where the status is not one of `expected`.
        """
        clock = asyncio.get_running_loop().time
        retry, attempt, deadline = self.retry, 0, clock() + self.retry.seconds_max
        last, failure = None, ""
        while True:
            attempt += 1
            try:
                response = await self._send_until(deadline, method, path, body, content)
            except NoApiResponse as error:
                if not failure or clock() < deadline:  # an earlier answer says more than the end of the time
                    last, failure = None, str(error)
                pause_seconds = retry.pause(attempt)
            else:
                if not response.is_retryable:
                    if expected is not None and response.status not in expected:
                        raise refused(method, path, response)
                    return response
                last, failure = response, response.summary()
                pause_seconds = retry.pause(attempt, response.headers.get("Retry-After", ""))
            if clock() + pause_seconds >= deadline:
                # Nothing would come of waiting any longer.
                what = f"{method} {path}: no answer for {retry.seconds_max:.0f} s: {failure}"
                raise ApiError(what, last.status if last else 0, last.problem() if last else None)
            await asyncio.sleep(pause_seconds)

    async def _send_until(
        self, deadline: float, method: str, path: str, body: bytes | None, content: str
    ) -> ApiResponse:
        try:
            async with asyncio.timeout_at(deadline):
                return await self.send(method, path, body, content)
        except TimeoutError as error:
            raise NoApiResponse("timeout", f"{path}: the time is over") from error

    async def read(self, path: str, kind: type[_T]) -> _T | None:
        """The answer to a `GET`; None where there is nothing of that name."""
        response = await self.call("GET", path, expected=(200, 404))
        return decode(response.body, kind, f"GET {path}") if response.status == 200 else None


def key_headers(key: str | None = None) -> dict[str, str]:
    """The header `Authorization`; none where there is no key, as with `--open`."""
    given = os.environ.get(KEY_VARIABLE, "") if key is None else key
    return {"Authorization": f"Bearer {given}"} if given else {}


def refused(method: str, path: str, response: ApiResponse) -> ApiError:
    """The error of a status that a call cannot use."""
    hint = f"; {KEY_VARIABLE} has to be a key that may do this" if response.status in KEY_REFUSED else ""
    message = f"{method} {path} was answered {response.summary()}{hint}"
    return ApiError(message, response.status, response.problem())


def error_reason(error: BaseException) -> str:
    """An error as one of few reasons: `timeout` or its class; its text would name ports and times."""
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def path_of(*segments: str, **query: str | int | Sequence[str] | None) -> str:
    """A path below `/v1`; of the query what is None or empty is left out."""
    given = urlencode({name: value for name, value in query.items() if value not in (None, "", ())}, doseq=True)
    path = "/v1/" + "/".join(quote(segment, safe="") for segment in segments)
    return f"{path}?{given}" if given else path


def decode(body: bytes, kind: type[_T], where: str) -> _T:
    """JSON of the contract. Raises ApiError where it is not."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ApiError(f"{where} is not what the contract says: {error}", 200) from error
