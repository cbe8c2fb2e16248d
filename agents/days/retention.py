"""Finds the totals of days that no call shows any more.

In: the table of `daily`. Out: keys. The follower removes their rows from the table and writes a tombstone for each, so
that a restart and the APIs forget them too. Kafka's retention is no substitute: it does not reach the table, and the
compaction of a small topic joins old rows with new ones in a segment that never gets old enough.
"""

from __future__ import annotations

from datetime import date, timedelta

from stocktide.streams.contract.daily import DAYS_STORED, INPUTS, LETTERS, ORDERS, SWITCHES
from stocktide.tables.changelog_table import PublishedTable

# Rows in one write: some ms, also where a year of a thousand channels is to be forgotten.
FORGOTTEN_ROWS_MAX = 1_000
# How often is looked for a day that is to be forgotten.
FORGET_SECONDS = 3_600.0


def forgotten_keys(table: PublishedTable, partition: int, today: str) -> list[bytes]:
    """The keys of rows of days before those that are stored, at most `FORGOTTEN_ROWS_MAX`."""
    first = (date.fromisoformat(today) - timedelta(days=DAYS_STORED - 1)).isoformat()
    keys: list[bytes] = []
    for kind in (ORDERS, INPUTS, SWITCHES, LETTERS):
        room = FORGOTTEN_ROWS_MAX - len(keys)
        keys += table.keys(partition, f"{kind}/".encode(), f"{kind}/{first}".encode(), room)
    return keys
