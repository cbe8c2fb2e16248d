"""The agents of the topics `orders` and `movements`: raw records → settled decisions.

In: a chunk of raw records and the decoder of its topic. Out: decisions in the ledger, dead letters for malformed
events. The call returns after all of them are settled and written; then the chunk may be acked.

The chunk is submitted in pieces, several concurrently but in order. A piece is bounded in commands, lines and bytes,
because Redis blocks other callers during each Lua call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

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
from stocktide.streams.contract.events import (
    Event,
    Malformed,
    OrderEvent,
    OrderPlaced,
    decode_movement,
    decode_order_event,
)
from stocktide.streams.kafka.publish import OutputRow, Publisher
from stocktide.streams.kafka.transport import Chunk
from stocktide.tables.ledger.client import TooLarge
from stocktide.tables.ledger.commands import Adjust, Command, Count, Expect, Origin, Receive, Transfer, Void, lines_of
from stocktide.tables.ledger.limits import LedgerLimits
from stocktide.tables.ledger.make_commands import make_command
from stocktide.tables.ledger.outcomes import Outcome
from stocktide.tables.ledger.submission import Submitter, Undecidable

logger = logging.getLogger(__name__)

# Per Lua call: a few ms, at 10 to 20 µs per order.
COMMANDS_MAX = 256
# A line costs as much as an order of one line: some 20 ms in one call.
LINES_MAX = 1_000
# A movement of more lines may take several calls, and is a piece of its own.
MOVEMENT_LINES_MAX = LedgerLimits().lines_per_step
# Of the raw events that the commands carry: a tenth of the limit of a journal record.
PIECE_BYTES_MAX = 1024 * 1024
# Concurrent pieces of one chunk: they keep Redis and the relay busy while one waits for its settlement.
PIECES_MAX = 4

_MOVEMENTS = (Receive, Adjust, Count, Transfer, Expect)

Decode = Callable[[bytes], Event | Malformed]
# By topic and partition: the first offset of the newest chunk, and the most steps of it that one call has settled.
SettledSteps = dict[tuple[str, int], tuple[int, int]]


class Intake:
    """Submits chunks to the ledger. `dead_letters` and `alerts` are full names of topics."""

    def __init__(
        self, submitter: Submitter, publisher: Publisher, dead_letters: str, alerts: str, metrics: WorkerMetrics
    ) -> None:
        self._submitter = submitter
        self._publisher = publisher
        self._dead_letters = dead_letters
        self._alerts = alerts
        self._metrics = metrics
        self._bursts = BurstDetector()
        self.settled_steps: SettledSteps = {}

    async def submit_chunk(self, chunk: Chunk, epoch: int, decode: Decode) -> None:
        """Submit a chunk and wait until all of it is settled. Raises MembershipLost; may be called again with the same
        chunk."""
        dead_letters: list[OutputRow] = []
        slots, turn = asyncio.Semaphore(PIECES_MAX), asyncio.Lock()
        steps = StepCounter(self.settled_steps, chunk)
        async with asyncio.TaskGroup() as tasks:
            for piece in split_commands(decode_commands(chunk, decode, dead_letters)):
                await slots.acquire()
                task = tasks.create_task(self._submit_piece(piece, dead_letters, turn, steps))
                task.add_done_callback(lambda _: slots.release())
                if may_take_steps(piece[0]):
                    await asyncio.wait((task,))  # nothing may overtake its later steps
        if dead_letters:
            self._metrics.dead_letters.inc(len(dead_letters))
            await self._publisher.publish(self._dead_letters, dead_letters, epoch)
            if alerts := self._bursts.add(dead_letters):
                await self._publisher.publish(self._alerts, alerts, epoch)

    async def _submit_piece(
        self, piece: list[Command], dead_letters: list[OutputRow], turn: asyncio.Lock, steps: StepCounter
    ) -> None:
        """Submit a piece and wait until it is settled. If it is too large or the ledger fails on it, it is halved down
        to the command that causes it."""
        try:
            answer = await self._submitter.answer(piece, None, turn)
            while answer.results[-1].outcome == Outcome.APPLYING:
                steps.add()
                answer = await self._submitter.answer(piece, None, turn)
        except (TooLarge, Undecidable) as error:
            if len(piece) > 1:
                middle = len(piece) // 2
                await self._submit_piece(piece[:middle], dead_letters, turn, steps)
                await self._submit_piece(piece[middle:], dead_letters, turn, steps)
                return
            logger.error("an event goes to the dead letters: %s", error)
            dead_letters.extend(_rejected(piece[0], error))
        else:
            failpoints.hit("mid_batch")
            steps.add()
            self._metrics.count(answer)


class StepCounter:
    """Counts the steps of a chunk that one call settles. A chunk of large events may take longer than STALL_SECONDS; it
    is no stall while its steps are settled. Steps that a call after an error settles again do not count."""

    def __init__(self, settled: SettledSteps, chunk: Chunk) -> None:
        self._settled = settled
        self._place = (chunk.topic, chunk.partition)
        self._offset = chunk.records[0].offset
        self._count = 0

    def add(self) -> None:
        """A step was settled."""
        self._count += 1
        offset, most = self._settled.get(self._place, (None, 0))
        if offset != self._offset or most < self._count:
            self._settled[self._place] = (self._offset, self._count)


async def submit_orders(chunk: Chunk, epoch: int, intake: Intake) -> None:
    """The agent of the topic `orders`. Raises MembershipLost."""
    await intake.submit_chunk(chunk, epoch, decode_order_event)


async def submit_movements(chunk: Chunk, epoch: int, intake: Intake) -> None:
    """The agent of the topic `movements`. Raises MembershipLost."""
    await intake.submit_chunk(chunk, epoch, decode_movement)


def decode_commands(chunk: Chunk, decode: Decode, dead_letters: list[OutputRow]) -> Iterator[Command]:
    """The chunk's commands, in order; malformed events are added to `dead_letters`."""
    for record in chunk.records:
        raw = record.value or b""
        event = decode(raw)
        if isinstance(event, Malformed):
            dead_letters.append(dead_letter_of_malformed(chunk, record, event))
        else:
            place = original_place(chunk, record)
            origin = Origin(place.topic, place.partition, place.offset, origin_text(event, raw))
            yield make_command(event, origin, received_at=record.timestamp)


