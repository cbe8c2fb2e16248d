"""The file of alerts, from the settings.

In: `STOCKTIDE_ALERTS_FILE`. Out: its receivers and routes, or an error with the place of what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

from stocktide.agents.notify.config import AlertsConfig, read_alerts_file
from stocktide.settings import Settings
from stocktide.streams.webhooks.addresses import parse_networks


def read_alerts(settings: Settings) -> AlertsConfig | None:
    """The checked file; None if there is none. Raises AlertsFileError."""
    if not settings.alerts_file:
        return None
    return read_alerts_file(Path(settings.alerts_file), os.environ, parse_networks(settings.webhook_allow))
