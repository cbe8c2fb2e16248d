"""Signed calls of webhooks, by Standard Webhooks 1.0.0.

In: a webhook, an id and a body. Out: a `CallResult`; nothing is raised for what a receiver does. The client follows no
redirect, uses no proxy of the environment, dials only addresses that `addresses` lets pass, and reads an answer's body
only where it is asked to.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

import aiohttp
from msgspec import Struct
from yarl import URL

from stocktide.streams.contract.times import ms_of, now_ms
from stocktide.streams.webhooks.addresses import AddressRefused, Network, make_socket_factory
from stocktide.streams.webhooks.definition import Webhook

# Standard Webhooks: 15 to 30 s.
CALL_SECONDS_MAX = 15.0
# A longer wait than this is not taken from a receiver.
RETRY_AFTER_SECONDS_MAX = 3_600.0
# A resolved name is used again for so long.
DNS_SECONDS = 10
# Of an answer's head.
HEADER_BYTES_MAX = 8_190
GONE = 410


class CallResult(Struct, frozen=True):
    """How a call ended: the status, or 0 and the error of the connection. `retry_after` in seconds, if asked for."""

    status: int
    error: str = ""
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the receiver has taken it."""
        return 200 <= self.status < 300


def sign(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one signature for each secret."""
    content = f"{message_id}.{timestamp}.".encode() + body
    keys = (base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets)
    signatures = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures)


def make_session(allowed: Iterable[Network]) -> aiohttp.ClientSession:
    """The client of all webhooks of a process. Each has one call in flight, so the number of connections is bounded by
    that of webhooks."""
    connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_SECONDS, socket_factory=make_socket_factory(allowed))
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=CALL_SECONDS_MAX),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )


async def call(session: aiohttp.ClientSession, webhook: Webhook, message_id: str, body: bytes) -> CallResult:
    """One attempt. The error is a sentence of ours: it contains neither the URL nor what the receiver wrote."""
    now = now_ms()
    timestamp = now // 1000
    headers = {
        "content-type": "application/json",
        "user-agent": "Stocktide",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(webhook.signing_secrets(now), message_id, timestamp, body),
    }
    result, _ = await post(session, URL(webhook.url), body, headers)
    return result


async def post(
    session: aiohttp.ClientSession, url: URL, body: bytes, headers: Mapping[str, str], answer_bytes: int = 0
) -> tuple[CallResult, bytes]:
    """One attempt, and the beginning of the answer's body: `answer_bytes` at the most."""
    now, begins = now_ms(), b""
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
            status, asked = answer.status, answer.headers.get("Retry-After")
            while len(begins) < answer_bytes and (chunk := await answer.content.read(answer_bytes - len(begins))):
                begins += chunk
    except TimeoutError:
        return CallResult(0, f"no answer within {CALL_SECONDS_MAX:.0f} s"), b""
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, AddressRefused) or "STOCKTIDE_WEBHOOK_ALLOW" in str(error.os_error)
        return CallResult(0, "address_not_allowed" if refused else f"no connection: {_reason(error)}"), b""
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return CallResult(0, f"no answer: {type(error).__name__}"), b""
    if 200 <= status < 300:
        return CallResult(status), begins
    return CallResult(status, f"the answer was {status}", _parse_retry_after(asked, now)), begins


def _reason(error: aiohttp.ClientConnectorError) -> str:
    """Why there is no connection, without an address: what aiohttp and the operating system say has it."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not valid for its name, or its issuer is not trusted here"
    if isinstance(error, aiohttp.ClientSSLError):
        return "it does not speak TLS as we do"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name is not known"
    number = error.os_error.errno
    return os.strerror(number) if number else type(error).__name__


def _parse_retry_after(text: str | None, now: int) -> float | None:
    """Seconds from `now` (ms), bounded; None if the header is absent or cannot be read."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            seconds = (ms_of(parsedate_to_datetime(text)) - now) / 1000
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