def origin_text(event: Event, raw: bytes) -> str:
    """The text kept in an event's origin. An event that may be parked is encoded again, so that unknown fields of any
    size take no room in the ledger."""
    if isinstance(event, OrderEvent) and not isinstance(event, OrderPlaced):
        return msgspec.json.encode(event).decode()
    return raw.decode(errors="replace")


def split_commands(commands: Iterator[Command]) -> Iterator[list[Command]]:
    """Split commands into pieces of at most COMMANDS_MAX and, unless a single command has more, LINES_MAX lines and
    PIECE_BYTES_MAX of raw events. A movement that may take several calls is a piece of its own."""
    piece: list[Command] = []
    lines = size = 0
    for command in commands:
        more, raw = lines_of(command), _raw_size(command)
        is_full = len(piece) == COMMANDS_MAX or lines + more > LINES_MAX or size + raw > PIECE_BYTES_MAX
        if piece and (is_full or may_take_steps(command) or may_take_steps(piece[0])):
            yield piece
            piece, lines, size = [], 0, 0
        piece.append(command)
        lines += more
        size += raw
    if piece:
        yield piece


def may_take_steps(command: Command) -> bool:
    """Whether the ledger may apply a command in several calls."""
    if isinstance(command, Void):
        return True  # it has as many lines as the movement that it voids
    return isinstance(command, _MOVEMENTS) and len(command.lines) > MOVEMENT_LINES_MAX


def _raw_size(command: Command) -> int:
    origin: Origin | None = getattr(command, "origin", None)
    return 0 if origin is None else len(origin.raw)


def _rejected(command: Command, error: Exception) -> Iterator[OutputRow]:
    origin: Origin | None = getattr(command, "origin", None)
    if origin is not None:
        reason = Outcome.TOO_LARGE if isinstance(error, TooLarge) else UNDECIDABLE
        yield dead_letter_of_rejected(origin, reason, str(error))
