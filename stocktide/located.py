"""Where a command finds the system that it asks (decision 0011).

In: the settings, and what options say. Out: the settings with its addresses.
"""

from __future__ import annotations

import os
from dataclasses import replace
from urllib.parse import urlsplit

import click

from stocktide.ready import find_running
from stocktide.settings import Settings


def located(
    settings: Settings, *, api: str | None = None, kafka: str | None = None, app_id: str | None = None
) -> Settings:
    """The settings, pointed at the `stocktide up` of this machine where nobody said otherwise.

    Raises click.BadParameter where `api` is no URL.
    """

    def chosen(name: str, option: str | None, found: str | None, default: str) -> str:
        if option is not None:
            return option
        return default if found is None or f"STOCKTIDE_{name}" in os.environ else found

    try:
        port = urlsplit(api).port if api is not None else None
    except ValueError as error:
        raise click.BadParameter(f"{api!r} is no URL: {error}", param_hint="--api") from error
    running = find_running(port, settings.port)
    return replace(
        settings,
        port=running.port if running and api is None else settings.port,
        kafka=chosen("KAFKA", kafka, running.kafka if running else None, settings.kafka),
        redis=chosen("REDIS", None, running.redis if running else None, settings.redis),
        app_id=chosen("APP_ID", app_id, running.app_id if running else None, settings.app_id),
    )
