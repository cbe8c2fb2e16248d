"""The checks of `up`, `worker` and `api` before they start: a file that cannot be used, or a lasting fault of a server,
ends them with a sentence.

In: the settings. Out: nothing, or an exception. The doctor examines the servers. Temporary faults (a server that loads,
a replica that lags) do not prevent the start.
"""

from __future__ import annotations

from collections.abc import Iterable

from stocktide.alerts_settings import read_alerts
from stocktide.api_access import read_certificate
from stocktide.doctor.finding import Finding
from stocktide.doctor.kafka import examine_kafka
from stocktide.doctor.redis_server import examine_redis
from stocktide.errors import CommandError
from stocktide.intake_settings import read_enabled_mappings, read_mappings
from stocktide.progress import Echo, announce_if_slow, silent
from stocktide.security import redact_url
from stocktide.settings import PUBLISH, Settings
from stocktide.wait_for_servers import wait_for_servers, wait_for_topics

# A fault of one topic is often a fault of all of them.
REASONS_SHOWN_MAX = 3


class UnusableServer(CommandError):
    """A server answers and cannot be used as it is."""


def check_files(settings: Settings, *, worker: bool = False, api: bool = False) -> None:
    """Read the files of a worker or of an API without those that `up` makes. Raises CommandError."""
    if worker:
        read_alerts(settings)
        if settings.worker_role != PUBLISH:
            read_mappings()
    if api:
        read_enabled_mappings()
        read_certificate(settings)


async def check_servers(
    settings: Settings,
    progress: Echo = silent,
    *,
    kafka: bool = True,
    redis: bool = True,
    create_topics: bool = False,
) -> None:
    """Return once the chosen servers answer and have no lasting fault. `create_topics`: create the missing ones after
    the checks of Redis. Raises ServerUnreachable, UnusableServer, TopicsError, KafkaError."""
    async with announce_if_slow(progress, "waiting for Kafka and Redis to answer"):
        await wait_for_servers(settings, kafka=kafka, redis=redis)
        if redis:
            _raise_if_unusable(f"Redis at {redact_url(settings.redis)}", await examine_redis(settings))
    if kafka:
        if create_topics:
            async with announce_if_slow(progress, "waiting for Kafka to make the topics"):
                await wait_for_topics(settings)
        _raise_if_unusable(f"Kafka at {settings.kafka}", await examine_kafka(settings))


def _raise_if_unusable(server: str, findings: Iterable[Finding]) -> None:
    reasons = [finding.what for finding in findings if finding.lasting]
    if reasons:
        lines = [f"{server} cannot be used: {reason}" for reason in reasons[:REASONS_SHOWN_MAX]]
        more = len(reasons) - len(lines)
        raise UnusableServer(
            "\n".join([*lines, *([f"and {more} more; `stocktide doctor` names them"] if more else [])])
        )
