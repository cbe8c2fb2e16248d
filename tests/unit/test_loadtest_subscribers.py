"""Many subscribers: their records show every error to a judge, although most decode nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stocktide.client.feed import parse_frame
from stocktide.loadtest.measure.meter import LoadMeter
from stocktide.loadtest.oracle.history import (
    HistoryClock,
    HistoryFile,
    HistoryRecord,
    Request,
    Response,
    RunStarted,
    Synced,
    UnreadableRow,
    UpdateReceived,
)
from stocktide.loadtest.oracle.judge import LiveJudge, judge
from stocktide.loadtest.run import subscribers
from stocktide.loadtest.run.history_merge import HistoryMerge
from stocktide.loadtest.run.recording import RequestRecorder
from stocktide.loadtest.run.subscribers import (
    FULLY_RECORDED_PER_CHANNEL,
    LAG_SAMPLED,
    PooledSubscriber,
    SubscriberPool,
    transport_of,
)
from tests.unit.test_oracle_caught import a_subscriber_that_comes_back_and_misses_something

API = "http://127.0.0.1:9"


def frame(version: int, quantity: int = 3, sku: str = "lt1-HOT-0000", at: float | None = None) -> bytes:
    as_of = datetime.fromtimestamp(time.time() if at is None else at, UTC).isoformat().replace("+00:00", "Z")
    data = (
        f'{{"channel":"jd","sku":"{sku}","quantity":{quantity},"mode":"in_stock","preorder_remaining":0,'
        f'"version":{version},"as_of":"{as_of}"}}'
    )
    return f"id: 7-{version}\nevent: stock\ndata: {data}".encode()


SYNCED = b'id: 7-0\nevent: synced\ndata: {"channel":"jd"}'


def make_pool(subscribers: int = 3) -> tuple[SubscriberPool, list[HistoryRecord]]:
    """Followers of one channel, not connected; the third one only follows versions."""
    records: list[HistoryRecord] = []
    pool = SubscriberPool(API, ("jd",), subscribers, "lt1", RequestRecorder(HistoryClock(), 1, records.append))
    pool.zero_at = time.monotonic()
    return pool, records


def follow(follower: PooledSubscriber, frames: Iterable[bytes]) -> None:
    follower.handle([parse_frame(text) for text in frames])


def updates_of(records: Iterable[HistoryRecord]) -> list[tuple[int, int]]:
    """Version and quantity of each update."""
    updates = (record.update for record in records if isinstance(record, UpdateReceived))
    return [(update.version, update.quantity) for update in updates]


def told_by_the_third(*frames: bytes) -> list[HistoryRecord]:
    pool, records = make_pool()
    follow(pool.subscribers[2], frames)
    pool.subscribers[2].record_held()
    return records


def test_the_first_of_a_channel_write_every_update_and_the_others_what_they_hold_at_the_end() -> None:
    pool, records = make_pool()
    for follower in pool.subscribers:
        follow(follower, [frame(1), SYNCED, frame(2), frame(3, 1)])
    assert [follower.is_fully_recorded for follower in pool.subscribers] == [True, True, False]
    assert updates_of(records) == [(1, 3), (2, 3), (3, 1)] * 2
    records.clear()
    for follower in pool.subscribers:
        follower.record_held()
    assert [type(record) for record in records] == [UpdateReceived, Synced]
    assert updates_of(records) == [(3, 1)]


def test_skus_of_others_are_none_of_its_business() -> None:
    assert updates_of(told_by_the_third(frame(1, sku="lt2-HOT-0000"))) == []


def test_a_version_that_goes_back_is_written_down_so_that_the_watch_sees_it() -> None:
    pool, records = make_pool()
    follow(pool.subscribers[2], [frame(5), SYNCED, frame(4, 9)])
    watch = LiveJudge()
    found = [violation for record in records for violation in watch.feed(record)]
    assert [violation.checker for violation in found] == ["version_went_back"]


def test_one_version_with_two_contents_is_written_down_and_the_same_again_is_not() -> None:
    at = time.time()
    pool, records = make_pool()
    follow(pool.subscribers[2], [frame(5, 3, at=at), frame(5, 3, at=at)])
    assert records == []
    follow(pool.subscribers[2], [frame(5, 4, at=at)])
    watch = LiveJudge()
    assert [violation for record in records for violation in watch.feed(record)]


def test_a_follower_without_synced_does_not_record_it() -> None:
    assert not [record for record in told_by_the_third(frame(1)) if isinstance(record, Synced)]
    assert [record for record in told_by_the_third(frame(1), SYNCED) if isinstance(record, Synced)]


def test_an_update_that_is_none_is_a_record_too() -> None:
    broken = b'id: 7-1\nevent: stock\ndata: {"sku":"lt1-HOT-0000","version":1,"quantity":"many"}'
    assert [type(record) for record in told_by_the_third(broken)] == [UnreadableRow]


def test_lag_is_taken_after_the_snapshot_of_all_of_the_first_and_of_some_of_the_others() -> None:
    pool, _ = make_pool()
    old = time.time() - 2
    for follower in pool.subscribers:
        follow(follower, [frame(1, at=old - 60), SYNCED, *(frame(2 + n, at=old) for n in range(2 * LAG_SAMPLED))])
    whole = LoadMeter([pool.meter.part()])
    assert whole.latencies("lag").count == 2 * 2 * LAG_SAMPLED + 2
    assert 1_900 < whole.latencies("lag").p50 < 10_000
    assert whole.totals["updates"] == 3 * (1 + 2 * LAG_SAMPLED)


async def test_the_crowd_settles_once_each_has_the_last_version_and_is_connected() -> None:
    pool, _ = make_pool(1)
    (follower,) = pool.subscribers
    follow(follower, [frame(1), SYNCED])
    settling = asyncio.create_task(pool.settle({"jd": {"lt1-HOT-0000": 2}}))
    await asyncio.sleep(0)
    follow(follower, [frame(2)])
    await asyncio.sleep(2 * subscribers.POLL_SECONDS)
    assert not settling.done()
    follower._connected = True
    await asyncio.wait_for(settling, 10)


async def test_the_crowd_waits_no_longer_where_nothing_comes_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "IDLE_SECONDS_MAX", 0.3)
    pool, _ = make_pool(1)
    await asyncio.wait_for(pool.settle({"jd": {"lt1-HOT-0000": 2}}), 10)
    assert not pool.subscribers[0].has({"lt1-HOT-0000": 2})


@pytest.mark.parametrize("count", [1, 7])
def test_followers_are_spread_over_the_channels(count: int) -> None:
    pool = SubscriberPool(
        API, ("jd", "tmall", "own"), count, "lt1", RequestRecorder(HistoryClock(), 1, lambda record: None)
    )
    assert len({follower.name for follower in pool.subscribers}) == count
    assert [follower.name.rpartition("-")[0] for follower in pool.subscribers][:3] == ["jd", "tmall", "own"][:count]


@pytest.mark.parametrize(("sockets", "expected"), [(0, 0), (0.5, 20), (0.25, 10), (1, 40)])
def test_a_share_of_each_channels_followers_are_sockets(sockets: float, expected: int) -> None:
    transports = [transport_of(nth, sockets) for nth in range(40)]
    assert transports.count("websocket") == expected
    assert sockets != 0.5 or set(transports[:FULLY_RECORDED_PER_CHANNEL]) == {"sse", "websocket"}


def test_records_of_all_processes_are_merged_in_order_once_no_earlier_one_can_come(tmp_path: Path) -> None:
    heard: list[HistoryRecord] = []
    path = tmp_path / "history-0.ndjson"
    with HistoryFile(path) as file:
        gathering = HistoryMerge(tmp_path, HistoryClock())
        tester = gathering.open_tail(path)
        gathering.add(RunStarted(10, "app"))
        gathering.add(Response(30, 1, 201))
        file.add(Request(20, 1, "http", "order.placed", {"order_id": "o1"}))
        file.flush()
        gathering.emit(heard.append)
        assert heard == []
        tester.read_on(25)
        gathering.emit(heard.append)
        assert [record.at for record in heard] == [10, 20]
        file.add(Request(40, 2, "http", "order.placed", {"order_id": "o2"}))
        file.flush()
        tester.read_on(45)
        gathering.emit(heard.append)
        gathering.close()
    assert [record.at for record in heard] == [10, 20, 30, 40]
    assert list(gathering.records()) == heard


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "history-0.ndjson"
    gathering = HistoryMerge(tmp_path, HistoryClock())
    tester = gathering.open_tail(path)
    path.write_bytes(b'{"record":"asked","at":1,"number":1,"door":"http","ki')
    tester.read_on(5)
    assert not tester.waiting
    with path.open("ab") as file:
        file.write(b'nd":"order.placed"}\n')
    tester.read_on(6)
    assert [record.at for record in tester.waiting] == [1]
    gathering.close()


def test_an_api_that_was_further_behind_than_usual_may_tell_of_an_older_state_for_as_long() -> None:
    records = a_subscriber_that_comes_back_and_misses_something()
    assert judge(records).part("channel_not_converged").found
    assert not judge(records, behind_ms=120_000).part("channel_not_converged").found
