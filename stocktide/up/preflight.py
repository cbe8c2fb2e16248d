"""What `up`, `worker` and `api` look at before they start: what no waiting mends ends them at once, with a sentence.

In: the settings. Out: nothing where the servers answer and nothing is found that is wrong for good; else an exception.
The looking is the doctor's. What passes by itself (a server that loads, a replica that lags) is left to the processes.
"""

from __future__ import annotations

from collections.abc import Iterable

from stocktide.doctor.finding import Finding
from stocktide.doctor.kafka import examine_kafka
from stocktide.doctor.redis_server import examine_redis
from stocktide.errors import CommandError
from stocktide.progress import Echo, announce_if_slow, silent
from stocktide.settings import Settings
from stocktide.wait_for_servers import redact_url, wait_for_servers, wait_for_topics

# What is wrong with one topic is often wrong with each of a dozen.
REASONS_SHOWN_MAX = 3


class UnusableServer(CommandError):
    """A server is there and cannot be used as it is."""


async def check_servers(
    settings: Settings,
    progress: Echo = silent,
    *,
    kafka: bool = True,
    redis: bool = True,
    create_topics: bool = False,
) -> None:
    """Return once those that are asked for answer and fit. `create_topics`: make those that are missing, once Redis
    fits. Raises ServerUnreachable, UnusableServer, TopicsError, KafkaError."""
    async with announce_if_slow(progress, "waiting for Kafka and Redis to answer"):
        await wait_for_servers(settings, kafka=kafka, redis=redis)
        if redis:
            _raise_if_unfit(f"Redis at {redact_url(settings.redis)}", await examine_redis(settings))
    if kafka:
        if create_topics:
            async with announce_if_slow(progress, "waiting for Kafka to make the topics"):
                await wait_for_topics(settings)
        _raise_if_unfit(f"Kafka at {settings.kafka}", await examine_kafka(settings))


def _raise_if_unfit(server: str, findings: Iterable[Finding]) -> None:
    reasons = [finding.what for finding in findings if finding.lasting]
    if reasons:
        told = [f"{server} cannot be used: {reason}" for reason in reasons[:REASONS_SHOWN_MAX]]
        more = len(reasons) - len(told)
        raise UnusableServer("\n".join([*told, *([f"and {more} more; `stocktide doctor` names them"] if more else [])]))
