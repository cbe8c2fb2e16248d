"""Makes what the handlers of the API decide and read with.

In: the settings, a client of Redis. Out: the parts; what they run ends when the stack is closed.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from msgspec import Struct
from redis.asyncio import Redis

from stocktide.api.batching import CommandBatcher
from stocktide.api.known_channels import KnownChannels
from stocktide.api.settled_reads import SettledReads
from stocktide.api.stale.reads import PublishedTables, StaleReads
from stocktide.api.stale.topic_copy import TopicCopy
from stocktide.api_topics import opener
from stocktide.settings import Settings
from stocktide.streams.topics import RESERVATIONS, STOCK
from stocktide.tables.ledger.client import Ledger
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.submission import Submitter
from stocktide.tables.settlement.listener import SettlementListener
from stocktide.traced_api import make_batcher
from stocktide.traced_parts import make_submitter

if TYPE_CHECKING:
    from stocktide.streams.spans import Tracing


class LedgerParts(Struct, frozen=True):
    """The ledger, what submits commands to it, and what reads it once it is settled."""

    limits: LedgerLimits
    ledger: Ledger
    settlements: SettlementListener
    submitter: Submitter
    batcher: CommandBatcher
    reads: SettledReads
    stale: StaleReads
    known: KnownChannels


def make_ledger_parts(settings: Settings, stack: AsyncExitStack, redis: Redis, tracing: Tracing | None) -> LedgerParts:
    """They are closed in reverse order."""
    settlements = SettlementListener(redis, settings.app_id)
    settlements.start()
    stack.push_async_callback(settlements.stop)
    limits = settings.ledger_limits()
    ledger = Ledger(redis, settings.app_id, limits)
    submitter = make_submitter(ledger, settlements, tracing)
    reads = SettledReads(settlements, settings.request_seconds)
    tables = PublishedTables(*(TopicCopy(opener(settings, topic)) for topic in (STOCK, RESERVATIONS)))
    parts = LedgerParts(
        limits=limits,
        ledger=ledger,
        settlements=settlements,
        submitter=submitter,
        batcher=make_batcher(submitter, tracing),
        reads=reads,
        stale=StaleReads(reads, tables),
        known=KnownChannels(submitter),
    )
    for closing in (parts.stale, parts.batcher, parts.known):
        stack.push_async_callback(closing.close)
    return parts
