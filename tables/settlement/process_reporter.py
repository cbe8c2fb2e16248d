"""Says every few seconds what a process knows of itself, on the topic `processes`.

In: a function that makes the status. Out: rows by the process's name; an orderly stop removes the row, so that a name
whose row has become old is a process that was killed, is halted, or does not reach Kafka.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import NoReturn

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stocktide.streams.contract.documents import ProcessStatus, StalledPart, encode
from stocktide.tables.settlement.stalls import Stall

logger = logging.getLogger(__name__)

REPORT_SECONDS = 5.0
# Kafka takes a row in milliseconds; the next one says more than one that waits.
SEND_SECONDS_MAX = 4.0


class ProcessReporter:
    """Reports one process. `topic` is the full name; the owner starts and stops `producer`."""

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, process: str, status: Callable[[], ProcessStatus]
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._key = process.encode()
        self._status = status

    async def run(self) -> NoReturn:
        """Report until cancelled; what Kafka does not take is left out."""
        while True:
            await self._send(encode(self._status()))
            await asyncio.sleep(REPORT_SECONDS)

    async def remove(self) -> None:
        """Remove the row: the process stops in order."""
        await self._send(None)

    async def _send(self, value: bytes | None) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await self._producer.send_and_wait(self._topic, value, key=self._key, partition=0)
        except (KafkaError, TimeoutError) as error:
            logger.debug("the status of this process was not taken: %r", error)


def stalled_parts(stalls: Iterable[Stall]) -> list[StalledPart]:
    """Stalls as a row has them."""
    return [
        StalledPart(each.part, each.status.topic or None, each.status.pending, round(each.seconds, 1), each.sentence)
        for each in stalls
    ]
