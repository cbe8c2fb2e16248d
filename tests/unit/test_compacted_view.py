"""What a view of small topics keeps."""

from __future__ import annotations

from stocktide.streams.kafka.compacted_view import CompactedView
from tests.unit.fakes import FakeRecord


def test_a_view_forgets_what_kafka_has_deleted_because_of_its_age() -> None:
    view = CompactedView("", "days", "webhooks", kept_ms={"days": 100})
    for topic in ("days", "webhooks"):
        view._take(topic, [FakeRecord(0, b"1", b"old", 10), FakeRecord(1, b"1", b"new", 10), FakeRecord(2, None, b"-")])
        view._take(topic, [FakeRecord(3, b"2", b"new", 60)])
    view._forget(150)
    assert view.rows("days") == {"new": b"2"}
    assert view.rows("webhooks") == {"old": b"1", "new": b"2"}
    view._forget(1_000)
    assert view.rows("days") == {}


def test_a_view_keeps_nothing_of_a_row_that_was_removed() -> None:
    view = CompactedView("", "days", kept_ms={"days": 100})
    view._take(
        "days", [FakeRecord(0, b"1", b"old", 10), FakeRecord(1, None, b"old", 20), FakeRecord(2, None, b"-", 20)]
    )
    assert view.rows("days") == {} and view._written["days"] == {}
