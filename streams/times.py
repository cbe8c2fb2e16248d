"""Times as whole milliseconds since the epoch, exact in every year that a message may name.

In: aware datetimes, or the clock of this machine. Out: ints. A float of seconds holds no exact millisecond.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def ms_of(moment: datetime) -> int:
    """ms since the epoch, rounded down. Raises TypeError where `moment` has no zone."""
    return (moment - EPOCH) // _MILLISECOND


def now_ms() -> int:
    """This machine's clock, ms since the epoch."""
    return time.time_ns() // 1_000_000
