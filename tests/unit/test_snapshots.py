"""When a snapshot is complete: every SKU of the ledger has arrived; all waiting readers share one check."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from stocktide.api.feeds import snapshots as snapshots_module
from stocktide.api.feeds.hub import Hub
from stocktide.api.feeds.snapshots import SnapshotMonitor
from stocktide.streams.topics import join_key
from stocktide.tables.ledger.client import KnownSkus, Unblessed
from tests.harness.eventually import eventually
from tests.unit.fakes import FakeRecord

SECONDS_MAX = 5.0


class FakeHubAndLedger:
    """A ledger that knows SKUs, and a hub that gets rows when a test publishes them."""

    def __init__(self, *skus: str) -> None:
        self.skus = set(skus)
        self.hub = Hub(1)
        self.asked: list[tuple[str, int]] = []
        self.fails: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._offset = 0

    async def read(self, cursor: str, limit: int) -> KnownSkus:
        self.asked.append((cursor, limit))
        if self.fails:
            raise self.fails.pop()
        names = sorted(sku for sku in self.skus if sku > cursor)[:limit]
        found = KnownSkus(len(self.skus), tuple(names))
        await self.gate.wait()
        return found

    def wait_whole(self) -> asyncio.Task[None]:
        return asyncio.create_task(SnapshotMonitor(self.hub, self.read).whole("tmall"))

    def publish(self, *skus: str, channel: str = "tmall") -> None:
        for sku in skus:
            value = orjson.dumps({"channel": channel, "sku": sku, "quantity": 1, "version": self._offset + 1})
            self.hub.add(0, [FakeRecord(self._offset, value, join_key(channel, sku).encode())])
            self._offset += 1


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("skus", ["", "AB"])
async def test_a_hub_that_holds_all_is_whole_after_one_question_of_no_page(skus: str) -> None:
    fake = FakeHubAndLedger(*skus)
    fake.publish(*skus)
    await asyncio.wait_for(fake.wait_whole(), SECONDS_MAX)
    assert fake.asked == [("", 0)]


async def test_each_sku_is_waited_for_whatever_other_channels_have() -> None:
    fake = FakeHubAndLedger("A", "B", "C")
    fake.publish("A", "B", "C", channel="jd")
    waiting = fake.wait_whole()
    for sku in "CAB":
        await turns()
        assert not waiting.done()
        fake.publish(sku)
    await asyncio.wait_for(waiting, SECONDS_MAX)


async def test_pages_are_gone_through_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "PAGE_SKUS_MAX", 2)
    skus = [f"S{number}" for number in range(6)]
    fake = FakeHubAndLedger(*skus)
    waiting = fake.wait_whole()
    await turns()
    fake.publish(*skus[:5])
    await turns()
    assert not waiting.done()
    fake.publish(skus[5])
    await asyncio.wait_for(waiting, SECONDS_MAX)
    assert fake.asked[-1] == ("S5", 2)


async def test_as_many_skus_that_are_not_the_same_are_not_taken_for_all() -> None:
    """The hub is counted before the ledger is asked: a SKU that becomes known in between replaces no missing one."""
    fake = FakeHubAndLedger("A", "B")
    fake.publish("A")
    fake.gate.clear()
    waiting = fake.wait_whole()
    await turns()
    fake.skus.add("C")
    fake.publish("C")
    fake.gate.set()
    await turns()
    assert not waiting.done()
    fake.publish("B")
    await asyncio.wait_for(waiting, SECONDS_MAX)


async def test_thousands_share_a_check_and_none_is_given_one_that_began_before_it_came() -> None:
    fake = FakeHubAndLedger("A")
    fake.publish("A")
    snapshots = SnapshotMonitor(fake.hub, fake.read)
    fake.gate.clear()
    first = asyncio.create_task(snapshots.whole("tmall"))
    await turns()
    fake.skus.add("B")
    waiting = [asyncio.create_task(snapshots.whole("tmall")) for _ in range(2_000)]
    await turns()
    fake.gate.set()
    await asyncio.wait_for(first, SECONDS_MAX)
    await turns()
    assert not any(task.done() for task in waiting)
    fake.publish("B")
    await asyncio.wait_for(asyncio.gather(*waiting), SECONDS_MAX)
    assert len(fake.asked) <= 3
    assert not snapshots._waiters


async def test_a_reader_that_leaves_during_its_check_is_replaced_by_the_next() -> None:
    fake = FakeHubAndLedger("A")
    snapshots = SnapshotMonitor(fake.hub, fake.read)
    checking = asyncio.create_task(snapshots.whole("tmall"))
    waiting = asyncio.create_task(snapshots.whole("tmall"))
    await turns()
    checking.cancel()
    await turns()
    assert not waiting.done()
    fake.publish("A")
    await asyncio.wait_for(waiting, SECONDS_MAX)
    assert not snapshots._waiters


async def test_a_ledger_that_does_not_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "RETRY_SECONDS", 0.01)
    fake = FakeHubAndLedger("A")
    fake.publish("A")
    fake.fails = [Unblessed("no takeover"), TimeoutError(), ConnectionResetError()]
    await asyncio.wait_for(fake.wait_whole(), SECONDS_MAX)
    assert len(fake.asked) == 4


async def test_a_sku_that_does_not_come_is_named_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeHubAndLedger("A", "B")
    fake.publish("A")
    snapshots = SnapshotMonitor(fake.hub, fake.read, late_seconds=0.02)
    waiting = asyncio.create_task(snapshots.whole("tmall"))
    await eventually(lambda: bool(snapshots.late))
    assert snapshots.late == {"tmall": "B"}
    assert "the feed of tmall waits for 1 SKUs, such as B" in caplog.text
    fake.publish("B")
    await asyncio.wait_for(waiting, SECONDS_MAX)
    assert snapshots.late == {}
