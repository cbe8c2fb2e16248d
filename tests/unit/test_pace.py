"""Publication slows down under load and recovers."""

from __future__ import annotations

from stocktide.agents.publication_throttle import STRETCH_MAX, WINDOW_SECONDS, PublicationThrottle
from tests.unit.fakes import FakeClock


def spend(pace: PublicationThrottle, clock: FakeClock, share: float) -> float:
    """Spend a share of one window on publication; the factor afterwards."""
    with pace.working():
        clock.now += WINDOW_SECONDS * share
    clock.now += WINDOW_SECONDS * (1 - share)
    return pace.stretch()


def test_a_busy_worker_stretches_intervals_up_to_a_limit_and_back() -> None:
    clock = FakeClock()
    pace = PublicationThrottle(clock)
    assert [spend(pace, clock, 0.5) for _ in range(6)] == [2.0, 4.0, 8.0, STRETCH_MAX, STRETCH_MAX, STRETCH_MAX]
    assert [spend(pace, clock, 0.01) for _ in range(5)] == [5.0, 2.5, 1.25, 1.0, 1.0]


def test_between_the_limits_the_factor_stays() -> None:
    clock = FakeClock()
    pace = PublicationThrottle(clock)
    spend(pace, clock, 0.5)
    assert spend(pace, clock, 0.08) == 2.0
