"""Fakes of Kafka, Faust and the ledger for tests of handlers."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import KafkaConnectionError

from stocktide.api.feeds.offset_vector import OffsetVector
from stocktide.streams.kafka.membership import Membership, MembershipLost
from stocktide.streams.kafka.publish import OutputRow, partition_of
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import Decision, DecisionHead, Result
from stocktide.tables.ledger.submission import Undecidable

PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """A record of a chunk."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    timestamp: int = 1_000
    headers: Sequence[tuple[str, bytes | None]] = ()


def chunk_of(*values: bytes | None, topic: str = "t-orders", partition: int = 0, start: int = 0) -> Chunk:
    """A chunk of records from offset `start` on."""
    records = tuple(FakeRecord(start + index, value, b"key") for index, value in enumerate(values))
    return Chunk(topic, partition, records)


class FakeMessage:
    """A Faust message with the fields that the commit rule reads."""

    def __init__(self, offset: int, partition: int = 0) -> None:
        self.offset = offset
        self.partition = partition
        self.acked = False
        self.value: Any = None


class FakeEvent:
    """A Faust event with a chunk as its value."""

    def __init__(self, chunk: Chunk) -> None:
        self.value: Any = chunk
        self.message = FakeMessage(chunk.records[-1].offset, chunk.partition)

    @property
    def acked(self) -> bool:
        return self.message.acked

    def ack(self) -> None:
        self.message.acked = True


class FakeClock:
    """Seconds that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeMembership(Membership):
    """A membership with epoch 1 and a clock that the test sets."""

    def __init__(self, session_seconds: float = 10.0) -> None:
        self.now = 0.0
        super().__init__(session_seconds, clock=lambda: self.now)
        self.begin()


class FakeProducerBatch:
    def __init__(self) -> None:
        self.rows: list[OutputRow] = []

    def append(self, *, key: bytes, value: bytes | None, timestamp: int | None) -> object:
        self.rows.append((key, value))
        return object()

    def close(self) -> None:
        pass


class FakeProducer:
    """The base of fake producers, which send each batch in their own way."""

    def create_batch(self) -> FakeProducerBatch:
        return FakeProducerBatch()


class RecordingPublisher:
    """Records what is published. Writes wait while `gate` is not set."""

    def __init__(self, membership: Membership | None = None) -> None:
        self.membership = membership or FakeMembership()
        self.topics: dict[str, list[OutputRow]] = defaultdict(list)
        self.writes: list[tuple[str, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []
        # Topics whose writes wait for the event.
        self.held: dict[str, asyncio.Event] = {}
        # Writes that wait for the gate.
        self.waiting = 0

    @property
    def epoch(self) -> int:
        return self.membership.epoch

    def holds(self, epoch: int) -> bool:
        return self.membership.holds(epoch)

    def values(self, topic: str) -> list[Any]:
        """The values of a topic as JSON; None for a tombstone."""
        return [value and json.loads(value) for _, value in self.topics[topic]]

    async def publish(
        self, topic: str, rows: Iterable[OutputRow], epoch: int, to_partition: Callable[[bytes], int] | None = None
    ) -> dict[int, int]:
        self.waiting += 1
        await self.gate.wait()
        if topic in self.held:
            await self.held[topic].wait()
        self.waiting -= 1
        if self.failures:
            raise self.failures.pop()
        if not self.membership.holds(epoch):
            raise MembershipLost
        offsets = {}
        for key, value in rows:
            self.topics[topic].append((key, value))
            partition = partition_of(key, PARTITIONS) if to_partition is None else to_partition(key)
            offsets[partition] = len(self.topics[topic]) - 1
            self.writes.append((topic, partition))
        return offsets


@dataclass
class FakeTable:
    """A table of published rows in memory."""

    rows: dict[tuple[int, bytes], bytes | None] = field(default_factory=dict)

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.rows.get((partition, key))

    def write(self, partition: int, rows: Mapping[bytes, bytes | None], offset: int) -> None:
        self.rows.update({(partition, key): value for key, value in rows.items()})


class RecordingSubmitter:
    """Settles every command with the outcome `reserved`. Ids in `undecidable` fail, calls wait while `gate` is not set,
    and more than `commands_max` commands are too large. Those in `steps` are `applying` that many times before."""

    def __init__(
        self, undecidable: Sequence[str] = (), commands_max: int | None = None, steps: dict[str, int] | None = None
    ) -> None:
        self.commands_max = commands_max
        self.steps = steps or {}
        self.submitted: list[tuple[Command, ...]] = []
        self.settled: list[str] = []
        self.undecidable = set(undecidable)
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(
        self, commands: Sequence[Command], deadline: float | None, turn: asyncio.Lock | None = None
    ) -> DecisionHead:
        self.submitted.append(tuple(commands))
        await self.gate.wait()
        if self.commands_max is not None and len(commands) > self.commands_max:
            raise TooLarge("the payload has too many bytes")
        ids = [str(getattr(command, "id", command)) for command in commands]
        if self.undecidable & set(ids):
            raise Undecidable("the ledger failed on these commands")
        if self.steps.get(ids[-1]):
            self.steps[ids[-1]] -= 1
            await asyncio.sleep(0)
            return DecisionHead(1, 1, 1_000, (Result(outcome=Outcome.APPLYING),))
        self.settled.extend(ids)
        return DecisionHead(1, 1, 1_000, tuple(Result(outcome="reserved") for _ in commands))


def decision_of(*results: Result, **parts: Any) -> Decision:
    """A decision with these parts, empty otherwise."""
    empty = dict.fromkeys(("orders", "movements", "skus", "effects", "policies", "alerts", "refused"), ())
    whole: dict[str, Any] = {"format": 1, "batch": 1, "at": 1_000, "registry": None, **empty}
    return Decision(results=results, **{**whole, **parts})


class FakeSource:
    """A topic whose end offsets the test sets."""

    def __init__(self, complete: bool = True, ends: OffsetVector = (0,)) -> None:
        self.complete = asyncio.Event()
        self.where = ends
        self.is_unreachable = False
        self.asked = 0
        if complete:
            self.complete.set()

    async def ends(self) -> OffsetVector:
        self.asked += 1
        if self.is_unreachable:
            raise KafkaConnectionError
        return self.where
