"""When a channel hears of a change."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from stocktide.agents.channel_stock import conflation as conflation_module
from stocktide.agents.channel_stock.conflation import Conflation, PendingAck, decode_stock_row

INTERVAL_MS = 100


class ConflationHarness:
    """A conflation whose time the test moves, and which keeps what it let go."""

    def __init__(self, **told: dict[str, Any]) -> None:
        self.now = 50.0
        self.table = {name.replace("__", "/").encode(): orjson.dumps(update) for name, update in told.items()}
        self.conflation = Conflation(self.table.get, INTERVAL_MS, lambda: self.now)

    def row(
        self,
        version: int,
        ticket: PendingAck | None = None,
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
        self.conflation.fold(decode_stock_row(orjson.dumps(row)), ticket)

    def due(self, after: float = 0.0) -> list[tuple[str, str, int, int]]:
        """What is due after so many seconds: channel, mode, quantity, version."""
        self.now += after
        updates = self.conflation.take_due(1_000)
        for update in updates:
            if update.pending_ack is not None:
                update.pending_ack.release()
        told = [orjson.loads(update.value) for update in updates]
        return [(one["channel"], one["mode"], one["quantity"], one["version"]) for one in told]


def test_the_first_row_is_told_at_once() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 5))
    assert watch.due() == [("jd", "in_stock", 5, 1)]


def test_quantities_are_told_at_most_once_per_interval_and_then_the_newest() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    for version in range(2, 8):
        watch.row(version, jd=("in_stock", 9 - version))
    assert watch.due(after=0.09) == []
    assert watch.due(after=0.02) == [("jd", "in_stock", 2, 7)]
    assert watch.due(after=9.0) == []


def test_a_change_after_a_quiet_interval_is_told_at_once() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    watch.now += 0.2
    watch.row(2, jd=("in_stock", 8))
    assert watch.due() == [("jd", "in_stock", 8, 2)]


def test_a_switch_of_mode_does_not_wait_for_the_interval() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    watch.row(2, jd=("in_stock", 1))
    watch.row(3, jd=("sold_out", 0))
    assert watch.due() == [("jd", "sold_out", 0, 3)]


def test_a_change_that_a_channel_cannot_see_is_never_told() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 9), tmall=("in_stock", 9))
    watch.due()
    watch.row(2, jd=("in_stock", 9), tmall=("in_stock", 8))
    assert watch.due(after=1.0) == [("tmall", "in_stock", 8, 2)]


def test_a_change_that_went_back_before_it_was_told_is_never_told() -> None:
    watch = ConflationHarness()
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    watch.row(2, jd=("in_stock", 8))
    watch.row(3, jd=("in_stock", 9))
    assert watch.due(after=1.0) == []


def test_versions_only_grow_a_row_that_comes_again_changes_nothing() -> None:
    watch = ConflationHarness()
    watch.row(5, jd=("in_stock", 9))
    watch.due()
    watch.row(4, jd=("sold_out", 0))
    watch.row(5, jd=("sold_out", 0))
    assert watch.due(after=1.0) == []


def test_after_a_restart_only_differences_to_what_was_told_are_told() -> None:
    told = {"mode": "in_stock", "quantity": 9, "preorder_remaining": 0, "version": 5, "as_of": "x"}
    watch = ConflationHarness(jd__A={"channel": "jd", "sku": "A", **told})
    watch.row(4, jd=("in_stock", 10))
    watch.row(6, jd=("in_stock", 9))
    assert watch.due() == []
    watch.row(7, jd=("in_stock", 8))
    assert watch.due() == [("jd", "in_stock", 8, 7)]


def test_a_channels_own_interval_counts() -> None:
    watch = ConflationHarness()
    watch.row(1, interval=5_000, jd=("in_stock", 9))
    watch.due()
    watch.row(2, interval=5_000, jd=("in_stock", 8))
    assert watch.due(after=4.0) == []
    assert watch.due(after=1.1) == [("jd", "in_stock", 8, 2)]


def test_a_chunk_is_done_when_what_it_caused_is_written_or_replaced_by_a_later_chunk() -> None:
    done: list[str] = []
    watch = ConflationHarness()
    first, second = PendingAck(lambda: done.append("first")), PendingAck(lambda: done.append("second"))
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    watch.row(2, first, jd=("in_stock", 8))
    first.release()
    assert done == []
    watch.row(3, second, jd=("in_stock", 7))
    second.release()
    assert done == ["first"]
    assert watch.due(after=1.0) == [("jd", "in_stock", 7, 3)]
    assert done == ["first", "second"]


def test_a_chunk_that_changed_nothing_is_done_at_once() -> None:
    done: list[str] = []
    watch = ConflationHarness()
    ticket = PendingAck(lambda: done.append("done"))
    watch.row(1, jd=("in_stock", 9))
    watch.due()
    watch.row(1, ticket, jd=("in_stock", 9))
    ticket.release()
    assert done == ["done"]


def test_what_was_forgotten_is_read_back_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflation_module, "OFFERS_CACHED_MAX", 2)
    watch = ConflationHarness()
    for sku in "ABCDEF":
        watch.row(1, sku=sku, jd=("in_stock", 9))
        for update in watch.conflation.take_due(10):
            watch.table[update.key] = update.value
    assert len(watch.conflation._skus) <= 3
    watch.row(2, sku="A", jd=("in_stock", 9))
    watch.row(2, sku="B", jd=("in_stock", 8))
    assert watch.due(after=1.0) == [("jd", "in_stock", 8, 2)]
