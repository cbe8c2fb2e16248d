"""A rig of the protocol: a real Redis, a journal in memory, and the relays and callers that a test starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from stocktide.agents.relay import Relay
from stocktide.streams.journal.record import JournalReader, JournalRecord, RecordVerdict, decode_record
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.commands import Command, Place, Receive
from stocktide.tables.ledger.connection import connect
from stocktide.tables.ledger.control import LedgerControl
from stocktide.tables.ledger.make_commands import fingerprint
from stocktide.tables.ledger.raw_decision import decode_decision
from stocktide.tables.ledger.records import Decision
from stocktide.tables.ledger.scripts import key_prefix
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.recovery.takeover import Lease, Superseded, take_over
from stocktide.tables.settlement.listener import SettlementListener
from tests.harness.memory_log import MemoryJournal, MemoryLog
from tests.protocol.memory_rows import MemoryRows

WAIT_SECONDS_MAX = 10.0
# No test waits for a Redis that hangs; on a machine that runs other tests, a step may wait for the processor.
ANSWER_SECONDS_MAX = 60.0
# A relay takes over once after it was superseded; more is a fault.
REBUILDS_MAX = 3


class DecisionSubmitter(Submitter):
    """A submitter that decodes the whole decision."""

    async def submit(self, commands: Sequence[Command], deadline: float | None) -> Decision:
        """See `Submitter.decide`."""
        return await self._submit(commands, deadline, decode_decision)


class ProtocolRig:
    """All components of one shard."""

    def __init__(self, url: str, app_id: str) -> None:
        self.app_id = app_id
        self.prefix = key_prefix(app_id)
        self.redis: Redis = connect(url, ANSWER_SECONDS_MAX)
        self.journal = MemoryJournal()
        self.rows = MemoryRows(self.journal)
        self.control = LedgerControl(self.redis, app_id)
        self.ledger = Ledger(self.redis, app_id)
        self.settlements = SettlementListener(self.redis, app_id)
        self.settlements.start()
        self.relays: list[Relay] = []
        self.logs: list[MemoryLog] = []

    def log(self) -> MemoryLog:
        """Another client of the journal."""
        self.logs.append(MemoryLog(self.journal))
        return self.logs[-1]

    def relay(self, owner: str = "first", log: MemoryLog | None = None, control: LedgerControl | None = None) -> Relay:
        relay = Relay(log or self.log(), control or self.control, owner, source=self.rows, stall_seconds=0.3)
        relay.start()
        self.relays.append(relay)
        return relay

    async def blessed_relay(self, owner: str = "first", log: MemoryLog | None = None) -> Relay:
        """A relay that has taken over."""
        relay = self.relay(owner, log)
        await wait_until(lambda: relay.blessed)
        return relay

    def submitter(self, attempt_seconds: float = ANSWER_SECONDS_MAX) -> DecisionSubmitter:
        """Callers of the shard. A repeat after `attempt_seconds` is a batch of its own: without it, no batch depends on
        the speed of the machine."""
        return DecisionSubmitter(self.ledger, self.settlements, attempt_seconds=attempt_seconds)

    async def submit(self, *commands: Command) -> Decision:
        """One batch, once it is settled."""
        return await self.submitter().submit(commands, deadline_in(WAIT_SECONDS_MAX))

    async def take_over(self, owner: str) -> Lease:
        """A takeover without a relay after it."""
        return await take_over(self.log(), self.control, owner, self.rows)

    async def rebuild(self, owner: str) -> Lease:
        """A takeover that rebuilds Redis from the journal, whatever it holds; again if a relay takes over meanwhile."""
        for _ in range(REBUILDS_MAX):
            with contextlib.suppress(Superseded):
                return await take_over(self.log(), self.control, owner, self.rows, anew=True)
        raise AssertionError("each rebuild was superseded")

    async def field(self, key: str, name: str) -> str | None:
        """A field of one of the shard's hashes."""
        found = await self.redis.hget(self.prefix + key, name)
        return None if found is None else found.decode() if isinstance(found, bytes) else found

    async def outbox_size(self) -> int:
        return int(await self.redis.xlen(self.prefix + "outbox"))

    def valid(self) -> list[JournalRecord]:
        return valid_records(self.journal.values)


@asynccontextmanager
async def open_rig(url: str, app_id: str) -> AsyncIterator[ProtocolRig]:
    """A rig with an empty Redis and an empty journal; what it started is ended."""
    rig = ProtocolRig(url, app_id)
    try:
        yield rig
    finally:
        for relay in rig.relays:
            await relay.stop()
        for log in rig.logs:
            log.gate.set()
        await rig.settlements.stop()
        await rig.redis.aclose()


def valid_records(values: Sequence[bytes]) -> list[JournalRecord]:
    reader = JournalReader()
    judged = [(reader.feed(offset, record), record) for offset, record in enumerate(map(decode_record, values))]
    return [record for verdict, record in judged if verdict is RecordVerdict.BATCH and record is not None]


async def wait_until(holds: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until `holds`. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # the condition has no event
            await asyncio.sleep(0.005)


def deadline_in(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def receive(movement_id: str, sku: str = "cup", units: int = 100, warehouse: str = "SH1", at: int = 1) -> Command:
    lines = ((sku, units),)
    return Receive(id=movement_id, warehouse=warehouse, at=at, lines=lines, fingerprint=fingerprint("receive", lines))


def place(order_id: str, sku: str = "cup", units: int = 1) -> Command:
    lines = ((sku, units),)
    mark = fingerprint("place", lines)
    return Place(id="placed", order_id=order_id, at=1, channel="tmall", lines=lines, fingerprint=mark)
