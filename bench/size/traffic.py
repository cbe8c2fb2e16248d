"""Orders that go in meanwhile, by both doors, whatever happens to the servers; and whether each that was told stands.

In: a rate. Out: of each order that HTTP answered, what it answered; of each that Kafka took, its id. A shopper who gets
no answer asks again with the same order, as the contract says.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson
from aiokafka import AIOKafkaProducer

from bench.size.seeding import encode_held_order
from bench.size.stage import APP_ID

# Shoppers who wait at once; more would only queue, and tell nothing more of how long an outage lasts.
SHOPPERS_MAX = 200
# An answer's deadline, and how long a shopper waits before asking again.
ANSWER_SECONDS_MAX = 6.0
AGAIN_SECONDS = 0.25
# One who is not answered within this never will be.
PATIENCE_SECONDS = 300.0
# The schedule is kept in slices of this length.
SLICE_SECONDS = 0.02
# Orders that are looked up at once, in the end.
LOOKS_MAX = 64


class OrderTraffic:
    """Orders at `rate` a second, half by HTTP and half by Kafka; `api` None: all by Kafka."""

    def __init__(self, kafka: str, api: str | None, rate: float, skus: int, prefix: str) -> None:
        self._kafka = kafka
        self._api = api
        self._rate = rate
        self._skus = skus
        self._prefix = prefix
        self._numbers = itertools.count()
        self._going = True
        self._shoppers: set[asyncio.Task[None]] = set()
        # Order id → what HTTP told, and ids that Kafka took.
        self.told: dict[str, bytes] = {}
        self.taken: list[str] = []
        self.strange: list[str] = []
        self.longest_seconds = 0.0
        # When each was told, by the monotonic clock (s).
        self._told_at: list[float] = []

    @asynccontextmanager
    async def going(self) -> AsyncIterator[OrderTraffic]:
        """Orders go in for the duration; at the end, whoever waits is waited for."""
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", linger_ms=5)
        await producer.start()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)) as session:
            driving = asyncio.create_task(self._drive(producer, session))
            try:
                yield self
            finally:
                self._going = False
                await driving
                await asyncio.gather(*self._shoppers)
                await producer.stop()

    def silence(self, since: float) -> tuple[float, float]:
        """Seconds from `since` to the next answer, and the longest pause between two answers after that."""
        later = [since, *(at for at in sorted(self._told_at) if at > since)]
        pauses = [after - before for before, after in itertools.pairwise(later)]
        return (pauses[0] if pauses else float("inf")), max(pauses[1:], default=0.0)

    async def lost(self, look: Callable[[str], Awaitable[bytes | None]]) -> list[str]:
        """The ids of orders that are not there, or no longer as they were told. `look` reads one."""
        places = asyncio.Semaphore(LOOKS_MAX)

        async def is_lost(order_id: str) -> bool:
            async with places:
                found = await look(order_id)
            if found is None:
                return True
            order, told = orjson.loads(found), self.told.get(order_id)
            return order["state"] != "reserved" or (
                told is not None and _essence(order) != _essence(orjson.loads(told))
            )

        ids = [*self.told, *self.taken]
        return [each for each, lost in zip(ids, await asyncio.gather(*map(is_lost, ids)), strict=True) if lost]

    async def _drive(self, producer: AIOKafkaProducer, session: aiohttp.ClientSession) -> None:
        began, sent = time.monotonic(), 0
        while self._going:
            for _ in range(int(self._rate * (time.monotonic() - began)) - sent):
                sent += 1
                number = next(self._numbers)
                if self._api is None or number % 2:
                    await self._send(producer, number)
                elif len(self._shoppers) < SHOPPERS_MAX:
                    task = asyncio.create_task(self._shop(session, number))
                    self._shoppers.add(task)
                    task.add_done_callback(self._shoppers.discard)
            await asyncio.sleep(SLICE_SECONDS)

    async def _send(self, producer: AIOKafkaProducer, number: int) -> None:
        order_id = f"{self._prefix}-k{number}"
        await producer.send(f"{APP_ID}-orders", encode_held_order(order_id, number, self._skus), key=order_id.encode())
        self.taken.append(order_id)

    async def _shop(self, session: aiohttp.ClientSession, number: int) -> None:
        order_id = f"{self._prefix}-h{number}"
        order = orjson.loads(encode_held_order(order_id, number, self._skus))
        del order["type"]
        body, began = orjson.dumps(order), time.monotonic()
        while time.monotonic() - began < PATIENCE_SECONDS:
            status, answer = await self._ask(session, body)
            if status in (200, 201):
                self.told[order_id] = answer
                self._told_at.append(time.monotonic())
                self.longest_seconds = max(self.longest_seconds, self._told_at[-1] - began)
                return
            if status not in (0, 503):
                self.strange.append(f"{order_id}: {status} {answer[:200].decode(errors='replace')}")
                return
            await asyncio.sleep(AGAIN_SECONDS)
        self.strange.append(f"{order_id}: no answer in {PATIENCE_SECONDS:.0f} s")

    async def _ask(self, session: aiohttp.ClientSession, body: bytes) -> tuple[int, bytes]:
        try:
            async with session.post(
                f"{self._api}/v1/orders", data=body, headers={"Content-Type": "application/json"}
            ) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, b""


def _essence(order: dict[str, object]) -> object:
    """What may not differ between an answer and a later look."""
    return [order[name] for name in ("order_id", "channel", "state", "lines", "placed_at", "expires_at", "sequence")]
