"""The agent of the topic `orders`: order events of channels → settled decisions. See `agents.intake`."""

from __future__ import annotations

from stocktide.agents.intake import Intake
from stocktide.streams.contract.events import decode_order_event
from stocktide.streams.kafka.transport import Chunk


async def settle_orders(chunk: Chunk, epoch: int, intake: Intake) -> None:
    """Have a chunk of order events settled; what is none goes to the dead letters. Raises MembershipLost."""
    await intake.take_in(chunk, epoch, decode_order_event)
