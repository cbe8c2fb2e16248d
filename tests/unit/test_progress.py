"""Which work of a worker counts as pending, and what counts as progress."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP
from redis.asyncio import Redis

from stocktide.agents.partition_workers import ChunkInProgress, PartitionWorkers
from stocktide.agents.progress import ConsumingApp, Deciding, LedgerProgress, RedisProbe, WorkerProgress
from stocktide.streams.kafka.membership import MembershipLost
from stocktide.streams.kafka.publish import Publisher
from stocktide.streams.topics import ORDERS, STOCK
from stocktide.tables.recovery.rebuild import RecoveryProgress as Rebuilding
from stocktide.tables.settlement.stalls import PartStatus, StepStatus
from tests.unit.fakes import FakeMembership, FakeProducer, FakeProducerBatch

ORDERS_0, STOCK_0 = TP("s-orders", 0), TP("s-stock", 0)


class RefusingProducer(FakeProducer):
    """A producer that Kafka refuses while `refuses` is set."""

    def __init__(self) -> None:
        self.refuses = True

    async def send_batch(self, batch: FakeProducerBatch, topic: str, partition: int) -> Any:
        if self.refuses:
            raise KafkaTimeoutError("no replica is in sync")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=4))
        return done


@dataclass
class FakeRelay:
    blessed: bool = True
    term: int = 1
    error: str | None = None
    lag: int = 0
    recovery: Rebuilding | None = None
    next_offset: int = 70
    reading: int | None = None


class FakeServerView:
    """A server that answered."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        self.numbers = LedgerProgress()
        self.ends = {ORDERS_0: 12, STOCK_0: 12}

    async def probe(self, *_: Any) -> None:
        pass


@dataclass
class FakeConsumer:
    fetched: dict[TP, int | None] = field(default_factory=lambda: {ORDERS_0: 12, STOCK_0: 12})
    oldest: dict[TP, int] = field(default_factory=dict)

    def assignment(self) -> set[TP]:
        return set(self.fetched)

    def fetch_position(self, tp: TP) -> int | None:
        return self.fetched[tp]

    def oldest_unacked(self, tp: TP) -> int | None:
        return self.oldest.get(tp)


class FakeWorker:
    """All parts that are observed, each of which a test can change."""

    def __init__(self) -> None:
        self.membership = FakeMembership()
        self.consumer, self.relay = FakeConsumer(), FakeRelay()
        self.redis, self.kafka = FakeServerView(), FakeServerView()
        self.tables = SimpleNamespace(actives_ready=True)
        self.workers = PartitionWorkers("orders", self._handle, self.membership)
        self.due = (0, 0, "")
        self.producer = RefusingProducer()
        self.publisher = Publisher(self.producer, self.membership)  # type: ignore[arg-type]
        self.steps = {"expiry": StepStatus()}
        self.settled_steps: dict[Any, object] = {}
        self.decides = True

    async def _handle(self, *_: Any) -> None:
        raise AssertionError

    async def look(self) -> dict[str, PartStatus]:
        app: Any = SimpleNamespace(membership=self.membership, consumer=self.consumer, tables=self.tables)
        stock: Any = SimpleNamespace(status=lambda _: self.due)
        submitter: Any = SimpleNamespace(trouble=None)
        redis: Any = self.redis
        kafka: Any = self.kafka
        relay = self.relay
        deciding = Deciding(lambda: relay, submitter, self.steps, redis, self.settled_steps) if self.decides else None
        consuming = ConsumingApp(app, {ORDERS: self.workers}, self.publisher, stock)
        progress = WorkerProgress("s", [consuming], kafka, deciding)
        return {standing.part: standing for standing in await progress.statuses()}


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


async def test_nothing_waits_where_all_was_read_and_done() -> None:
    assert not any(standing.pending for standing in (await FakeWorker().look()).values())


async def test_a_chunk_that_is_not_done_waits_with_its_offset_and_the_error_of_its_handler(worker: FakeWorker) -> None:
    worker.consumer.oldest[ORDERS_0] = 11
    worker.workers.in_progress[0] = ChunkInProgress(5, "ValueError: broken")
    found = (await worker.look())["consuming s-orders-0"]
    assert (found.pending, found.offset, found.reason) == (1, 5, "ValueError: broken")


async def test_a_chunk_moves_with_its_steps(worker: FakeWorker) -> None:
    worker.consumer.oldest[ORDERS_0] = 5
    worker.workers.in_progress[0] = ChunkInProgress(5)
    positions = []
    for steps in (None, (5, 1), (5, 2), (5, 2)):
        if steps is not None:
            worker.settled_steps[ORDERS_0.topic, 0] = steps
        found = (await worker.look())["consuming s-orders-0"]
        positions.append(found.position)
        assert (found.pending, found.offset) == (1, 5)
    assert len(set(positions)) == 3 and positions[2] == positions[3]


async def test_a_row_of_stock_is_pending_only_once_it_is_due(worker: FakeWorker) -> None:
    worker.consumer.oldest[STOCK_0] = 11
    assert not (await worker.look())["consuming s-stock-0"].pending
    worker.due = (1, 7, "KafkaTimeoutError")
    found = (await worker.look())["consuming s-stock-0"]
    assert (found.pending, found.reason) == (1, "KafkaTimeoutError")


