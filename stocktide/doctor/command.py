"""`stocktide doctor`: shows the settings and examines the servers, the processes and their progress.

In: the settings. Out: findings with a severity; exit status 1 if one is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from urllib.parse import urlsplit

import click

from stocktide.agents.notify.config import AlertsFileError
from stocktide.alerts_settings import read_alerts
from stocktide.doctor.deployment import examine_deployment
from stocktide.doctor.finding import Finding, Severity, good, note, wrong
from stocktide.doctor.kafka import examine_kafka
from stocktide.doctor.progress import examine_processes, examine_progress
from stocktide.doctor.redis_server import examine_redis
from stocktide.intake_settings import read_enabled_mappings
from stocktide.progress import Echo
from stocktide.security import redact_url
from stocktide.settings import Settings
from stocktide.streams.mapping.mapping_reader import MappingError
from stocktide.text_wrapping import terminal_width, wrapped

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(settings: Settings, is_deployed: bool = False, echo: Echo = click.echo) -> int:
    """Examine everything, with `is_deployed` this process too; the exit status: 1 if something is wrong."""
    echo("settings:")
    for line in shown_settings(settings):
        echo(f"  {line}")
    findings = asyncio.run(examine(settings, is_deployed))
    echo("findings:")
    for finding in findings:
        for line in wrapped(f"  {finding.severity.value:<6} {finding.what}", terminal_width(), indent=9):
            echo(line)
    wrong = sum(finding.severity is Severity.WRONG for finding in findings)
    echo(f"{wrong} wrong" if wrong else "all is well")
    return 1 if wrong else 0


def shown_settings(settings: Settings) -> Iterator[str]:
    """Each setting as `STOCKTIDE_NAME=value`, without secrets."""
    for spec in fields(settings):
        value = str(getattr(settings, spec.name))
        if spec.metadata.get("secret"):
            value = redact_url(value) if spec.name == "redis" else "***" if value else ""
        yield f"STOCKTIDE_{spec.name.upper()}={value}"


async def examine(settings: Settings, is_deployed: bool = False) -> list[Finding]:
    """Examine Kafka, Redis, the processes and their progress, and the deployment, all at once."""
    examinations = [examine_kafka, examine_redis, examine_processes, examine_progress]
    if is_deployed:
        examinations.append(examine_deployment)
    found = await asyncio.gather(*(examine_part(settings) for examine_part in examinations))
    return [*judge_encryption(settings), *judge_alerts(settings), *judge_intake(), *chain.from_iterable(found)]


def judge_intake() -> Iterator[Finding]:
    """The mappings and secrets of the intake, which are no settings: their names come from the mappings."""
    try:
        enabled = read_enabled_mappings()
    except MappingError as error:
        yield wrong(f"the intake cannot be used, so no API starts: {error}")
    else:
        if enabled:
            yield good(f"the intake takes {', '.join(sorted(enabled))}")


def judge_alerts(settings: Settings) -> Iterator[Finding]:
    """The file of alerts."""
    try:
        config = read_alerts(settings)
    except AlertsFileError as error:
        yield wrong(f"STOCKTIDE_ALERTS_FILE cannot be used, so no worker starts: {error}")
    else:
        if config is not None:
            yield good(f"alerts go to {len(config.receivers)} receivers; `stocktide alerts test` tries them")


def judge_encryption(settings: Settings) -> Iterator[Finding]:
    """Secrets that cross the network unencrypted."""
    if settings.kafka_security == "SASL_PLAINTEXT":
        yield note(
            "STOCKTIDE_KAFKA_SECURITY is SASL_PLAINTEXT: anyone on the network can read what is sent"
            + (", the password too" if settings.kafka_sasl_mechanism == "PLAIN" else "")
            + "; SASL_SSL"
        )
    url = urlsplit(settings.redis)
    password = url.password or settings.redis_password or settings.redis_password_file
    if url.scheme == "redis" and password and url.hostname not in _LOOPBACK:
        yield note(
            "STOCKTIDE_REDIS begins with redis://: anyone on the network can read the password; rediss:// for TLS"
        )
