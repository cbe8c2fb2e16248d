"""Times keep their millisecond in every year that a message may name (rule 40)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stocktide.loadtest.oracle.dispatcher import time_ms
from stocktide.streams.contract.events import StockReceived, Time, decode_movement
from stocktide.streams.contract.times import EPOCH, ms_of, rfc3339
from stocktide.tables.ledger.commands import Receive
from stocktide.tables.ledger.make_commands import make_command

PRODUCT = ("streams", "tables", "agents", "api", "stocktide")
YEAR_MIN_MS = ms_of(datetime.min.replace(tzinfo=UTC))
YEAR_MAX_MS = ms_of(datetime.max.replace(tzinfo=UTC))
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=2_000, deadline=None, database=None)
@given(ms=st.integers(YEAR_MIN_MS, YEAR_MAX_MS))
def test_rule_40_every_millisecond_of_every_year_comes_through_whole(ms: int) -> None:
    moment = msgspec.convert(rfc3339(ms), Time)
    assert ms_of(moment) == ms
    assert time_ms(rfc3339(ms)) == ms


@settings(max_examples=500, deadline=None, database=None)
@given(moment=st.datetimes(timezones=ZONES))
def test_rule_40_a_time_of_any_zone_is_rounded_down_to_its_millisecond(moment: datetime) -> None:
    # Python's difference of two times is exact.
    assert timedelta(0) <= (moment - EPOCH) - timedelta(milliseconds=ms_of(moment)) < timedelta(milliseconds=1)


@pytest.mark.parametrize("written", ["2039-03-01T08:00:00.002Z", "2039-03-01T16:00:00.002+08:00"])
def test_rule_40_the_time_of_a_movement_reaches_its_command_whole(written: str) -> None:
    raw = b'{"type":"stock.received","id":"m","warehouse":"SH1","lines":[{"sku":"A","quantity":1}],"occurred_at":"%s"}'
    event = decode_movement(raw % written.encode())
    assert isinstance(event, StockReceived)
    command = make_command(event)
    assert isinstance(command, Receive)
    assert rfc3339(command.at) == "2039-03-01T08:00:00.002Z"


def test_rule_40_no_time_becomes_a_float_of_seconds() -> None:
    root = Path(__file__).parents[2]
    floats = re.compile(r"\.timestamp\(\)|time\.time\(\)")
    sources = (path for folder in PRODUCT for path in (root / folder).rglob("*.py"))
    assert [str(path) for path in sources if floats.search(path.read_text())] == []