async def test_what_is_fetched_behind_work_that_is_stuck_is_no_move(worker: FakeWorker) -> None:
    worker.consumer.oldest[ORDERS_0] = 8
    worker.workers.in_progress[0] = ChunkInProgress(5)
    worker.due = (1, 7, "")
    before = await worker.look()
    worker.consumer.fetched = {ORDERS_0: 15, STOCK_0: 15}
    after = await worker.look()
    for part in ("consuming s-orders-0", "consuming s-stock-0"):
        assert before[part].position == after[part].position


async def test_what_is_fetched_where_nothing_is_stuck_is_a_move(worker: FakeWorker) -> None:
    worker.consumer.fetched = {ORDERS_0: 3, STOCK_0: 3}
    before = await worker.look()
    worker.consumer.fetched = {ORDERS_0: 6, STOCK_0: 6}
    after = await worker.look()
    for part in ("consuming s-orders-0", "consuming s-stock-0"):
        assert before[part].pending and before[part].position != after[part].position


async def test_what_waits_for_a_redis_that_is_being_filled_moves_with_it(worker: FakeWorker) -> None:
    worker.consumer.oldest[ORDERS_0] = 11
    worker.relay.blessed = False
    positions = []
    for done in (100, 200):
        worker.relay.recovery = Rebuilding("replay", done, 1_000)
        found = await worker.look()
        positions.append((found["consuming s-orders-0"].position, found["settling"].position))
    assert positions[0][0] != positions[1][0] and positions[0][1] != positions[1][1]


async def test_a_takeover_that_fails_again_and_again_does_not_move_however_much_it_reads(worker: FakeWorker) -> None:
    worker.relay.blessed, worker.relay.error = False, "it is another journal"
    first = (await worker.look())["settling"]
    second = (await worker.look())["settling"]
    assert first.pending and first.position == second.position and first.reason == "it is another journal"


async def test_batches_that_are_in_redis_and_not_in_the_journal_wait(worker: FakeWorker) -> None:
    worker.redis.numbers = LedgerProgress(head=30, settled=28)
    found = (await worker.look())["settling"]
    assert (found.pending, found.topic, found.offset) == (2, "s-journal", 70)


async def test_a_partition_without_a_known_position_counts_as_pending(worker: FakeWorker) -> None:
    worker.consumer.fetched[ORDERS_0] = None
    assert (await worker.look())["consuming s-orders-0"].pending


async def test_what_is_assigned_elsewhere_or_not_yet_is_no_part_of_this_worker(worker: FakeWorker) -> None:
    worker.consumer.oldest[ORDERS_0] = 11
    worker.membership.end()
    assert not any(part.startswith("consuming") for part in await worker.look())


async def test_a_worker_that_only_publishes_watches_no_redis(worker: FakeWorker) -> None:
    worker.decides = False
    worker.consumer.oldest[ORDERS_0] = 11
    worker.redis.trouble = "Redis does not answer"
    found = await worker.look()
    assert not {"redis", "settling", "expiry", "timer expiry"} & set(found)
    assert found["consuming s-orders-0"].reason == "its handler has not ended"


async def test_a_topic_that_refuses_rows_is_reported_until_it_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stocktide.streams.kafka.publish.RETRY_SECONDS_MIN", 0.001)
    for ends_with_success in (True, False):
        worker = FakeWorker()
        publish = worker.publisher.publish(STOCK.full_name("s"), [(b"A", b"1")], 1, to_partition=lambda _: 3)
        writing = asyncio.create_task(publish)
        await asyncio.sleep(0.05)
        found = (await worker.look())["writing s-stock-3"]
        assert (found.pending, found.topic, found.partition) == (1, "s-stock", 3)
        assert "no replica is in sync" in found.reason
        if ends_with_success:
            worker.producer.refuses = False
            await asyncio.wait_for(writing, 5)
        else:
            worker.membership.end()
            with pytest.raises(MembershipLost):
                await asyncio.wait_for(writing, 5)
        assert "writing s-stock-3" not in await worker.look()


async def test_a_deadline_waits_once_a_tick_should_have_ended_it(redis: Redis) -> None:
    look = RedisProbe(redis, "s", tick_ms=5_000)
    seconds, _ = await redis.time()
    await redis.zadd("s:{0}:deadlines", {"soon": seconds * 1000 - 1_000})
    await redis.hset("s:{0}:head", "batch", 9)
    await look.probe()
    assert look.numbers.overdue == (None, None) and look.numbers.head == 9 and look.trouble is None
    await redis.zadd("s:{0}:deadlines", {"long ago": seconds * 1000 - 60_000})
    await look.probe()
    assert look.numbers.overdue == (("long ago", seconds * 1000 - 60_000), None)


async def test_a_redis_that_does_not_answer_is_trouble_and_raises_nothing() -> None:
    look = RedisProbe(Redis.from_url("redis://127.0.0.1:1/0"), "s", tick_ms=200)
    await look.probe()
    assert look.trouble is not None and "Redis does not answer" in look.trouble
