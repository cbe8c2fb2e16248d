"""From raw records to settled decisions: what the agents of orders and movements have in common.

In: a chunk of raw records and the decoder of its topic. Out: nothing until every event of the chunk is decided and
its decision settled, and every one that is no event lies in the dead letters; only then may the chunk be acked.

The chunk goes to the ledger in pieces, several under way at once, asked in order: a piece is bounded in commands, lines
and bytes, because every other caller waits behind each call of Lua.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from stocktide.agents.dead_letters import (
    UNDECIDABLE,
    BurstDetector,
    dead_letter_of_malformed,
    dead_letter_of_rejected,
    original_place,
)
from stocktide.agents.metrics import WorkerMetrics
from stocktide.streams import failpoints
from stocktide.streams.contract.events import Event, Malformed, OrderEvent, OrderPlaced
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Command, Origin, make_command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.records import DecisionHead
from stocktide.tables.ledger.submission import Undecidable

logger = logging.getLogger(__name__)

# One call of Lua: 10 to 20 µs an order, so a few ms.
COMMANDS_MAX = 256
LINES_MAX = 1_000
# Of raw events, which travel with their commands: a tenth of what one record of the journal may hold.
PIECE_BYTES_MAX = 1024 * 1024
# Pieces of one chunk under way: enough to keep Redis and the relay busy while one waits for its settlement.
UNDER_WAY_MAX = 4

Decode = Callable[[bytes], Event | Malformed]


class CommandSubmitter(Protocol):
    """What is needed of the Submitter."""

    async def answer(
        self, commands: Sequence[Command], deadline: float | None, turn: asyncio.Lock | None = None
    ) -> DecisionHead: ...


class Intake:
    """Submits chunks. `dead_letters` and `alerts` are full names of topics."""

    def __init__(
        self, submitter: CommandSubmitter, publisher: Publisher, dead_letters: str, alerts: str, metrics: WorkerMetrics
    ) -> None:
        self._submitter = submitter
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._alerts = alerts
        self._metrics = metrics
        self._bursts = BurstDetector()

    async def take_in(self, chunk: Chunk, epoch: int, decode: Decode) -> None:
        """Have a chunk decided and settled. Raises MembershipLost; may be called again with the same chunk."""
        letters: list[OutputRow] = []
        under_way, turn = asyncio.Semaphore(UNDER_WAY_MAX), asyncio.Lock()
        async with asyncio.TaskGroup() as tasks:
            for piece in split_commands(decode_commands(chunk, decode, letters)):
                await under_way.acquire()
                task = tasks.create_task(self._settle(piece, letters, turn))
                task.add_done_callback(lambda _: under_way.release())
        if letters:
            self._metrics.dead_letters.inc(len(letters))
            await self._publisher.publish(self._dead_letters, letters, epoch)
            if alerts := self._bursts.noted(letters):
                await self._publisher.publish(self._alerts, alerts, epoch)

    async def _settle(self, piece: list[Command], letters: list[OutputRow], turn: asyncio.Lock) -> None:
        """Have a piece settled. One that is too large, or that the ledger fails on, is halved down to the command that
        does it."""
        try:
            answer = await self._submitter.answer(piece, None, turn)
        except (TooLarge, Undecidable) as error:
            if len(piece) > 1:
                middle = len(piece) // 2
                await self._settle(piece[:middle], letters, turn)
                await self._settle(piece[middle:], letters, turn)
                return
            logger.error("an event goes to the dead letters: %s", error)
            letters.extend(_rejected(piece[0], error))
        else:
            failpoints.hit("mid_batch")
            self._metrics.count(answer)


def decode_commands(chunk: Chunk, decode: Decode, letters: list[OutputRow]) -> Iterator[Command]:
    """The chunk's commands, in order; what is no event becomes a row in `letters`."""
    for record in chunk.records:
        raw = record.value or b""
        event = decode(raw)
        if isinstance(event, Malformed):
            letters.append(dead_letter_of_malformed(chunk, record, event))
        else:
            place = original_place(chunk, record)
            origin = Origin(place.topic, place.partition, place.offset, origin_text(event, raw))
            yield make_command(event, origin, received_at=record.timestamp)


def origin_text(event: Event, raw: bytes) -> str:
    """What an event's origin keeps of it. One that may wait in the ledger is written anew, so that fields that nobody
    knows, of any size, take up no room there."""
    if isinstance(event, OrderEvent) and not isinstance(event, OrderPlaced):
        return msgspec.json.encode(event).decode()
    return raw.decode(errors="replace")


def split_commands(commands: Iterator[Command]) -> Iterator[list[Command]]:
    """Cut commands into pieces of at most COMMANDS_MAX and, unless one alone has more, LINES_MAX lines and
    PIECE_BYTES_MAX of raw events."""
    piece: list[Command] = []
    lines = size = 0
    for command in commands:
        more, raw = len(getattr(command, "lines", ())), _raw_size(command)
        if piece and (len(piece) == COMMANDS_MAX or lines + more > LINES_MAX or size + raw > PIECE_BYTES_MAX):
            yield piece
            piece, lines, size = [], 0, 0
        piece.append(command)
        lines += more
        size += raw
    if piece:
        yield piece


def _raw_size(command: Command) -> int:
    origin: Origin | None = getattr(command, "origin", None)
    return 0 if origin is None else len(origin.raw)


def _rejected(command: Command, error: Exception) -> Iterator[OutputRow]:
    origin: Origin | None = getattr(command, "origin", None)
    if origin is not None:
        reason = Outcome.TOO_LARGE if isinstance(error, TooLarge) else UNDECIDABLE
        yield dead_letter_of_rejected(origin, reason, str(error))
