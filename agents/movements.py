"""The agent of the topic `movements`: events of warehouses → settled decisions. See `agents.intake`."""

from __future__ import annotations

from stocktide.agents.intake import Intake
from stocktide.streams.contract.events import decode_movement
from stocktide.streams.kafka.transport import Chunk


async def settle_movements(chunk: Chunk, epoch: int, intake: Intake) -> None:
    """Have a chunk of movements decided and settled; what is none goes to the dead letters. Raises MembershipLost."""
    await intake.take_in(chunk, epoch, decode_movement)
