"""What `stocktide alerts` does: describe the file of alerts, send test alerts.

In: a file, or the settings. Out: lines without URLs and secrets; an exit status.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click
import msgspec

from stocktide.agents.notify.config import AlertsConfig, Match, Receiver, Route, read_alerts_file
from stocktide.agents.notify.delivery import deliver
from stocktide.agents.notify.robots import Content
from stocktide.agents.notify.routing import Alert, decode_alert
from stocktide.alerts_settings import read_alerts
from stocktide.errors import NotFound
from stocktide.settings import Settings
from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.webhooks.addresses import parse_networks
from stocktide.streams.webhooks.calls import CallResult, make_session


class NoAlertsFile(NotFound):
    """No file of alerts: name one, or set STOCKTIDE_ALERTS_FILE; docs/alerts.md has an example."""


def run_check(file: Path | None) -> int:
    """Print what the file says. Raises AlertsFileError, NoAlertsFile."""
    for line in described(_read(file)):
        click.echo(line)
    return 0


def described(config: AlertsConfig) -> list[str]:
    """What a file says, without URLs and secrets."""
    lines = [f"receiver {each.name}: {each.kind}, {each.language}" for each in config.receivers]
    lines += [f"route {at}: {_described_route(route)}" for at, route in enumerate(config.routes)]
    used = {route.receiver for route in config.routes}
    lines += [f"no route leads to {each.name}" for each in config.receivers if each.name not in used]
    if not any(route.match == Match() for route in config.routes):
        lines.append("an alert that no route takes is not sent: it is in the topic `alerts`")
    return lines


def _described_route(route: Route) -> str:
    conditions = [
        f"{name} {', '.join(values)}" for name, values in msgspec.structs.asdict(route.match).items() if values
    ]
    quiet = [f"quiet {each.name}" for each in route.quiet]
    goes_on = ["goes on"] if route.goes_on else []
    return " · ".join([f"{' and '.join(conditions) or 'every alert'} → {route.receiver}", *quiet, *goes_on])


def run_test(name: str | None) -> int:
    """Send; the exit status. Raises NotFound, AlertsFileError."""
    config = _read(None)
    receivers = config.receivers if name is None else [found for found in (config.receiver(name),) if found]
    if not receivers:
        known = ", ".join(each.name for each in config.receivers)
        raise NotFound(f"there is no receiver {name}; the file has {known or 'none'}")
    results = asyncio.run(_send(list(receivers), Settings.from_environment()))
    for receiver, result in zip(receivers, results, strict=True):
        click.echo(f"{receiver.name}: {'sent' if result.ok else result.error}")
    return 0 if all(result.ok for result in results) else 1


async def _send(receivers: list[Receiver], settings: Settings) -> list[CallResult]:
    async with make_session(parse_networks(settings.webhook_allow)) as session:
        contents = [Content((), [_test_alert(each)]) for each in receivers]
        calls = [deliver(session, each, content) for each, content in zip(receivers, contents, strict=True)]
        return [result for result, _ in await asyncio.gather(*calls)]


def _test_alert(receiver: Receiver) -> Alert:
    """A test alert; a machine gets its type, people its name."""
    kind = "test" if receiver.kind == "webhook" else "测试告警" if receiver.language == "zh" else "test alert"
    now = now_ms()
    row = PublishedAlert(id=f"test-{now}", type=kind, at=rfc3339(now), batch=0, detail="stocktide alerts test")
    return decode_alert(encode(row))


def _read(file: Path | None) -> AlertsConfig:
    settings = Settings.from_environment()
    if file is not None:
        return read_alerts_file(file, os.environ, parse_networks(settings.webhook_allow))
    if (config := read_alerts(settings)) is None:
        raise NoAlertsFile
    return config
