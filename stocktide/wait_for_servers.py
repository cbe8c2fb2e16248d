"""Is the server there? Asked once before a command goes on, so that a wrong address is a sentence, not a trace."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError

from stocktide.cli_options import how_to_reach
from stocktide.errors import ServerUnreachable
from stocktide.kafka_probe import NOT_LISTENING, probe_kafka
from stocktide.retry import poll_until
from stocktide.settings import Settings

# A server that is just starting gets this long; a wrong address is told within it.
REACH_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 3.0
# A broker that was reached tells of its topics, and makes those that are missing, in a second or two; one that halts in
# the middle had better be asked by a process that starts anew.
TOPICS_SECONDS_MAX = 60.0

_ADDRESS = re.compile(r"(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


async def wait_for_servers(settings: Settings, *, kafka: bool = True, redis: bool = True) -> None:
    """Return once those that are asked for answer. Raises ServerUnreachable that names every one that does not."""
    reaching: list[Coroutine[Any, Any, None]] = []
    if kafka:
        reaching.append(wait_for_kafka(settings.kafka, **settings.kafka_access()))
    if redis:
        reaching.append(wait_for_redis(settings.redis, **settings.redis_access()))
    ends = await asyncio.gather(*reaching, return_exceptions=True)
    failures = [end for end in ends if isinstance(end, BaseException)]
    if failures and all(isinstance(failure, ServerUnreachable) for failure in failures):
        raise ServerUnreachable("\n".join(str(failure) for failure in failures))
    for failure in failures:
        raise failure


async def wait_for_topics(settings: Settings) -> None:
    """Have all topics there, on a Kafka that was reached. Raises ServerUnreachable, TopicsError, KafkaError."""
    from stocktide.streams.kafka.admin import ensure_topics

    try:
        async with asyncio.timeout(TOPICS_SECONDS_MAX):
            await ensure_topics(
                settings.kafka, settings.app_id, settings.partitions, settings.replication, **settings.kafka_access()
            )
    except TimeoutError as error:
        raise ServerUnreachable(f"Kafka at {settings.kafka} takes connections and does not answer") from error


async def wait_for_kafka(addresses: str, seconds_max: float | None = None, **security: Any) -> None:
    """Return once a broker of HOST:PORT[,HOST:PORT] answers. Raises ServerUnreachable that says why none does."""
    brokers = [address.strip() for address in addresses.split(",")]
    for broker in brokers:
        match = _ADDRESS.fullmatch(broker)
        if match is None or not 0 < int(match["port"]) < 65_536:
            raise ServerUnreachable(f"the Kafka address {broker!r} is not HOST:PORT, as in 127.0.0.1:9092")
    troubles: list[str] = []

    async def any_answers() -> bool:
        found = await asyncio.gather(*(probe_kafka(broker, **security) for broker in brokers))
        # Why one that listens does not let us in tells more than that another is not there.
        troubles[:] = sorted((trouble for trouble in found if trouble is not None), key=NOT_LISTENING.__eq__)
        return len(troubles) < len(found)

    if not await poll_until(any_answers, seconds_max or REACH_SECONDS_MAX):
        if troubles[0] != NOT_LISTENING:
            raise ServerUnreachable(f"Kafka at {addresses} cannot be used: {troubles[0]}")
        raise ServerUnreachable(
            f"no Kafka answers at {addresses}: {how_to_reach('Kafka', '--kafka', 'STOCKTIDE_KAFKA')}"
        )


async def wait_for_redis(
    url: str, seconds_max: float | None = None, *, advice: str | None = None, **access: Any
) -> None:
    """Return once the server answers and lets us in. Raises ServerUnreachable; the message hides the password, and ends
    with `advice`, or with how this command may be told of another Redis."""
    shown = redact_url(url)
    try:
        client = redis.asyncio.Redis.from_url(
            url, **access, socket_timeout=ANSWER_SECONDS_MAX, socket_connect_timeout=ANSWER_SECONDS_MAX
        )
    except ValueError as error:
        raise ServerUnreachable(f"{shown} is no Redis URL, as in redis://127.0.0.1:6379/0: {error}") from error
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
            reason = "" if refused else f" ({_with_hint(error, url)})"
        return False

    try:
        if not await poll_until(answers, seconds_max or REACH_SECONDS_MAX):
            raise ServerUnreachable(
                f"no Redis answers at {shown}{reason}: {advice or how_to_reach('Redis', '--redis', 'STOCKTIDE_REDIS')}"
            )
    finally:
        await client.aclose()


def _with_hint(error: Exception, url: str) -> str:
    """What a server says that listens and does not answer; one that speaks TLS says it in a language of its own."""
    text = str(error).rstrip(".")
    if "SSL" in text or "TLS" in text or (url.startswith("rediss:") and "imeout" in text):
        return f"{text}; without TLS its URL begins with redis://"
    closed = "closed" in text or "eset" in text
    return f"{text}; with TLS its URL begins with rediss://" if closed and url.startswith("redis:") else text


def redact_url(url: str) -> str:
    """A URL without its password."""
    try:
        parts = urlsplit(url)
        if parts.password is None:
            return url
        user = f"{parts.username or ''}:***@"
        place = f"{parts.hostname or ''}:{parts.port}" if parts.port else (parts.hostname or "")
    except ValueError:
        return re.sub(r"//[^@]*@", "//***@", url)
    return urlunsplit(parts._replace(netloc=user + place))
