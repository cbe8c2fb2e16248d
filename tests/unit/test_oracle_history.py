"""The history of a run: written, read, judged; and verdicts of runs that prove nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec import structs

from stocktide.loadtest.oracle import history
from stocktide.loadtest.oracle.judge import judge
from tests.ledger.strategies import TimedBatch, runs
from tests.unit.oracle_shop import SimulatedShop
from tests.unit.test_oracle_caught import shop_with, the_last_units_to_two_callers_after_a_lost_tail
from tests.unit.test_oracle_fair import run_batches

ORDER = (
    b'{"order_id":"o1","channel":"tmall","state":"reserved","lines":[{"sku":"A","quantity":2,"state":"reserved",'
    b'"reserved":2,"preordered":0,"shipped":0,"returned":0,"warehouses":{"SH1":2},"reason":null}],'
    b'"placed_at":"2026-11-11T00:00:00.000Z","expires_at":"2026-11-11T00:15:00.000Z","sequence":1,"replayed":true}'
)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    records = shop_with().quiesce()
    with history.HistoryFile(tmp_path / "run") as file:
        for record in records:
            file.add(record)
    assert list(history.read_history(tmp_path / "run")) == records
    assert judge(lambda: history.read_history(tmp_path / "run")) == judge(records)


def test_half_a_line_at_the_end_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with history.HistoryFile(path) as file:
        file.add(history.RunStarted(1, "app"))
    path.write_bytes(path.read_bytes() + b'{"record":"told","at":')
    assert list(history.read_history(path)) == [history.RunStarted(1, "app")]


def test_a_line_that_is_no_record_is_never_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b'{"record":"heard"}\n')
    with pytest.raises(msgspec.DecodeError):
        list(history.read_history(tmp_path / "run"))


def test_the_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = history.HistoryClock()
    before = clock.now()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert clock.now() >= before


def test_an_answer_is_kept_as_far_as_promises_speak_of_it() -> None:
    response = history.decode_response(5, 1, 200, ORDER)
    assert response.order is not None and response.replayed
    assert response.order.lines[0].warehouses == {"SH1": 2}
    refused = b'{"type":"urn:x","title":"t","status":409,"detail":"d","code":"already_final","order":' + ORDER + b"}"
    response = history.decode_response(5, 1, 409, refused)
    assert (response.code, response.order is not None) == ("already_final", True)
    assert history.decode_response(5, 1, 204, b"") == history.Response(5, 1, 204)


def test_a_run_that_never_came_to_rest_proves_nothing() -> None:
    verdict = judge([record for record in shop_with().quiesce() if not isinstance(record, history.RunQuiesced)])
    assert not verdict.valid and not verdict.broken
    assert "never came to rest" in verdict.invalid[0]


def test_a_checker_that_looked_at_nothing_makes_the_run_invalid() -> None:
    verdict = judge([record for record in shop_with().quiesce() if not isinstance(record, history.ReadStock)])
    assert verdict.part("hold_leaked").empty and not verdict.valid
    assert any("nothing was checked" in line for line in verdict.lines())


def test_an_empty_history_is_no_pass() -> None:
    assert not judge([]).ok


def test_an_answer_to_nothing_makes_the_run_invalid() -> None:
    assert "belong to nothing" in judge([*shop_with().quiesce(), history.Response(1, 999, 200)]).invalid[0]


def test_what_was_found_comes_with_who_was_told_what() -> None:
    verdict = judge(the_last_units_to_two_callers_after_a_lost_tail())
    violation = verdict.part("oversold").violations[0]
    kinds = {type(record) for record in violation.evidence}
    assert {history.Request, history.Response} <= kinds
    assert violation.order_id == "o2" and violation.sku == "A"
    assert msgspec.json.decode(msgspec.json.encode(verdict.as_json()))["broken"]


def _one_of(shop: SimulatedShop, rng: random.Random, matches: Callable[[Any], object]) -> tuple[int, Any]:
    """One of the records that match, and its place."""
    found = [(index, record) for index, record in enumerate(shop.records) if matches(record)]
    assume(found)
    return rng.choice(found)


def _lose_an_order(shop: SimulatedShop, rng: random.Random) -> str:
    told = {r.order.order_id for r in shop.records if isinstance(r, history.Response) and r.order is not None}
    index, read = _one_of(shop, rng, lambda r: isinstance(r, history.ReadOrder) and r.order and r.order_id in told)
    shop.records[index] = structs.replace(read, order=None)
    return "answer_lost"


def _find_a_unit(shop: SimulatedShop, rng: random.Random) -> str:
    index, read = _one_of(shop, rng, lambda r: isinstance(r, history.ReadStock) and r.stock and r.stock.warehouses)
    where, shelf = rng.choice(list(read.stock.warehouses.items()))
    more = structs.replace(shelf, locked=shelf.locked + 1, available=shelf.available - 1)
    stock = structs.replace(read.stock, warehouses={**read.stock.warehouses, where: more})
    shop.records[index] = structs.replace(read, stock=stock)
    return "hold_leaked"


def _drop_the_last_update(shop: SimulatedShop, rng: random.Random) -> str:
    seen = [record for record in shop.records if isinstance(record, history.UpdateReceived)]
    assume(seen)
    shop.records = [record for record in shop.records if record is not seen[-1]]
    return "channel_not_converged"


def _tell_an_older_update(shop: SimulatedShop, rng: random.Random) -> str:
    newest: dict[tuple[str, str], int] = {}
    for record in shop.records:
        if isinstance(record, history.UpdateReceived):
            newest[record.subscriber, record.update.sku] = record.update.version
    _, older = _one_of(
        shop,
        rng,
        lambda r: isinstance(r, history.UpdateReceived) and r.update.version < newest[r.subscriber, r.update.sku],
    )
    shop.records.append(older)
    return "version_went_back"


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    runs(),
    st.sampled_from((_lose_an_order, _find_a_unit, _drop_the_last_update, _tell_an_older_update)),
    st.randoms(use_true_random=False),
)
def test_a_fault_in_whatever_run_is_found(batches: list[TimedBatch], break_history: object, rng: random.Random) -> None:
    shop = run_batches(batches)
    shop.quiesce()
    checker = break_history(shop, rng)  # type: ignore[operator]
    assert judge(shop.records).part(checker).found
