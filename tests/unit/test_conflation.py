"""When a change of a channel is published."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stocktide.agents.channel_stock import conflation as conflation_module
from stocktide.agents.channel_stock.conflation import Conflation, PendingAck, decode_stock_row

INTERVAL_MS = 100


class ConflationHarness:
    """A conflation with a clock that the test sets."""

    def __init__(self, **published: dict[str, Any]) -> None:
        self.now = 50.0
        self.table = {name.replace("__", "/").encode(): orjson.dumps(update) for name, update in published.items()}
        self.conflation = Conflation(self.table.get, INTERVAL_MS, lambda: self.now)

    def row(
        self,
        version: int,
        pending_ack: PendingAck | None = None,
        interval: int | None = None,
        sku: str = "A",
        **channels: Any,
    ) -> None:
        """Fold a row of a SKU; channels as name=(mode, quantity)."""
        row = {
            "sku": sku,
            "version": version,
            "as_of": "2026-11-24T00:00:00.000Z",
            "on_hand": 7,
            "channels": {
                name: {"mode": mode, "quantity": quantity, "preorder_remaining": 0}
                for name, (mode, quantity) in channels.items()
            },
            "publish_interval_ms": {} if interval is None else dict.fromkeys(channels, interval),
        }
        self.conflation.fold(decode_stock_row(orjson.dumps(row)), pending_ack)

    def due(self, after: float = 0.0) -> list[tuple[str, str, int, int]]:
        """The updates due after so many seconds: channel, mode, quantity, version."""
        self.now += after
        updates = self.conflation.take_due(1_000)
        for update in updates:
            if update.pending_ack is not None:
                update.pending_ack.release()
        published = [orjson.loads(update.value) for update in updates]
        return [(one["channel"], one["mode"], one["quantity"], one["version"]) for one in published]


@pytest.fixture
def harness() -> ConflationHarness:
    """One whose first row was published, at once."""
    harness = ConflationHarness()
    harness.row(1, jd=("in_stock", 9))
    assert harness.due() == [("jd", "in_stock", 9, 1)]
    return harness


def test_quantities_are_published_at_most_once_per_interval_and_then_the_newest(harness: ConflationHarness) -> None:
    for version in range(2, 8):
        harness.row(version, jd=("in_stock", 9 - version))
    assert harness.due(after=0.09) == []
    assert harness.due(after=0.02) == [("jd", "in_stock", 2, 7)]
    assert harness.due(after=9.0) == []


def test_a_change_after_a_quiet_interval_is_published_at_once(harness: ConflationHarness) -> None:
    harness.now += 0.2
    harness.row(2, jd=("in_stock", 8))
    assert harness.due() == [("jd", "in_stock", 8, 2)]


def test_a_switch_of_mode_does_not_wait_for_the_interval(harness: ConflationHarness) -> None:
    harness.row(2, jd=("in_stock", 1))
    harness.row(3, jd=("sold_out", 0))
    assert harness.due() == [("jd", "sold_out", 0, 3)]


def test_a_change_that_a_channel_cannot_see_is_never_published(harness: ConflationHarness) -> None:
    harness.row(2, jd=("in_stock", 9), tmall=("in_stock", 8))
    assert harness.due(after=1.0) == [("tmall", "in_stock", 8, 2)]


def test_a_change_that_is_undone_before_it_is_due_is_never_published(harness: ConflationHarness) -> None:
    harness.row(2, jd=("in_stock", 8))
    harness.row(3, jd=("in_stock", 9))
    assert harness.due(after=1.0) == []


def test_versions_only_grow_a_row_that_comes_again_changes_nothing(harness: ConflationHarness) -> None:
    harness.row(5, jd=("in_stock", 9))
    harness.row(4, jd=("sold_out", 0))
    harness.row(5, jd=("sold_out", 0))
    assert harness.due(after=1.0) == []


def test_after_a_restart_only_differences_to_published_rows_are_published() -> None:
    published = {"mode": "in_stock", "quantity": 9, "preorder_remaining": 0, "version": 5, "as_of": "x"}
    harness = ConflationHarness(jd__A={"channel": "jd", "sku": "A", **published})
    harness.row(4, jd=("in_stock", 10))
    harness.row(6, jd=("in_stock", 9))
    assert harness.due() == []
    harness.row(7, jd=("in_stock", 8))
    assert harness.due() == [("jd", "in_stock", 8, 7)]


def test_a_date_alone_is_a_change_and_the_published_one_is_remembered() -> None:
    dates = ["2099-01-01T00:00:00.000Z", "2099-01-02T00:00:00.000Z"]
    offer = {"mode": "preorder", "quantity": 0, "preorder_remaining": 5}
    published = {"channel": "jd", "sku": "A", **offer, "available_from": dates[0], "version": 5, "as_of": "x"}
    harness = ConflationHarness(jd__A=published)
    for version, date in ((6, dates[0]), (7, dates[1])):
        row = {"sku": "A", "version": version, "as_of": "x", "channels": {"jd": {**offer, "available_from": date}}}
        harness.conflation.fold(decode_stock_row(orjson.dumps(row)))
    (update,) = harness.conflation.take_due(9)
    assert orjson.loads(update.value) == published | {"available_from": dates[1], "version": 7}


def test_the_interval_of_a_channel_counts(harness: ConflationHarness) -> None:
    harness.row(2, interval=5_000, jd=("in_stock", 8))
    assert harness.due(after=4.0) == []
    assert harness.due(after=1.1) == [("jd", "in_stock", 8, 2)]


def test_a_chunk_is_done_when_its_updates_are_written_or_replaced(harness: ConflationHarness) -> None:
    done: list[str] = []
    first, second = PendingAck(lambda: done.append("first")), PendingAck(lambda: done.append("second"))
    harness.row(2, first, jd=("in_stock", 8))
    first.release()
    assert done == []
    harness.row(3, second, jd=("in_stock", 7))
    second.release()
    assert done == ["first"]
    assert harness.due(after=1.0) == [("jd", "in_stock", 7, 3)]
    assert done == ["first", "second"]


def test_a_chunk_that_changed_nothing_is_done_at_once(harness: ConflationHarness) -> None:
    done: list[str] = []
    pending_ack = PendingAck(lambda: done.append("done"))
    harness.row(1, pending_ack, jd=("in_stock", 9))
    pending_ack.release()
    assert done == ["done"]


def test_an_evicted_offer_is_read_from_the_table(harness: ConflationHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflation_module, "OFFERS_CACHED_MAX", 2)
    for sku in "BCDEFG":
        harness.row(1, sku=sku, jd=("in_stock", 9))
        for update in harness.conflation.take_due(10):
            harness.table[update.key] = update.value
    assert len(harness.conflation._skus) <= 3
    harness.row(2, sku="B", jd=("in_stock", 9))
    harness.row(2, sku="C", jd=("in_stock", 8))
    assert harness.due(after=1.0) == [("jd", "in_stock", 8, 2)]
