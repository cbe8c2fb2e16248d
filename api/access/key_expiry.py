"""Alerts about keys that expire soon: each key once a day in its last week.

In: the keys that the API process knows. Out: rows of `alerts` of type `key_expiring`. Every API process raises them;
the rows of one key and day are the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

from msgspec import UNSET

from stocktide.api.access.key_file import KeyRecord
from stocktide.streams.contract.documents import PublishedAlert, encode
from stocktide.streams.contract.times import now_ms, rfc3339
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.topics import DAY_MS
from stocktide.tables.settlement.stalls import describe_error

log = logging.getLogger(__name__)

# A week is time to give every till of a channel its new key.
EXPIRING_DAYS = 7
# A look costs some µs a key.
CHECK_SECONDS = 10.0


class KeyExpiryAlerts:
    """`records` gives the known keys; `publish` writes rows of `alerts`, and raises what keeps it from that."""

    def __init__(
        self,
        records: Callable[[], Iterable[KeyRecord]],
        publish: Callable[[list[OutputRow]], Awaitable[object]],
        clock_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._records = records
        self._publish = publish
        self._clock_ms = clock_ms
        # The ids of today's that were written.
        self._written: set[str] = set()

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            try:
                await self.check_once()
            except Exception as error:  # they are raised again at the next look
                log.warning("alerts of keys wait: %s", describe_error(error))
            await asyncio.sleep(CHECK_SECONDS)

    async def check_once(self) -> None:
        """Raise what was not raised today."""
        alerts = expiring_keys(list(self._records()), self._clock_ms())
        new: list[OutputRow] = [(b"", encode(alert)) for alert in alerts if alert.id not in self._written]
        if new:
            await self._publish(new)
        self._written = {alert.id for alert in alerts}


def expiring_keys(records: list[KeyRecord], now: int) -> list[PublishedAlert]:
    """The alerts of a day; the same at every moment of it while the keys are the same."""
    alerts: list[PublishedAlert] = []
    today = now - now % DAY_MS
    for record in records:
        if record.expires_at is None or not 0 < record.expires_at * 1000 - now <= EXPIRING_DAYS * DAY_MS:
            continue
        ends = record.expires_at * 1000
        at = max(today, ends - EXPIRING_DAYS * DAY_MS)
        has_successor = any(
            each.holder == record.holder and (each.expires_at is None or each.expires_at > record.expires_at)
            for each in records
        )
        after = "the holder has a newer one" if has_successor else "the holder has no other"
        alert = PublishedAlert(
            id=f"key-{record.id}-{rfc3339(today)[:10]}",
            type="key_expiring",
            channel=record.channel,
            quantity=(ends - today) // DAY_MS,
            event_id=UNSET,
            event_type=UNSET,
            at=rfc3339(at),
            batch=0,
            detail=f"the key {record.id} of {record.holder} ({record.role}) expires at {rfc3339(ends)}; {after}",
        )
        alerts.append(alert)
    return alerts
