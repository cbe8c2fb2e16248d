"""Keys that expire within a week: one alert for each key and day."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from stocktide.api.access.key_expiry import KeyExpiryAlerts, expiring_keys
from stocktide.api.access.key_file import KeyRecord
from stocktide.streams.kafka.publish import OutputRow
from stocktide.streams.topics import DAY_MS, HOUR_MS

NOW = 20_000 * DAY_MS + 9 * HOUR_MS
KEY = KeyRecord(id="aaaaaaaaaa", role="channel", holder="till", digest="00", created_at=0, channel="jd")


def ending(days: float, **fields: Any) -> KeyRecord:
    return structs.replace(KEY, expires_at=int((NOW + days * DAY_MS) // 1000), **fields)


def values(rows: list[OutputRow]) -> list[Any]:
    return [json.loads(value or b"") for _, value in rows]


@pytest.mark.parametrize("record", [KEY, ending(7.01), ending(-0.01)])
def test_a_key_without_end_with_a_later_one_or_with_a_past_one_raises_nothing(record: KeyRecord) -> None:
    assert expiring_keys([record], NOW) == []


def test_the_alert_names_key_holder_channel_and_days_and_whether_there_is_a_successor() -> None:
    (alert,) = expiring_keys([ending(3)], NOW)
    assert (alert.type, alert.channel, alert.quantity) == ("key_expiring", "jd", 3)
    assert "aaaaaaaaaa of till (channel)" in str(alert.detail) and "no other" in str(alert.detail)
    (rotated,) = expiring_keys([ending(3), structs.replace(KEY, id="b")], NOW)
    assert "newer" in str(rotated.detail)


async def test_a_key_is_raised_once_a_day_and_again_where_the_write_failed() -> None:
    written: list[OutputRow] = []
    clock, fails = [NOW], True

    async def publish(rows: list[OutputRow]) -> None:
        if fails:
            raise OSError("gone")
        written.extend(rows)

    alerts = KeyExpiryAlerts(lambda: [ending(6.5)], publish, lambda: clock[0])
    with pytest.raises(OSError, match="gone"):
        await alerts.check_once()
    fails = False
    for clock[0] in (NOW, NOW + HOUR_MS, NOW + 14 * HOUR_MS, NOW + DAY_MS):
        await alerts.check_once()
    assert len({alert["id"] for alert in values(written)}) == len(written) == 2
    other = KeyExpiryAlerts(lambda: [ending(6.5)], publish, lambda: NOW + 2 * HOUR_MS)
    await other.check_once()
    assert written[2] == written[0], "another API process writes the same row"
