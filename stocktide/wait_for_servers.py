"""Waits a bounded time for Kafka and Redis, so that a wrong address ends a command with a sentence.

In: addresses and access. Out: nothing once the servers answer, else ServerUnreachable with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Coroutine
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError

from stocktide.cli_options import how_to_reach
from stocktide.errors import ServerUnreachable
from stocktide.retry import poll_until
from stocktide.security import redact_url
from stocktide.settings import Settings

# Long enough for a server that is starting, short enough for a wrong address.
REACH_SECONDS_MAX = 5.0
# For the worker and the API, whose servers may start at the same time.
START_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 3.0
PROBE_SECONDS_MAX = 3.0
# Creating topics takes a second or two. A broker that halts meanwhile is better asked by a new process.
TOPICS_SECONDS_MAX = 60.0

NOT_LISTENING = "nothing listens there"
_ADDRESS = re.compile(r"(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


async def wait_for_servers(
    settings: Settings, seconds_max: float | None = None, *, kafka: bool = True, redis: bool = True
) -> None:
    """Return once the chosen servers answer. Raises ServerUnreachable that names each one that does not."""
    waits: list[Coroutine[Any, Any, None]] = []
    if kafka:
        waits.append(wait_for_kafka(settings.kafka, seconds_max, **settings.kafka_access()))
    if redis:
        waits.append(wait_for_redis(settings.redis, seconds_max, **settings.redis_access()))
    results = await asyncio.gather(*waits, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures and all(isinstance(failure, ServerUnreachable) for failure in failures):
        raise ServerUnreachable("\n".join(str(failure) for failure in failures))
    for failure in failures:
        raise failure


async def wait_for_topics(settings: Settings) -> None:
    """Create the missing topics on a reachable Kafka. Raises ServerUnreachable, TopicsError, KafkaError."""
    from stocktide.streams.kafka.admin import ensure_topics

    try:
        async with asyncio.timeout(TOPICS_SECONDS_MAX):
            await ensure_topics(
                settings.kafka, settings.app_id, settings.partitions, settings.replication, **settings.kafka_access()
            )
    except TimeoutError as error:
        raise ServerUnreachable(f"Kafka at {settings.kafka} takes connections and does not answer") from error


async def wait_for_kafka(addresses: str, seconds_max: float | None = None, **security: Any) -> None:
    """Return once one broker of HOST:PORT[,HOST:PORT] answers. Raises ServerUnreachable with the reason."""
    brokers = [address.strip() for address in addresses.split(",")]
    for broker in brokers:
        match = _ADDRESS.fullmatch(broker)
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise ServerUnreachable(f"the Kafka address {broker!r} is not HOST:PORT, as in 127.0.0.1:9092")
    reasons: list[str] = []

    async def any_answers() -> bool:
        results = await asyncio.gather(*(probe_kafka(broker, **security) for broker in brokers))
        # A refused login says more than a closed port: it comes first.
        reasons[:] = sorted((reason for reason in results if reason is not None), key=NOT_LISTENING.__eq__)
        return len(reasons) < len(results)

    if not await poll_until(any_answers, seconds_max or REACH_SECONDS_MAX):
        if reasons[0] != NOT_LISTENING:
            raise ServerUnreachable(f"Kafka at {addresses} cannot be used: {reasons[0]}")
        hint = how_to_reach("Kafka", "--kafka", "STOCKTIDE_KAFKA")
        raise ServerUnreachable(f"no Kafka answers at {addresses}: {hint}")


async def wait_for_redis(
    url: str, seconds_max: float | None = None, *, advice: str | None = None, **access: Any
) -> None:
    """Return once the server answers and accepts the login. Raises ServerUnreachable; the message hides the password
    and ends with `advice`, by default with how to give this command another address."""
    shown = redact_url(url)
    try:
        client = redis.asyncio.Redis.from_url(
            url, **access, socket_timeout=ANSWER_SECONDS_MAX, socket_connect_timeout=ANSWER_SECONDS_MAX
        )
    except ValueError:  # its text repeats a password that is not escaped
        raise ServerUnreachable(
            f"{shown} is no Redis URL, as in redis://127.0.0.1:6379/0; in a password `/` is written as %2F, `?` as "
            "%3F, `#` as %23, `@` as %40"
        ) from None
    reason = ""

    async def answers() -> bool:
        nonlocal reason
        try:
            return bool(await client.ping())
        except (AuthenticationError, NoPermissionError) as error:
            raise ServerUnreachable(f"Redis at {shown} does not let us in: {error}") from error
        except BusyLoadingError as error:
            reason = f" ({error})"
        except (RedisError, OSError) as error:
            refused = isinstance(error.__cause__ or error.__context__ or error, ConnectionRefusedError)
            reason = "" if refused else f" ({_with_tls_hint(error, url)})"
        return False

    try:
        if not await poll_until(answers, seconds_max or REACH_SECONDS_MAX):
            raise ServerUnreachable(
                f"no Redis answers at {shown}{reason}: {advice or how_to_reach('Redis', '--redis', 'STOCKTIDE_REDIS')}"
            )
    finally:
        await client.aclose()


def _with_tls_hint(error: Exception, url: str) -> str:
    """The error's text, and the other URL scheme where the error looks like TLS against plain text."""
    text = str(error).rstrip(".")
    if "SSL" in text or "TLS" in text or (url.startswith("rediss:") and "imeout" in text):
        return f"{text}; without TLS its URL begins with redis://"
    closed = "closed" in text or "eset" in text
    return f"{text}; with TLS its URL begins with rediss://" if closed and url.startswith("redis:") else text


async def kafka_answers(address: str) -> bool:
    """Whether an open broker at HOST:PORT returns its metadata now."""
    return await probe_kafka(address) is None


async def probe_kafka(address: str, **security: Any) -> str | None:
    """Why the broker at HOST:PORT does not return its metadata now; None where it does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    # A bare connection comes first: aiokafka logs an error for each refused one, and hides why TLS failed.
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(host, int(port), ssl=security.get("ssl_context")), PROBE_SECONDS_MAX
        )
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except ssl.SSLError as error:
        return f"TLS fails: {error.reason or error}"
    except ConnectionResetError:
        return "it closes the connection"
    except (OSError, TimeoutError):
        return NOT_LISTENING
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return await _probe_metadata(host, int(port), security)


async def _probe_metadata(host: str, port: int, security: dict[str, Any]) -> str | None:
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaConnectionError, KafkaError
    from aiokafka.protocol.metadata import MetadataRequest

    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    connection = None
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            connection = await create_conn(host, port, request_timeout_ms=int(PROBE_SECONDS_MAX * 1000), **security)
            metadata = await connection.send(MetadataRequest([]))
        return None if metadata.brokers else "it tells of no brokers yet"
    except (KafkaConnectionError, OSError, TimeoutError):
        protocol = security.get("security_protocol", "PLAINTEXT")
        certificate = ", or asks for a certificate (STOCKTIDE_KAFKA_TLS_CERT)" if "ssl_context" in security else ""
        return f"what listens there does not speak Kafka with {protocol} (STOCKTIDE_KAFKA_SECURITY){certificate}"
    except KafkaError as error:
        return f"it does not let us in: {error}"
    finally:
        if connection is not None:
            connection.close()
        logger.setLevel(level)
